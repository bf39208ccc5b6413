//! Forward: one unit for every query, head and vector of channels. Neighbouring units take
//! neighbouring channels, so that reads of a cell and writes of an output row are single transactions.

use cubecl::prelude::*;

use super::geometry::{cell, factor, inside, locate, pair_at};

/// # Shapes
/// - `value` `[B, S, M, D]`
/// - `locations` `[B, Q, M, L, P, 2]`
/// - `weights` `[B, Q, M, L, P]`
/// - `output` `[B, Q, M * D]`
#[cube(launch)]
pub(super) fn forward_kernel<F: Float, N: Size>(
    value: &Tensor<Vector<F, N>>,
    locations: &Tensor<f32>,
    weights: &Tensor<f32>,
    output: &mut Tensor<Vector<F, N>>,
    heights: Sequence<u32>,
    widths: Sequence<u32>,
    #[comptime] points: usize,
    #[define(F)] _dtype: ElemType,
) {
    let s = value.shape(1);
    let m = value.shape(2);
    let d = value.shape(3) / value.vector_size();
    let q = locations.shape(1);
    let row = m * d;
    let levels = comptime!(heights.len());

    let unit = ABSOLUTE_POS;
    if unit >= value.shape(0) * q * row {
        terminate!();
    }
    let channel = unit % d;
    let pair = pair_at(unit / d, q, m);

    let mut first = pair.image * s * row + pair.head * d + channel;
    let mut point = pair.query_head * levels * points;
    let mut sum = Vector::<f32, N>::zeroed();
    #[unroll]
    for level in 0..levels {
        let height = heights[level] as i32;
        let width = widths[level] as i32;
        for _p in 0..points {
            let place = locate(locations[2 * point], locations[2 * point + 1], height, width);
            if place.near {
                let weight = weights[point];
                #[unroll]
                for corner in 0u32..4u32 {
                    let right = comptime!(corner % 2);
                    let down = comptime!(corner / 2);
                    let x = cell(place.column, right);
                    let y = cell(place.row, down);
                    if inside(x, y, height, width) {
                        let factor = factor(place.right, right) * factor(place.down, down);
                        let read = value[first + (y * width + x) as usize * row];
                        sum += Vector::<f32, N>::cast_from(read)
                            * Vector::<f32, N>::broadcast(factor * weight);
                    }
                }
            }
            point += 1;
        }
        first += (height * width) as usize * row;
    }
    output[pair.query_head * d + channel] = Vector::cast_from(sum);
}
