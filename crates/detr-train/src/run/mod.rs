//! A run: what it needs, what it tells while it goes on, and how it ends. The loop is in [`train_loop`],
//! on Burn's `SupervisedTraining`; it prints nothing and writes nothing but checkpoints, the model and a
//! dump of what diverged.

mod checkpointing;
mod checkpoints;
mod divergence;
mod micro_batch;
mod rank_workers;
mod start;
mod train_loop;
mod truth;
mod validate;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Device;
use burn_optim::AdamWConfig;
use burn_train::metric::store::{Aggregate, Direction, Split};
use burn_train::renderer::MetricsRenderer;
use burn_train::{
    Interrupter, Learner, MetricEarlyStoppingStrategy, StoppingCondition, SupervisedTraining,
    TrainingStrategy,
};
use detr_data::{Loader, LoaderError};
use detr_eval::{GroundTruth, Metrics};
use detr_loss::{LossName, TargetError};
use detr_model::weights::WeightsError;
use detr_model::{Model, ModelConfig};
use detr_types::{ClassTable, Detection, PreprocessSpec};
use serde::{Deserialize, Serialize};

use crate::burn::{Batches, Learned, Number, Numbers, Values};
use crate::settings::TrainConfig;
use crate::step::{GroupsError, LossScale, NonFinite, StateError, StepError, StepReport};
pub use checkpoints::{Checkpoints, Found, Passed, check as check_checkpoint};
pub use micro_batch::micro_batch;
pub use start::{StartError, Started, start};
use train_loop::{Course, Loop, number};
pub use truth::ground_truth;
pub use validate::{ValidateError, Watched, in_order, upload, validate};

/// What a run needs beside its settings.
pub struct Parts {
    /// Architecture, with the head for the classes.
    pub model: ModelConfig,
    /// The device, with autodiff.
    pub device: Device,
    /// Further devices, with autodiff, that share every step; batches are of each device.
    pub others: Vec<Device>,
    /// What the labels mean.
    pub classes: ClassTable,
    /// Batches to learn from.
    pub loader: Arc<Loader>,
    /// Images to validate on, and what is on them.
    pub validation: Option<(Arc<Loader>, Arc<GroundTruth>)>,
    /// How images become input of the model that comes out.
    pub preprocess: PreprocessSpec,
    /// Where the run is kept.
    pub folder: PathBuf,
}

impl Parts {
    /// Steps of the optimizer in an epoch, each on so many batches of every device.
    #[must_use]
    pub fn steps_per_epoch(&self, accumulate: usize) -> u64 {
        let (batches, per_step) =
            (self.loader.batches_per_epoch(), self.batches_per_step(accumulate));
        (batches / per_step + usize::from(batches % per_step >= self.ranks())) as u64
    }

    /// How many devices train.
    #[must_use]
    pub fn ranks(&self) -> usize {
        1 + self.others.len()
    }

    /// Batches that make one step together, so many of every device.
    #[must_use]
    pub fn batches_per_step(&self, accumulate: usize) -> usize {
        self.ranks() * accumulate
    }
}

