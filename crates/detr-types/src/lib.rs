//! The vocabulary of the detr workspace: boxes with their format in the type, masks, detections, class
//! tables, image sizes, preprocessing, limits and settings out of their ranges, and the one way to
//! write a file.
//!
//! Architecture invariant: this crate knows neither tensors nor models; it never depends on Burn.

pub mod boxes;
pub mod classes;
mod detection;
pub mod env;
pub mod fs;
mod limits;
pub mod masks;
mod panoptic;
pub mod precision;
mod preprocess;
pub mod range;
mod resize;
mod size;
mod wording;
mod words;

pub use boxes::{Cxcywh, Xywh, Xyxy};
pub use classes::{Category, CategoryId, ClassTable, ClassTableError};
pub use detection::Detection;
pub use limits::Limits;
pub use masks::{Mask, Rle, SegmentationError};
pub use panoptic::{Panoptic, PanopticSegment};
pub use precision::{Precision, UnknownPrecision};
pub use preprocess::{PreprocessSpec, PreprocessSpecError};
pub use range::RangeError;
pub use resize::ResizeRule;
pub use size::ImageSize;
pub use wording::in_plain_words;
pub use words::{counted, nearest};
