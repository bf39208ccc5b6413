//! Attention: for some queries of a head at a time, scores, softmax and the weighted sum of values, all in
//! the cache.

use burn_flex::FlexTensor;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::TASKS;
use super::matrix::{View, multiply, multiply_part};
use super::scratch;
use crate::cpu::shared::Shared;
use crate::cpu::zeros::zeros;

/// Numbers of the scores of a task.
const SCORES: usize = 1 << 16;

/// Computes the output `[B, Q, M * d]`; `bias` `[B, S]` is added to the scores.
pub(super) fn forward(
    query: &FlexTensor,
    key: &FlexTensor,
    value: &FlexTensor,
    bias: &[f32],
) -> Vec<f32> {
    let dims = query.layout().shape();
    let [b, m, q, d] = [dims[0], dims[1], dims[2], dims[3]];
    let s = key.layout().shape()[2];
    let mut output = zeros(b * q * m * d);
    let fair = q.div_ceil(TASKS.div_ceil(b * m)).max(1);
    let block = (SCORES / s.max(1)).clamp(16, 256).min(fair).max(1);
    let blocks = q.div_ceil(block);
    let shared = Shared::new(&mut output);
    (0..b * m * blocks).into_par_iter().for_each(|index| {
        let (image, head, first) = (index / blocks / m, index / blocks % m, index % blocks * block);
        let rows = block.min(q - first);
        let of =
            |tensor| View::of(tensor, &[image, head]).expect("strides of a view are not negative");
        let (query, key, value) = (of(query).rows(first, rows), of(key), of(value));
        scratch::with([rows * s, rows], |[scores, sums]| {
            multiply(scores, s, query, key.transposed(), false);
            let bias = &bias[image * s..(image + 1) * s];
            Arch::new().dispatch(Exponentials { scores, bias, sums });
            let start = (image * q + first) * m * d + head * d;
            // SAFETY: heads or queries of the tasks differ.
            #[allow(unsafe_code)]
            unsafe {
                multiply_part(&shared, start, m * d, View::new(scores, [rows, s]), value, false);
            }
            for (row, sum) in sums.iter().enumerate() {
                // SAFETY: as above.
                #[allow(unsafe_code)]
                let row = unsafe { shared.part(start + row * m * d, d) };
                for out in row {
                    *out /= *sum;
                }
            }
        });
    });
    output
}

/// Scores become `exp(score - largest of the row)`, and `sums` the sums of the rows.
struct Exponentials<'a> {
    scores: &'a mut [f32],
    bias: &'a [f32],
    sums: &'a mut [f32],
}

impl WithSimd for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (row, sum) in self.scores.chunks_exact_mut(self.bias.len()).zip(self.sums) {
            for (score, bias) in row.iter_mut().zip(self.bias) {
                *score += bias;
            }
            let largest = reduce(row, f32::NEG_INFINITY, |a, b| if a > b { a } else { b });
            for score in row.iter_mut() {
                *score = exp(*score - largest);
            }
            *sum = reduce(row, 0.0, |a, b| a + b);
        }
    }
}

/// Folds a slice in sixteen lanes, which are vectors.
#[inline(always)]
fn reduce(row: &[f32], start: f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; 16];
    let (chunks, rest) = row.as_chunks::<16>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = join(*lane, *value);
        }
    }
    let all = lanes.into_iter().fold(start, &join);
    rest.iter().fold(all, |all, value| join(all, *value))
}

/// `e^x` for x up to 0: 2^n times a polynomial of the rest, which lies within half a step (the minimax
/// polynomial of Cephes, `expf.c`; two units in the last place). Below the smallest normal number it is 0.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, the first of which is exact in few bits.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and taking away 1.5 * 2^23 rounds to a whole number, ties to even.
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let p = p * r * r + r + 1.0;
    // The lowest bits of the sum are n.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    if x < -87.0 { 0.0 } else { p * power }
}
