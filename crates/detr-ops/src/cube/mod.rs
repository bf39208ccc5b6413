//! The kernels on GPUs, through CubeCL: one source for CUDA, Vulkan, Metal and WebGPU.
//!
//! Values are read and written in vectors along the channels, sums are in f32. The element type and
//! the sizes of the levels are arguments at run time: what is compiled depends on the vector size, L
//! and P only.
#![allow(
    clippy::cast_possible_truncation, // cells and sides are counted in 32 bits, and checked for it
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss, // sides are exact in f32
    clippy::cast_sign_loss, // after a test that a cell is inside
    clippy::needless_pass_by_value, // kernels take sequences by value
    clippy::used_underscore_binding // the element type of a kernel is used by its macro alone
)]

mod backward;
mod forward;
mod geometry;

use burn::backend::TensorMetadata;
use burn::backend::cubecl::{dtype_to_elem_type, dtype_to_storage_type};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::ops::numeric::zeros_client;
use burn_cubecl::tensor::CubeTensor;
use cubecl::features::AtomicUsage;
use cubecl::prelude::*;
use cubecl::{calculate_cube_count_elemwise, client::Client};

use crate::extension::MsdaOps;
use crate::problem::{Adding, Levels, Options, output_shape};

/// Bytes of the widest load of a unit.
const VECTOR_BYTES: usize = 16;

impl MsdaOps for CubeBackend {
    fn msda_forward(
        value: FloatTensor<Self>,
        locations: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        options: Options,
    ) -> FloatTensor<Self> {
        let [value, locations, weights] = [value, locations, weights].map(into_contiguous);
        let (client, dtype) = (value.client.clone(), value.dtype);
        let shape = output_shape(&value.shape(), &locations.shape());
        let vector = vector_size(value.shape()[3], dtype);
        let points = locations.shape()[4];
        let output = uninitialised(&value, shape, dtype);

        let (count, dim) = grid(&client, output.shape().num_elements() / vector);
        let (heights, widths) = sides(&options.levels);
        forward::forward_kernel::launch(
            &client,
            count,
            dim,
            vector,
            value.into_tensor_arg(),
            locations.into_tensor_arg(),
            weights.into_tensor_arg(),
            output.clone().into_tensor_arg(),
            heights,
            widths,
            points,
            dtype_to_storage_type(dtype),
        );
        output
    }

    fn msda_backward(
        value: FloatTensor<Self>,
        locations: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: Options,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [value, locations, weights, grad] =
            [value, locations, weights, grad].map(into_contiguous);
        let (grad_locations, grad_weights) =
            of_points(&value, &locations, &weights, &grad, &options.levels);
        let grad_value = of_value(&value, locations, weights, grad, &options);
        (grad_value, grad_locations, grad_weights)
    }
}

/// Gradients of locations and weights.
fn of_points(
    value: &CubeTensor,
    locations: &CubeTensor,
    weights: &CubeTensor,
    grad: &CubeTensor,
    levels: &Levels,
) -> (CubeTensor, CubeTensor) {
    let client = &value.client;
    let grad_locations = uninitialised(value, locations.shape(), DType::F32);
    let grad_weights = uninitialised(value, weights.shape(), DType::F32);
    let (count, dim) = grid(client, weights.shape().num_elements());
    let (heights, widths) = sides(levels);
    backward::points_kernel::launch(
        client,
        count,
        dim,
        vector_size(value.shape()[3], value.dtype),
        value.clone().into_tensor_arg(),
        locations.clone().into_tensor_arg(),
        weights.clone().into_tensor_arg(),
        grad.clone().into_tensor_arg(),
        grad_locations.clone().into_tensor_arg(),
        grad_weights.clone().into_tensor_arg(),
        heights,
        widths,
        locations.shape()[4],
        dtype_to_storage_type(value.dtype),
    );
    (grad_locations, grad_weights)
}

/// Gradient of the value: collected in f32, whatever the value is.
fn of_value(
    value: &CubeTensor,
    locations: CubeTensor,
    weights: CubeTensor,
    grad: CubeTensor,
    options: &Options,
) -> CubeTensor {
    let client = &value.client;
    let (device, shape, dtype) = (value.device.clone(), value.shape(), value.dtype);
    let vector = vector_size(shape[3], dtype);
    let sum = zeros_client(client.clone(), device, shape, DType::F32);
    let (count, dim) = grid(client, grad.shape().num_elements() / vector);
    let (heights, widths) = sides(&options.levels);
    let points = locations.shape()[4];
    let launch = match options.adding {
        Adding::Best if has_atomic_add(client) => {
            backward::value_kernel::launch::<backward::Native>
        }
        _ => backward::value_kernel::launch::<backward::CompareAndSwap>,
    };
    launch(
        client,
        count,
        dim,
        vector,
        locations.into_tensor_arg(),
        weights.into_tensor_arg(),
        grad.into_tensor_arg(),
        sum.clone().into_tensor_arg(),
        heights,
        widths,
        points,
        dtype_to_storage_type(dtype),
    );
    if dtype == DType::F32 { sum } else { cast(sum, dtype) }
}

/// Whether the device adds f32 numbers in memory in one step.
fn has_atomic_add(client: &Client) -> bool {
    let f32 = Type::atomic(dtype_to_elem_type(DType::F32));
    client.properties().atomic_type_usage(f32).contains(AtomicUsage::Add)
}

/// A tensor that a kernel fills, its elements one after the other.
fn uninitialised(like: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    let handle = like.client.empty(shape.num_elements() * dtype.size());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, dtype)
}

/// Channels that a unit takes at once: a power of two that divides D.
fn vector_size(d: usize, dtype: DType) -> usize {
    let widest = (VECTOR_BYTES / dtype.size()).min(4);
    [4, 2, 1].into_iter().find(|&n| n <= widest && d.is_multiple_of(n)).unwrap_or(1)
}

/// Cubes, and units in each, for so many units.
fn grid(client: &Client, units: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(client, units);
    (calculate_cube_count_elemwise(client, units, dim), dim)
}

/// The sizes of the levels as arguments: heights, widths.
fn sides(levels: &Levels) -> (SequenceArg<u32>, SequenceArg<u32>) {
    let (mut heights, mut widths) = (SequenceArg::new(), SequenceArg::new());
    for &[height, width] in levels {
        heights.push(height as u32);
        widths.push(width as u32);
    }
    (heights, widths)
}
