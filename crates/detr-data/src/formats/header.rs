//! The header of an image, read without decoding the pixels: its size, and which way up it is.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use detr_types::{ImageSize, Limits};
use image::ImageDecoder;
use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;

use crate::decode::{DecodeOptions, ImageError, read_image};

/// The header of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageHeader {
    stored: ImageSize,
    orientation: Orientation,
}

impl ImageHeader {
    /// Reads the header of a file.
    ///
    /// # Errors
    /// The errors of [`read_image`], which is asked when the header alone does not tell.
    pub fn read(path: &Path, limits: &Limits) -> Result<Self, ImageError> {
        // Special files would block; `read_image` names what they are.
        let header =
            path.metadata().ok().filter(std::fs::Metadata::is_file).and_then(|_| quick(path));
        if let Some(header) = header
            && (1..=limits.pixels).contains(&header.stored.pixels())
        {
            return Ok(header);
        }
        let size = |apply_exif| {
            let image = read_image(path, &DecodeOptions { limits: *limits, apply_exif })?;
            Ok(ImageSize::new(image.height(), image.width()))
        };
        let stored = size(false)?;
        let turned = size(true)? != stored;
        let orientation = if turned { Orientation::Rotate90 } else { Orientation::NoTransforms };
        Ok(Self { stored, orientation })
    }

    /// Returns the size: as stored, or upright, as its EXIF orientation turns the image.
    #[must_use]
    pub fn size(&self, apply_exif: bool) -> ImageSize {
        use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
        let lies =
            matches!(self.orientation, Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH);
        match self.stored {
            ImageSize { height, width } if apply_exif && lies => ImageSize::new(width, height),
            stored => stored,
        }
    }

    /// Returns whether the EXIF orientation turns or mirrors the image.
    #[must_use]
    pub fn is_turned(&self) -> bool {
        self.orientation != Orientation::NoTransforms
    }
}

/// Reads the height and width as stored; EXIF orientation is not applied.
///
/// # Errors
/// The errors of [`ImageHeader::read`].
pub fn image_size(path: &Path, limits: &Limits) -> Result<ImageSize, ImageError> {
    ImageHeader::read(path, limits).map(|header| header.size(false))
}

fn quick(path: &Path) -> Option<ImageHeader> {
    let reader = || Some(BufReader::new(File::open(path).ok()?));
    let mut jpeg = JpegDecoder::new(reader()?);
    if jpeg.decode_headers().is_ok()
        && let Some((width, height)) = jpeg.dimensions()
    {
        let stored = ImageSize::new(u32::try_from(height).ok()?, u32::try_from(width).ok()?);
        let exif = jpeg.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
        return Some(ImageHeader {
            stored,
            orientation: exif.unwrap_or(Orientation::NoTransforms),
        });
    }
    let reader = image::ImageReader::new(reader()?).with_guessed_format().ok()?;
    let mut decoder = reader.into_decoder().ok()?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Some(ImageHeader { stored: ImageSize::new(height, width), orientation })
}
