//! The few layers that the models need and Burn lacks or defines differently.

mod conv;
mod linear;
mod norm;

use burn::module::Param;
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

pub use conv::Conv2d;
pub(crate) use conv::ConvShape;
pub(crate) use linear::{Init, fan_in_uniform, feed_forward};
pub use linear::{Linear, Mlp};
pub(crate) use norm::{group_norm, layer_norm, normalize, softmax_f32};

/// Reads a map `[B, D, h, w]` row by row, as tokens `[B, h * w, D]`.
pub(crate) fn to_tokens(map: Tensor<4>) -> Tensor<3> {
    map.flatten::<3>(2, 3).swap_dims(1, 2)
}

/// Makes a table of `rows` learned vectors of width `width`, drawn from `initializer`.
pub(crate) fn table(
    rows: usize,
    width: usize,
    initializer: &Initializer,
    device: &Device,
) -> Param<Tensor<2>> {
    initializer.init([rows, width], device)
}
