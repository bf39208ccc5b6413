//! The road from pixels to named detections. A [`Detector`] detects in images, a [`DetectionStream`] does it
//! with any number of them. The predictor, validation in training and `detr eval` all go this way, so that
//! the same model gives the same detections everywhere.
//!
//! Nothing here prints, exits, chooses a backend or catches a panic.

mod detector;
mod error;
mod stream;
mod times;
mod upload;

pub use detector::{Detect, Detector, PanopticOptions, check_panoptic};
pub use error::{ImageFault, PredictError};
pub use stream::{DetectionStream, StreamItem, StreamOptions};
pub use times::StageTimes;
pub use upload::{PaddingRule, upload};
