//! Forward: for every query and head a list of the cells to read and their factors, then one
//! weighted sum of rows per group of channels, kept in registers.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::geometry::{Point, Sizes};

/// Queries of a task, at most: enough for a head's values to be read from the cache again.
const BLOCK: usize = 512;

/// Tasks per thread, so that none waits long for the last.
const TASKS: usize = 4;

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
    let block = (sizes.b * sizes.q).div_ceil(TASKS * rayon::current_num_threads());
    let block = block.clamp(1, BLOCK.min(sizes.q));
    output.par_chunks_mut(sizes.q * row).enumerate().for_each(|(image, output)| {
        output.par_chunks_mut(block * row).enumerate().for_each(|(i, output)| {
            Arch::new().dispatch(Rows { inputs: &inputs, image, first: i * block, output });
        });
    });
    output
}

/// Output rows of the queries of an image from `first` on.
struct Rows<'a> {
    inputs: &'a Inputs<'a>,
    image: usize,
    first: usize,
    output: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { inputs, image, first, output } = self;
        let Sizes { s, m, d, q, .. } = *inputs.sizes;
        let mut taps = vec![Tap::default(); 4 * inputs.sizes.points()];
        let value = &inputs.value[image * s * m * d..][..s * m * d];
        for head in 0..m {
            for (i, output) in output.chunks_exact_mut(m * d).enumerate() {
                let query = image * q + first + i;
                let taps = list_taps(inputs, query * m + head, &mut taps);
                sum_rows(simd, &value[head * d..], m * d, taps, &mut output[head * d..][..d]);
            }
        }
    }
}

/// The cells that a query and head reads.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // cells are counted in 32 bits
fn list_taps<'a>(inputs: &Inputs, query_head: usize, taps: &'a mut [Tap]) -> &'a [Tap] {
    let sizes = inputs.sizes;
    let points = sizes.points();
    let weights = &inputs.weights[query_head * points..][..points];
    let locations = &inputs.locations[2 * query_head * points..][..2 * points];
    let (locations, _) = locations.as_chunks::<2>();
    let mut count = 0;
    let of_levels = locations.chunks_exact(sizes.p).zip(weights.chunks_exact(sizes.p));
    for (level, (locations, weights)) in sizes.levels.iter().zip(of_levels) {
        for (&[x, y], &weight) in locations.iter().zip(weights) {
            let Some(place) = Point::locate(level, x, y) else { continue };
            for (cell, factor) in place.cells(level).into_iter().zip(place.factors()) {
                let Some(cell) = cell else { continue };
                let cell = (level.start + cell) as u32;
                taps[count] = Tap { cell, factor: factor * weight };
                count += 1;
            }
        }
    }
    &taps[..count]
}

/// Weighted sum of rows, in groups of channels that fit the registers.
#[inline(always)]
fn sum_rows<S: Simd>(simd: S, value: &[f32], stride: usize, taps: &[Tap], output: &mut [f32]) {
    let mut from = 0;
    macro_rules! groups {
        ($($vectors:literal)*) => {$(
            while output.len() - from >= $vectors * S::F32_LANES {
                let output = &mut output[from..][..$vectors * S::F32_LANES];
                sum_vectors::<S, $vectors>(simd, &value[from..], stride, taps, output);
                from += output.len();
            }
        )*};
    }
    groups!(4 2 1);
    if from < output.len() {
        sum_rest(simd, &value[from..], stride, taps, &mut output[from..]);
    }
}

/// Weighted sum of `N` vectors of channels.
#[inline(always)]
fn sum_vectors<S: Simd, const N: usize>(
    simd: S,
    value: &[f32],
    stride: usize,
    taps: &[Tap],
    output: &mut [f32],
) {
    let mut sums = [simd.splat_f32s(0.0); N];
    for tap in taps {
        let factor = simd.splat_f32s(tap.factor);
        let (row, _) = S::as_simd_f32s(&value[tap.cell as usize * stride..][..N * S::F32_LANES]);
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum = simd.mul_add_e_f32s(factor, value, *sum);
        }
    }
    S::as_mut_simd_f32s(output).0.copy_from_slice(&sums);
}

/// Weighted sum of less than a vector of channels.
#[inline(always)]
fn sum_rest<S: Simd>(simd: S, value: &[f32], stride: usize, taps: &[Tap], output: &mut [f32]) {
    let mut sum = simd.splat_f32s(0.0);
    for tap in taps {
        let row = &value[tap.cell as usize * stride..][..output.len()];
        let row = simd.partial_load_f32s(row);
        sum = simd.mul_add_e_f32s(simd.splat_f32s(tap.factor), row, sum);
    }
    simd.partial_store_f32s(output, sum);
}
