//! Masks of objects, as pixels and as COCO's run-length codes.
//!
//! Mirrors the C part of `pycocotools` (`maskApi.c`) number for number, because areas, boxes and overlaps of COCO are
//! defined by it. Sizes are bounded, which they are not there.

mod error;
mod mask;
mod rle;

pub use error::SegmentationError;
pub use mask::Mask;
pub use rle::{Rle, overlay};
