//! The kernels on the CPU, for flex and ndarray: plain slices of f32, whatever the backend keeps.
//!
//! Forward runs over blocks of queries, backward over (image, head, level), so that every task owns
//! what it writes: no atomics, and the same bits whatever the number of threads. Inner loops go over
//! channels, in the widest vectors that the processor has.
#![allow(clippy::inline_always)] // what is not inlined is not compiled for the wider instructions

#[cfg(feature = "flex")]
mod adamw;
mod backward;
mod forward;
mod geometry;
mod heads;
mod prefetch;
pub(crate) mod shared;
mod taps;
pub(crate) mod zeros;

use std::borrow::Cow;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Shape, TensorData};

use crate::extension::MsdaOps;
use crate::problem::{Levels, Options, output_shape};
use geometry::Sizes;

/// A backend whose tensors are host memory.
trait HostBackend: Backend {
    /// Makes the elements of a tensor lie one after the other, so that they can be read.
    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Returns the elements of a contiguous tensor in f32; a copy only where the type is another.
    fn elements(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]>;

    /// Makes a tensor of these elements.
    fn tensor(data: TensorData) -> FloatTensor<Self>;
}

fn write<B: HostBackend>(elements: Vec<f32>, shape: Shape, dtype: DType) -> FloatTensor<B> {
    B::tensor(TensorData::new(elements, shape).convert_dtype(dtype))
}

fn forward<B: HostBackend>(
    value: FloatTensor<B>,
    locations: FloatTensor<B>,
    weights: FloatTensor<B>,
    levels: &Levels,
) -> FloatTensor<B> {
    let [value, locations, weights] = [value, locations, weights].map(B::contiguous);
    let sizes = Sizes::new(&value.shape(), &locations.shape(), levels);
    let output = forward::forward(
        &sizes,
        &B::elements(&value),
        &B::elements(&locations),
        &B::elements(&weights),
    );
    let shape = output_shape(&value.shape(), &locations.shape());
    write::<B>(output, shape, value.dtype())
}

fn backward<B: HostBackend>(
    value: FloatTensor<B>,
    locations: FloatTensor<B>,
    weights: FloatTensor<B>,
    grad: FloatTensor<B>,
    levels: &Levels,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let [value, locations, weights, grad] = [value, locations, weights, grad].map(B::contiguous);
    let sizes = Sizes::new(&value.shape(), &locations.shape(), levels);
    let gradients = backward::backward(
        &sizes,
        &B::elements(&value),
        &B::elements(&locations),
        &B::elements(&weights),
        &B::elements(&grad),
    );
    (
        write::<B>(gradients.value, value.shape(), value.dtype()),
        write::<B>(gradients.locations, locations.shape(), DType::F32),
        write::<B>(gradients.weights, weights.shape(), DType::F32),
    )
}

macro_rules! host_kernels {
    ($backend:ty) => {
        impl MsdaOps for $backend {
            fn msda_forward(
                value: FloatTensor<Self>,
                locations: FloatTensor<Self>,
                weights: FloatTensor<Self>,
                options: Options,
            ) -> FloatTensor<Self> {
                forward::<Self>(value, locations, weights, &options.levels)
            }

            fn msda_backward(
                value: FloatTensor<Self>,
                locations: FloatTensor<Self>,
                weights: FloatTensor<Self>,
                grad: FloatTensor<Self>,
                options: Options,
            ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
                backward::<Self>(value, locations, weights, grad, &options.levels)
            }
        }
    };
}

#[cfg(feature = "flex")]
mod flex {
    use super::{Cow, DType, FloatTensor, HostBackend, MsdaOps, Options, TensorData};
    use super::{backward, forward};
    use burn::backend::Flex;
    use burn_flex::FlexTensor;

    impl HostBackend for Flex {
        fn contiguous(tensor: FlexTensor) -> FlexTensor {
            tensor.to_contiguous()
        }

        fn elements(tensor: &FlexTensor) -> Cow<'_, [f32]> {
            if tensor.dtype() == DType::F32
                && let Some(elements) = tensor.as_slice::<f32>()
            {
                return Cow::Borrowed(elements);
            }
            Cow::Owned(tensor.clone().into_data().iter::<f32>().collect())
        }

        fn tensor(data: TensorData) -> FlexTensor {
            FlexTensor::from_data(data)
        }
    }

    host_kernels!(Flex);
}

#[cfg(feature = "ndarray")]
#[allow(deprecated)] // Burn deprecates the backend; parity is tested on it
mod ndarray {
    use super::{Cow, FloatTensor, HostBackend, MsdaOps, Options, TensorData};
    use super::{backward, forward};
    use burn::backend::NdArray;
    use burn_ndarray::NdArrayTensor;

    impl HostBackend for NdArray {
        fn contiguous(tensor: NdArrayTensor) -> NdArrayTensor {
            tensor
        }

        fn elements(tensor: &NdArrayTensor) -> Cow<'_, [f32]> {
            let NdArrayTensor::F32(storage) = tensor else {
                panic!("multi-scale deformable attention on ndarray takes f32, its only such type")
            };
            let view = storage.view();
            match view.to_slice() {
                Some(elements) => Cow::Borrowed(elements),
                None => Cow::Owned(view.iter().copied().collect()),
            }
        }

        fn tensor(data: TensorData) -> NdArrayTensor {
            NdArrayTensor::from_data(data)
        }
    }

    host_kernels!(NdArray);
}
