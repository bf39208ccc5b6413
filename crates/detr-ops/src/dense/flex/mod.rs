//! The kernels: plain slices of f32, cut into tasks that each own what they write.
#![allow(clippy::inline_always)] // what is not inlined is not compiled for the wider instructions

mod attention;
mod conv;
mod conv_backward;
mod geometry;
mod linear;
mod matrix;
mod pool;
mod scratch;
mod winograd;

use burn::backend::Flex;
use burn::tensor::{Shape, TensorData};
use burn_flex::FlexTensor;

use super::ConvOptions;
use super::extension::DenseOps;
use geometry::Geometry;

/// Tasks that an operation is cut into, if it is large enough: some for each of many threads, the same
/// ones however many there are, since the size of a product may decide the order of its sums.
const TASKS: usize = 16;

impl DenseOps for Flex {
    fn dense_conv2d(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        options: ConvOptions,
    ) -> FlexTensor {
        convolve(&x, &weight, &bias, None, options)
    }

    fn dense_conv2d_residual(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        residual: FlexTensor,
        options: ConvOptions,
    ) -> FlexTensor {
        convolve(&x, &weight, &bias, Some(&residual), options)
    }

    fn dense_conv2d_input(
        x: FlexTensor,
        weight: FlexTensor,
        grad: FlexTensor,
        options: ConvOptions,
    ) -> FlexTensor {
        let geometry = Geometry::new(&dims(&x), &dims(&weight), options);
        let [weight, grad] = [weight, grad].map(|tensor| tensor.to_contiguous());
        let found = conv_backward::input(&geometry, elements(&weight), elements(&grad));
        tensor(found, dims(&x))
    }

    fn dense_conv2d_weight(
        x: FlexTensor,
        weight: FlexTensor,
        grad: FlexTensor,
        options: ConvOptions,
    ) -> FlexTensor {
        let geometry = Geometry::new(&dims(&x), &dims(&weight), options);
        let [x, grad] = [x, grad].map(|tensor| tensor.to_contiguous());
        let found = conv_backward::weight(&geometry, elements(&x), elements(&grad));
        tensor(found, dims(&weight))
    }

    fn dense_linear(x: FlexTensor, weight: FlexTensor, bias: FlexTensor, relu: bool) -> FlexTensor {
        let [x, bias] = [x, bias].map(|tensor| tensor.to_contiguous());
        let view = matrix::View::of(&weight, &[]);
        let contiguous = view.is_none().then(|| weight.to_contiguous());
        let view = view.or_else(|| matrix::View::of(contiguous.as_ref()?, &[]));
        let view = view.expect("contiguous strides are not negative");
        let mut shape = dims(&x);
        if let Some(last) = shape.last_mut() {
            *last = view.shape[1];
        }
        tensor(linear::forward(elements(&x), view, elements(&bias), relu), shape)
    }

    fn dense_max_pool(x: FlexTensor) -> FlexTensor {
        let x = x.to_contiguous();
        let [b, c, h, w] = sizes(&x);
        let found = pool::forward(elements(&x), [h, w]);
        tensor(found, [b, c, h.div_ceil(2), w.div_ceil(2)])
    }

    fn dense_max_pool_input(x: FlexTensor, grad: FlexTensor) -> FlexTensor {
        let [x, grad] = [x, grad].map(|tensor| tensor.to_contiguous());
        let [.., h, w] = sizes(&x);
        tensor(pool::backward(elements(&x), [h, w], elements(&grad)), dims(&x))
    }

    fn dense_attention(
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        bias: FlexTensor,
    ) -> FlexTensor {
        let bias = bias.to_contiguous();
        let [b, m, q, d] = sizes(&query);
        let output = attention::forward(&query, &key, &value, elements(&bias));
        tensor(output, [b, q, m * d])
    }
}

fn convolve(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    residual: Option<&FlexTensor>,
    options: ConvOptions,
) -> FlexTensor {
    let geometry = Geometry::new(&dims(x), &dims(weight), options);
    let [x, weight, bias] = [x, weight, bias].map(FlexTensor::to_contiguous);
    let residual = residual.map(FlexTensor::to_contiguous);
    let after = conv::Epilogue {
        bias: elements(&bias),
        residual: residual.as_ref().map(elements),
        relu: options.relu,
    };
    let output = conv::forward(&geometry, elements(&x), elements(&weight), after);
    tensor(output, geometry.output_shape())
}

fn dims(tensor: &FlexTensor) -> Vec<usize> {
    tensor.layout().shape().iter().copied().collect()
}

fn sizes(tensor: &FlexTensor) -> [usize; 4] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1], shape[2], shape[3]]
}

/// Returns the elements of a contiguous tensor.
fn elements(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("contiguous f32, as the callers made it")
}

fn tensor(elements: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(elements, shape))
}
