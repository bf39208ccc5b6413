//! The kernels on GPUs, through CubeCL: one source for CUDA, Vulkan, Metal and WebGPU.
//!
//! Values are read and written in vectors along the channels, sums are in f32. The sizes of the levels
//! are arguments at run time: what is compiled depends on the element type, D, L and P only.
#![allow(
    clippy::cast_possible_truncation, // cells and sides are counted in 32 bits, and checked for it
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss, // sides are exact in f32
    clippy::cast_sign_loss, // after a test that a cell is inside
    clippy::needless_pass_by_value, // kernels take sequences by value
    clippy::used_underscore_binding // the element type of a kernel is used by its macro alone
)]

mod adamw;
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
use crate::problem::{Accumulation, Levels, Options, output_shape};

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
        let vector = vector_size(&client, value.shape()[3], dtype);
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
        let (client, dtype) = (value.client.clone(), value.dtype);
        let grad_locations = uninitialised(&value, locations.shape(), DType::F32);
        let grad_weights = uninitialised(&value, weights.shape(), DType::F32);
        // The sum is collected in f32, whatever the type of the value.
        let sum = zeros_client(client.clone(), value.device.clone(), value.shape(), DType::F32);

        let [b, q, m, points] = [0, 1, 2, 4].map(|axis| locations.shape()[axis]);
        let vector = vector_size(&client, value.shape()[3], dtype);
        let lanes = (value.shape()[3] / vector).min(MAX_LANES);
        let pairs = pairs_per_cube(&client, lanes, points);
        let dim = CubeDim::new_2d(lanes as u32, pairs as u32);
        let units = (b * q * m).div_ceil(pairs) * pairs * lanes;
        let count = calculate_cube_count_elemwise(&client, units, dim);
        let (heights, widths) = sides(&options.levels);
        let launch = match options.adding {
            Accumulation::Best if has_atomic_add(&client) => {
                backward::backward_kernel::launch::<backward::Native>
            }
            _ => backward::backward_kernel::launch::<backward::CompareAndSwap>,
        };
        launch(
            &client,
            count,
            dim,
            vector,
            value.into_tensor_arg(),
            locations.into_tensor_arg(),
            weights.into_tensor_arg(),
            grad.into_tensor_arg(),
            sum.clone().into_tensor_arg(),
            grad_locations.clone().into_tensor_arg(),
            grad_weights.clone().into_tensor_arg(),
            heights,
            widths,
            points,
            lanes,
            pairs,
            dtype_to_storage_type(dtype),
        );
        let grad_value = if dtype == DType::F32 { sum } else { cast(sum, dtype) };
        (grad_value, grad_locations, grad_weights)
    }
}

/// Units that share the channels of a query and head, at most.
const MAX_LANES: usize = 64;

/// Units of a cube, where the device allows.
const CUBE_UNITS: usize = 256;

/// Queries and heads that fit a cube: its units and its shared memory.
fn pairs_per_cube(client: &Client, lanes: usize, points: usize) -> usize {
    let hardware = &client.properties().hardware;
    let units = CUBE_UNITS.min(hardware.max_units_per_cube as usize);
    let shared = backward::shared_numbers(lanes, points) * size_of::<f32>();
    (units / lanes).min(hardware.max_shared_memory_size / shared).max(1)
}

/// Returns whether the device adds f32 numbers in memory in one step.
fn has_atomic_add(client: &Client) -> bool {
    let f32 = Type::atomic(dtype_to_elem_type(DType::F32));
    client.properties().atomic_type_usage(f32).contains(AtomicUsage::Add)
}

/// Allocates a tensor that a kernel fills, its elements one after the other.
fn uninitialised(like: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    let handle = like.client.empty(shape.num_elements() * dtype.size());
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), shape, handle, dtype)
}

/// Channels that a unit takes at once: the widest load of the device that divides D.
fn vector_size(client: &Client, d: usize, dtype: DType) -> usize {
    client.io_optimized_vector_sizes(dtype.size()).find(|&n| d.is_multiple_of(n)).unwrap_or(1)
}

/// Returns the number of cubes, and of units in each, for a number of units.
fn grid(client: &Client, units: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(client, units);
    (calculate_cube_count_elemwise(client, units, dim), dim)
}

/// Returns the sizes of the levels as arguments: heights, widths.
fn sides(levels: &Levels) -> (SequenceArg<u32>, SequenceArg<u32>) {
    let (mut heights, mut widths) = (SequenceArg::new(), SequenceArg::new());
    for &[height, width] in levels {
        heights.push(height as u32);
        widths.push(width as u32);
    }
    (heights, widths)
}
