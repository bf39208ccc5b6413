//! Multi-scale deformable attention (MSDA) as a Burn backend extension: the sampling core of
//! Deformable DETR (`models/ops` of the reference), forward and backward, with kernels of our own.
//!
//! [`msda`] computes, for every query and head, a weighted sum of values read at fractional places
//! of several feature maps. Projections, softmax and reference points belong to the model.
//!
//! - `cpu`: flex and ndarray, deterministic; copies the cells of a head or level at a time, and
//!   inputs in half precision or with strides whole
//! - `cube`: every CubeCL runtime (CUDA, Vulkan, Metal, WebGPU)
//! - [`dense`]: convolutions, linear layers, pooling and attention of the models on the CPU
//! - [`adamw`]: the update of a parameter as one operation, on flex and CubeCL
//! - [`reduce`]: sums and largest elements in steps that weak drivers compute right
//! - [`record`]: operations of this crate as a capture device records them, for exporters
//! - [`traffic`]: how often a device is read and what is launched on it
//! - `autodiff`: the node that ties forward and backward together
//! - [`reference`](mod@reference): plain tensor operations, the yardstick of the tests and the way on
//!   backends without a kernel
//! - [`self_test`](mod@self_test): whether a device computes it right, against [`formula`] in f64
//!
//! There is no gradient of the gradient, except through [`reference`](mod@reference).
#![cfg_attr(
    not(any(feature = "flex", feature = "ndarray", feature = "cube")),
    allow(dead_code, unused_variables) // there is no kernel
)]

pub mod adamw;
mod autodiff;
mod check;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
#[cfg(feature = "cube")]
mod cube;
pub mod dense;
mod extension;
pub mod formula;
mod heap;
mod problem;
pub mod record;
pub mod reduce;
pub mod reference;
pub mod self_test;
pub mod traffic;

pub use check::{MsdaArgument, MsdaError};
pub use heap::keep_freed_memory;

use burn::tensor::{FloatDType, Tensor};

use problem::{Accumulation, Options};

/// Computes multi-scale deformable attention; this is [`try_msda`] with a panic in place of an
/// error.
///
/// # Panics
///
/// Panics if [`try_msda`] returns an error: the arguments contradict each other.
#[must_use]
#[track_caller]
pub fn msda(
    value: Tensor<4>,
    levels: &[[usize; 2]],
    locations: Tensor<6>,
    weights: Tensor<5>,
) -> Tensor<3> {
    match try_msda(value, levels, locations, weights) {
        Ok(output) => output,
        Err(error) => panic!("{error}"),
    }
}

/// Computes multi-scale deformable attention: for every query and head, the sum over levels and
/// points of weight times the value read at the point's location.
///
/// A location is relative to its level: pixel coordinate = location * size - 0.5, so the centre of
/// the first cell of a row of W is at 0.5 / W. Reading is bilinear; cells outside are zero, and a point
/// a whole cell outside, or not finite, adds nothing and gets no gradient.
///
/// Values may be f32, f16 or bf16, and the output has their type; sums are made in f32. Locations
/// and weights are computed with in f32, whatever they come in: give them in f32, since half
/// precision cannot tell neighbouring cells of a large map apart.
///
/// A new image size compiles nothing on a GPU. On a backend without a kernel, or whose feature of
/// this crate is off, [`reference::msda_reference`] computes the same.
///
/// # Shapes
/// - `value` `[B, S, M, D]`: S cells, the levels one after the other, each row by row; D channels
///   per head
/// - `levels`: L pairs (H, W), from fine to coarse, as the cells in `value` are
/// - `locations` `[B, Q, M, L, P, 2]`, (x, y), 0 to 1 inside the image
/// - `weights` `[B, Q, M, L, P]`
/// - output `[B, Q, M * D]`
///
/// # Errors
///
/// [`MsdaError`] names the argument that does not fit the others: shapes, sizes of zero, precision
/// or device.
pub fn try_msda(
    value: Tensor<4>,
    levels: &[[usize; 2]],
    locations: Tensor<6>,
    weights: Tensor<5>,
) -> Result<Tensor<3>, MsdaError> {
    check::arguments(&value, levels, &locations, &weights)?;
    Ok(run(value, levels, locations, weights, Accumulation::Best))
}

/// [`msda`] as on a GPU without atomic addition of f32, for tests.
///
/// # Panics
///
/// Panics as [`msda`] does.
#[doc(hidden)]
#[must_use]
pub fn msda_compare_and_swap(
    value: Tensor<4>,
    levels: &[[usize; 2]],
    locations: Tensor<6>,
    weights: Tensor<5>,
) -> Tensor<3> {
    match check::arguments(&value, levels, &locations, &weights) {
        Ok(()) => run(value, levels, locations, weights, Accumulation::CompareAndSwap),
        Err(error) => panic!("{error}"),
    }
}

/// Runs the kernel, or plain tensor operations if the backend has none.
fn run(
    value: Tensor<4>,
    levels: &[[usize; 2]],
    locations: Tensor<6>,
    weights: Tensor<5>,
    adding: Accumulation,
) -> Tensor<3> {
    let locations = locations.cast(FloatDType::F32);
    let weights = weights.cast(FloatDType::F32);
    if let Some(output) = record::msda(&value, levels, &locations, &weights) {
        return output;
    }
    if !extension::has_kernel(&value) {
        return reference::msda_reference(value, levels, locations, weights);
    }
    let options = Options { levels: levels.to_vec(), adding };
    extension::call(value, locations, weights, options)
}
