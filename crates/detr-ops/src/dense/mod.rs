//! Convolutions, linear layers, maximum pooling and attention, each with what follows it in these models (bias,
//! residual sum, `ReLU`; softmax), as one operation: on the CPU (flex) kernels of our own around the
//! matrix products of `gemm`, elsewhere Burn's operations one after the other.
//!
//! The kernels take f32. Every output element is summed in an order that depends on the shapes
//! alone, so results are the same bits whatever the number of threads.

mod autodiff;
mod extension;
#[cfg(feature = "flex")]
mod flex;

use burn::tensor::activation::relu;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Bool, DType, Tensor, module};

pub use extension::has_kernel;

use crate::record;
use crate::reduce::MOST;

/// The options of a convolution, by rows and columns, and of what follows its sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    /// Distance of the places that are looked at.
    pub stride: [usize; 2],
    /// Zeros before the first and after the last row and column.
    pub padding: [usize; 2],
    /// Distance of the weights.
    pub dilation: [usize; 2],
    /// Whether what is below zero becomes zero, after everything else.
    pub relu: bool,
}

/// Computes a convolution, plus a bias, plus a residual, and a `ReLU` if wanted.
///
/// # Shapes
/// - `x` `[B, C, H, W]`
/// - `weight` `[C', C, kh, kw]`
/// - `bias` `[C']`
/// - `residual` and output `[B, C', H', W']`, `H' = (H + 2 padding - dilation (kh - 1) - 1) / stride + 1`
///
/// # Panics
/// Shapes that contradict each other, as Burn's operations do.
#[must_use]
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<4>>,
    options: ConvOptions,
) -> Tensor<4> {
    if has_kernel(&x) {
        let bias = bias.unwrap_or_else(|| zeros(weight.dims()[0], &weight));
        return extension::conv2d(x, weight, bias, residual, options);
    }
    let ConvOptions { stride, padding, dilation, relu: rectify } = options;
    let plain = burn::tensor::ops::ConvOptions::new(stride, padding, dilation, 1);
    // The bias's gradient is a sum over all cells of all images.
    let (bias, apart) = match bias {
        Some(bias) if x.device().is_autodiff() => {
            let [rows, columns] = outputs(&x, &weight, options);
            if x.dims()[0] * rows * columns > MOST {
                (None, Some(bias))
            } else {
                (Some(bias), None)
            }
        }
        bias => (bias, None),
    };
    let y = module::conv2d(x, weight, bias, plain);
    let y = match apart {
        Some(bias) => {
            let [b, c, h, _] = y.dims();
            y + bias.reshape([1, c, 1, 1]).expand([b, c, h, 1])
        }
        None => y,
    };
    let y = match residual {
        Some(residual) => y + residual,
        None => y,
    };
    if rectify { relu(y) } else { y }
}

/// Applies a linear layer, and a `ReLU` if wanted.
///
/// # Shapes
/// - `x` `[.., I]`
/// - `weight` `[I, O]`
/// - `bias` `[O]`
/// - output `[.., O]`
///
/// # Panics
/// Shapes that contradict each other, as Burn's operations do.
#[must_use]
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    rectify: bool,
) -> Tensor<D> {
    if has_kernel(&x) {
        let bias = bias.unwrap_or_else(|| zeros(weight.dims()[1], &weight));
        return extension::linear(x, weight, bias, rectify);
    }
    if let Some(y) = record::linear(&x, &weight, bias.as_ref()) {
        return if rectify { relu(y) } else { y };
    }
    // The bias's gradient is a sum over all rows.
    let rows = x.shape().num_elements() / weight.dims()[0].max(1);
    let y = match bias {
        Some(bias) if D > 2 && rows > MOST && x.device().is_autodiff() => {
            let y = module::linear(x, weight, None);
            let shape = y.dims();
            y + spread(bias, shape)
        }
        bias => module::linear(x, weight, bias),
    };
    if rectify { relu(y) } else { y }
}

/// Spreads a vector over rows `[.., S, D]` as `[.., 1, D]`, so that its gradient is summed over `S` first and over the
/// other axes then.
#[must_use]
pub fn spread<const D: usize>(vector: Tensor<1>, mut shape: [usize; D]) -> Tensor<D> {
    let mut one = [1; D];
    one[D - 1] = shape[D - 1];
    shape[D - 2] = 1;
    vector.reshape(one).expand(shape)
}

/// Returns the height and width of a convolution's output.
fn outputs(x: &Tensor<4>, weight: &Tensor<4>, options: ConvOptions) -> [usize; 2] {
    [0, 1].map(|axis| {
        let span = options.dilation[axis] * (weight.dims()[2 + axis] - 1) + 1;
        let side = x.dims()[2 + axis] + 2 * options.padding[axis];
        side.saturating_sub(span) / options.stride[axis] + 1
    })
}

/// Computes the maximum over 3x3 places, every second row and column, from one before the first on.
///
/// # Shapes
/// - `x` `[B, C, H, W]`
/// - output `[B, C, ceil(H / 2), ceil(W / 2)]`
#[must_use]
pub fn max_pool(x: Tensor<4>) -> Tensor<4> {
    if has_kernel(&x) {
        return extension::max_pool(x);
    }
    let options = MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]);
    module::max_pool2d(x, options)
}

fn zeros<const D: usize>(len: usize, like: &Tensor<D>) -> Tensor<1> {
    Tensor::zeros([len], (&like.device(), DType::F32))
}

/// `softmax(query key^T) value`, for every image and head by itself; without a scale, which belongs to the
/// queries. Only without autodiff: training draws dropout between the softmax and the values.
///
/// # Shapes
/// - `query` `[B, M, Q, d]`, `key` and `value` `[B, M, S, d]`
/// - `padding` `[B, S]`, true = not looked at; not all keys of an image are
/// - output `[B, Q, M * d]`
///
/// None where there is no kernel.
#[must_use]
pub fn attention(
    query: &Tensor<4>,
    key: &Tensor<4>,
    value: &Tensor<4>,
    padding: Option<&Tensor<2, Bool>>,
) -> Option<Tensor<3>> {
    if !has_kernel(query) || query.device().is_autodiff() {
        return None;
    }
    // The mask is added to the scores, and removes those of padding.
    let [b, .., s, _] = key.dims();
    let bias = Tensor::<2>::zeros([b, s], (&query.device(), DType::F32));
    let bias = match padding {
        Some(padding) => bias.mask_fill(padding.clone(), f32::NEG_INFINITY),
        None => bias,
    };
    Some(extension::attention(query.clone(), key.clone(), value.clone(), bias))
}
