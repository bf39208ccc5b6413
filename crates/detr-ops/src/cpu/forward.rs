//! Forward: for every query and head a list of the cells to read and their factors, then one
//! weighted sum of rows per group of channels, kept in registers.

use rayon::prelude::*;

use super::geometry::{Point, Sizes};
use super::simd::{mul_add, multiversioned};

/// Queries of a task.
const BLOCK: usize = 64;

/// A cell to read: its number in the image, and its factor.
#[derive(Clone, Copy, Default)]
struct Tap {
    cell: u32,
    factor: f32,
}

/// Inputs of a call.
struct Inputs<'a> {
    sizes: &'a Sizes,
    value: &'a [f32],
    locations: &'a [f32],
    weights: &'a [f32],
}

/// The output `[B, Q, M * D]`.
pub(super) fn forward(
    sizes: &Sizes,
    value: &[f32],
    locations: &[f32],
    weights: &[f32],
) -> Vec<f32> {
    let inputs = Inputs { sizes, value, locations, weights };
    let row = sizes.m * sizes.d;
    let mut output = vec![0f32; sizes.b * sizes.q * row];
    for (image, output) in output.chunks_mut(sizes.q * row).enumerate() {
        output.par_chunks_mut(BLOCK * row).enumerate().for_each(|(block, output)| {
            rows(&inputs, image, block * BLOCK, output);
        });
    }
    output
}

multiversioned! {
    /// Output rows of the queries of an image from `first` on.
    fn rows(inputs: &Inputs, image: usize, first: usize, output: &mut [f32]) = rows_body
}

#[inline(always)]
fn rows_body<const FMA: bool>(inputs: &Inputs, image: usize, first: usize, output: &mut [f32]) {
    let Sizes { s, m, d, q, .. } = *inputs.sizes;
    let mut taps = vec![Tap::default(); 4 * inputs.sizes.points()];
    let value = &inputs.value[image * s * m * d..][..s * m * d];
    for head in 0..m {
        for (i, output) in output.chunks_exact_mut(m * d).enumerate() {
            let query = image * q + first + i;
            let taps = list_taps(inputs, query * m + head, &mut taps);
            let output = &mut output[head * d..][..d];
            sum_rows::<FMA>(&value[head * d..], m * d, taps, output);
        }
    }
}

/// The cells that a query and head reads.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // cells are counted in 32 bits
fn list_taps<'a>(inputs: &Inputs, query_head: usize, taps: &'a mut [Tap]) -> &'a [Tap] {
    let sizes = inputs.sizes;
    let mut point = query_head * sizes.points();
    let mut count = 0;
    for level in &sizes.levels {
        for _ in 0..sizes.p {
            let (x, y) = (inputs.locations[2 * point], inputs.locations[2 * point + 1]);
            if let Some(place) = Point::locate(level, x, y) {
                let weight = inputs.weights[point];
                for (cell, factor) in place.cells(level).into_iter().zip(place.factors()) {
                    let Some(cell) = cell else { continue };
                    let cell = (level.start + cell) as u32;
                    taps[count] = Tap { cell, factor: factor * weight };
                    count += 1;
                }
            }
            point += 1;
        }
    }
    &taps[..count]
}

/// Weighted sum of rows, in groups of channels that fit the registers.
#[inline(always)]
fn sum_rows<const FMA: bool>(value: &[f32], stride: usize, taps: &[Tap], output: &mut [f32]) {
    let d = output.len();
    let mut from = 0;
    while d - from >= 32 {
        sum_group::<32, FMA>(&value[from..], stride, taps, &mut output[from..]);
        from += 32;
    }
    macro_rules! rest {
        ($($width:literal)*) => {$(
            if d - from >= $width {
                sum_group::<$width, FMA>(&value[from..], stride, taps, &mut output[from..]);
                from += $width;
            }
        )*};
    }
    rest!(16 8 4 2 1);
    debug_assert_eq!(from, d);
}

#[inline(always)]
fn sum_group<const N: usize, const FMA: bool>(
    value: &[f32],
    stride: usize,
    taps: &[Tap],
    output: &mut [f32],
) {
    let mut sum = [0f32; N];
    for tap in taps {
        let row = &value[tap.cell as usize * stride..][..N];
        for (sum, &value) in sum.iter_mut().zip(row) {
            *sum = mul_add::<FMA>(tap.factor, value, *sum);
        }
    }
    output[..N].copy_from_slice(&sum);
}
