//! The backward pass of sixteen points of a head and level: one visit to each row they read, for the
//! gradient of the value and the dot products that the other two gradients are made of.

use std::ops::Range;

use pulp::Simd;

use super::super::prefetch::{prefetch, prefetch_lines};
use super::super::shared::Shared;
use super::super::taps::{GROUP, Levels, NOWHERE, Taps};
use super::Task;

/// Queries whose points are asked for ahead.
const AHEAD: usize = 8;

/// Rows of a head and level, and their gradients.
pub(super) struct Rows<'a> {
    pub(super) value: &'a [f32],
    pub(super) grad_value: &'a Shared<'a>,
    /// The index of the first gradient.
    pub(super) first: usize,
    /// From a cell to the next.
    pub(super) stride: usize,
}

impl Rows<'_> {
    #[inline(always)]
    fn prefetch(&self, cell: usize, d: usize) {
        prefetch_lines(self.value.as_ptr().wrapping_add(cell * self.stride), d);
        self.grad_value.prefetch(self.first + cell * self.stride, d);
    }

    /// Returns the row of a cell, and its gradient.
    ///
    /// # Safety
    ///
    /// The gradient of a cell is taken once at a time, and the cell is inside the level.
    #[inline(always)]
    #[allow(unsafe_code, clippy::mut_from_ref)] // the caller's promise
    unsafe fn row(&self, cell: usize, d: usize) -> (&[f32], &mut [f32]) {
        let at = cell * self.stride;
        // SAFETY: as the caller promises.
        (&self.value[at..][..d], unsafe { self.grad_value.part(self.first + at, d) })
    }
}

/// Points of a level that are worked on together: the same ones of some queries.
pub(super) struct Points {
    queries: Range<usize>,
    of_query: Range<usize>,
}

/// Returns all points of a level, by queries.
pub(super) fn groups(q: usize, p: usize) -> impl Iterator<Item = Points> {
    let queries = (GROUP / p).max(1);
    (0..q).step_by(queries).flat_map(move |query| {
        (0..p).step_by(GROUP).map(move |point| Points {
            queries: query..q.min(query + queries),
            of_query: point..p.min(point + GROUP),
        })
    })
}

/// The state of such points.
pub(super) struct Group {
    weights: [f32; GROUP],
    taps: Taps,
    /// For each corner, the dot products of its row and the gradient of the output.
    dots: [[f32; GROUP]; 4],
}

impl Group {
    pub(super) fn new() -> Self {
        Self { weights: [0.0; GROUP], taps: Taps::new(), dots: [[0.0; GROUP]; 4] }
    }

    /// Places points, and asks for the rows that they read and write and for later points.
    #[inline(always)]
    pub(super) fn locate<const D: usize, const P: usize>(
        &mut self,
        task: &Task<'_>,
        levels: &Levels,
        points: &Points,
        rows: &Rows<'_>,
    ) {
        let call = task.call;
        let d = if D == 0 { call.sizes.d } else { D };
        let n = if P == 0 { points.of_query.len() } else { P };
        let mut locations = [0.0; 2 * GROUP];
        for (i, query) in points.queries.clone().enumerate() {
            let first = task.points(query) + points.of_query.start;
            locations[2 * i * n..][..2 * n].copy_from_slice(&call.locations[2 * first..][..2 * n]);
            self.weights[i * n..][..n].copy_from_slice(&call.weights[first..][..n]);
            let ahead = task.points(query + AHEAD);
            prefetch(call.locations, 2 * ahead, 2 * call.sizes.p);
            prefetch(call.weights, ahead, call.sizes.p);
            prefetch(call.grad, task.query_head(query + AHEAD) * d, d);
        }
        let used = points.queries.len() * n;
        self.taps.locate(levels, &locations, &self.weights);
        for i in 0..used {
            for cells in &self.taps.cells {
                // Points outside of the level are prefetched as well, which does no harm.
                rows.prefetch(cells[i] as usize, d);
            }
        }
    }

