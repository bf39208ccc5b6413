//! Backward: a kernel with one unit for every point, which needs no atomics, and one that adds into
//! the gradient of the value, with one unit for every query, head and vector of channels.

use cubecl::prelude::*;

use super::geometry::{cell, factor, inside, locate};

/// Gradients of locations and weights.
///
/// # Shapes
/// - `value` `[B, S, M, D]`
/// - `locations`, `grad_locations` `[B, Q, M, L, P, 2]`
/// - `weights`, `grad_weights` `[B, Q, M, L, P]`
/// - `grad` `[B, Q, M * D]`
#[cube(launch)]
pub(super) fn points_kernel<F: Float, N: Size>(
    value: &Tensor<Vector<F, N>>,
    locations: &Tensor<f32>,
    weights: &Tensor<f32>,
    grad: &Tensor<Vector<F, N>>,
    grad_locations: &mut Tensor<f32>,
    grad_weights: &mut Tensor<f32>,
    heights: Sequence<u32>,
    widths: Sequence<u32>,
    #[comptime] points: usize,
    #[define(F)] _dtype: ElemType,
) {
    let s = value.shape(1);
    let m = value.shape(2);
    let d = value.shape(3) / value.vector_size();
    let q = locations.shape(1);
    let levels = comptime!(heights.len());

    let point = ABSOLUTE_POS;
    if point >= value.shape(0) * q * m * levels * points {
        terminate!();
    }
    let of_level = (point / points) % levels;
    let query_head = point / (points * levels);
    let head = query_head % m;
    let image = query_head / (m * q);

    let mut start = 0usize;
    let mut height = 0i32;
    let mut width = 0i32;
    let mut seen = 0usize;
    #[unroll]
    for level in 0..levels {
        if of_level == level {
            height = heights[level] as i32;
            width = widths[level] as i32;
            start = seen;
        }
        seen += heights[level] as usize * widths[level] as usize;
    }

    let mut of_weight = 0.0f32;
    let mut of_x = 0.0f32;
    let mut of_y = 0.0f32;
    let place = locate(locations[2 * point], locations[2 * point + 1], height, width);
    if place.near {
        let first = ((image * s + start) * m + head) * d;
        #[unroll]
        for corner in 0u32..4u32 {
            let right = comptime!(corner % 2);
            let down = comptime!(corner / 2);
            let x = cell(place.column, right);
            let y = cell(place.row, down);
            if inside(x, y, height, width) {
                let row = first + (y * width + x) as usize * m * d;
                let mut products = Vector::<f32, N>::zeroed();
                for channel in 0..d {
                    products += Vector::<f32, N>::cast_from(value[row + channel])
                        * Vector::<f32, N>::cast_from(grad[query_head * d + channel]);
                }
                let dot = products.vector_sum();
                let by_x = factor(place.right, right);
                let by_y = factor(place.down, down);
                of_weight += by_x * by_y * dot;
                of_x += sign(right) * by_y * dot;
                of_y += sign(down) * by_x * dot;
            }
        }
    }
    let weight = weights[point];
    grad_weights[point] = of_weight;
    grad_locations[2 * point] = of_x * weight * width as f32;
    grad_locations[2 * point + 1] = of_y * weight * height as f32;
}

/// Derivative of a factor.
#[cube]
fn sign(#[comptime] side: u32) -> f32 {
    if comptime!(side == 0) { -1.0f32 } else { 1.0f32 }
}

/// A way to add to a number in memory that other units add to as well.
#[cube]
pub(super) trait AtomicAdd: Send + Sync + 'static {
    /// What the number is kept as.
    type Cell: Numeric;

    /// Adds.
    fn add(cell: &mut Atomic<Self::Cell>, value: f32);
}

/// The device's own instruction.
pub(super) struct Native;

/// Try again until no other unit came between; on devices that add integers only.
pub(super) struct CompareAndSwap;

#[cube]
impl AtomicAdd for Native {
    type Cell = f32;

    fn add(cell: &mut Atomic<f32>, value: f32) {
        cell.fetch_add(value);
    }
}

#[cube]
impl AtomicAdd for CompareAndSwap {
    type Cell = u32;

    fn add(cell: &mut Atomic<u32>, value: f32) {
        let mut seen = cell.load();
        let mut done = false;
        while !done {
            let expected = seen;
            let sum = f32::from_bits(expected) + value;
            seen = cell.compare_exchange_weak(expected, sum.to_bits());
            done = seen == expected;
        }
    }
}

/// Adds to the gradient of the value, which starts at zero.
///
/// # Shapes
/// - `locations` `[B, Q, M, L, P, 2]`
/// - `weights` `[B, Q, M, L, P]`
/// - `grad` `[B, Q, M * D]`
/// - `grad_value` `[B, S, M, D]`, f32
#[cube(launch)]
pub(super) fn value_kernel<F: Float, N: Size, A: AtomicAdd>(
    locations: &Tensor<f32>,
    weights: &Tensor<f32>,
    grad: &Tensor<Vector<F, N>>,
    grad_value: &mut Tensor<Atomic<A::Cell>>,
    heights: Sequence<u32>,
    widths: Sequence<u32>,
    #[comptime] points: usize,
    #[define(F)] _dtype: ElemType,
) {
    let vector = grad.vector_size();
    let s = grad_value.shape(1);
    let row = grad_value.shape(2) * grad_value.shape(3);
    let d = grad_value.shape(3) / vector;
    let q = locations.shape(1);
    let levels = comptime!(heights.len());

    let unit = ABSOLUTE_POS;
    let units = row / vector;
    if unit >= grad_value.shape(0) * q * units {
        terminate!();
    }
    let image = unit / (units * q);
    let channel = (unit % units) * vector;
    let query_head = unit / d;

    let grad = Vector::<f32, N>::cast_from(grad[unit]);
    let mut first = image * s * row + channel;
    let mut point = query_head * levels * points;
    #[unroll]
    for level in 0..levels {
        let height = heights[level] as i32;
        let width = widths[level] as i32;
        for _p in 0..points {
            let place = locate(locations[2 * point], locations[2 * point + 1], height, width);
            if place.near {
                let weighted = grad * Vector::<f32, N>::broadcast(weights[point]);
                #[unroll]
                for corner in 0u32..4u32 {
                    let right = comptime!(corner % 2);
                    let down = comptime!(corner / 2);
                    let x = cell(place.column, right);
                    let y = cell(place.row, down);
                    if inside(x, y, height, width) {
                        let factor = factor(place.right, right) * factor(place.down, down);
                        let added = weighted * Vector::<f32, N>::broadcast(factor);
                        let to = first + (y * width + x) as usize * row;
                        #[unroll]
                        for i in 0..vector {
                            A::add(&mut grad_value[to + i], added.extract(i));
                        }
                    }
                }
            }
            point += 1;
        }
        first += (height * width) as usize * row;
    }
}
