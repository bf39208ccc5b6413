//! Resizing as the references do it after a model: bilinear as `F.interpolate`, nearest as `F.interpolate` and as
//! Pillow.

/// The position of a place of a resized row between two cells of the original.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tap {
    /// The cells before and after.
    pub(super) cells: [usize; 2],
    /// The share of the cell after.
    pub(super) share: f32,
}

/// Returns the taps of every place of `F.interpolate(mode="bilinear", align_corners=False)` from `from` to `to` cells.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // sides of images are small
pub(super) fn bilinear(from: usize, to: usize) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    let last = from.saturating_sub(1);
    (0..to)
        .map(|i| {
            let at = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
            let low = (at as usize).min(last);
            Tap { cells: [low, (low + 1).min(last)], share: (at - low as f64) as f32 }
        })
        .collect()
}

/// Returns the source of every place of `F.interpolate(mode="nearest")`, whose arithmetic is f32.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // sides of images are small
pub(super) fn nearest(from: usize, to: usize) -> Vec<usize> {
    let scale = from as f32 / to as f32;
    (0..to).map(|i| ((i as f32 * scale) as usize).min(from.saturating_sub(1))).collect()
}

/// Returns the source of every place of Pillow's `resize(NEAREST)`, which adds the step up from place to place.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // sides of images are small
pub(super) fn pillow_nearest(from: usize, to: usize) -> Vec<usize> {
    let step = from as f64 / to as f64;
    let mut at = step * 0.5;
    (0..to)
        .map(|_| {
            let source = (at as usize).min(from.saturating_sub(1));
            at += step;
            source
        })
        .collect()
}

/// A map whose rows are computed when they are asked for.
pub(super) struct Bilinear<'a> {
    map: &'a [f32],
    width: usize,
    rows: &'a [Tap],
    columns: &'a [Tap],
    mixed: Vec<f32>,
}

impl<'a> Bilinear<'a> {
    /// Makes a resized view of a map `[h, w]` of that width.
    pub(super) fn new(map: &'a [f32], width: usize, rows: &'a [Tap], columns: &'a [Tap]) -> Self {
        Self { map, width, rows, columns, mixed: vec![0.0; width] }
    }

    /// Computes a row of the resized map.
    pub(super) fn row(&mut self, row: usize, out: &mut [f32]) {
        let Tap { cells: [low, high], share } = self.rows[row];
        let line = |row: usize| &self.map[row * self.width..][..self.width];
        for ((mixed, &a), &b) in self.mixed.iter_mut().zip(line(low)).zip(line(high)) {
            *mixed = a * (1.0 - share) + b * share;
        }
        for (out, &Tap { cells: [low, high], share }) in out.iter_mut().zip(self.columns) {
            *out = self.mixed[low] * (1.0 - share) + self.mixed[high] * share;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resizing_hits_the_cells_that_the_references_hit() {
        assert_eq!(nearest(3, 7), [0, 0, 0, 1, 1, 2, 2]);
        assert_eq!(nearest(5, 2), [0, 2]);
        assert_eq!(pillow_nearest(5, 2), [1, 3]);
        assert_eq!(pillow_nearest(3, 7), [0, 0, 1, 1, 1, 2, 2]);
        let (rows, columns) = (bilinear(1, 2), bilinear(2, 4));
        let mut map = Bilinear::new(&[0.0, 8.0], 2, &rows, &columns);
        let mut out = [0.0; 4];
        map.row(1, &mut out);
        assert_eq!(out.map(f32::to_bits), [0.0f32, 2.0, 6.0, 8.0].map(f32::to_bits));
    }
}
