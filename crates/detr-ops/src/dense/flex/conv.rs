//! Forward: output cells in tiles, each of which a thread unfolds, multiplies with the filters, and
//! finishes while it is in the cache.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::TASKS;
use super::geometry::{Geometry, Unfold};
use super::matrix::{View, multiply};
use super::scratch;
use super::winograd;
use crate::cpu::shared::Shared;
use crate::cpu::zeros::zeros;

/// Numbers of a tile of the unfolded input: some megabytes, which are read again from the cache.
const UNFOLDED: usize = 1 << 19;

/// Returns the number of cells of a tile.
fn tile(geometry: &Geometry) -> usize {
    let all = geometry.images * geometry.cells();
    (UNFOLDED / geometry.depth()).min(all.div_ceil(TASKS)).clamp(96, 2048).next_multiple_of(32)
}

/// The terms that are added to the sums of a convolution.
#[derive(Clone, Copy)]
pub(super) struct Epilogue<'a> {
    pub(super) bias: &'a [f32],
    pub(super) residual: Option<&'a [f32]>,
    pub(super) relu: bool,
}

impl Epilogue<'_> {
    /// Writes the cells of one filter; `place` is that of the first in the output.
    #[inline(always)]
    pub(super) fn apply(&self, filter: usize, place: usize, sums: &[f32], out: &mut [f32]) {
        let bias = self.bias[filter];
        let floor = if self.relu { 0.0 } else { f32::NEG_INFINITY };
        match self.residual {
            Some(residual) => {
                let residual = &residual[place..place + out.len()];
                for ((out, sum), more) in out.iter_mut().zip(sums).zip(residual) {
                    *out = rectified(sum + bias + more, floor);
                }
            }
            None => {
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = rectified(sum + bias, floor);
                }
            }
        }
    }
}

/// Computes the output `[B, C', H', W']`.
pub(super) fn forward(
    geometry: &Geometry,
    x: &[f32],
    weight: &[f32],
    after: Epilogue<'_>,
) -> Vec<f32> {
    if winograd::suits(geometry) {
        return winograd::forward(geometry, x, weight, after);
    }
    let (cells, depth, filters) = (geometry.cells(), geometry.depth(), geometry.filters);
    let all = geometry.images * cells;
    let mut output = zeros(all * filters);
    let weight = View::new(weight, [filters, depth]);
    let tile = tile(geometry);
    let shared = Shared::new(&mut output);
    (0..all.div_ceil(tile)).into_par_iter().for_each(|index| {
        let from = index * tile;
        let len = tile.min(all - from);
        let (image, cell) = (from / cells, from % cells);
        let direct = geometry.is_product() && cell + len <= cells;
        let unfolded = if direct { 0 } else { depth * len };
        scratch::with([unfolded, filters * len], |[columns, sums]| {
            let columns = if direct {
                let plane = View::new(&x[image * depth * cells..], [depth, cells]);
                plane.columns(cell, len)
            } else {
                let runs = &geometry.runs(from, len);
                let out = &mut columns[..];
                Arch::new().dispatch(Unfold { geometry, x, rows: 0..depth, runs, out });
                View::new(columns, [depth, len])
            };
            multiply(sums, len, weight, columns, false);
            let output = &shared;
            Arch::new().dispatch(Finish { cells, filters, after, sums, from, len, output });
        });
    });
    output
}

/// The last operations on a sum before it is stored.
struct Finish<'a> {
    cells: usize,
    filters: usize,
    after: Epilogue<'a>,
    /// The sums of `len` cells from `from` on, one filter after the other.
    sums: &'a [f32],
    from: usize,
    len: usize,
    output: &'a Shared<'a>,
}

impl WithSimd for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { sums, from, len, output, .. } = self;
        for (filter, sums) in sums.chunks_exact(len).enumerate() {
            let mut done = 0;
            while done < len {
                let (image, cell) = ((from + done) / self.cells, (from + done) % self.cells);
                let run = (self.cells - cell).min(len - done);
                let place = (image * self.filters + filter) * self.cells + cell;
                // SAFETY: tiles are of different cells.
                #[allow(unsafe_code)]
                let out = unsafe { output.part(place, run) };
                self.after.apply(filter, place, &sums[done..done + run], out);
                done += run;
            }
        }
    }
}

/// Returns the number, or `floor` if it is less; NaN stays.
#[inline(always)]
pub(super) fn rectified(value: f32, floor: f32) -> f32 {
    if value < floor { floor } else { value }
}
