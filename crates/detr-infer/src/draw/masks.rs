//! Masks drawn into their image: the object tinted in the colour of its class, inside an outline.

use detr_types::{Detection, ImageSize, Mask};
use image::{Rgb, RgbImage};

use super::blend;
use crate::palette::Palette;

/// The share of the mask's colour in a pixel, in 1/255.
const TINT: u8 = 110;

/// Tints the objects that have a mask, the strongest last, and draws their outlines.
pub(super) fn draw_masks(
    image: &mut RgbImage,
    strongest_first: &[&Detection],
    palette: &Palette,
    line: i64,
) {
    let size = ImageSize::new(image.height(), image.width());
    for detection in strongest_first.iter().rev() {
        // A mask of another image cannot be placed.
        let rle = detection.mask.as_ref().filter(|rle| rle.size == size);
        let Some(mask) = rle.and_then(|rle| rle.to_mask().ok()) else { continue };
        draw_mask(image, &mask, palette.color(detection), line);
    }
}

/// Tints the pixels inside a mask and draws an outline of some pixels just inside its edge.
pub(super) fn draw_mask(image: &mut RgbImage, mask: &Mask, color: Rgb<u8>, line: i64) {
    let depth = edge_distance(mask, u8::try_from(line).unwrap_or(u8::MAX));
    let width = mask.size.width as usize;
    for (y, (depths, bits)) in
        (0i64..).zip(depth.chunks_exact(width.max(1)).zip(mask.bits.chunks_exact(width.max(1))))
    {
        for (x, (&depth, &bit)) in (0i64..).zip(depths.iter().zip(bits)) {
            if bit != 0 {
                let on_line = i64::from(depth) <= line;
                blend(image, x, y, color, if on_line { 255 } else { TINT });
            }
        }
    }
}

/// Returns for every pixel inside how many steps it is from one outside, 1 at the edge, and at most one more than
/// `most`. The border of the image is no edge: an object that is cut off there goes on.
fn edge_distance(mask: &Mask, most: u8) -> Vec<u8> {
    let width = mask.size.width as usize;
    let far = most.saturating_add(1);
    let mut depth: Vec<u8> = mask.bits.iter().map(|&bit| if bit == 0 { 0 } else { far }).collect();
    let len = depth.len();
    // Two sweeps suffice for distances along rows and columns.
    for at in 0..len {
        let left = if at.is_multiple_of(width) { far } else { depth[at - 1] };
        let above = if at < width { far } else { depth[at - width] };
        depth[at] = depth[at].min(left.min(above).saturating_add(1));
    }
    for at in (0..len).rev() {
        let right = if (at + 1).is_multiple_of(width) { far } else { depth[at + 1] };
        let below = depth.get(at + width).copied().unwrap_or(far);
        depth[at] = depth[at].min(right.min(below).saturating_add(1));
    }
    depth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edge_is_drawn_and_the_inside_tinted() {
        let size = ImageSize::new(8, 10);
        let inside = |x: usize, y: usize| x < 6 && (2..7).contains(&y);
        let bits = (0..80).map(|at| u8::from(inside(at % 10, at / 10))).collect();
        let mask = Mask { size, bits };
        assert_eq!(edge_distance(&mask, 1)[4 * 10..4 * 10 + 7], [2, 2, 2, 2, 2, 1, 0]);
        let mut image = RgbImage::new(10, 8);
        draw_mask(&mut image, &mask, Rgb([255, 0, 0]), 1);
        assert_eq!(image.get_pixel(5, 4), &Rgb([255, 0, 0]), "the edge");
        assert_eq!(image.get_pixel(0, 4), &Rgb([TINT, 0, 0]), "cut off by the image");
        assert_eq!(image.get_pixel(3, 4), &Rgb([TINT, 0, 0]), "inside");
        assert_eq!(image.get_pixel(6, 4), &Rgb([0, 0, 0]), "outside");
    }

    #[test]
    fn masks_of_no_pixels_and_of_one_leave_nothing_to_fail() {
        for (height, width) in [(0, 0), (1, 1), (1, 5), (5, 1)] {
            let size = ImageSize::new(height, width);
            let bits = vec![1; (height * width) as usize];
            draw_mask(&mut RgbImage::new(width, height), &Mask { size, bits }, Rgb([1, 2, 3]), 3);
        }
    }
}
