//! Sizes of a call, by their symbols.

use burn::tensor::Shape;

/// Sizes of a call.
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

    /// Returns the number of points of a query and head.
    pub(super) fn points(&self) -> usize {
        self.levels.len() * self.p
    }
}
