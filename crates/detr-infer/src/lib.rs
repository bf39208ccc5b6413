//! Object detection in pictures with DETR models: the predictor, sources of images, drawing, and
//! writers of results. The binaries `detr-infer` and `detr predict` are thin shells around it.
//!
//! Nothing here prints, exits or keeps global state, except that [`cli`], which is the binaries'
//! common part, prints, and that [`verdicts`] of the self-test are kept in the user's cache.

pub mod backend;
pub mod cli;
pub mod draw;
pub mod hub;
pub mod palette;
mod predictor;
pub mod self_test;
pub mod sources;
mod text;
pub mod verdicts;
pub mod writers;

pub use detr_detect::{
    Detect, DetectionStream, Detector, ImageFault, PanopticOptions, PredictError, StageTimes,
    StreamItem, StreamOptions, check_panoptic,
};
pub use predictor::{PredictOptions, Predictor, PredictorError};
