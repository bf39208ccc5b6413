//! Detections and annotations of an image side by side, at a size that people like to look at.

use detr_data::resize_bilinear;
use detr_types::{Detection, ImageSize, Xyxy};
use image::RgbImage;

use super::{draw_detections, draw_truth};
use crate::palette::Palette;

/// Short side in pixels to which smaller images are enlarged, so that names can be read.
const SHORT: f32 = 320.0;
/// Long side in pixels to which larger images are shrunk, because comparisons are many.
const LONG: f32 = 1000.0;
/// Pixels between the two pictures.
const GAP: u32 = 6;

/// Draws an image twice: with detections and their scores on the left, with the annotated objects on the right.
/// Boxes are in pixels of the image.
#[must_use]
pub fn draw_comparison(
    image: &RgbImage,
    detections: &[Detection],
    truth: &[Detection],
    palette: &Palette,
) -> RgbImage {
    let (width, height) = image.dimensions();
    let (size, factor) = comparison_size(ImageSize::new(height, width));
    let mut left = resize_bilinear(image, size);
    let mut right = left.clone();
    draw_detections(&mut left, &scaled(detections, factor), palette);
    draw_truth(&mut right, &scaled(truth, factor), palette);
    let (width, height) = left.dimensions();
    let mut both = RgbImage::new(2 * width + GAP, height);
    for (from, picture) in [(0, left), (width + GAP, right)] {
        for (x, y, pixel) in picture.enumerate_pixels() {
            both.put_pixel(from + x, y, *pixel);
        }
    }
    both
}

/// Returns the size of one of the two pictures, and how many times as large as the image it is.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn comparison_size(size: ImageSize) -> (ImageSize, f32) {
    let (height, width) = (size.height.max(1) as f32, size.width.max(1) as f32);
    let enlarged = (SHORT / height.min(width)).clamp(1.0, 8.0);
    let factor = enlarged.min(LONG / height.max(width));
    let side = |side: f32| (side * factor).round().max(1.0) as u32;
    (ImageSize::new(side(height), side(width)), factor)
}

fn scaled(objects: &[Detection], by: f32) -> Vec<Detection> {
    let scale = |b: Xyxy| Xyxy { x1: b.x1 * by, y1: b.y1 * by, x2: b.x2 * by, y2: b.y2 * by };
    objects
        .iter()
        .map(|object| Detection { bbox: scale(object.bbox), mask: None, ..object.clone() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detections_are_left_and_annotations_right() {
        let detection = |label, score, x1: f32| Detection {
            label,
            category_id: 1,
            name: "thing".to_owned(),
            score,
            bbox: Xyxy { x1, y1: 10.0, x2: x1 + 30.0, y2: 60.0 },
            mask: None,
        };
        let image = RgbImage::new(100, 80);
        let (found, truth) = ([detection(0, 0.9, 10.0)], [detection(1, 1.0, 60.0)]);
        let drawn = draw_comparison(&image, &found, &truth, &Palette::default());
        // Four times as large.
        assert_eq!(drawn.dimensions(), (2 * 400 + GAP, 320));
        let lit = |x: u32, y: u32| drawn.get_pixel(x, y).0 != [0, 0, 0];
        assert!(lit(40, 200) && !lit(240, 200));
        assert!(!lit(406 + 40, 200) && lit(406 + 240, 200));
        let sizes = [(2000, 1000), (10, 1000), (1, 1)]
            .map(|(height, width)| comparison_size(ImageSize::new(height, width)).0);
        assert_eq!(sizes.map(|size| (size.height, size.width)), [(1000, 500), (10, 1000), (8, 8)]);
    }
}
