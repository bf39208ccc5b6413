//! Backward: one task for every image, head and level. A task owns the level's cells in the gradient
//! of the value, and its own points in the other two gradients, and goes through the queries in
//! order: no atomics, and sums in a fixed order.

mod group;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::geometry::{Level, Sizes};
use super::heads::{AlignedBuffer, worth_moving};
use super::shared::Shared;
use super::taps::{GROUP, Levels};
use super::zeros::zeros;
use group::{Group, Rows, groups};

/// Gradients of the three inputs, laid out as they are.
pub(super) struct Gradients {
    pub(super) value: Vec<f32>,
    pub(super) locations: Vec<f32>,
    pub(super) weights: Vec<f32>,
}

/// Inputs of a call, and where its results go.
struct Call<'a> {
    sizes: &'a Sizes,
    value: &'a [f32],
    locations: &'a [f32],
    weights: &'a [f32],
    grad: &'a [f32],
    grad_value: Shared<'a>,
    grad_locations: Shared<'a>,
    grad_weights: Shared<'a>,
}

/// A part of the work.
struct Task<'a> {
    call: &'a Call<'a>,
    image: usize,
    head: usize,
    level: usize,
}

/// Gradients for `grad`, `[B, Q, M * D]`.
pub(super) fn backward(
    sizes: &Sizes,
    value: &[f32],
    locations: &[f32],
    weights: &[f32],
    grad: &[f32],
) -> Gradients {
    let mut gradients = Gradients {
        value: zeros(value.len()),
        locations: vec![0f32; locations.len()],
        weights: vec![0f32; weights.len()],
    };
    let call = Call {
        sizes,
        value,
        locations,
        weights,
        grad,
        grad_value: Shared::new(&mut gradients.value),
        grad_locations: Shared::new(&mut gradients.locations),
        grad_weights: Shared::new(&mut gradients.weights),
    };
    let levels = sizes.levels.len();
    (0..sizes.b * sizes.m * levels).into_par_iter().for_each(|i| {
        let (image_head, level) = (i / levels, i % levels);
        let (image, head) = (image_head / sizes.m, image_head % sizes.m);
        Arch::new().dispatch(Task { call: &call, image, head, level });
    });
    gradients
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // The sizes of the published models are constants, so that their rows stay in registers.
        match (self.call.sizes.d, self.call.sizes.p) {
            (32, 4) => self.run::<S, 32, 4>(simd),
            (32, _) => self.run::<S, 32, 0>(simd),
            _ => self.run::<S, 0, 0>(simd),
        }
    }
}

impl Task<'_> {
    /// Runs the task, with `D` channels and `P` points; any number of them if that is zero.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd, const D: usize, const P: usize>(&self, simd: S) {
        let Self { call, image, head, level } = *self;
        let Sizes { s, m, .. } = *call.sizes;
        let d = if D == 0 { call.sizes.d } else { D };
        let of_level = &call.sizes.levels[level];
        let cells = of_level.height * of_level.width;
        let first = ((image * s + of_level.start) * m + head) * d;
        let value = &call.value[first..];
        if !worth_moving(call.sizes) {
            let rows = Rows { value, grad_value: &call.grad_value, first, stride: m * d };
            self.run_on::<S, D, P>(simd, &rows);
            return;
        }
        // The level's cells of this head, without those of other heads between them.
        let mut moved = AlignedBuffer::new(cells * d);
        let moved = moved.get();
        for (to, from) in moved.chunks_exact_mut(d).zip(value.chunks(m * d)) {
            to.copy_from_slice(&from[..d]);
        }
        let mut grad_value = AlignedBuffer::new(cells * d);
        let grad_value = grad_value.get();
        let rows = Rows { value: moved, grad_value: &Shared::new(grad_value), first: 0, stride: d };
        self.run_on::<S, D, P>(simd, &rows);
        for (cell, from) in grad_value.chunks_exact(d).enumerate() {
            // SAFETY: this cell belongs to the level of this task, and the channels to its head.
            let to = unsafe { call.grad_value.part(first + cell * m * d, d) };
            to.copy_from_slice(from);
        }
    }

    /// Runs the task on these rows.
    #[inline(always)]
    fn run_on<S: Simd, const D: usize, const P: usize>(&self, simd: S, rows: &Rows<'_>) {
        let Sizes { q, p, .. } = *self.call.sizes;
        let of_level = &self.call.sizes.levels[self.level];
        let levels = Levels::new(&[Level { start: 0, ..*of_level }; GROUP]);
        // Rows of the next group arrive while this one is worked on.
        let (mut group, mut next) = (Group::new(), Group::new());
        let mut groups = groups(q, p);
        let mut following = groups.next();
        if let Some(points) = &following {
            next.locate::<D, P>(self, &levels, points, rows);
        }
        while let Some(points) = following {
            std::mem::swap(&mut group, &mut next);
            following = groups.next();
            if let Some(points) = &following {
                next.locate::<D, P>(self, &levels, points, rows);
            }
            group.rows::<S, D>(simd, self, &points, rows);
            group.write::<P>(self, &points);
        }
    }

    /// Returns the number of a query and head.
    #[inline(always)]
    fn query_head(&self, query: usize) -> usize {
        let Sizes { m, q, .. } = *self.call.sizes;
        (self.image * q + query) * m + self.head
    }

    /// Returns the number of the first of a query's points.
    #[inline(always)]
    fn points(&self, query: usize) -> usize {
        let sizes = self.call.sizes;
        (self.query_head(query) * sizes.levels.len() + self.level) * sizes.p
    }
}