/// How a run is watched and stopped.
pub struct Hooks {
    /// Stops the run, with a checkpoint.
    pub interrupter: Interrupter,
    /// Shows numbers as they come, on a screen for instance.
    pub renderer: Box<dyn MetricsRenderer>,
    /// Hears everything.
    pub observer: Box<dyn FnMut(Event<'_>)>,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// The run goes on from a checkpoint; newer ones did not count.
    Resumed {
        /// Where it is.
        at: &'a Progress,
        /// What was passed over.
        passed: &'a [Passed],
    },
    /// A step begins.
    Begins {
        /// Its number.
        step: u64,
        /// Number and size of its images, for messages.
        batch: &'a str,
    },
    /// A step is done.
    Step(Step<'a>),
    /// A step that changed nothing.
    Skipped {
        /// Where the run is.
        at: &'a Progress,
        /// Why.
        reason: &'a NonFinite,
        /// Images of the batch.
        images: &'a [i64],
    },
    /// A step in f16 whose gradients were too large: the loss scale is lower now.
    Overflowed {
        /// Where the run is.
        at: &'a Progress,
        /// The scale from now on.
        scale: f64,
    },
    /// Images of the validation that are done, of so many.
    Validating(usize, usize),
    /// A validation.
    Validated {
        /// Where the run is.
        at: &'a Progress,
        /// The result: of the average, where there is one.
        metrics: &'a Metrics,
        /// The result of the model itself where there is an average.
        without_ema: Option<&'a Metrics>,
        /// Whether it is the best so far.
        best: bool,
        /// What was found on some images, by their ids.
        found: &'a [(i64, Vec<Detection>)],
        /// Images that cannot be read, and so count as ones on which nothing was found.
        bad_images: usize,
    },
    /// A checkpoint.
    Saved(&'a Path),
    /// A checkpoint or a model that could not be written; the run goes on.
    NotSaved(&'a str),
}

/// The numbers of a step.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Where the run is.
    pub at: &'a Progress,
    /// Steps in all.
    pub steps: u64,
    /// Losses and the norm of the gradients.
    pub report: &'a StepReport,
    /// Learning rate of the rest of the parameters.
    pub lr: f64,
    /// How long the step took, with waiting for data.
    pub seconds: f64,
    /// How long it waited for data.
    pub waited: f64,
    /// Images of the batch.
    pub images: &'a [i64],
    /// Images that were replaced since the start, because they cannot be read.
    pub bad_images: usize,
}

/// Where a run is, and what it remembers; part of every checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps of the optimizer done, also those that were skipped.
    pub step: u64,
    /// Epochs that are done.
    pub epoch: u64,
    /// Batches of the next one that are done.
    pub batch: usize,
    /// Batches of an epoch; the order of the images depends on it.
    pub batches_per_epoch: usize,
    /// Batches that all devices together make a step of; the learning rate belongs to it.
    pub batches_per_step: usize,
    /// Models that the average has seen.
    pub ema_updates: u64,
    /// What losses are multiplied with, in f16.
    #[serde(default)]
    pub loss_scale: Option<LossScale>,
    /// Steps that were skipped, in all.
    pub skipped: u64,
    /// All validations.
    pub validations: Vec<Validation>,
}

/// What is remembered of a validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// Number of the epoch before it, from 1.
    pub epoch: u64,
    /// Steps done.
    pub step: u64,
    /// COCO's AP.
    pub ap: f64,
    /// COCO's AP50.
    pub ap50: f64,
}

impl Progress {
    /// The validation with the highest AP, the first of several.
    #[must_use]
    pub fn best(&self) -> Option<&Validation> {
        self.validations.iter().reduce(|best, one| if one.ap > best.ap { one } else { best })
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All epochs are done.
    Finished,
    /// AP did not get better for long enough.
    EarlyStopped,
    /// AP is as high as was asked for.
    Reached,
    /// It was asked to stop.
    Interrupted,
}

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Settings that do not fit the model.
    #[error(transparent)]
    Groups(GroupsError),
    /// Several devices that cannot train together.
    #[error("{0}")]
    Devices(String),
    /// Images that cannot be loaded.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// Targets that do not fit the head.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A step that cannot be done.
    #[error("step {step} on a batch of {batch}: {error}")]
    Step {
        /// Number of the step.
        step: u64,
        /// Images, height and width of its batch.
        batch: String,
        /// What is wrong.
        error: StepError,
    },
    /// A validation that cannot be done.
    #[error(transparent)]
    Validate(#[from] ValidateError),
    /// A checkpoint that does not fit the run.
    #[error(transparent)]
    State(#[from] StateError),
    /// Weights that cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Too many steps in a row that were not finite.
    #[error(
        "{steps} steps in a row were not finite; the last: {reason}\nhint: {}where the data is sound, \
         a lower train.lr helps",
        dump.as_ref().map_or_else(String::new, |dump| {
            format!("the images and numbers of these steps are in {}; ", dump.display())
        })
    )]
    Diverged {
        /// How many.
        steps: usize,
        /// What was not finite.
        reason: String,
        /// Where more is said, if it could be written.
        dump: Option<PathBuf>,
    },
    /// The device failed; the message is Burn's.
    #[error("the device failed: {0}")]
    Device(String),
    /// Checkpoints or the model cannot be written, several times in a row or at the end.
    #[error(
        "what was learned could not be written, {times} times in a row; the last: {reason}\nhint: \
         free space or make the folder writable, then go on with --resume"
    )]
    NotSaved {
        /// How many.
        times: usize,
        /// What the file system says.
        reason: String,
    },
    /// A file of a checkpoint that does not fit.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl From<GroupsError> for RunError {
    fn from(error: GroupsError) -> Self {
        // What is `parameters` for a step is a part of `train` in the settings of a run.
        Self::Groups(match error {
            GroupsError::Unmatched { field, pattern, shadowed, example } => {
                let field = field.replacen("parameters.", "train.", 1);
                GroupsError::Unmatched { field, pattern, shadowed, example }
            }
            other => other,
        })
    }
}

