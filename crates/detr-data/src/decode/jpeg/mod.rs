//! JPEG through zune-jpeg in strict mode, with libjpeg's reading of the markers.
//!
//! zune-jpeg decodes the coefficients; its levels differ from libjpeg's by a few, most where chroma
//! is subsampled. Four things are decided here instead: whether the file is complete (zune accepts
//! a missing end-of-image marker), what colours the components are (zune refuses RGB files that
//! carry an Adobe marker), how CMYK becomes RGB, and chroma at the edges. So the file's markers are
//! walked first, and zune gets a stream that holds only what decoding needs.

mod colour;
mod edges;
mod error;
mod markers;

use image::RgbImage;
use image::metadata::Orientation;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::error::ImageError;
use super::options::DecodeOptions;
use super::pixels::orient;
use error::corrupt;
use markers::{Colour, Markers};

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<RgbImage, ImageError> {
    let markers = markers::walk(bytes, &options.limits)?;
    let exif = markers.exif.filter(|_| options.apply_exif);
    let orientation = exif.and_then(Orientation::from_exif_chunk);
    let size = markers.size;
    let pixels = decode_pixels(&markers)?;
    let image = RgbImage::from_raw(size.width, size.height, pixels)
        .ok_or_else(|| corrupt("the decoded size differs from the header"))?;
    Ok(orient(image, orientation.unwrap_or(Orientation::NoTransforms)))
}

/// Decodes the pixels to row-major RGB.
fn decode_pixels(markers: &Markers<'_>) -> Result<Vec<u8>, ImageError> {
    let strict = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&markers.stream), strict);
    let failed = |error: &dyn std::fmt::Display| corrupt(&error.to_string());
    decoder.decode_headers().map_err(|error| failed(&error))?;
    let is_rgb_by_id = decoder.input_colorspace() == Some(ColorSpace::RGB);
    let output = match markers.colour {
        // Equal input and output spaces give the stored components.
        Colour::Rgb if !is_rgb_by_id => ColorSpace::YCbCr,
        Colour::Ycc if !is_rgb_by_id && markers.edges.is_some() => ColorSpace::YCbCr,
        Colour::Grey | Colour::Rgb | Colour::Ycc => ColorSpace::RGB,
        Colour::Cmyk | Colour::Ycck => ColorSpace::CMYK,
    };
    decoder.set_options(strict.jpeg_set_out_colorspace(output));
    let mut pixels = decoder.decode().map_err(|error| failed(&error))?;
    match markers.colour {
        Colour::Grey | Colour::Rgb => {}
        Colour::Ycc => {
            if let Some(edges) = markers.edges {
                edges.repair(&mut pixels, markers.size.width);
            }
            if is_rgb_by_id || markers.edges.is_some() {
                colour::ycc_to_rgb(&mut pixels);
            }
        }
        Colour::Cmyk => pixels = colour::cmyk_to_rgb(&pixels),
        Colour::Ycck => pixels = colour::ycck_to_rgb(&pixels),
    }
    Ok(pixels)
}
