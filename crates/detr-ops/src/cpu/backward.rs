//! Backward: one task for every image, head and level. A task owns the level's cells in the gradient
//! of the value, and its own points in the other two gradients, and goes through the queries in
//! order: no atomics, and sums in a fixed order.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::geometry::{Level, Point, Sizes};
use super::prefetch::prefetch;
use super::shared::Shared;

/// Queries whose points are asked for ahead.
const AHEAD: usize = 4;

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
        value: vec![0f32; value.len()],
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
        // With a constant number of channels the rows of the published models stay in registers.
        match self.call.sizes.d {
            32 => self.run::<S, 32>(simd),
            64 => self.run::<S, 64>(simd),
            _ => self.run::<S, 0>(simd),
        }
    }
}

impl Task<'_> {
    /// Runs the task; `D` channels, or any number if that is zero.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd, const D: usize>(&self, simd: S) {
        let Self { call, image, head, level } = *self;
        let Sizes { s, m, q, p, .. } = *call.sizes;
        let d = if D == 0 { call.sizes.d } else { D };
        let levels = call.sizes.levels.len();
        let of_level = &call.sizes.levels[level];
        let cells = of_level.height * of_level.width;
        let first = ((image * s + of_level.start) * m + head) * d;
        // The level's cells of this head, without those of other heads between them.
        let mut value = vec![0f32; cells * d];
        for (to, from) in value.chunks_exact_mut(d).zip(call.value[first..].chunks(m * d)) {
            to.copy_from_slice(&from[..d]);
        }
        let mut grad_value = vec![0f32; cells * d];

        let mut places: Vec<Option<Point>> = vec![None; p];
        let mut next = places.clone();
        let query_head = |query: usize| (image * q + query) * m + head;
        self.locate::<D>(query_head(0), &mut next, &value, &grad_value);
        for query in 0..q {
            // The rows of the next query arrive while this one is worked on.
            std::mem::swap(&mut places, &mut next);
            if query + 1 < q {
                self.locate::<D>(query_head(query + 1), &mut next, &value, &grad_value);
            }
            let grad = &call.grad[query_head(query) * d..][..d];
            let points = (query_head(query) * levels + level) * p;
            let weights = &call.weights[points..][..p];
            // SAFETY: these are the points of one query, head and level, and no other task has the
            // head and level of this image.
            let (grad_locations, grad_weights) = unsafe {
                (call.grad_locations.part(2 * points, 2 * p), call.grad_weights.part(points, p))
            };
            let (grad_locations, _) = grad_locations.as_chunks_mut::<2>();
            let grads = grad_locations.iter_mut().zip(grad_weights);
            for ((place, &weight), (of_location, of_weight)) in
                places.iter().zip(weights).zip(grads)
            {
                let Some(place) = *place else { continue };
                let found =
                    point::<S, D>(simd, of_level, place, weight, &value, grad, &mut grad_value);
                *of_weight = found.weight;
                *of_location = [found.x, found.y];
            }
        }

        for (cell, from) in grad_value.chunks_exact(d).enumerate() {
            // SAFETY: this cell belongs to the level of this task, and the channels to its head.
            let to = unsafe { call.grad_value.part(first + cell * m * d, d) };
            to.copy_from_slice(from);
        }
    }
}

impl Task<'_> {
    /// The places of the points of a query and head; asks for the rows that they read and write, and
    /// for later points.
    #[inline(always)]
    fn locate<const D: usize>(
        &self,
        query_head: usize,
        places: &mut [Option<Point>],
        value: &[f32],
        grad_value: &[f32],
    ) {
        let Sizes { m, p, .. } = *self.call.sizes;
        let d = if D == 0 { self.call.sizes.d } else { D };
        let level = &self.call.sizes.levels[self.level];
        let points =
            |query_head: usize| (query_head * self.call.sizes.levels.len() + self.level) * p;
        let ahead = query_head + AHEAD * m;
        prefetch(self.call.locations, 2 * points(ahead), 2 * p);
        prefetch(self.call.weights, points(ahead), p);
        prefetch(self.call.grad, ahead * d, d);
        let locations = &self.call.locations[2 * points(query_head)..][..2 * p];
        let (locations, _) = locations.as_chunks::<2>();
        for (place, &[x, y]) in places.iter_mut().zip(locations) {
            *place = Point::locate(level, x, y);
            let Some(place) = *place else { continue };
            for cell in place.cells(level).into_iter().flatten() {
                prefetch(value, cell * d, d);
                prefetch(grad_value, cell * d, d);
            }
        }
    }
}

/// Gradients of one point.
struct PointGradient {
    weight: f32,
    x: f32,
    y: f32,
}

/// Adds to the gradient of the cells around a point, and finds that of the point itself.
#[inline(always)]
#[allow(clippy::cast_precision_loss)] // sides are exact in f32
fn point<S: Simd, const D: usize>(
    simd: S,
    level: &Level,
    place: Point,
    weight: f32,
    value: &[f32],
    grad: &[f32],
    grad_value: &mut [f32],
) -> PointGradient {
    let d = if D == 0 { grad.len() } else { D };
    let factors = place.factors();
    let mut dots = [0f32; 4];
    for (corner, cell) in place.cells(level).into_iter().enumerate() {
        let Some(cell) = cell else { continue };
        let value = &value[cell * d..][..d];
        let grad_value = &mut grad_value[cell * d..][..d];
        dots[corner] = corner_row(simd, value, &grad[..d], factors[corner] * weight, grad_value);
    }
    let (right, down) = (place.right, place.down);
    let [a, b, c, e] = dots;
    let x = (1.0 - down) * (b - a) + down * (e - c);
    let y = (1.0 - right) * (c - a) + right * (e - b);
    PointGradient {
        weight: factors[0] * a + factors[1] * b + factors[2] * c + factors[3] * e,
        x: x * weight * level.width as f32,
        y: y * weight * level.height as f32,
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
