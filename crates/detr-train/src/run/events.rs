//! The events of a run, and the listeners to them.

use std::path::Path;

use detr_eval::Metrics;
use detr_loss::LossName;
use detr_types::Detection;

use super::checkpoints::RejectedCheckpoint;
use super::progress::Progress;
use crate::step::{NonFinite, StepReport};

/// A listener to a run. Closures that take an [`Event`] are listeners, and so is a list of listeners, which hear
/// everything in the order of the list.
pub trait Watch {
    /// Takes note of something that happened.
    fn event(&mut self, event: Event<'_>);

    /// Takes note of a boundary between two parts of the run.
    fn phase(&mut self, _phase: Phase) {}
}

impl<F: FnMut(Event<'_>)> Watch for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}

impl Watch for Vec<&mut dyn Watch> {
    fn event(&mut self, event: Event<'_>) {
        for watcher in self {
            watcher.event(event);
        }
    }

    fn phase(&mut self, phase: Phase) {
        for watcher in self {
            watcher.phase(phase);
        }
    }
}

/// A boundary between two parts of a run. Epochs are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The run begins, or goes on after a checkpoint.
    RunBegins {
        /// The first epoch, of which some batches may be done.
        epoch: u64,
        /// Epochs in all.
        epochs: u64,
    },
    /// The steps of an epoch begin.
    TrainingBegins {
        /// The epoch.
        epoch: u64,
        /// Batches of the epoch, including those that are done.
        batches: usize,
    },
    /// The steps of an epoch are done.
    TrainingEnds {
        /// The epoch.
        epoch: u64,
    },
    /// A validation begins. It ends with [`Event::Validated`].
    ValidationBegins {
        /// The epoch that it follows.
        epoch: u64,
        /// Batches of the validation.
        batches: usize,
    },
    /// An epoch is done, with its validation if it had one.
    EpochEnds {
        /// The epoch.
        epoch: u64,
    },
    /// The run is over, whatever the reason.
    RunEnds,
}

/// Something that happened in a run.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The run goes on from a checkpoint.
    Resumed {
        /// The position of the run.
        at: &'a Progress,
        /// Newer checkpoints that cannot be used.
        passed: &'a [RejectedCheckpoint],
    },
    /// A step begins.
    Begins {
        /// The number of the step, from 1.
        step: u64,
        /// Number and size of its images, for messages.
        batch: &'a str,
    },
    /// A step changed the model.
    Step(Step<'a>),
    /// A step changed nothing, because a number was not finite.
    Skipped {
        /// The position of the run.
        at: &'a Progress,
        /// The number that was not finite.
        reason: &'a NonFinite,
        /// Ids of the images of the batch.
        images: &'a [i64],
    },
    /// A step in f16 whose gradients were too large lowered the loss scale and changed nothing else.
    Overflowed {
        /// The position of the run.
        at: &'a Progress,
        /// The scale from now on.
        scale: f64,
    },
    /// A validation goes on: the number of images that are done, and of all.
    Validating(usize, usize),
    /// A validation is done.
    Validated {
        /// The position of the run.
        at: &'a Progress,
        /// The metrics of the moving average, or of the model if there is no average.
        metrics: &'a Metrics,
        /// The metrics of the masks of the same, if the model makes masks.
        masks: Option<&'a Metrics>,
        /// The metrics of the model itself if there is an average.
        without_ema: Option<&'a Metrics>,
        /// Whether AP, that of masks if there are any, is the highest so far.
        best: bool,
        /// The detections on some images, by the ids of these.
        found: &'a [(i64, Vec<Detection>)],
        /// Images that cannot be read, which count as images without detections.
        bad_images: usize,
    },
    /// A checkpoint was written to this folder.
    Saved(&'a Path),
    /// A checkpoint or a model could not be written, for this reason; the run goes on.
    NotSaved(&'a str),
}

/// The numbers of a step that changed the model.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The position of the run.
    pub at: &'a Progress,
    /// Steps in all.
    pub steps: u64,
    /// Losses and the norm of the gradients.
    pub report: &'a StepReport,
    /// Learning rate of the parameters in no group.
    pub lr: f64,
    /// Duration of the step in seconds, including the wait for data.
    pub seconds: f64,
    /// Seconds of waiting for data.
    pub waited: f64,
    /// Ids of the images of the batch.
    pub images: &'a [i64],
    /// Images that cannot be read and were replaced, since the process began.
    pub bad_images: usize,
}

/// Why a run ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All epochs are done.
    Finished,
    /// AP did not improve for as long as `train.early_stopping` allows.
    EarlyStopped,
    /// AP is as high as `run.stop_at_ap` asks for.
    Reached,
    /// The run was asked to stop.
    Interrupted,
}

/// Returns the losses of a report by the names that logs have.
pub fn named(losses: &[(LossName, f32)]) -> impl Iterator<Item = (String, f32)> + '_ {
    losses.iter().map(|(name, value)| (name.to_string(), *value))
}
