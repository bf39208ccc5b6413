//! Operators that are computed on a device: convolutions, products of matrices, the largest of windows, and `TensorRT`'s
//! plugin.

use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{DType, Device, Tensor, TensorData, Transaction, module};
use detr_ops::traffic::read_f32;

use crate::array::{Array, Values};
use crate::fold::broadcast;
use crate::graph::{Attribute, attribute_int, attribute_ints};
use crate::msda;

/// Computes an operator; `None` if it is not one of this file.
pub(super) fn evaluate(
    op: &str,
    inputs: &[&Array],
    attributes: &[(&'static str, Attribute)],
    device: &Device,
) -> Option<Array> {
    match (op, inputs) {
        ("Conv", [x, weight, bias @ ..]) => {
            let bias = match bias {
                [bias] => Some(tensor::<1>(bias, device)?),
                _ => None,
            };
            let pairs = |name: &str| sizes(attributes, name)?.as_chunks::<2>().0.first().copied();
            let pads = sizes(attributes, "pads")?;
            let groups = usize::try_from(attribute_int(attributes, "group")?).ok()?;
            let (strides, dilations) = (pairs("strides")?, pairs("dilations")?);
            let options = ConvOptions::new(strides, same_ends(&pads)?, dilations, groups);
            array(module::conv2d(tensor(x, device)?, tensor(weight, device)?, bias, options))
        }
        ("MaxPool", [x]) => {
            let pairs = |name: &str| sizes(attributes, name)?.as_chunks::<2>().0.first().copied();
            let mut options = MaxPoolOptions::new(pairs("kernel_shape")?);
            options.stride = pairs("strides")?;
            options.dilation = pairs("dilations")?;
            let [top, left] = same_ends(&sizes(attributes, "pads")?)?;
            options.padding = [(top, top), (left, left)];
            options.ceil_mode = attribute_int(attributes, "ceil_mode")? != 0;
            array(module::max_pool2d(tensor(x, device)?, options))
        }
        ("MatMul", [a, b]) => product(a, b, device),
        (msda::PLUGIN, [value, shapes, _, locations, weights]) => {
            let Values::I32(sides) = &shapes.values else { return None };
            let sides: Vec<usize> =
                sides.iter().map(|&side| usize::try_from(side).ok()).collect::<Option<_>>()?;
            let levels = sides.as_chunks::<2>().0;
            let (value, weights) = (tensor(value, device)?, tensor(weights, device)?);
            array(detr_ops::msda(value, levels, tensor(locations, device)?, weights))
        }
        _ => None,
    }
}

/// Returns a list of lengths among the attributes of a node.
fn sizes(attributes: &[(&'static str, Attribute)], name: &str) -> Option<Vec<usize>> {
    attribute_ints(attributes, name)?.iter().map(|&n| usize::try_from(n).ok()).collect()
}

/// Returns the cells that are added above and to the left, if as many are added below and to the right.
fn same_ends(pads: &[usize]) -> Option<[usize; 2]> {
    match *pads {
        [top, left, bottom, right] if top == bottom && left == right => Some([top, left]),
        _ => None,
    }
}

fn tensor<const D: usize>(array: &Array, device: &Device) -> Option<Tensor<D>> {
    shaped(array, <[usize; D]>::try_from(array.dims.as_slice()).ok()?, device)
}

fn shaped<const D: usize>(array: &Array, dims: [usize; D], device: &Device) -> Option<Tensor<D>> {
    let Values::F32(values) = &array.values else { return None };
    Some(Tensor::from_data(TensorData::new(values.clone(), dims), (device, DType::F32)))
}

fn array<const D: usize>(x: Tensor<D>) -> Option<Array> {
    let dims = x.dims();
    let values = read_f32(Transaction::default().register(x)).ok()?.pop()?;
    Some(Array::f32(values, &dims))
}

/// Returns the product of matrices `[.., N, K]` and `[.., K, O]`, whose leading axes are broadcast.
fn product(a: &Array, b: &Array, device: &Device) -> Option<Array> {
    let ([a_batch @ .., rows, inner], [b_batch @ .., other, columns]) = (&a.dims[..], &b.dims[..])
    else {
        return None;
    };
    if inner != other {
        return None;
    }
    let batch = broadcast(a_batch, b_batch)?;
    let dims = [batch.as_slice(), &[*rows, *columns]].concat();
    if b_batch.iter().product::<usize>() == 1 {
        // All rows of the left operand take the same matrix.
        let all = a_batch.iter().product::<usize>() * rows;
        let left = shaped(a, [all, *inner], device)?;
        let product = array(left.matmul(shaped(b, [*inner, *columns], device)?))?;
        return Some(Array { dims, values: product.values });
    }
    if a_batch != batch || b_batch != batch {
        return None;
    }
    let count = batch.iter().product();
    let left = shaped(a, [count, *rows, *inner], device)?;
    let product = array(left.matmul(shaped(b, [count, *inner, *columns], device)?))?;
    Some(Array { dims, values: product.values })
}
