//! The cells that points read, and their factors: sixteen points at once, in a loop without branches
//! that becomes vector instructions.

use super::geometry::Level;

/// Points of a group.
pub(super) const GROUP: usize = 16;

/// In place of the number of a cell outside its level.
pub(super) const NOWHERE: u32 = u32::MAX;

/// The levels of the points of a group, in the types of the loop.
#[derive(Clone)]
pub(super) struct Levels {
    /// Points in use; the others are nowhere.
    len: usize,
    width: [f32; GROUP],
    height: [f32; GROUP],
    columns: [i32; GROUP],
    rows: [i32; GROUP],
    start: [i32; GROUP],
}

impl Levels {
    /// For up to a group of points, the level of each.
    #[allow(
        clippy::cast_possible_truncation, // cells and sides are counted in 32 bits
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss // sides are exact in f32
    )]
    pub(super) fn new(levels: &[Level]) -> Self {
        // No number is above and below this size: points that are not in use are never near.
        let mut all = Self {
            len: levels.len(),
            width: [-1.0; GROUP],
            height: [-1.0; GROUP],
            columns: [0; GROUP],
            rows: [0; GROUP],
            start: [0; GROUP],
        };
        for (i, level) in levels.iter().enumerate() {
            (all.width[i], all.height[i]) = (level.width as f32, level.height as f32);
            (all.columns[i], all.rows[i]) = (level.width as i32, level.height as i32);
            all.start[i] = level.start as i32;
        }
        all
    }

    /// Returns the number of points in use.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// The sampling points of a group.
pub(super) struct Taps {
    /// The cells left above, right above, left below and right below each point.
    pub(super) cells: [[u32; GROUP]; 4],
    /// Bilinear factors of these, times the weight of the point.
    pub(super) factors: [[f32; GROUP]; 4],
    /// The distance from the left column to a point, as a fraction of a cell.
    pub(super) right: [f32; GROUP],
    /// The distance from the upper row to a point, as a fraction of a cell.
    pub(super) down: [f32; GROUP],
}

impl Taps {
    /// Creates the state before the first `locate`.
    pub(super) fn new() -> Self {
        Self {
            cells: [[NOWHERE; GROUP]; 4],
            factors: [[0.0; GROUP]; 4],
            right: [0.0; GROUP],
            down: [0.0; GROUP],
        }
    }

    /// Places points by their relative locations (x, y); one a whole cell outside its level, or not
    /// finite, has its cells nowhere.
    #[inline(always)]
    #[allow(
        unsafe_code,
        clippy::cast_precision_loss, // sides are exact in f32
        clippy::cast_sign_loss, // after a test that a cell is inside
        clippy::needless_bitwise_bool // branches would undo the vectors
    )]
    pub(super) fn locate(&mut self, levels: &Levels, locations: &[f32], weights: &[f32]) {
        let (mut xs, mut ys, mut weight) = ([0.0; GROUP], [0.0; GROUP], [0.0; GROUP]);
        let (pairs, _) = locations.as_chunks::<2>();
        if let (Some(pairs), Some(all)) = (pairs.first_chunk::<GROUP>(), weights.first_chunk()) {
            for i in 0..GROUP {
                [xs[i], ys[i]] = pairs[i];
            }
            weight = *all;
        } else {
            for (i, (&[x, y], &of_point)) in pairs.iter().zip(weights).enumerate() {
                (xs[i], ys[i], weight[i]) = (x, y, of_point);
            }
        }
        for i in 0..GROUP {
            let (width, height) = (levels.width[i], levels.height[i]);
            let (x, y) = (xs[i] * width - 0.5, ys[i] * height - 0.5);
            let near = (x > -1.0) & (y > -1.0) & (x < width) & (y < height);
            let (x, y) = if near { (x, y) } else { (0.0, 0.0) };
            // SAFETY: from -1 to the side of a level, which fits.
            let (column, row) =
                unsafe { (x.to_int_unchecked::<i32>(), y.to_int_unchecked::<i32>()) };
            // The conversion rounds towards zero, so that numbers below zero need one less.
            let (column, row) = (column - i32::from(x < 0.0), row - i32::from(y < 0.0));
            let (right, down) = (x - column as f32, y - row as f32);
            let cell = levels.start[i] + row * levels.columns[i] + column;
            let (in_left, in_right) =
                (near & (column >= 0), near & (column + 1 < levels.columns[i]));
            let (in_up, in_down) = (row >= 0, row + 1 < levels.rows[i]);
            let or_nowhere = |inside: bool, cell: i32| if inside { cell as u32 } else { NOWHERE };
            self.cells[0][i] = or_nowhere(in_left & in_up, cell);
            self.cells[1][i] = or_nowhere(in_right & in_up, cell + 1);
            self.cells[2][i] = or_nowhere(in_left & in_down, cell + levels.columns[i]);
            self.cells[3][i] = or_nowhere(in_right & in_down, cell + levels.columns[i] + 1);
            let (above, below) = ((1.0 - down) * weight[i], down * weight[i]);
            self.factors[0][i] = above * (1.0 - right);
            self.factors[1][i] = above * right;
            self.factors[2][i] = below * (1.0 - right);
            self.factors[3][i] = below * right;
            self.right[i] = right;
            self.down[i] = down;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Level, Levels, NOWHERE, Taps};

    const LEVEL: Level = Level { start: 100, height: 2, width: 5 };

    /// Returns the cells and factors of one point of weight one.
    fn taps(x: f32, y: f32) -> ([u32; 4], [f32; 4]) {
        let mut taps = Taps::new();
        taps.locate(&Levels::new(&[LEVEL]), &[x, y], &[1.0]);
        assert_eq!(taps.cells.map(|cells| cells[1]), [NOWHERE; 4], "the second is not in use");
        (taps.cells.map(|cells| cells[0]), taps.factors.map(|factors| factors[0]))
    }

    #[test]
    fn the_centre_of_a_cell_is_that_cell_alone() {
        let (cells, factors) = taps(0.7, 0.75);
        assert_eq!(cells[0], 108);
        assert!((factors[0] - 1.0).abs() < 1e-5);
    }

    #[test]
    fn points_a_cell_outside_or_not_finite_are_nowhere() {
        for x in [-0.1, 1.1, -1e30, 1e30, f32::INFINITY, f32::NAN] {
            assert_eq!(taps(x, 0.5).0, [NOWHERE; 4], "{x}");
        }
        assert_eq!(taps(0.5, f32::NAN).0, [NOWHERE; 4]);
    }

    #[test]
    fn a_point_before_the_first_cell_keeps_the_cells_inside() {
        let (cells, factors) = taps(0.0, 0.0);
        assert_eq!(cells, [NOWHERE, NOWHERE, NOWHERE, 100]);
        assert!(factors.iter().all(|factor| (factor - 0.25).abs() < 1e-6));
    }
}
