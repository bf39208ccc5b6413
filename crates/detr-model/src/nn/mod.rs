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

/// Repeats the cells of a map, `[B, C, h, w] -> [B, C, H, W]`. H and W were halved some times and rounded up to get h
/// and w.
pub(crate) fn repeat_cells(map: Tensor<4>, [height, width]: [usize; 2]) -> Tensor<4> {
    let [b, c, h, w] = map.dims();
    let [rows, columns] = [height.div_ceil(h), width.div_ceil(w)].map(usize::next_power_of_two);
    if [rows, columns] == [1, 1] {
        return map;
    }
    map.reshape([b, c, h, 1, w, 1])
        .expand([b, c, h, rows, w, columns])
        .reshape([b, c, h * rows, w * columns])
        .slice_dim(2, 0..height)
        .slice_dim(3, 0..width)
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
