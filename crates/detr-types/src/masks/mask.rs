//! Masks as pixels.

use crate::ImageSize;

/// The pixels that belong to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// The height and width in pixels.
    pub size: ImageSize,
    /// 1 inside and 0 outside, row-major `[H, W]`.
    pub bits: Vec<u8>,
}

impl Mask {
    /// Returns the number of pixels inside.
    #[must_use]
    pub fn area(&self) -> u64 {
        self.bits.iter().map(|&bit| u64::from(bit != 0)).sum()
    }
}
