//! Images on the host: decoding, resizing, normalisation and padded batches.
//!
//! The pixels follow the reference implementation's preprocessing, which is Pillow's decoding and
//! resizing and `torchvision`'s normalisation; each module states where it differs.
//!
//! Architecture invariant: this crate never depends on Burn. What it hands over are plain vectors
//! with their shapes; the crates above turn them into tensors.

pub mod batch;
pub mod decode;
pub mod resize;

pub use batch::{HostBatch, Prepared, normalize, prepare, resize_to_spec};
pub use decode::{DecodeOptions, ImageError, decode_image, read_image};
pub use image::RgbImage;
pub use resize::resize_bilinear;
