//! The position of a run and what it remembers, which is a part of every checkpoint.

use serde::{Deserialize, Serialize};

use crate::step::LossScale;

/// The position of a run, and what it remembers of its past.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps of the optimizer that are done, including those that were skipped.
    pub step: u64,
    /// Epochs that are done.
    pub epoch: u64,
    /// Batches of the current epoch that are done.
    pub batch: usize,
    /// Batches of an epoch; the order of the images depends on it.
    pub batches_per_epoch: usize,
    /// Batches that make one step, over all devices; the learning rate belongs to it.
    pub batches_per_step: usize,
    /// Updates that the moving average has seen.
    pub ema_updates: u64,
    /// The loss scale of f16.
    #[serde(default)]
    pub loss_scale: Option<LossScale>,
    /// Steps that were skipped since the run began.
    pub skipped: u64,
    /// The results of all validations, in order.
    pub validations: Vec<Validation>,
}

/// The result of a validation, as far as a run remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// Number of the epoch that it followed, from 1.
    pub epoch: u64,
    /// Steps that were done.
    pub step: u64,
    /// COCO's AP: of masks if the model makes them, else of boxes.
    pub ap: f64,
    /// COCO's AP50 of the same.
    pub ap50: f64,
}

impl Progress {
    /// Returns the validation with the highest AP, the first if several share it.
    #[must_use]
    pub fn best(&self) -> Option<&Validation> {
        self.validations.iter().reduce(|best, one| if one.ap > best.ap { one } else { best })
    }
}
