//! Maximum over 3x3 places, every second row and column: a plane of the input is a task.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::cpu::zeros::zeros;

/// Computes the output `[planes, ceil(h / 2), ceil(w / 2)]` of `x` `[planes, h, w]`.
pub(super) fn forward(x: &[f32], size: [usize; 2]) -> Vec<f32> {
    let cells = size[0].div_ceil(2) * size[1].div_ceil(2);
    let planes = x.len().checked_div(size[0] * size[1]).unwrap_or(0);
    let mut output = zeros(planes * cells);
    output.par_chunks_mut(cells.max(1)).zip(x.par_chunks((size[0] * size[1]).max(1))).for_each(
        |(output, plane)| {
            Arch::new().dispatch(Largest { plane, size, output });
        },
    );
    output
}

/// Computes the gradient of the input, from that of the output: each goes to the first place with the
/// largest value.
pub(super) fn backward(x: &[f32], size: [usize; 2], grad: &[f32]) -> Vec<f32> {
    let [h, w] = size;
    let columns = w.div_ceil(2);
    let mut found = zeros(x.len());
    let cells = h.div_ceil(2) * columns;
    let planes = found.par_chunks_mut((h * w).max(1)).zip(x.par_chunks((h * w).max(1)));
    planes.zip(grad.par_chunks(cells.max(1))).for_each(|((found, plane), grad)| {
        for (cell, grad) in grad.iter().enumerate() {
            let (row, column) = (cell / columns, cell % columns);
            let places = around(row, h).flat_map(|i| around(column, w).map(move |j| i * w + j));
            let first =
                places.reduce(
                    |best, place| if is_larger(plane[place], plane[best]) { place } else { best },
                );
            if let Some(first) = first {
                found[first] += grad;
            }
        }
    });
    found
}

/// Returns the rows, or columns, of the input that one of the output sees.
#[inline(always)]
fn around(place: usize, len: usize) -> std::ops::Range<usize> {
    (2 * place).saturating_sub(1)..(2 * place + 2).min(len)
}

/// Compares as PyTorch does: NaN is larger than any number.
#[inline(always)]
fn is_larger(value: f32, than: f32) -> bool {
    value > than || value.is_nan()
}

struct Largest<'a> {
    plane: &'a [f32],
    size: [usize; 2],
    output: &'a mut [f32],
}

impl WithSimd for Largest<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let [h, w] = self.size;
        let larger = |a: f32, b: f32| if is_larger(b, a) { b } else { a };
        // The largest of three rows, between what is smaller than anything.
        let mut line = vec![f32::NEG_INFINITY; w + 3];
        for (row, output) in self.output.chunks_exact_mut(w.div_ceil(2)).enumerate() {
            let mut rows = around(row, h).map(|row| &self.plane[row * w..(row + 1) * w]);
            let Some(first) = rows.next() else { return };
            line[1..=w].copy_from_slice(first);
            for row in rows {
                for (largest, value) in line[1..=w].iter_mut().zip(row) {
                    *largest = larger(*largest, *value);
                }
            }
            let (pairs, _) = line.as_chunks::<2>();
            for ((output, pair), next) in output.iter_mut().zip(pairs).zip(&pairs[1..]) {
                *output = larger(larger(pair[0], pair[1]), next[0]);
            }
        }
    }
}
