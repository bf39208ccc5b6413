//! Object detection with DETR models, for use in other programs.
//!
//! ```no_run
//! use detr::{DecodeOptions, PredictOptions, Predictor, read_image};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let predictor = Predictor::open("detr-r50-e632da11.pth")?
//!     .with_options(PredictOptions { threshold: 0.8, ..PredictOptions::default() })?;
//! let image = read_image("street.jpg".as_ref(), &DecodeOptions::default())?;
//! for detection in predictor.predict(&image)? {
//!     let b = detection.bbox;
//!     println!("{} {:.2} at {:?}", detection.name, detection.score, (b.x1, b.y1, b.x2, b.y2));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Predictor::open`] takes whatever [`Checkpoint::open`] reads and runs on the best backend that
//! works here. To choose the backend or its precision, go step by step: [`backend::select`],
//! [`Checkpoint::open`], [`Predictor::new`]. A predictor is `Send + Sync`, so threads can share it;
//! [`Predictor::predict_batch`] runs several images at once.
//!
//! The backends compiled in are chosen by features, named as Burn names them: `flex` (CPU) and
//! `wgpu` by default, `cuda`, `vulkan`, `metal`, `ndarray`.
//!
//! Below the predictor, [`model`] has the architectures, [`weights`] the file formats and
//! [`postprocess`] the way from a model's output to boxes. [`data`] reads, checks and augments data
//! sets, [`eval`] has COCO's metrics, [`loss`] the matcher and the losses, [`track`] the records of a
//! training run. With the feature `train`, the module of that name has a step of training and the loop
//! around it.
//!
//! Nothing here prints, exits or keeps global state.

pub use detr_data::{
    DecodeOptions, HostBatch, ImageError, PreparedImage, RgbImage, decode_image, prepare,
    read_image,
};
pub use detr_infer::backend::{self, Backend, BackendError, Precision, SelectedDevice};
pub use detr_infer::{
    DetectionStream, ImageFault, PredictError, PredictOptions, Predictor, PredictorError,
    StageTimes, StreamItem, StreamOptions, draw, hub, palette, writers,
};
pub use detr_model::weights::{Checkpoint, WeightsError};
pub use detr_model::{ConfigError, DeviceError, Model, ModelConfig, postprocess, weights};
pub use detr_types::{
    Category, ClassTable, Cxcywh, Detection, ImageSize, Limits, PreprocessSpec, RangeError,
    ResizeRule, Xywh, Xyxy,
};

/// Data sets: everything of the crate `detr-data`.
pub mod data {
    pub use detr_data::*;
}

/// From images to named detections: everything of the crate `detr-detect`.
pub mod detect {
    pub use detr_detect::*;
}

/// COCO's metrics: everything of the crate `detr-eval`.
pub mod eval {
    pub use detr_eval::*;
}

/// Records of training runs, and the trait of trackers: everything of the crate `detr-track`.
pub mod track {
    pub use detr_track::*;
}

/// Training: everything of the crate `detr-train`. With the feature `train`.
#[cfg(feature = "train")]
pub mod train {
    pub use detr_train::*;
}

/// Matching and losses: everything of the crate `detr-loss`.
pub mod loss {
    pub use detr_loss::*;
}

/// Architectures: everything of the crate `detr-model`.
pub mod model {
    pub use detr_model::*;
}
