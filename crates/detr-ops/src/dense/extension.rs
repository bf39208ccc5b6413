//! The operations as a backend sees them, and the way from tensors to them.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchTensorKind, backend_extension};
use burn::tensor::{DType, Tensor};

use super::ConvOptions;

/// A backend with kernels for them. All tensors are f32.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Autodiff
)]
pub(crate) trait DenseOps: Backend {
    fn dense_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: ConvOptions,
    ) -> FloatTensor<Self>;

    /// Computes a convolution and adds a residual to it.
    fn dense_conv2d_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: ConvOptions,
    ) -> FloatTensor<Self>;

    /// Computes the gradient of the input, from that of the sum before the `ReLU`. Of `x` only the
    /// shape counts.
    fn dense_conv2d_input(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: ConvOptions,
    ) -> FloatTensor<Self>;

    /// Computes the gradient of the weight, from that of the sum before the `ReLU`. Of `weight` only the
    /// shape counts.
    fn dense_conv2d_weight(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: ConvOptions,
    ) -> FloatTensor<Self>;

    fn dense_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self>;

    fn dense_max_pool(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Computes the gradient of the input, from that of the output.
    fn dense_max_pool_input(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self>;

    fn dense_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// Returns whether the operations on a tensor of this backend and type are kernels of our own.
#[must_use]
pub fn has_kernel<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && is_listed(&x.clone().into_dispatch().kind)
}

#[allow(unreachable_patterns, unused_variables)] // where no other backend is compiled in
fn is_listed(kind: &DispatchTensorKind) -> bool {
    match kind {
        #[cfg(feature = "flex")]
        DispatchTensorKind::Flex(_) => true,
        DispatchTensorKind::Autodiff(inner) => is_listed(inner),
        _ => false,
    }
}

pub(super) fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    residual: Option<Tensor<4>>,
    options: ConvOptions,
) -> Tensor<4> {
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(match residual.map(Tensor::into_dispatch) {
        Some(residual) => Dispatch::dense_conv2d_residual(x, weight, bias, residual, options),
        None => Dispatch::dense_conv2d(x, weight, bias, options),
    })
}

pub(super) fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    relu: bool,
) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as DenseOps>::dense_linear(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        relu,
    ))
}

pub(super) fn max_pool(x: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as DenseOps>::dense_max_pool(x.into_dispatch()))
}

pub(super) fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    bias: Tensor<2>,
) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as DenseOps>::dense_attention(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
        bias.into_dispatch(),
    ))
}
