//! The sizes of one MSDA call, by the symbols that all kernels share.

use burn::tensor::Shape;

/// Sizes of the levels, (H, W), from fine to coarse.
pub(crate) type Levels = Vec<[usize; 2]>;

/// Shape of the output: `[B, S, M, D]` and `[B, Q, M, L, P, 2]` to `[B, Q, M * D]`.
pub(crate) fn output_shape(value: &Shape, locations: &Shape) -> Shape {
    Shape::new([value[0], locations[1], value[2] * value[3]])
}
