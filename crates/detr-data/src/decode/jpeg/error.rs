//! The error of a damaged JPEG.

use crate::decode::error::{ImageError, one_line};

/// The name of the format in messages.
pub(super) const NAME: &str = "JPEG";

/// Returns the error of a file that contradicts the standard.
pub(super) fn corrupt(reason: &str) -> ImageError {
    ImageError::Corrupt { format: NAME, reason: one_line(reason) }
}
