//! Changes colours at random; boxes and masks stay.
//!
//! Mirrors `ColorJitter` of `torchvision` on Pillow images: brightness, contrast, saturation and hue
//! in a random order, each by Pillow's 8-bit arithmetic (`ImageEnhance`, `Blend.c`, `Convert.c`).
//! The reference's recipes do not use it.

use detr_types::RangeError;
use detr_types::range::in_range;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{Sample, SampleRng};

/// The largest changes of colour; 0 switches a change off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColorJitter {
    /// The factor of brightness is uniform from `1 - brightness` (at least 0) to `1 + brightness`.
    pub brightness: f64,
    /// Likewise for contrast.
    pub contrast: f64,
    /// Likewise for saturation.
    pub saturation: f64,
    /// The shift of hue is uniform from `-hue` to `hue`, in turns; at most 0.5.
    pub hue: f64,
}

impl Default for ColorJitter {
    /// Returns the strength that many detectors use.
    fn default() -> Self {
        Self { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 }
    }
}

impl ColorJitter {
    pub(super) fn apply(self, sample: &mut Sample, dice: &mut SampleRng) {
        let mut order = [0, 1, 2, 3];
        dice.shuffle(&mut order);
        let mut factor = |by: f64| dice.uniform((1.0 - by).max(0.0), 1.0 + by);
        let factors = [factor(self.brightness), factor(self.contrast), factor(self.saturation)];
        let turn = dice.uniform(-self.hue, self.hue);
        let image = &mut sample.image;
        for change in order {
            match change {
                0 if self.brightness > 0.0 => adjust_brightness(image, factors[0]),
                1 if self.contrast > 0.0 => adjust_contrast(image, factors[1]),
                2 if self.saturation > 0.0 => adjust_saturation(image, factors[2]),
                3 if self.hue > 0.0 => adjust_hue(image, turn),
                _ => {}
            }
        }
    }

    pub(super) fn validate(self) -> Result<(), RangeError> {
        in_range("brightness", self.brightness, 0.0..=10.0)?;
        in_range("contrast", self.contrast, 0.0..=10.0)?;
        in_range("saturation", self.saturation, 0.0..=10.0)?;
        in_range("hue", self.hue, 0.0..=0.5)
    }
}

/// Multiplies every level.
fn adjust_brightness(image: &mut RgbImage, factor: f64) {
    let table = blend_table(0, factor);
    image.iter_mut().for_each(|level| *level = table[usize::from(*level)]);
}

/// Moves every level away from the image's mean grey, or towards it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn adjust_contrast(image: &mut RgbImage, factor: f64) {
    let pixels = image.as_raw().as_chunks::<3>().0;
    let sum: u64 = pixels.iter().map(|&pixel| u64::from(grey(pixel))).sum();
    let mean = (sum as f64 / pixels.len().max(1) as f64 + 0.5) as u8;
    let table = blend_table(mean, factor);
    image.iter_mut().for_each(|level| *level = table[usize::from(*level)]);
}

/// Moves every pixel away from its own grey, or towards it.
fn adjust_saturation(image: &mut RgbImage, factor: f64) {
    for pixel in image.as_chunks_mut::<3>().0 {
        let from = grey(*pixel);
        *pixel = pixel.map(|level| blend(from, level, factor));
    }
}

/// Turns the hue by a share of the whole circle, in Pillow's 8-bit HSV.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // whole steps, wrapping
fn adjust_hue(image: &mut RgbImage, turn: f64) {
    let steps = (turn * 255.0) as i32 as u8;
    for pixel in image.as_chunks_mut::<3>().0 {
        let [h, s, v] = to_hsv(*pixel);
        *pixel = to_rgb([h.wrapping_add(steps), s, v]);
    }
}

/// Returns the luma of ITU-R 601 in 16-bit fixed point.
#[allow(clippy::cast_possible_truncation)] // at most 255
fn grey([r, g, b]: [u8; 3]) -> u8 {
    let sum = u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471;
    ((sum + 0x8000) >> 16) as u8
}

