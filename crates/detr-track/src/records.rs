//! The records of a run, as the training loop reports them and sinks take them.

use std::path::PathBuf;

use detr_eval::{Metrics, Summary};
use detr_types::Detection;
use serde::Serialize;

/// The names of COCO's twelve numbers in the order of [`Summary::values`], as `metrics.jsonl` has them.
pub const METRIC_NAMES: [&str; 12] = [
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar_few",
    "ar_some",
    "ar",
    "ar_small",
    "ar_medium",
    "ar_large",
];

/// A step of the optimizer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepRecord {
    /// Steps done, this one included.
    pub step: u64,
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// The weighted sum of the losses.
    pub loss: f64,
    /// Learning rate of the parameters that are in no group.
    pub lr: f64,
    /// L2 norm of all gradients, before clipping.
    pub grad_norm: f64,
    /// Duration of the step in seconds, waiting included.
    pub seconds: f64,
    /// Seconds of the step that were spent waiting for data.
    pub waited: f64,
    /// Losses by name, before their weights.
    pub losses: Vec<(String, f64)>,
    /// Ids of the images of the batch.
    pub images: Vec<i64>,
    /// Images that were replaced since the start of the process, because they cannot be read.
    pub bad_images: usize,
}

/// A validation with everything that was measured.
#[derive(Clone, Debug)]
pub struct ValidationRecord {
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u64,
    /// The result: of the moving average if there is one, else of the model.
    pub metrics: Metrics,
    /// COCO's twelve numbers of the masks, of the same model; `None` if it makes none.
    pub masks: Option<Summary>,
    /// The result of the model itself, if there is a moving average.
    pub without_ema: Option<Metrics>,
    /// Whether this is the best validation so far.
    pub best: bool,
    /// Images that cannot be read, and so count as images without detections.
    pub bad_images: usize,
}

/// The numbers of a validation, as `metrics.jsonl` keeps them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValidationSummary {
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u64,
    /// COCO's twelve numbers: of the moving average if there is one, else of the model.
    pub metrics: Summary,
    /// The same of its masks, if it makes masks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masks: Option<Summary>,
    /// The numbers of the model itself, if there is a moving average.
    pub without_ema: Option<Summary>,
    /// Whether this was the best validation when it was made.
    pub best: bool,
}

impl ValidationRecord {
    /// Returns the numbers without classes and curves.
    #[must_use]
    pub fn summary(&self) -> ValidationSummary {
        let Self { step, epoch, masks, best, .. } = *self;
        let without_ema = self.without_ema.as_ref().map(|metrics| metrics.summary);
        let metrics = self.metrics.summary;
        ValidationSummary { step, epoch, metrics, masks, without_ema, best }
    }
}

/// An image of a validation, with detections and annotations to be shown side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Id of the image in its data set.
    pub image_id: i64,
    /// File of the image.
    pub file: PathBuf,
    /// Detections of the model, in pixels of the image.
    pub detections: Vec<Detection>,
    /// The annotated objects without crowds, in pixels of the image and with a score of 1.
    pub truth: Vec<Detection>,
}

/// Something that happened beside the steps and validations.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The run goes on from a checkpoint.
    Resumed {
        /// Steps done.
        step: u64,
    },
    /// A step changed no parameter, because its numbers were not finite.
    Skipped {
        /// Steps done, this one included.
        step: u64,
        /// Number of the epoch, from 1.
        epoch: u64,
        /// The name of the number that was not finite.
        reason: String,
        /// Ids of the images of the batch.
        images: Vec<i64>,
    },
    /// A step in f16 changed no parameter, because its gradients were too large.
    Overflowed {
        /// Steps done, this one included.
        step: u64,
        /// The factor on the loss from now on, which is lower than before.
        loss_scale: f64,
    },
    /// Images of a validation were evaluated. Comes often, and is recorded by no file.
    ValidationProgress {
        /// Images done.
        done: usize,
        /// Images in total.
        total: usize,
    },
    /// A checkpoint was written.
    Saved {
        /// Its folder.
        path: PathBuf,
    },
    /// A checkpoint or a model could not be written, and the run goes on.
    NotSaved {
        /// The reason.
        reason: String,
    },
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// Training is done.
    Finished,
    /// The run was asked to stop, and can be resumed.
    Interrupted,
    /// The run cannot go on.
    Failed {
        /// The error.
        reason: String,
    },
}