    /// Adds to the gradient of the value, and makes the dot products.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(super) fn rows<S: Simd, const D: usize>(
        &mut self,
        simd: S,
        task: &Task<'_>,
        points: &Points,
        rows: &Rows<'_>,
    ) {
        let d = if D == 0 { task.call.sizes.d } else { D };
        let n = points.of_query.len();
        for (q, query) in points.queries.clone().enumerate() {
            let grad = &task.call.grad[task.query_head(query) * d..][..d];
            for i in q * n..(q + 1) * n {
                for corner in 0..4 {
                    let cell = self.taps.cells[corner][i];
                    self.dots[corner][i] = if cell == NOWHERE {
                        0.0
                    } else {
                        // SAFETY: the cell is inside the level, of which this task owns the head's
                        // gradients, and it takes no two at a time.
                        let (value, grad_value) = unsafe { rows.row(cell as usize, d) };
                        corner_row(simd, value, grad, self.taps.factors[corner][i], grad_value)
                    };
                }
            }
        }
    }

    /// Gradients of locations and weights.
    #[inline(always)]
    #[allow(unsafe_code, clippy::cast_precision_loss)] // sides are exact in f32
    pub(super) fn write<const P: usize>(&self, task: &Task<'_>, points: &Points) {
        let call = task.call;
        let level = &call.sizes.levels[task.level];
        let (width, height) = (level.width as f32, level.height as f32);
        let (mut of_weights, mut of_locations) = ([0.0; GROUP], [[0.0; 2]; GROUP]);
        let [a, b, c, e] = &self.dots;
        for i in 0..GROUP {
            let (right, down) = (self.taps.right[i], self.taps.down[i]);
            let (left, up) = (1.0 - right, 1.0 - down);
            let (a, b, c, e) = (a[i], b[i], c[i], e[i]);
            of_weights[i] = up * (left * a + right * b) + down * (left * c + right * e);
            let x = up * (b - a) + down * (e - c);
            let y = left * (c - a) + right * (e - b);
            of_locations[i] = [x * self.weights[i] * width, y * self.weights[i] * height];
        }
        let n = if P == 0 { points.of_query.len() } else { P };
        for (i, query) in points.queries.clone().enumerate() {
            let first = task.points(query) + points.of_query.start;
            // SAFETY: these are points of one query, head and level, and no other task has the head
            // and level of this image.
            let (grad_locations, grad_weights) = unsafe {
                (call.grad_locations.part(2 * first, 2 * n), call.grad_weights.part(first, n))
            };
            grad_weights.copy_from_slice(&of_weights[i * n..][..n]);
            grad_locations.copy_from_slice(of_locations[i * n..][..n].as_flattened());
        }
    }
}

/// Adds `factor * grad` to a row of the value's gradient; dot product of the value's row and `grad`.
#[inline(always)]
fn corner_row<S: Simd>(
    simd: S,
    value: &[f32],
    grad: &[f32],
    factor: f32,
    grad_value: &mut [f32],
) -> f32 {
    let factor = simd.splat_f32s(factor);
    let (value, value_rest) = S::as_simd_f32s(value);
    let (grad, grad_rest) = S::as_simd_f32s(grad);
    let (sums, sums_rest) = S::as_mut_simd_f32s(grad_value);
    let mut dot = simd.splat_f32s(0.0);
    for ((&value, &grad), sum) in value.iter().zip(grad).zip(sums) {
        dot = simd.mul_add_e_f32s(value, grad, dot);
        *sum = simd.mul_add_e_f32s(factor, grad, *sum);
    }
    if !grad_rest.is_empty() {
        let grad = simd.partial_load_f32s(grad_rest);
        dot = simd.mul_add_e_f32s(simd.partial_load_f32s(value_rest), grad, dot);
        let sum = simd.mul_add_e_f32s(factor, grad, simd.partial_load_f32s(sums_rest));
        simd.partial_store_f32s(sums_rest, sum);
    }
    simd.reduce_sum_f32s(dot)
}
