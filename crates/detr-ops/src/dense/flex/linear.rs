//! A linear layer: rows of the output in blocks, or columns where there are few rows.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::TASKS;
use super::conv::rectified;
use super::matrix::{View, multiply_part};
use crate::cpu::shared::Shared;
use crate::cpu::zeros::zeros;

/// Rows of a block.
const ROWS: usize = 256;

/// Computes the output `[rows, O]` of `x` `[rows, I]`.
pub(super) fn forward(x: &[f32], weight: View<'_>, bias: &[f32], relu: bool) -> Vec<f32> {
    let [inputs, outputs] = weight.shape;
    let count = x.len().checked_div(inputs).unwrap_or(0);
    let x = View::new(x, [count, inputs]);
    let mut output = zeros(count * outputs);
    let rows = count.div_ceil(4).clamp(64, ROWS).min(count.max(1));
    let blocks = count.div_ceil(rows).max(1);
    let columns = outputs.div_ceil(TASKS.div_ceil(blocks)).max(64).min(outputs.max(1));
    let strips = outputs.div_ceil(columns);
    let shared = Shared::new(&mut output);
    (0..blocks * strips).into_par_iter().for_each(|index| {
        let (row, column) = (index / strips * rows, index % strips * columns);
        let (rows, columns) = (rows.min(count - row), columns.min(outputs - column));
        let (out, start) = (&shared, row * outputs + column);
        let (x, weight) = (x.rows(row, rows), weight.columns(column, columns));
        // SAFETY: rows or columns of the blocks differ.
        #[allow(unsafe_code)]
        unsafe {
            multiply_part(out, start, outputs, x, weight, false);
        }
        let bias = &bias[column..column + columns];
        Arch::new().dispatch(Finish { out, start, rows, stride: outputs, bias, relu });
    });
    output
}

/// Adds the bias to rows, which begin at `start` and are `stride` apart.
struct Finish<'a> {
    out: &'a Shared<'a>,
    start: usize,
    rows: usize,
    stride: usize,
    bias: &'a [f32],
    relu: bool,
}

impl WithSimd for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let floor = if self.relu { 0.0 } else { f32::NEG_INFINITY };
        for row in 0..self.rows {
            let start = self.start + row * self.stride;
            // SAFETY: rows or columns of the blocks differ.
            #[allow(unsafe_code)]
            let row = unsafe { self.out.part(start, self.bias.len()) };
            for (out, bias) in row.iter_mut().zip(self.bias) {
                *out = rectified(*out + bias, floor);
            }
        }
    }
}
