//! Polygons to run-length codes, by the method of `rleFrPoly` in `pycocotools`: the outline is
//! drawn on a grid five times as fine, and where it passes the middle of a pixel column a run
//! begins or ends.

use detr_types::{ImageSize, Limits};

use super::{Rle, SegmentationError};

/// Steps of the fine grid per pixel.
const SCALE: f64 = 5.0;
/// Farthest coordinate, far beyond the largest image.
const MAX_COORDINATE: f64 = 1_000_000.0;
/// Longest outline in steps of the fine grid, a bound on the time for one polygon.
const MAX_STEPS: u64 = 1 << 26;

/// Draws the pixels inside a polygon `x1, y1, x2, y2, ...`.
///
/// # Errors
/// A polygon that has no inside, or coordinates and sizes beyond all images.
pub fn rasterize(points: &[f64], size: ImageSize) -> Result<Rle, SegmentationError> {
    check(0, points)?;
    rasterize_part(0, points, size)
}

/// Refuses what has no inside.
pub(super) fn check(part: usize, points: &[f64]) -> Result<(), SegmentationError> {
    let length = points.len();
    if !length.is_multiple_of(2) {
        return Err(SegmentationError::Odd { part, length });
    }
    if length < 6 {
        return Err(SegmentationError::TooShort { part, length });
    }
    match points.iter().position(|value| value.is_nan() || value.abs() > MAX_COORDINATE) {
        Some(index) => Err(SegmentationError::Coordinate { part, index, value: points[index] }),
        None => Ok(()),
    }
}

/// A point of the fine grid.
type FinePoint = (i64, i64);

/// Draws a checked polygon as runs.
#[allow(clippy::cast_possible_truncation)] // pixels of an image, within the limit
pub(super) fn rasterize_part(
    part: usize,
    points: &[f64],
    size: ImageSize,
) -> Result<Rle, SegmentationError> {
    let limit = Limits::default().pixels;
    if size.pixels() > limit {
        return Err(SegmentationError::TooLarge { size, limit });
    }
    let fine = |value: f64| (SCALE * value + 0.5) as i64;
    let corners: Vec<FinePoint> =
        points.as_chunks::<2>().0.iter().map(|&[x, y]| (fine(x), fine(y))).collect();
    let edges = || corners.iter().copied().zip(corners.iter().copied().cycle().skip(1));
    let steps =
        |((xs, ys), (xe, ye)): (FinePoint, FinePoint)| xs.abs_diff(xe).max(ys.abs_diff(ye)) + 1;
    if edges().map(steps).sum::<u64>() > MAX_STEPS {
        return Err(SegmentationError::TooLong { part, limit: MAX_STEPS / 5 });
    }
    let mut crossings = Vec::new();
    let mut previous: Option<FinePoint> = None;
    for edge in edges() {
        draw(edge, |point| {
            if let Some(crossing) = previous.and_then(|before| crossing(before, point, size)) {
                crossings.push(crossing);
            }
            previous = Some(point);
        });
    }
    crossings.push(size.pixels() as u32);
    crossings.sort_unstable();
    Ok(Rle { size, counts: runs(&crossings) })
}

/// Visits the points of an edge, both ends included, in its direction.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // checked coordinates
fn draw(((xs, ys), (xe, ye)): (FinePoint, FinePoint), mut visit: impl FnMut(FinePoint)) {
    let (dx, dy) = ((xe - xs).abs(), (ye - ys).abs());
    if dx == 0 && dy == 0 {
        return visit((xs, ys));
    }
    // Always drawn from left to right or from top to bottom, so that an edge shared by two
    // polygons is the same in both.
    let flat = dx >= dy;
    let flip = if flat { xs > xe } else { ys > ye };
    let ((xs, ys), (xe, ye)) = if flip { ((xe, ye), (xs, ys)) } else { ((xs, ys), (xe, ye)) };
    let (length, slope) =
        if flat { (dx, (ye - ys) as f64 / dx as f64) } else { (dy, (xe - xs) as f64 / dy as f64) };
    for step in 0..=length {
        let along = if flip { length - step } else { step };
        let offset = slope * along as f64;
        visit(if flat {
            (xs + along, (ys as f64 + offset + 0.5) as i64)
        } else {
            ((xs as f64 + offset + 0.5) as i64, ys + along)
        });
    }
}

/// The place where a step from one fine column to the next passes the middle of a pixel column: the
/// index of the first pixel below, counted column by column.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::float_cmp
)] // whole numbers within the image
fn crossing(before: FinePoint, point: FinePoint, size: ImageSize) -> Option<u32> {
    if point.0 == before.0 {
        return None;
    }
    let column = if point.0 < before.0 { point.0 } else { point.0 - 1 };
    let x = (column as f64 + 0.5) / SCALE - 0.5;
    if x.floor() != x || x < 0.0 || x > f64::from(size.width) - 1.0 {
        return None;
    }
    let y = (point.1.min(before.1) as f64 + 0.5) / SCALE - 0.5;
    let y = y.clamp(0.0, f64::from(size.height)).ceil();
    Some(x as u32 * size.height + y as u32)
}

/// Converts the sorted places where the mask changes into run lengths; two changes at one place
/// cancel.
fn runs(changes: &[u32]) -> Vec<u32> {
    let mut previous = 0;
    let lengths = changes.iter().map(|&at| at - std::mem::replace(&mut previous, at));
    let mut lengths = lengths.collect::<Vec<_>>().into_iter();
    let mut counts: Vec<u32> = lengths.next().into_iter().collect();
    while let Some(length) = lengths.next() {
        if length > 0 {
            counts.push(length);
        } else if let (Some(next), Some(last)) = (lengths.next(), counts.last_mut()) {
            *last += next;
        }
    }
    counts
}
