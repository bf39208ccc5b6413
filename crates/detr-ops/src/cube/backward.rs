//! Backward in one kernel, which reads values and the gradient of the output once. Units of a query
//! and head take its channels, add to the gradient of the value, and put their parts of the dot
//! products that the other two gradients are made of into shared memory, where they are summed up.

use cubecl::prelude::*;

use super::geometry::{cell, factor, inside, locate, pair_at};

/// Points whose dot products are in shared memory at the same time.
const AT_ONCE: usize = 4;

/// Numbers of a point there: the gradient of the weight, and the derivatives by x and y in cells.
const NUMBERS: usize = 3;

/// Returns the number of values that a pair of a query and head keeps in shared memory.
pub(super) fn shared_numbers(lanes: usize, points: usize) -> usize {
    lanes * points.min(AT_ONCE) * NUMBERS
}

/// Adds to the gradient of the value, which starts at zero, and writes those of locations and weights.
///
/// A cube has `lanes` units in x for each of `pairs` pairs of a query and head in y.
///
/// # Shapes
/// - `value` `[B, S, M, D]`
/// - `locations`, `grad_locations` `[B, Q, M, L, P, 2]`
/// - `weights`, `grad_weights` `[B, Q, M, L, P]`
/// - `grad` `[B, Q, M * D]`
/// - `grad_value` `[B, S, M, D]`, f32
#[cube(launch)]
pub(super) fn backward_kernel<F: Float, N: Size, A: AtomicAdd>(
    value: &Tensor<Vector<F, N>>,
    locations: &Tensor<f32>,
    weights: &Tensor<f32>,
    grad: &Tensor<Vector<F, N>>,
    grad_value: &mut Tensor<Atomic<A::Cell>>,
    grad_locations: &mut Tensor<f32>,
    grad_weights: &mut Tensor<f32>,
    heights: Sequence<u32>,
    widths: Sequence<u32>,
    #[comptime] points: usize,
    #[comptime] lanes: usize,
    #[comptime] pairs: usize,
    #[define(F)] _dtype: ElemType,
) {
    let vector = value.vector_size();
    let s = value.shape(1);
    let m = value.shape(2);
    let d = value.shape(3) / vector;
    let q = locations.shape(1);
    let row = m * d;
    let all = value.shape(0) * m * q;
    let levels = comptime!(heights.len());
    let at_once = comptime!(points.min(AT_ONCE));
    let of_pair = comptime!(at_once * NUMBERS);
    let mut shared = Shared::<[f32]>::new_slice(comptime!(pairs * lanes * of_pair));

    let lane = UNIT_POS_X as usize;
    let own = UNIT_POS_Y as usize;
    let first_pair = CUBE_POS * pairs;
    // The last cube may have units without a pair; they take part in the barriers only.
    let busy = first_pair + own < all;
    let pair = pair_at(first_pair + own, q, m);
    let from = pair.query_head * d;

    let mut start = pair.image * s * row + pair.head * d;
    #[unroll]
    for level in 0..levels {
        let height = heights[level] as i32;
        let width = widths[level] as i32;
        for chunk in 0..comptime!(points.div_ceil(at_once)) {
            for i in 0..at_once {
                let of_level = chunk * at_once + i;
                let mut of_weight = 0.0f32;
                let mut of_x = 0.0f32;
                let mut of_y = 0.0f32;
                if busy && of_level < points {
                    let point = (pair.query_head * levels + level) * points + of_level;
                    let place =
                        locate(locations[2 * point], locations[2 * point + 1], height, width);
                    if place.near {
                        let weight = weights[point];
                        #[unroll]
                        for corner in 0u32..4u32 {
                            let right = comptime!(corner % 2);
                            let down = comptime!(corner / 2);
                            let x = cell(place.column, right);
                            let y = cell(place.row, down);
                            if inside(x, y, height, width) {
                                let by_x = factor(place.right, right);
                                let by_y = factor(place.down, down);
                                let weighted = Vector::<f32, N>::broadcast(by_x * by_y * weight);
                                let cell = start + (y * width + x) as usize * row;
                                let mut products = Vector::<f32, N>::zeroed();
                                for channel in range_stepped(lane, d, lanes) {
                                    let grad = Vector::<f32, N>::cast_from(grad[from + channel]);
                                    let read = Vector::<f32, N>::cast_from(value[cell + channel]);
                                    products += read * grad;
                                    let added = grad * weighted;
                                    let to = (cell + channel) * vector;
                                    #[unroll]
                                    for n in 0..vector {
                                        A::add(&mut grad_value[to + n], added.extract(n));
                                    }
                                }
                                let dot = products.vector_sum();
                                of_weight += by_x * by_y * dot;
                                of_x += sign(right) * by_y * dot;
                                of_y += sign(down) * by_x * dot;
                            }
                        }
                    }
                }
                let to = (own * lanes + lane) * of_pair + i * NUMBERS;
                shared[to] = of_weight;
                shared[to + 1] = of_x;
                shared[to + 2] = of_y;
            }
            sync_cube();
            // Sums over the units of a pair, shared out among all units.
            for number in range_stepped(UNIT_POS as usize, pairs * of_pair, lanes * pairs) {
                let of = number / of_pair;
                let i = number % of_pair;
                let of_level = chunk * at_once + i / NUMBERS;
                if first_pair + of < all && of_level < points {
                    let mut sum = 0.0f32;
                    for lane in 0..lanes {
                        sum += shared[(of * lanes + lane) * of_pair + i];
                    }
                    let pair = pair_at(first_pair + of, q, m);
                    let point = (pair.query_head * levels + level) * points + of_level;
                    if i % NUMBERS == 0 {
                        grad_weights[point] = sum;
                    } else {
                        let side = if i % NUMBERS == 1 { width } else { height };
                        grad_locations[2 * point + i % NUMBERS - 1] =
                            sum * weights[point] * side as f32;
                    }
                }
            }
            // No unit writes the next points before all have read these.
            sync_cube();
        }
        start += (height * width) as usize * row;
    }
}

/// Returns the derivative of a factor.
#[cube]
fn sign(#[comptime] side: u32) -> f32 {
    if comptime!(side == 0) { -1.0f32 } else { 1.0f32 }
}

/// A way to add to a number in memory that other units add to as well.
#[cube]
pub(super) trait AtomicAdd: Send + Sync + 'static {
    /// The type in which the number is stored.
    type Cell: Numeric;

    /// Adds.
    fn add(cell: &mut Atomic<Self::Cell>, value: f32);
}

/// The device's own instruction.
pub(super) struct Native;

/// Takes the number out, adds and puts the sum back; what others put there meanwhile is carried on.
/// For devices that add integers only. Unlike a weak compare-and-swap, whose failure without cause is
/// no different from success by its result, an exchange never fails.
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
        let mut carry = value.to_bits();
        // Bits, so that a sum that is no number comes to an end too.
        while carry != 0 {
            let sum = f32::from_bits(cell.exchange(0)) + f32::from_bits(carry);
            carry = cell.exchange(sum.to_bits());
        }
    }
}
