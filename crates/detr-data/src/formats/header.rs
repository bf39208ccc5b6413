//! The size of an image from its header, without decoding the pixels.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use detr_types::{ImageSize, Limits};
use zune_jpeg::JpegDecoder;

use crate::decode::{DecodeOptions, ImageError, read_image};

/// Height and width as stored; EXIF orientation is not applied.
///
/// # Errors
/// Those of [`read_image`], which is asked when the header alone does not tell.
pub fn image_size(path: &Path, limits: &Limits) -> Result<ImageSize, ImageError> {
    // Special files would block; `read_image` names what they are.
    let size = path.metadata().ok().filter(std::fs::Metadata::is_file).and_then(|_| quick(path));
    if let Some(size) = size.filter(|size| (1..=limits.pixels).contains(&size.pixels())) {
        return Ok(size);
    }
    let options = DecodeOptions { limits: *limits, ..DecodeOptions::default() };
    let image = read_image(path, &options)?;
    Ok(ImageSize::new(image.height(), image.width()))
}

fn quick(path: &Path) -> Option<ImageSize> {
    let reader = || Some(BufReader::new(File::open(path).ok()?));
    let mut jpeg = JpegDecoder::new(reader()?);
    if jpeg.decode_headers().is_ok()
        && let Some((width, height)) = jpeg.dimensions()
    {
        return Some(ImageSize::new(u32::try_from(height).ok()?, u32::try_from(width).ok()?));
    }
    let guessed = image::ImageReader::new(reader()?).with_guessed_format().ok()?;
    let (width, height) = guessed.into_dimensions().ok()?;
    Some(ImageSize::new(height, width))
}
