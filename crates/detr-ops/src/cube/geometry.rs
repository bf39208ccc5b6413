//! The place of a sampling point among the cells of its level, on the device.

use cubecl::prelude::*;

/// The place of a point.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Place {
    /// Less than a whole cell outside, and finite.
    pub(super) near: bool,
    /// Column of the cell before the point, from -1.
    pub(super) column: i32,
    /// Row of the cell before the point, from -1.
    pub(super) row: i32,
    /// The distance from the left column to the point, as a fraction of a cell.
    pub(super) right: f32,
    /// The distance from the upper row to the point, as a fraction of a cell.
    pub(super) down: f32,
}

/// Locates the place of a relative location; the numbers mean nothing unless it is near.
#[cube]
pub(super) fn locate(x: f32, y: f32, height: i32, width: i32) -> Place {
    let x = x * width as f32 - 0.5f32;
    let y = y * height as f32 - 0.5f32;
    let near = x > -1.0f32 && y > -1.0f32 && x < width as f32 && y < height as f32;
    let left = f32::floor(x);
    let up = f32::floor(y);
    Place { near, column: left as i32, row: up as i32, right: x - left, down: y - up }
}

/// Returns the column or row of a corner: `side` 0 is before the point, 1 after it.
#[cube]
pub(super) fn cell(before: i32, #[comptime] side: u32) -> i32 {
    if comptime!(side == 0) { before } else { before + 1 }
}

/// Returns the factor of that column or row.
#[cube]
pub(super) fn factor(part: f32, #[comptime] side: u32) -> f32 {
    if comptime!(side == 0) { 1.0f32 - part } else { part }
}

/// Returns whether a cell is part of the level.
#[cube]
pub(super) fn inside(column: i32, row: i32, height: i32, width: i32) -> bool {
    column >= 0 && row >= 0 && column < width && row < height
}

/// A query of an image, and one of its heads.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Pair {
    pub(super) image: usize,
    pub(super) head: usize,
    /// Its number in the order of tensors: images, queries, heads.
    pub(super) query_head: usize,
}

/// Returns the pair of this number in the order of units: images, heads, queries. Queries of one
/// head that are neighbours read the same cells, so they should run on the same part of a GPU.
#[cube]
pub(super) fn pair_at(pair: usize, q: usize, m: usize) -> Pair {
    let query = pair % q;
    let head = (pair / q) % m;
    let image = pair / (q * m);
    Pair { image, head, query_head: (image * q + query) * m + head }
}
