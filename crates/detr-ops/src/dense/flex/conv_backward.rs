//! The backward pass of a convolution: every task owns a part of the gradient and adds all of its terms
//! in one order.

use pulp::Arch;
use rayon::prelude::*;

use super::TASKS;
use super::geometry::{Fold, Geometry, Unfold};
use super::matrix::{View, multiply};
use super::scratch;
use super::winograd;
use crate::cpu::shared::Shared;
use crate::cpu::zeros::zeros;

/// The number of cells that are unfolded at once.
const TILE: usize = 1024;

/// Computes the gradient of the input `[B, C, H, W]`, from that of the output.
pub(super) fn input(geometry: &Geometry, weight: &[f32], grad: &[f32]) -> Vec<f32> {
    if let Some(found) = winograd::input(geometry, weight, grad) {
        return found;
    }
    let Geometry { images, channels, filters, .. } = *geometry;
    let (cells, plane, taps) = (geometry.cells(), geometry.plane(), geometry.taps());
    let mut found = zeros(images * channels * plane);
    let weight = View::new(weight, [filters, geometry.depth()]);
    // Each task takes some channels of an image.
    let block = channels_of_a_task(geometry);
    let blocks = channels.div_ceil(block);
    let shared = Shared::new(&mut found);
    (0..images * blocks).into_par_iter().for_each(|index| {
        let (image, first) = (index / blocks, index % blocks * block);
        let count = block.min(channels - first);
        let rows = first * taps..(first + count) * taps;
        let weight = weight.columns(rows.start, rows.len()).transposed();
        let grad = View::new(&grad[image * filters * cells..], [filters, cells]);
        // SAFETY: blocks are of different images or channels.
        #[allow(unsafe_code)]
        let planes = unsafe { shared.part((image * channels + first) * plane, count * plane) };
        if geometry.is_product() {
            multiply(planes, cells, weight, grad, false);
            return;
        }
        for from in (0..cells).step_by(TILE) {
            let len = TILE.min(cells - from);
            scratch::with([rows.len() * len, 0], |[unfolded, _]| {
                multiply(unfolded, len, weight, grad.columns(from, len), false);
                let (folded, runs, rows) = (&*unfolded, &geometry.runs(from, len), rows.clone());
                let planes = &mut *planes;
                Arch::new().dispatch(Fold { geometry, folded, rows, runs, planes });
            });
        }
    });
    found
}

/// Computes the gradient of the weight `[C', C, kh, kw]`, from that of the output.
pub(super) fn weight(geometry: &Geometry, x: &[f32], grad: &[f32]) -> Vec<f32> {
    let Geometry { images, channels, filters, .. } = *geometry;
    let (cells, depth, taps) = (geometry.cells(), geometry.depth(), geometry.taps());
    let mut found = vec![0f32; filters * depth];
    let block = channels_of_a_task(geometry);
    let blocks = channels.div_ceil(block);
    // Filters are divided among the threads, too, if there are few channels.
    let filter_block = filters.div_ceil((TASKS / 4).div_ceil(blocks));
    let filter_blocks = filters.div_ceil(filter_block);
    let shared = GradientRows { data: Shared::new(&mut found), stride: depth };
    (0..blocks * filter_blocks).into_par_iter().for_each(|index| {
        let first = index / filter_blocks * block;
        let rows = first * taps..(first + block).min(channels) * taps;
        let first = index % filter_blocks * filter_block;
        let count = filter_block.min(filters - first);
        scratch::with([rows.len() * TILE, count * rows.len()], |[unfolded, sums]| {
            sums.fill(0.0);
            for image in 0..images {
                let grad = View::new(&grad[image * filters * cells..], [filters, cells]);
                let grad = grad.rows(first, count);
                for from in (0..cells).step_by(TILE) {
                    let len = TILE.min(cells - from);
                    let columns = if geometry.is_product() {
                        let planes = View::new(&x[image * channels * cells..], [channels, cells]);
                        planes.rows(rows.start, rows.len()).columns(from, len)
                    } else {
                        let unfolded = &mut unfolded[..rows.len() * len];
                        let runs = &geometry.runs(image * cells + from, len);
                        let (rows, out, count) = (rows.clone(), &mut *unfolded, rows.len());
                        Arch::new().dispatch(Unfold { geometry, x, rows, runs, out });
                        View::new(unfolded, [count, len])
                    };
                    multiply(sums, rows.len(), grad.columns(from, len), columns.transposed(), true);
                }
            }
            for (filter, sums) in sums.chunks_exact(rows.len()).enumerate() {
                shared.write(first + filter, rows.start, sums);
            }
        });
    });
    found
}

/// The rows of the gradient, of which tasks write different parts.
struct GradientRows<'a> {
    data: Shared<'a>,
    stride: usize,
}

impl GradientRows<'_> {
    fn write(&self, row: usize, from: usize, values: &[f32]) {
        // SAFETY: tasks have different filters or channels.
        #[allow(unsafe_code)]
        let out = unsafe { self.data.part(row * self.stride + from, values.len()) };
        out.copy_from_slice(values);
    }
}

/// Returns a number of channels that makes a product worth its while, but leaves enough tasks.
fn channels_of_a_task(geometry: &Geometry) -> usize {
    let enough = 256usize.div_ceil(geometry.taps());
    let fair = geometry.channels.div_ceil(TASKS);
    fair.clamp(enough.min(geometry.channels), geometry.channels)
}
