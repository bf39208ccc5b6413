//! Pixels: a background that is neither plain nor useful, and shapes in a few colours.

use detr_types::ImageSize;
use image::{Rgb, RgbImage};

use super::random::Random;
use crate::segmentation::Rle;

/// Colours that stand out from the background; they say nothing about the class.
const COLOURS: [[u8; 3]; 8] = [
    [220, 50, 47],
    [60, 180, 75],
    [38, 90, 220],
    [255, 215, 40],
    [40, 200, 210],
    [200, 60, 200],
    [245, 130, 48],
    [240, 240, 240],
];

/// Draws a dark gradient between two greys with noise on it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped
pub(super) fn background(size: ImageSize, random: &mut Random) -> RgbImage {
    let (from, to) = (random.between(30.0, 110.0), random.between(30.0, 110.0));
    let tint = [(); 3].map(|()| random.between(0.85, 1.15));
    let height = f64::from(size.height);
    RgbImage::from_fn(size.width, size.height, |_, y| {
        let level = from + (to - from) * f64::from(y) / height;
        let noise = f64::from(random.byte()) / 16.0 - 8.0;
        Rgb(tint.map(|tint| (level * tint + noise).clamp(0.0, 255.0) as u8))
    })
}

/// Draws one of the colours, a little off.
pub(super) fn colour(random: &mut Random) -> [u8; 3] {
    let colour = COLOURS.get(random.integer(0, 7) as usize).copied().unwrap_or([255; 3]);
    colour.map(|level| level.saturating_sub(random.byte() / 8))
}

/// Fills a mask.
#[allow(clippy::cast_possible_truncation)] // inside the image
pub(super) fn paint(image: &mut RgbImage, mask: &Rle, colour: [u8; 3]) {
    let height = mask.size.height;
    let mut at = 0;
    for (index, &count) in mask.counts.iter().enumerate() {
        if index % 2 == 1 {
            for pixel in at..at + count {
                if let Some(pixel) = image.get_pixel_mut_checked(pixel / height, pixel % height) {
                    *pixel = Rgb(colour);
                }
            }
        }
        at += count;
    }
}
