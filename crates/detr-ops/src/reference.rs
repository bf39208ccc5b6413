//! Multi-scale deformable attention from plain tensor operations: the formula of
//! `ms_deform_attn_core_pytorch`, with gathers in place of `grid_sample`. Differentiable by
//! composition; it materialises every corner of every point, so it is slow and large.

use burn::tensor::{DType, FloatDType, Int, Tensor};

/// [`msda`](crate::msda) without a kernel. Arguments are those of [`try_msda`](crate::try_msda) and
/// are not checked.
///
/// # Shapes
/// - `value` `[B, S, M, D]`
/// - `locations` `[B, Q, M, L, P, 2]`
/// - `weights` `[B, Q, M, L, P]`
/// - output `[B, Q, M * D]`
#[must_use]
#[allow(clippy::needless_pass_by_value)] // as `msda` takes them
pub fn msda_reference(
    value: Tensor<4>,
    levels: &[[usize; 2]],
    locations: Tensor<6>,
    weights: Tensor<5>,
) -> Tensor<3> {
    let [b, s, m, d] = value.dims();
    let [_, q, _, _, p, _] = locations.dims();
    let dtype = value.dtype();
    let (locations, weights) = (locations.cast(FloatDType::F32), weights.cast(FloatDType::F32));
    // One row per cell of an image and head; points in the order (b, m, q, p).
    let rows: Tensor<2> = value.cast(FloatDType::F32).permute([0, 2, 1, 3]).reshape([b * m * s, d]);
    let first_row = first_rows(b * m, s, &rows);

    let mut output = Tensor::<2>::zeros([b * m * q, d], (&rows.device(), DType::F32));
    let mut start = 0;
    for (l, &[h, w]) in levels.iter().enumerate() {
        let place = locations.clone().narrow(3, l, 1).permute([0, 2, 1, 4, 5, 3]);
        let place: Tensor<3> = place.reshape([b * m, q * p, 2]);
        let weight = weights.clone().narrow(3, l, 1).permute([0, 2, 1, 4, 3]);
        let weight: Tensor<2> = weight.reshape([b * m, q * p]);
        let xs = corners(place.clone().narrow(2, 0, 1).squeeze_dim(2), w);
        let ys = corners(place.narrow(2, 1, 1).squeeze_dim(2), h);
        for y in &ys {
            for x in &xs {
                let cell = y.index.clone().mul_scalar(size(w)).add(x.index.clone());
                let row = cell.add_scalar(size(start)).add(first_row.clone());
                let read = rows.clone().select(0, row.reshape([b * m * q * p]));
                let factor = y.factor.clone() * x.factor.clone() * weight.clone();
                let read = read * factor.reshape([b * m * q * p, 1]);
                output = output + read.reshape([b * m * q, p, d]).sum_dim(1).squeeze_dim(1);
            }
        }
        start += h * w;
    }
    let output: Tensor<3> = output.reshape([b, m, q, d]).swap_dims(1, 2).reshape([b, q, m * d]);
    output.cast(dtype)
}

/// One of the two cells along an axis that a point lies between.
struct Corner {
    /// Cell, moved inside the map.
    index: Tensor<2, Int>,
    /// Its part in the sum; zero if the cell is outside.
    factor: Tensor<2>,
}

/// Returns the cells before and after relative positions along an axis of `n` cells. A position
/// that is not finite, or a whole cell outside, is in no cell and has no gradient.
#[allow(clippy::cast_precision_loss)] // sides are exact in f32
fn corners(position: Tensor<2>, n: usize) -> [Corner; 2] {
    let last = (n - 1) as f64;
    let position = position.mul_scalar(n as f64).sub_scalar(0.5);
    let place = position.clone().detach();
    let before = place.clone().floor();
    let near = place.clone().greater_elem(-1.0).bool_and(place.lower_elem(n as f64));
    let part = position - before.clone();
    [(before.clone(), part.clone().neg().add_scalar(1.0)), (before.add_scalar(1.0), part)].map(
        |(cell, factor)| {
            let inside =
                cell.clone().greater_equal_elem(0.0).bool_and(cell.clone().lower_equal_elem(last));
            let outside = inside.bool_and(near.clone()).bool_not();
            let index = cell.mask_fill(outside.clone(), 0.0).int();
            Corner { index, factor: factor.mask_fill(outside, 0.0) }
        },
    )
}

/// Returns the row of the first cell of each image and head, `[B * M, 1]`.
fn first_rows(count: usize, s: usize, like: &Tensor<2>) -> Tensor<2, Int> {
    Tensor::<1, Int>::arange(0..size(count), &like.device()).mul_scalar(size(s)).reshape([count, 1])
}

/// Converts a size to the integer type of index tensors.
#[allow(clippy::cast_possible_wrap)] // sizes of tensors in memory
fn size(n: usize) -> i64 {
    n as i64
}
