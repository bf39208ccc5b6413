//! Where a sampling point lies among the cells of its level.

use burn::tensor::Shape;

/// Sizes of a call, by their symbols.
pub(super) struct Sizes {
    pub(super) b: usize,
    pub(super) s: usize,
    pub(super) m: usize,
    pub(super) d: usize,
    pub(super) q: usize,
    pub(super) p: usize,
    pub(super) levels: Vec<Level>,
}

/// A feature map among the cells of `value`.
#[derive(Clone, Copy)]
pub(super) struct Level {
    /// Its first cell.
    pub(super) start: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Sizes {
    pub(super) fn new(value: &Shape, locations: &Shape, levels: &[[usize; 2]]) -> Self {
        let mut start = 0;
        let levels = levels.iter().map(|&[height, width]| {
            let level = Level { start, height, width };
            start += height * width;
            level
        });
        let levels = levels.collect();
        let (b, s, m, d) = (value[0], value[1], value[2], value[3]);
        Self { b, s, m, d, q: locations[1], p: locations[4], levels }
    }

    /// Points of a query and head.
    pub(super) fn points(&self) -> usize {
        self.levels.len() * self.p
    }
}

/// The cells around a point.
#[derive(Clone, Copy)]
pub(super) struct Point {
    /// Column and row of the cell before the point, from -1.
    column: i32,
    row: i32,
    /// How far the point is on the way to the next cell.
    pub(super) right: f32,
    pub(super) down: f32,
}

impl Point {
    /// The place of a relative location (x, y); `None` a whole cell outside, or if not finite.
    #[inline(always)]
    #[allow(
        clippy::cast_precision_loss, // sides are exact in f32
        clippy::cast_possible_truncation // inside the map, or one cell before
    )]
    pub(super) fn locate(level: &Level, x: f32, y: f32) -> Option<Self> {
        let (width, height) = (level.width as f32, level.height as f32);
        let (x, y) = (x * width - 0.5, y * height - 0.5);
        let near = x > -1.0 && y > -1.0 && x < width && y < height;
        if !near {
            return None;
        }
        // Floor, without a call where the processor has no instruction for it.
        let (column, row) = (x as i32 - i32::from(x < 0.0), y as i32 - i32::from(y < 0.0));
        Some(Self { column, row, right: x - column as f32, down: y - row as f32 })
    }

    /// The cells left above, right above, left below and right below, as offsets in the level;
    /// `None` outside.
    #[inline(always)]
    #[allow(clippy::cast_sign_loss, clippy::cast_possible_wrap, clippy::cast_possible_truncation)]
    pub(super) fn cells(self, level: &Level) -> [Option<usize>; 4] {
        let (width, height) = (level.width as i32, level.height as i32);
        let cell = |column: i32, row: i32| {
            let inside = (0..width).contains(&column) && (0..height).contains(&row);
            inside.then(|| row as usize * level.width + column as usize)
        };
        let (column, row) = (self.column, self.row);
        [cell(column, row), cell(column + 1, row), cell(column, row + 1), cell(column + 1, row + 1)]
    }

    /// Bilinear factors of the cells, in the same order.
    #[inline(always)]
    pub(super) fn factors(self) -> [f32; 4] {
        let (left, up) = (1.0 - self.right, 1.0 - self.down);
        [up * left, up * self.right, self.down * left, self.down * self.right]
    }
}

#[cfg(test)]
mod tests {
    use super::{Level, Point};

    const LEVEL: Level = Level { start: 0, height: 2, width: 5 };

    #[test]
    fn the_centre_of_a_cell_is_that_cell_alone() {
        let point = Point::locate(&LEVEL, 0.7, 0.75).unwrap();
        assert_eq!(point.cells(&LEVEL)[0], Some(8));
        assert!((point.factors()[0] - 1.0).abs() < 1e-5);
    }

    #[test]
    fn points_a_cell_outside_or_not_finite_are_nowhere() {
        for x in [-0.1, 1.1, -1e30, 1e30, f32::INFINITY, f32::NAN] {
            assert!(Point::locate(&LEVEL, x, 0.5).is_none(), "{x}");
        }
        assert!(Point::locate(&LEVEL, 0.5, f32::NAN).is_none());
    }

    #[test]
    fn a_point_before_the_first_cell_keeps_the_cells_inside() {
        let point = Point::locate(&LEVEL, 0.0, 0.0).unwrap();
        assert_eq!(point.cells(&LEVEL), [None, None, None, Some(0)]);
        assert!(point.factors().iter().all(|factor| (factor - 0.25).abs() < 1e-6));
    }
}
