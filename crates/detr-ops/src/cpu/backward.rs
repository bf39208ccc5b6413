//! Backward: one task for every image, head and level. A task owns the level's cells in the gradient
//! of the value, and its own points in the other two gradients, and goes through the queries in
//! order: no atomics, and sums in a fixed order.

use rayon::prelude::*;

use super::geometry::{Level, Point, Sizes};
use super::shared::Shared;
use super::simd::{mul_add, multiversioned};

/// Lanes of the partial sums of a dot product.
const LANES: usize = 8;

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
#[derive(Clone, Copy)]
struct Task {
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
        run(&call, Task { image: image_head / sizes.m, head: image_head % sizes.m, level });
    });
    gradients
}

multiversioned! {
    /// Runs a task.
    fn run(call: &Call, task: Task) = run_body
}

#[inline(always)]
#[allow(unsafe_code)]
fn run_body<const FMA: bool>(call: &Call, task: Task) {
    let Sizes { s, m, d, q, p, .. } = *call.sizes;
    let level = &call.sizes.levels[task.level];
    let cells = level.height * level.width;
    let first = ((task.image * s + level.start) * m + task.head) * d;
    // The level's cells of this head, without those of other heads between them.
    let value: Vec<f32> = call.value[first..]
        .chunks(m * d)
        .take(cells)
        .flat_map(|cell| &cell[..d])
        .copied()
        .collect();
    let mut grad_value = vec![0f32; cells * d];

    for query in task.image * q..(task.image + 1) * q {
        let query_head = query * m + task.head;
        let grad = &call.grad[query_head * d..][..d];
        let points = (query_head * call.sizes.levels.len() + task.level) * p;
        // SAFETY: these are the points of one query, head and level, and no other task has the head
        // and level of this image.
        let (grad_locations, grad_weights) = unsafe {
            (call.grad_locations.part(2 * points, 2 * p), call.grad_weights.part(points, p))
        };
        for i in 0..p {
            let place = &call.locations[2 * (points + i)..][..2];
            let Some(place) = Point::locate(level, place[0], place[1]) else { continue };
            let weight = call.weights[points + i];
            let found = point::<FMA>(level, place, weight, &value, grad, &mut grad_value);
            grad_weights[i] = found.weight;
            grad_locations[2 * i] = found.x;
            grad_locations[2 * i + 1] = found.y;
        }
    }

    for (cell, from) in grad_value.chunks_exact(d).enumerate() {
        // SAFETY: this cell belongs to the level of this task, and the channels to its head.
        let to = unsafe { call.grad_value.part(first + cell * m * d, d) };
        to.copy_from_slice(from);
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
fn point<const FMA: bool>(
    level: &Level,
    place: Point,
    weight: f32,
    value: &[f32],
    grad: &[f32],
    grad_value: &mut [f32],
) -> PointGradient {
    let d = grad.len();
    let factors = place.factors();
    let mut dots = [0f32; 4];
    for (corner, cell) in place.cells(level).into_iter().enumerate() {
        let Some(cell) = cell else { continue };
        let row = cell * d..(cell + 1) * d;
        dots[corner] = corner_row::<FMA>(
            &value[row.clone()],
            grad,
            factors[corner] * weight,
            &mut grad_value[row],
        );
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
fn corner_row<const FMA: bool>(
    value: &[f32],
    grad: &[f32],
    factor: f32,
    grad_value: &mut [f32],
) -> f32 {
    let (value, value_rest) = value.as_chunks::<LANES>();
    let (grad, grad_rest) = grad.as_chunks::<LANES>();
    let (sums, sums_rest) = grad_value.as_chunks_mut::<LANES>();
    let mut lanes = [0f32; LANES];
    for ((value, grad), sum) in value.iter().zip(grad).zip(sums) {
        for lane in 0..LANES {
            lanes[lane] = mul_add::<FMA>(value[lane], grad[lane], lanes[lane]);
            sum[lane] = mul_add::<FMA>(factor, grad[lane], sum[lane]);
        }
    }
    for (lane, ((value, grad), sum)) in value_rest.iter().zip(grad_rest).zip(sums_rest).enumerate()
    {
        lanes[lane] = mul_add::<FMA>(*value, *grad, lanes[lane]);
        *sum = mul_add::<FMA>(factor, *grad, *sum);
    }
    let [a, b, c, e, f, g, h, i] = lanes;
    ((a + f) + (c + h)) + ((b + g) + (e + i))
}
