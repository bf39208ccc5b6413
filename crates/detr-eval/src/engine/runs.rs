//! Run lengths of masks, as `hotcoco` takes them.

use detr_types::ImageSize;

use crate::error::MaskError;

/// Refuses run lengths that do not add up to the pixels of the mask.
pub(crate) fn check(counts: &[u32], size: ImageSize) -> Result<(), MaskError> {
    checked(hotcoco::mask::check_counts(counts, size.height, size.width))
}

/// Refuses a text that is no text form of run lengths, or whose run lengths exceed the mask.
pub(crate) fn check_text(counts: &str, size: ImageSize) -> Result<(), MaskError> {
    checked(hotcoco::mask::area_from_string(counts, size.height, size.width))
}

fn checked<T>(result: Result<T, hotcoco::Error>) -> Result<(), MaskError> {
    result.map(drop).map_err(|error| MaskError::Runs(error.to_string()))
}
