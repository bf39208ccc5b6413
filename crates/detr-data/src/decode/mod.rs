//! Image bytes to 8-bit RGB pixels, as Pillow's `Image.open(..).convert("RGB")` gives them.
//!
//! The format is found by the first bytes, never by the file's name. JPEG goes through zune-jpeg
//! in strict mode, because the `image` crate fills the missing part of a truncated JPEG with grey
//! and reports nothing; PNG, BMP, WebP and PNM go through `image`.
//!
//! The treatment of pixels that are not 8-bit RGB:
//! - greyscale is replicated to the three channels, a palette is expanded;
//! - 16-bit samples become `(v * 255 + 32767) / 65535` (of colour Pillow keeps the high byte, at
//!   most one level away; its `convert("RGB")` of 16-bit greyscale is not followed, because it
//!   turns everything above 255 white);
//! - alpha is dropped and the stored colour kept, nothing is blended;
//! - CMYK and YCCK JPEGs are read as inverted (Adobe's convention, which Pillow assumes too) and
//!   become `k - c * k / 255` without a colour profile;
//! - colour profiles and gamma are ignored;
//! - EXIF orientation is ignored, as the reference does, unless [`DecodeOptions::apply_exif`];
//! - of an animation the first frame is taken.
//!
//! This is not a general image library: GIF, TIFF, AVIF and so on are refused by name.

mod error;
mod jpeg;
mod options;
mod pixels;
mod sniff;

use std::fs::{self, File, Metadata};
use std::io::{Cursor, Read};
use std::path::Path;

use detr_types::ImageSize;
use image::codecs::bmp::BmpDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::pnm::PnmDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, RgbImage};

pub use error::ImageError;
pub use options::DecodeOptions;
use pixels::{check_pixels, into_rgb, orient};
use sniff::{ContentType, Format};

/// Decodes an image that is in memory.
///
/// # Errors
/// [`ImageError`] without a path: the caller knows where the bytes came from.
pub fn decode_image(bytes: &[u8], options: &DecodeOptions) -> Result<RgbImage, ImageError> {
    let length = bytes.len() as u64;
    if length > options.limits.file_bytes {
        return Err(ImageError::TooLarge { bytes: length, limit: options.limits.file_bytes });
    }
    match sniff::sniff(bytes) {
        ContentType::Empty => Err(ImageError::Empty),
        ContentType::Unsupported(found) => Err(ImageError::UnsupportedFormat { found }),
        ContentType::NotAnImage(looks_like) => Err(ImageError::NotAnImage { looks_like }),
        ContentType::Readable(format) => decode_format(format, bytes, options),
    }
}

/// Reads and decodes an image file. Only regular files are opened: a named pipe would block and a
/// device would never end. At most [`detr_types::Limits::file_bytes`] are read.
///
/// # Errors
/// [`ImageError::At`], which carries the path and the reason.
pub fn read_image(path: &Path, options: &DecodeOptions) -> Result<RgbImage, ImageError> {
    read_bytes(path, options.limits.file_bytes)
        .and_then(|bytes| decode_image(&bytes, options))
        .map_err(|error| ImageError::At { path: path.to_owned(), error: Box::new(error) })
}

/// Reads the bytes of an image file, under the rules of [`read_image`].
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, ImageError> {
    read_bytes(path, limit)
        .map_err(|error| ImageError::At { path: path.to_owned(), error: Box::new(error) })
}

fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, ImageError> {
    let io = |error| ImageError::Io { error };
    // The file is checked before opening, because opening a named pipe waits for its writer; and
    // once more after it, because the name may have been given to something else in between.
    check_regular(&fs::metadata(path).map_err(io)?)?;
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    check_regular(&metadata)?;
    if metadata.len() > limit {
        return Err(ImageError::TooLarge { bytes: metadata.len(), limit });
    }
    let mut bytes = Vec::new();
    let expected = usize::try_from(metadata.len()).unwrap_or(usize::MAX).saturating_add(1);
    bytes.try_reserve_exact(expected).map_err(|error| io(error.into()))?;
    // The file may grow while it is read.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit {
        return Err(ImageError::TooLarge { bytes: bytes.len() as u64, limit });
    }
    Ok(bytes)
}

fn check_regular(metadata: &Metadata) -> Result<(), ImageError> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(ImageError::NotARegularFile { what: describe(metadata) })
}

#[cfg(unix)]
fn describe(metadata: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "a special file"
    }
}

#[cfg(not(unix))]
fn describe(metadata: &Metadata) -> &'static str {
    if metadata.is_dir() { "a directory" } else { "a special file" }
}

fn decode_format(
    format: Format,
    bytes: &[u8],
    options: &DecodeOptions,
) -> Result<RgbImage, ImageError> {
    let cursor = Cursor::new(bytes);
    let failed = |error| error::from_image(format.name(), &error);
    match format {
        Format::Jpeg => jpeg::decode(bytes, options),
        Format::Png => {
            let decoder = PngDecoder::with_limits(cursor, memory(options)).map_err(failed)?;
            decode_with(decoder, format, options)
        }
        Format::Bmp => decode_with(BmpDecoder::new(cursor).map_err(failed)?, format, options),
        Format::WebP => decode_with(WebPDecoder::new(cursor).map_err(failed)?, format, options),
        Format::Pnm => decode_with(PnmDecoder::new(cursor).map_err(failed)?, format, options),
    }
}

/// `image`'s own bound on memory: the widest pixel it makes (16-bit RGBA) for every pixel allowed,
/// and room for chunks and rows.
fn memory(options: &DecodeOptions) -> image::Limits {
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(options.limits.pixels.saturating_mul(8).saturating_add(64 << 20));
    limits
}

fn decode_with<D: ImageDecoder>(
    mut decoder: D,
    format: Format,
    options: &DecodeOptions,
) -> Result<RgbImage, ImageError> {
    let failed = |error| error::from_image(format.name(), &error);
    let (width, height) = decoder.dimensions();
    check_pixels(ImageSize::new(height, width), format.name(), &options.limits)?;
    decoder.set_limits(memory(options)).map_err(failed)?;
    let mut orientation = Orientation::NoTransforms;
    if options.apply_exif {
        orientation = decoder.orientation().unwrap_or(orientation);
    }
    let image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    Ok(orient(into_rgb(image), orientation))
}

#[cfg(test)]
mod tests;
