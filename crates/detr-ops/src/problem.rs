//! The settings of a call that the kernels of all backends need besides its tensors.

use burn::tensor::Shape;

/// Sizes of the levels, (H, W), from fine to coarse.
pub(crate) type Levels = Vec<[usize; 2]>;

/// Arguments that are no tensors.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) levels: Levels,
    #[cfg_attr(not(feature = "cube"), allow(dead_code))] // the CPU adds in order
    pub(crate) adding: Accumulation,
}

/// The ways in which the backward kernel of a GPU adds to the gradient of the value.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "cube"), allow(dead_code))]
pub(crate) enum Accumulation {
    /// By the device's own instruction, where it has one.
    Best,
    /// A compare-and-swap loop, as on a device without such an instruction, so that tests run it
    /// everywhere.
    CompareAndSwap,
}

/// Returns the shape of the output: `[B, S, M, D]` and `[B, Q, M, L, P, 2]` to `[B, Q, M * D]`.
pub(crate) fn output_shape(value: &Shape, locations: &Shape) -> Shape {
    Shape::new([value[0], locations[1], value[2] * value[3]])
}