impl RunError {
    pub(crate) fn not_saved(reasons: &[String]) -> Self {
        let reason = reasons.last().cloned().unwrap_or_default();
        Self::NotSaved { times: reasons.len(), reason }
    }
}

/// Trains from the weights of `start`, which are on the device with autodiff, until all epochs are done or
/// the interrupter is told to stop: then a checkpoint is written first. With `resume` it goes on from the
/// newest checkpoint that counts, if there is one.
///
/// # Errors
/// See [`RunError`]; checkpoints that are there stay.
pub fn run(
    config: TrainConfig,
    parts: Parts,
    start: Model,
    resume: bool,
    hooks: Hooks,
) -> Result<End, RunError> {
    check_devices(&config, &parts, &start)?;
    let Hooks { interrupter, renderer, observer } = hooks;
    let criterion = config.train.step(&parts.model).criterion;
    let batches: Arc<Batches> = Arc::new(Batches::new(
        parts.loader.clone(),
        parts.model.num_classes(),
        parts.device.clone(),
    ));
    let folder = parts.folder.clone();
    let learned = Learned::new(start.clone(), criterion);
    let epochs = number(config.train.epochs);
    let patience = config.train.early_stopping;
    let mut course = Course::new(config, parts, start, observer)?;
    if resume {
        course.resume()?;
    }
    let values = Values::default();
    for done in &course.at.validations {
        values.remember(Numbers::AP, number(done.epoch), &Split::Valid, done.ap);
    }
    let mut training = SupervisedTraining::new(folder, batches.clone(), batches)
        .metric_train_numeric(Number::new(Numbers::LOSS, false))
        .metric_train_numeric(Number::new(Numbers::GRADIENT, false))
        .metric_train_numeric(Number::new(Numbers::LEARNING_RATE, false))
        .metric_valid_numeric(Number::new(Numbers::AP, true))
        .metric_valid_numeric(Number::new(Numbers::AP50, true))
        .with_metric_logger(values)
        .with_application_logger(None)
        .with_interrupter(interrupter)
        .renderer(renderer)
        .num_epochs(epochs)
        .checkpoint(number(course.at.epoch));
    if let Some(early) = patience {
        let strategy = MetricEarlyStoppingStrategy::new(
            &Number::new(Numbers::AP, true),
            Aggregate::Mean,
            Direction::Highest,
            Split::Valid,
            StoppingCondition::NoImprovementSince { n_epochs: early.patience },
        );
        training = training.early_stopping(strategy.with_warmup_epochs(Some(early.min_epochs)));
    }
    let outcome = Arc::new(Mutex::new(None));
    let strategy = Loop { course: Mutex::new(Some(course)), outcome: outcome.clone() };
    #[allow(clippy::arc_with_non_send_sync)] // Burn asks for an `Arc`; it stays on this thread
    let training = training.with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy)));
    // The optimizer of the loop has its state by the official names; Burn's takes no step.
    drop(training.launch(Learner::new(learned, AdamWConfig::new().init(), 0.0)));
    let ended = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    ended.unwrap_or_else(|| Err(RunError::Device("the loop ended without a result".to_owned())))
}

fn check_devices(config: &TrainConfig, parts: &Parts, start: &Model) -> Result<(), RunError> {
    let (ranks, batches) = (parts.ranks(), parts.loader.batches_per_epoch());
    if batches < ranks {
        return Err(RunError::Devices(format!(
            "an epoch has {batches} batches, fewer than the {ranks} devices\nhint: train on fewer \
             devices, or make data.loader.batch_size smaller"
        )));
    }
    // Burn has one source of random numbers for all devices, so none of them can draw a mask twice while
    // the others draw, too.
    if ranks > 1 && config.train.activation_checkpointing && start.encoder_drops() {
        return Err(RunError::Devices(
            "several devices cannot compute dropout again as it was\nhint: leave out \
             train.activation_checkpointing, or set the model's dropout to 0"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Losses of a report by name, for logs.
pub fn named(losses: &[(LossName, f32)]) -> impl Iterator<Item = (String, f32)> + '_ {
    losses.iter().map(|(name, value)| (name.to_string(), *value))
}
