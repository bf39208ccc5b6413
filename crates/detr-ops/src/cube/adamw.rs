//! `AdamW` as a kernel, in which every unit updates one vector of numbers.

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{grid, uninitialised, vector_size};
use crate::adamw::{AdamwOps, Factors};

impl AdamwOps for CubeBackend {
    fn adamw(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        factors: Factors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let before = [value, gradient, mean, square].map(into_contiguous);
        let shape = before[0].shape();
        let after = [(); 3].map(|()| uninitialised(&before[0], shape.clone(), DType::F32));
        let client = before[0].client.clone();
        let vector = vector_size(&client, shape.num_elements(), DType::F32);
        let (count, dim) = grid(&client, shape.num_elements() / vector);
        let [value, gradient, mean, square] = before.map(CubeTensor::into_tensor_arg);
        let [new_value, new_mean, new_square] =
            after.each_ref().map(|tensor| tensor.clone().into_tensor_arg());
        adamw_kernel::launch(
            &client,
            count,
            dim,
            vector,
            value,
            gradient,
            mean,
            square,
            new_value,
            new_mean,
            new_square,
            factors.mean[0],
            factors.mean[1],
            factors.square[0],
            factors.square[1],
            factors.root[0],
            factors.root[1],
            factors.value[0],
            factors.value[1],
        );
        after.into()
    }
}

/// Updates the numbers of a parameter. All tensors have one length; the last numbers are those of
/// [`Factors`].
#[cube(launch)]
fn adamw_kernel<N: Size>(
    value: &Tensor<Vector<f32, N>>,
    gradient: &Tensor<Vector<f32, N>>,
    mean: &Tensor<Vector<f32, N>>,
    square: &Tensor<Vector<f32, N>>,
    new_value: &mut Tensor<Vector<f32, N>>,
    new_mean: &mut Tensor<Vector<f32, N>>,
    new_square: &mut Tensor<Vector<f32, N>>,
    mean_kept: f32,
    mean_added: f32,
    square_kept: f32,
    square_added: f32,
    root_divisor: f32,
    root_added: f32,
    value_kept: f32,
    rate: f32,
) {
    let at = ABSOLUTE_POS;
    if at >= value.len() {
        terminate!();
    }
    let gradient = gradient[at];
    let mean = mean[at] * Vector::<f32, N>::broadcast(mean_kept)
        + gradient * Vector::<f32, N>::broadcast(mean_added);
    let square = square[at] * Vector::<f32, N>::broadcast(square_kept)
        + gradient * gradient * Vector::<f32, N>::broadcast(square_added);
    let root = square.sqrt() / Vector::<f32, N>::broadcast(root_divisor)
        + Vector::<f32, N>::broadcast(root_added);
    new_value[at] = value[at] * Vector::<f32, N>::broadcast(value_kept)
        - mean / root * Vector::<f32, N>::broadcast(rate);
    new_mean[at] = mean;
    new_square[at] = square;
}