fn blend_table(from: u8, factor: f64) -> [u8; 256] {
    let mut table = [0; 256];
    for (entry, level) in table.iter_mut().zip(0..=u8::MAX) {
        *entry = blend(from, level, factor);
    }
    table
}

/// `from` at factor 0, `level` at 1, beyond it above; in `f32`, cut off, not rounded.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
fn blend(from: u8, level: u8, factor: f64) -> u8 {
    let (from, level) = (f32::from(from), f32::from(level));
    (from + factor as f32 * (level - from)) as u8
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let saturation = range / f32::from(most);
    let share = |level: u8| f32::from(most - level) / range;
    let (rc, gc, bc) = (share(r), share(g), share(b));
    let hue = if r == most {
        bc - gc
    } else if g == most {
        2.0 + rc - bc
    } else {
        4.0 + gc - rc
    };
    let hue = (f64::from(hue) / 6.0 + 1.0) % 1.0;
    [(hue * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, most]
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
fn to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let hue = f32::from(h) * 6.0 / 255.0;
    let sector = hue.floor();
    let rest = hue - sector;
    let saturation = f32::from(s) / 255.0;
    let level = |share: f32| (f32::from(v) * share).round() as u8;
    let p = level(1.0 - saturation);
    let q = level(1.0 - saturation * rest);
    let t = level(1.0 - saturation * (1.0 - rest));
    match sector as u8 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> RgbImage {
        #[allow(clippy::cast_possible_truncation)] // wraps on purpose
        let bytes = (0..3 * 8).map(|i: u32| (i * i * 37 + i * 11) as u8).collect();
        RgbImage::from_raw(4, 2, bytes).unwrap()
    }

    /// The expected bytes were made with torchvision 0.29 on Pillow 13.
    #[test]
    fn equals_torchvision_on_pillow() {
        type Change = fn(&mut RgbImage, f64);
        let cases: [(Change, f64, [u8; 24]); 7] = [
            (adjust_brightness, 0.6, EXPECTED[0]),
            (adjust_brightness, 1.7, EXPECTED[1]),
            (adjust_contrast, 0.3, EXPECTED[2]),
            (adjust_contrast, 1.4, EXPECTED[3]),
            (adjust_saturation, 1.6, EXPECTED[4]),
            (adjust_hue, 0.1, EXPECTED[5]),
            (adjust_hue, -0.37, EXPECTED[6]),
        ];
        for (number, (change, factor, expected)) in cases.into_iter().enumerate() {
            let mut image = sample();
            change(&mut image, factor);
            assert_eq!(image.as_raw().as_slice(), expected, "case {number}");
        }
    }

    #[rustfmt::skip]
    const EXPECTED: [[u8; 24]; 7] = [
        [0, 28, 102, 66, 74, 127, 70, 58, 91, 14, 135, 147, 50, 151, 142, 25, 105, 76, 92, 152, 103, 98, 138, 68],
        [0, 81, 255, 187, 210, 255, 200, 166, 255, 40, 255, 255, 142, 255, 255, 71, 255, 217, 255, 255, 255, 255, 255, 193],
        [105, 119, 156, 138, 142, 168, 140, 134, 150, 112, 172, 178, 130, 180, 176, 117, 157, 143, 151, 181, 156, 154, 174, 139],
        [0, 7, 178, 94, 113, 236, 105, 77, 152, 0, 255, 255, 57, 255, 255, 0, 186, 119, 155, 255, 180, 169, 255, 99],
        [0, 48, 243, 98, 120, 255, 122, 90, 177, 0, 255, 255, 14, 255, 255, 0, 203, 126, 117, 255, 146, 144, 249, 64],
        [52, 0, 170, 156, 111, 212, 149, 98, 152, 24, 97, 246, 84, 171, 252, 42, 146, 176, 154, 254, 229, 115, 230, 131],
        [84, 170, 0, 146, 212, 111, 98, 152, 106, 246, 217, 24, 252, 199, 84, 176, 99, 42, 254, 154, 157, 230, 115, 188],
    ];
}
