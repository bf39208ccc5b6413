//! Data on the host: images (decoding, resizing, normalisation, padded batches), and data sets
//! (annotation formats, a doctor, augmentation, a loader, generated shapes).
//!
//! The pixels follow the reference implementation's preprocessing, which is Pillow's decoding and
//! resizing and `torchvision`'s normalisation; each module states where it differs.
//!
//! Architecture invariant: this crate never depends on Burn. What it hands over are plain vectors
//! with their shapes; the crates above turn them into tensors.

pub mod batch;
pub mod dataset;
pub mod decode;
pub mod doctor;
pub mod formats;
pub mod loader;
pub mod preview;
mod read_ahead;
pub mod resize;
pub mod segmentation;
pub mod synth;
pub mod target;
pub mod transforms;

pub use batch::{HostBatch, PreparedImage, normalize, prepare, resize_to_spec};
pub use dataset::{Category, Dataset, ImageRecord, ObjectRecord, ReadReport};
pub use decode::{DecodeOptions, ImageError, decode_image, read_image};
pub use image::RgbImage;
pub use loader::{
    Batch, Batches, CacheMode, DatasetSource, Loader, LoaderConfig, LoaderError, SampleError, Shard,
};
pub use preview::{PreviewStyle, preview};
pub use read_ahead::{ReadImage, ReadImages, read_ahead};
pub use resize::{Region, resize_bilinear, resize_bilinear_region};
pub use segmentation::{Mask, Rle, Segmentation};
pub use target::{Target, TargetCounts, TargetRules};
pub use transforms::{Augmentation, Purpose, Sample, SampleRng, Transform};
