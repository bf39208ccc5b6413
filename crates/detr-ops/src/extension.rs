//! The operation as a backend sees it, and the way from tensors to it.
#![allow(deprecated)] // Burn deprecates ndarray, which the macro below has to name

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchTensorKind, backend_extension};
use burn::tensor::Tensor;

use crate::problem::Options;

/// A backend with kernels for MSDA. Arguments have been checked; locations and weights are f32,
/// values f32, f16 or bf16.
#[backend_extension(
    Cube: cfg(feature = "cube"),
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Fusion: cfg(feature = "fusion"),
    Autodiff
)]
pub(crate) trait MsdaOps: Backend {
    /// Computes the output `[B, Q, M * D]`, of the value's type.
    #[fusion(dtype = value, shape = crate::problem::output_shape(value, locations))]
    fn msda_forward(
        value: FloatTensor<Self>,
        locations: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        options: Options,
    ) -> FloatTensor<Self>;

    /// Gradients of value, locations and weights, each with its tensor's shape and type.
    #[fusion(meta = |value, locations, weights, _grad, _options| {
        (value.clone(), locations.clone(), weights.clone())
    })]
    fn msda_backward(
        value: FloatTensor<Self>,
        locations: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: Options,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// Returns whether the tensor's backend is among those above.
pub(crate) fn has_kernel(value: &Tensor<4>) -> bool {
    is_listed(&value.clone().into_dispatch().kind)
}

#[allow(unreachable_patterns)] // where no other backend is compiled in
fn is_listed(kind: &DispatchTensorKind) -> bool {
    match kind {
        #[cfg(feature = "cube")]
        DispatchTensorKind::Cube(_) => true,
        #[cfg(feature = "flex")]
        DispatchTensorKind::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        DispatchTensorKind::NdArray(_) => true,
        DispatchTensorKind::Autodiff(inner) => is_listed(inner),
        _ => false,
    }
}

/// Runs the kernels.
pub(crate) fn call(
    value: Tensor<4>,
    locations: Tensor<6>,
    weights: Tensor<5>,
    options: Options,
) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as MsdaOps>::msda_forward(
        value.into_dispatch(),
        locations.into_dispatch(),
        weights.into_dispatch(),
        options,
    ))
}
