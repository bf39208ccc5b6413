//! The options of decoding.

use detr_types::Limits;

/// The options of decoding an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// The limits of one image. The pixel limit is checked on the header, before memory for the pixels
    /// is taken.
    pub limits: Limits,
    /// Whether the image is turned upright by its EXIF orientation. It is not by default, because annotations and the
    /// reference's numbers refer to the pixels as stored. Malformed EXIF data is ignored.
    pub apply_exif: bool,
}
