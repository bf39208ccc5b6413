//! The pixels of a decoded image: their number, their way up, and their conversion to 8-bit RGB.

use detr_types::{ImageSize, Limits};
use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use super::error::ImageError;

/// Refuses sizes from a header before memory is taken for them.
pub(super) fn check_pixels(
    size: ImageSize,
    format: &'static str,
    limits: &Limits,
) -> Result<(), ImageError> {
    if size.pixels() == 0 {
        return Err(ImageError::Corrupt {
            format,
            reason: format!("its header says {size} pixels"),
        });
    }
    if size.pixels() > limits.pixels {
        return Err(ImageError::TooManyPixels { size, limit: limits.pixels });
    }
    Ok(())
}

/// Turns an image upright.
pub(super) fn orient(image: RgbImage, orientation: Orientation) -> RgbImage {
    if orientation == Orientation::NoTransforms {
        return image;
    }
    let mut image = DynamicImage::ImageRgb8(image);
    image.apply_orientation(orientation);
    image.into_rgb8()
}

/// Converts any pixels to 8-bit RGB, by the rules of the module above.
pub(super) fn into_rgb(image: DynamicImage) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let pixels: Vec<u8> = match image {
        DynamicImage::ImageRgb8(image) => return image,
        DynamicImage::ImageLuma8(image) => image.iter().flat_map(|&v| [v; 3]).collect(),
        DynamicImage::ImageLumaA8(image) => image.pixels().flat_map(|p| [p.0[0]; 3]).collect(),
        DynamicImage::ImageRgba8(image) => {
            image.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]]).collect()
        }
        DynamicImage::ImageLuma16(image) => image.iter().flat_map(|&v| [narrow(v); 3]).collect(),
        DynamicImage::ImageLumaA16(image) => {
            image.pixels().flat_map(|p| [narrow(p.0[0]); 3]).collect()
        }
        DynamicImage::ImageRgb16(image) => image.iter().map(|&v| narrow(v)).collect(),
        DynamicImage::ImageRgba16(image) => {
            image.pixels().flat_map(|p| [narrow(p.0[0]), narrow(p.0[1]), narrow(p.0[2])]).collect()
        }
        // None of the enabled formats gives floating point samples.
        other => return other.into_rgb8(),
    };
    // One value per channel and pixel was collected, so the size always fits.
    RgbImage::from_raw(width, height, pixels).unwrap_or_default()
}

/// 16 bits to 8, rounded to the nearest level.
#[allow(clippy::cast_possible_truncation)] // at most 255
fn narrow(value: u16) -> u8 {
    ((u32::from(value) * 255 + 32_767) / 65_535) as u8
}
