//! A picture of what training will see: augmented samples in a grid, with their objects and masks.
//!
//! It is for a quick look whether annotations and augmentation are as meant. How objects are drawn is the caller's
//! choice, because names need a font, which is elsewhere.

use detr_types::{ImageSize, PreprocessSpec, Xyxy};
use image::{Rgb, RgbImage};

use crate::loader::LoadedSample;
use crate::resize::resize_bilinear;
use crate::segmentation::Mask;
use crate::target::Target;

/// Pixels between the cells.
const GAP: u32 = 4;
/// The colour behind the cells.
const BACKGROUND: Rgb<u8> = Rgb([32, 32, 32]);
/// Width of a box's line.
const LINE: u32 = 2;

/// The way in which the objects of a sample are drawn.
#[derive(Clone, Copy)]
pub struct PreviewStyle<'a> {
    /// The colour of a label, with which masks are tinted.
    pub color: &'a dyn Fn(usize) -> [u8; 3],
    /// A function that draws the objects of a target into the resized image of its sample.
    pub objects: &'a dyn Fn(&mut RgbImage, &Target),
}

impl Default for PreviewStyle<'_> {
    /// Draws boxes without names, each class in its colour ([`class_color`]).
    fn default() -> Self {
        Self { color: &class_color, objects: &outlines }
    }
}

/// Returns a grid of samples, `columns` to a row, each shrunk or grown to fit a square of `cell` pixels. No samples
/// give an empty picture.
#[must_use]
pub fn preview(
    samples: &[LoadedSample],
    columns: u32,
    cell: u32,
    style: &PreviewStyle<'_>,
) -> RgbImage {
    let columns = columns.clamp(1, 100);
    let cell = cell.clamp(16, 2048);
    let count = u32::try_from(samples.len()).unwrap_or(u32::MAX).min(10_000);
    if count == 0 {
        return RgbImage::new(0, 0);
    }
    let side = |cells: u32| cells * (cell + GAP) + GAP;
    let (width, height) = (side(columns.min(count)), side(count.div_ceil(columns)));
    let mut grid = RgbImage::from_pixel(width, height, BACKGROUND);
    for (number, sample) in (0..count).zip(samples) {
        let drawn = draw(sample, cell, style);
        let (x, y) = (number % columns, number / columns);
        let (x, y) = (GAP + x * (cell + GAP), GAP + y * (cell + GAP));
        // In the middle of its cell.
        let x = x + (cell - drawn.width()) / 2;
        let y = y + (cell - drawn.height()) / 2;
        image::imageops::replace(&mut grid, &drawn, i64::from(x), i64::from(y));
    }
    grid
}

/// Returns the colour of a class: hues a golden section apart, so that neighbouring labels differ.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
pub fn class_color(label: usize) -> [u8; 3] {
    let hue = ((label as f64 * 0.618_033_988_749_895) % 1.0) * 6.0;
    [5.0, 3.0, 1.0].map(|offset| {
        let k = (offset + hue) % 6.0;
        let dip = k.min(4.0 - k).clamp(0.0, 1.0);
        (255.0 * (1.0 - 0.85 * dip)) as u8
    })
}

/// Draws a sample of at most `cell` pixels on each side.
fn draw(sample: &LoadedSample, cell: u32, style: &PreviewStyle<'_>) -> RgbImage {
    let size = sample.target.size;
    let spec =
        PreprocessSpec { shortest_edge: cell, longest_edge: cell, ..PreprocessSpec::default() };
    let fit = spec.target_size(size);
    let fit = ImageSize::new(fit.height.clamp(1, cell), fit.width.clamp(1, cell));
    let mut image = resize_bilinear(&sample.image, fit);
    let target = &sample.target;
    for (mask, &label) in target.masks.iter().flatten().zip(&target.labels) {
        tint(&mut image, mask, (style.color)(label));
    }
    (style.objects)(&mut image, target);
    image
}

/// Draws the boxes of a target.
fn outlines(image: &mut RgbImage, target: &Target) {
    let size = ImageSize::new(image.height(), image.width());
    for (bbox, &label) in target.boxes.iter().zip(&target.labels) {
        outline(image, bbox.to_xyxy().scaled(size), class_color(label));
    }
}

/// Mixes a colour into the pixels of a mask.
fn tint(image: &mut RgbImage, mask: &Mask, color: [u8; 3]) {
    let (width, height) = image.dimensions();
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let at = |to: u32, position: u32, of: u32| {
            u64::from(position) * u64::from(of) / u64::from(to.max(1))
        };
        let row = at(height, y, mask.size.height) * u64::from(mask.size.width);
        let index = usize::try_from(row + at(width, x, mask.size.width)).unwrap_or(usize::MAX);
        if mask.bits.get(index).is_some_and(|&bit| bit != 0) {
            for (level, tint) in pixel.0.iter_mut().zip(color) {
                *level = level.midpoint(tint);
            }
        }
    }
}

/// Draws the border of a box, inside of it as far as it goes.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, then clamped
fn outline(image: &mut RgbImage, bbox: Xyxy, color: [u8; 3]) {
    let (width, height) = image.dimensions();
    let low = |edge: f32, side: u32| (edge.max(0.0) as u32).min(side - 1);
    let high = |edge: f32, side: u32| (edge.max(0.0).ceil() as u32).clamp(1, side) - 1;
    let (x1, x2) = (low(bbox.x1, width), high(bbox.x2, width));
    let (y1, y2) = (low(bbox.y1, height), high(bbox.y2, height));
    for y in y1..=y2 {
        let edge = y - y1 < LINE || y2 - y < LINE;
        for x in x1..=x2 {
            if edge || x - x1 < LINE || x2 - x < LINE {
                image.put_pixel(x, y, Rgb(color));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::TargetCounts;
    use detr_types::Cxcywh;

    #[test]
    fn samples_of_any_shape_fit_their_cells() {
        let sample = |width, height| {
            let size = ImageSize::new(height, width);
            let bits = vec![1; (width * height) as usize];
            let target = Target {
                image_id: 1,
                original_size: size,
                size,
                boxes: vec![Cxcywh { cx: 0.5, cy: 0.5, w: 1.0, h: 1.0 }, Cxcywh::default()],
                labels: vec![0, 1],
                areas: vec![1.0, 0.0],
                iscrowd: vec![false; 2],
                masks: Some(vec![Mask { size, bits: bits.clone() }, Mask { size, bits }]),
            };
            let image = RgbImage::new(width, height);
            LoadedSample { image, target, counts: TargetCounts::default(), scratch_bytes: 0 }
        };
        let samples = [sample(100, 50), sample(1, 400), sample(400, 1), sample(3, 3)];
        let grid = preview(&samples, 3, 40, &PreviewStyle::default());
        assert_eq!(grid.dimensions(), (3 * 44 + 4, 2 * 44 + 4));
        // Below and above the first image, and its corner.
        assert_eq!((*grid.get_pixel(20, 10), *grid.get_pixel(20, 38)), (BACKGROUND, BACKGROUND));
        assert_eq!(grid.get_pixel(43, 14).0, class_color(0));
        assert_eq!(preview(&[], 3, 40, &PreviewStyle::default()).dimensions(), (0, 0));
    }

    #[test]
    fn classes_have_colours_of_their_own() {
        let colors: std::collections::HashSet<_> = (0..91).map(class_color).collect();
        assert!(colors.len() > 85);
    }
}
