//! Forward: for every query and head a list of the cells to read and their factors, then one
//! weighted sum of rows per group of channels, kept in registers.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::geometry::{Level, Sizes};
use super::heads::{self, HeadRows};
use super::prefetch::prefetch;
use super::taps::{GROUP, Levels, NOWHERE, Taps};
use super::zeros::zeros;

/// Queries of a task, at most: enough for a head's values to be read from the cache again.
const BLOCK: usize = 512;

/// Tasks per thread, so that none waits long for the last.
const TASKS: usize = 4;

/// Queries whose points are asked for ahead.
const AHEAD: usize = 8;

/// Inputs of a call.
struct Inputs<'a> {
    sizes: &'a Sizes,
    locations: &'a [f32],
    weights: &'a [f32],
    /// The points of a query and head in groups.
    groups: Vec<Levels>,
}

/// Computes the output `[B, Q, M * D]`.
pub(super) fn forward(
    sizes: &Sizes,
    value: &[f32],
    locations: &[f32],
    weights: &[f32],
) -> Vec<f32> {
    let &Sizes { b, s, m, d, q, .. } = sizes;
    let points: Vec<Level> =
        sizes.levels.iter().flat_map(|&level| std::iter::repeat_n(level, sizes.p)).collect();
    let groups = points.chunks(GROUP).map(Levels::new).collect();
    let inputs = Inputs { sizes, locations, weights, groups };

    let row = m * d;
    let mut output = zeros(b * q * row);
    let block = (b * q).div_ceil(TASKS * rayon::current_num_threads()).clamp(1, BLOCK.min(q));
    let run = |image: usize, output: &mut [f32], values: &HeadRows| {
        output.par_chunks_mut(block * row).enumerate().for_each(|(i, output)| {
            let first = i * block;
            Arch::new().dispatch(Rows { inputs: &inputs, values, image, first, output });
        });
    };
    let by_image = output.chunks_exact_mut(q * row).zip(value.chunks_exact(s * row)).enumerate();
    if m > 1 && heads::worth_moving(sizes) {
        let mut moved = heads::HeadBuffer::new(sizes);
        for (image, (output, value)) in by_image {
            for first in (0..m).step_by(moved.heads()) {
                run(image, output, &moved.fill(sizes, value, first));
            }
        }
    } else {
        for (image, (output, value)) in by_image {
            run(image, output, &HeadRows { value, heads: 0..m, head: d, stride: row });
        }
    }
    output
}

/// Output of some heads, for the queries of an image from `first` on.
struct Rows<'a> {
    inputs: &'a Inputs<'a>,
    values: &'a HeadRows<'a>,
    image: usize,
    first: usize,
    output: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { inputs, values, image, first, output } = self;
        let Sizes { m, d, q, .. } = *inputs.sizes;
        let points = inputs.sizes.points();
        let mut taps: Vec<Taps> = inputs.groups.iter().map(|_| Taps::new()).collect();
        for (i, head) in values.heads.clone().enumerate() {
            let value = &values.value[i * values.head..];
            for (i, output) in output.chunks_exact_mut(m * d).enumerate() {
                let mut point = ((image * q + first + i) * m + head) * points;
                // Too far apart for the processor to see that these reads are a sequence.
                let ahead = point + AHEAD * m * points;
                prefetch(inputs.locations, 2 * ahead, 2 * points);
                prefetch(inputs.weights, ahead, points);
                for (taps, levels) in taps.iter_mut().zip(&inputs.groups) {
                    let (locations, weights) =
                        (&inputs.locations[2 * point..], &inputs.weights[point..]);
                    let n = levels.len();
                    taps.locate(levels, &locations[..2 * n], &weights[..n]);
                    point += n;
                }
                let output = &mut output[head * d..][..d];
                sum_rows(simd, value, values.stride, &taps, points, output);
            }
        }
    }
}

/// Adds weighted rows, in groups of channels that fit the registers.
#[inline(always)]
fn sum_rows<S: Simd>(
    simd: S,
    value: &[f32],
    stride: usize,
    taps: &[Taps],
    points: usize,
    output: &mut [f32],
) {
    let mut from = 0;
    macro_rules! groups {
        ($($vectors:literal)*) => {$(
            while output.len() - from >= $vectors * S::F32_LANES {
                let output = &mut output[from..][..$vectors * S::F32_LANES];
                sum_vectors::<S, $vectors>(simd, &value[from..], stride, taps, points, output);
                from += output.len();
            }
        )*};
    }
    groups!(4 2 1);
    if from < output.len() {
        sum_rest(simd, &value[from..], stride, taps, points, &mut output[from..]);
    }
}

/// Calls `$read` with the start of a row, its factor and the corner's number, for all rows.
macro_rules! for_rows {
    ($taps:expr, $points:expr, $stride:expr, $read:expr) => {
        for (taps, points) in $taps.iter().zip((0..$points).step_by(GROUP)) {
            for i in 0..GROUP.min($points - points) {
                for corner in 0..4 {
                    let cell = taps.cells[corner][i];
                    if cell != NOWHERE {
                        $read(cell as usize * $stride, taps.factors[corner][i], corner);
                    }
                }
            }
        }
    };
}

/// Adds `N` weighted vectors of channels.
#[inline(always)]
fn sum_vectors<S: Simd, const N: usize>(
    simd: S,
    value: &[f32],
    stride: usize,
    taps: &[Taps],
    points: usize,
    output: &mut [f32],
) {
    // Two sums for each vector, so that an addition need not wait for the one before.
    let mut sums = [[simd.splat_f32s(0.0); N]; 2];
    for_rows!(taps, points, stride, |row: usize, factor, corner: usize| {
        let factor = simd.splat_f32s(factor);
        let (row, _) = S::as_simd_f32s(&value[row..][..N * S::F32_LANES]);
        for (sum, &value) in sums[corner % 2].iter_mut().zip(row) {
            *sum = simd.mul_add_e_f32s(factor, value, *sum);
        }
    });
    let [even, odd] = sums;
    let output = S::as_mut_simd_f32s(output).0;
    for ((output, even), odd) in output.iter_mut().zip(even).zip(odd) {
        *output = simd.add_f32s(even, odd);
    }
}

/// Adds weighted rows of channels that are fewer than a vector.
#[inline(always)]
fn sum_rest<S: Simd>(
    simd: S,
    value: &[f32],
    stride: usize,
    taps: &[Taps],
    points: usize,
    output: &mut [f32],
) {
    let mut sum = simd.splat_f32s(0.0);
    for_rows!(taps, points, stride, |row: usize, factor, _| {
        let row = simd.partial_load_f32s(&value[row..][..output.len()]);
        sum = simd.mul_add_e_f32s(simd.splat_f32s(factor), row, sum);
    });
    simd.partial_store_f32s(output, sum);
}
