//! The loop: epochs of steps, validation, checkpoints. It prints nothing and writes nothing but
//! checkpoints and the model; what happens is told to an observer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, FloatDType};
use detr_data::{Batch, Loader, LoaderError};
use detr_eval::{GroundTruth, Metrics};
use detr_loss::{LossName, Target, TargetError, Targets};
use detr_model::weights::{
    Checkpoint, StateDict, WeightsError, load_into, read_parameters, read_state_dict,
    tensors_to_bytes,
};
use detr_model::{Model, ModelConfig};
use detr_types::{ClassTable, PreprocessSpec};
use serde::{Deserialize, Serialize};

use crate::accumulate::MicroBatch;
use crate::checkpoint::{Checkpoints, Passed};
use crate::ema::Ema;
use crate::groups::GroupsError;
use crate::optimizer::{Optimizer, StateError};
use crate::outcome::{NonFinite, Outcome, StepError, StepReport};
use crate::settings::TrainConfig;
use crate::step::Trainer;
use crate::validate::{ValidateError, upload, validate};

/// What a run needs beside its settings.
pub struct Parts {
    /// Architecture, with the head for the classes.
    pub model: ModelConfig,
    /// Its weights at the start, on the device with autodiff.
    pub start: Model,
    /// The device, with autodiff.
    pub device: Device,
    /// What the labels mean.
    pub classes: ClassTable,
    /// Batches to learn from.
    pub loader: Loader,
    /// Images to validate on, and what is on them.
    pub validation: Option<(Loader, Arc<GroundTruth>)>,
    /// How images become input of the model that comes out.
    pub preprocess: PreprocessSpec,
    /// Where the run is kept.
    pub folder: PathBuf,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// The run goes on from a checkpoint; newer ones did not count.
    Resumed {
        /// Steps that were done.
        step: u64,
        /// What was passed over.
        passed: &'a [Passed],
    },
    /// A step.
    Step {
        /// Where the run is.
        at: &'a Progress,
        /// Its numbers.
        report: &'a StepReport,
        /// Learning rate of the rest of the parameters.
        lr: f64,
        /// How long it took, and how much of that was waiting for data.
        seconds: [f64; 2],
    },
    /// A step that changed nothing.
    Skipped {
        /// Where the run is.
        at: &'a Progress,
        /// Why.
        reason: &'a NonFinite,
        /// Images of the batch.
        images: &'a [i64],
    },
    /// Images of the validation that are done.
    Validating(usize),
    /// A validation.
    Validated {
        /// Where the run is.
        at: &'a Progress,
        /// The result.
        metrics: &'a Metrics,
        /// Whether it is the best so far.
        best: bool,
    },
    /// A checkpoint.
    Saved(&'a Path),
    /// A checkpoint that could not be written; the run goes on.
    NotSaved(&'a str),
}

/// Where a run is, and what it remembers; part of every checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps of the optimizer done, also those that were skipped.
    pub step: u64,
    /// Epoch.
    pub epoch: u64,
    /// Batches of the epoch that are done.
    pub batch: usize,
    /// Models that the average has seen.
    pub ema_updates: u64,
    /// Steps that were skipped, in all.
    pub skipped: u64,
    /// Best AP of a validation, and its step.
    pub best: Option<(f64, u64)>,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All epochs are done.
    Finished,
    /// It was asked to stop.
    Interrupted,
}

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Settings that do not fit the model.
    #[error(transparent)]
    Groups(#[from] GroupsError),
    /// Images that cannot be loaded.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// Targets that do not fit the head.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A step that cannot be done.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A validation that cannot be done.
    #[error(transparent)]
    Validate(#[from] ValidateError),
    /// A checkpoint that does not fit the run.
    #[error(transparent)]
    State(#[from] StateError),
    /// Weights that cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Too many steps in a row that were not finite.
    #[error("{steps} steps in a row were not finite; the last: {reason}")]
    Diverged {
        /// How many.
        steps: u32,
        /// What was not finite.
        reason: String,
    },
    /// The device failed; the message is Burn's.
    #[error("the device failed: {0}")]
    Device(String),
    /// What a checkpoint says of itself cannot be read.
    #[error("{}: {reason}", path.display())]
    Progress {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Trains until all epochs are done, or `stop` is set: then a checkpoint is written first.
///
/// # Errors
/// See [`RunError`]; checkpoints that are there stay.
pub fn run(
    config: &TrainConfig,
    parts: Parts,
    resume: bool,
    stop: &AtomicBool,
    observer: &mut dyn FnMut(Event<'_>),
) -> Result<End, RunError> {
    let step = config.train.step(&parts.model);
    let trainer = Trainer::new(parts.start.clone(), &step)?;
    let checkpoints = Checkpoints::new(parts.folder.join("checkpoints"));
    let (at, lr) = (Progress::default(), step.parameters.lr);
    let mut run = Run { config, parts, trainer, checkpoints, at, lr, in_a_row: 0 };
    if resume {
        run.resume(observer)?;
    }
    run.epochs(stop, observer)
}

struct Run<'a> {
    config: &'a TrainConfig,
    parts: Parts,
    trainer: Trainer,
    checkpoints: Checkpoints,
    at: Progress,
    /// Of the parameters that are in no group.
    lr: f64,
    /// Steps that were skipped without one between that was not.
    in_a_row: u32,
}

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const EMA: &str = "ema.safetensors";
const PROGRESS: &str = "progress.json";

impl Run<'_> {
    fn epochs(
        &mut self,
        stop: &AtomicBool,
        observer: &mut dyn FnMut(Event<'_>),
    ) -> Result<End, RunError> {
        while self.at.epoch < self.config.train.epochs {
            if !self.epoch(stop, observer)? {
                self.save(observer)?;
                return Ok(End::Interrupted);
            }
            self.at.epoch += 1;
            self.at.batch = 0;
            let last = self.at.epoch == self.config.train.epochs;
            if last || self.at.epoch.is_multiple_of(self.config.run.validate_every) {
                self.validate(observer)?;
            }
            self.save(observer)?;
        }
        Ok(End::Finished)
    }

    /// The rest of an epoch; false if it was stopped.
    fn epoch(
        &mut self,
        stop: &AtomicBool,
        observer: &mut dyn FnMut(Event<'_>),
    ) -> Result<bool, RunError> {
        let steps_per_epoch =
            self.parts.loader.batches_per_epoch().div_ceil(self.config.train.accumulate) as u64;
        let mut batches = self.parts.loader.epoch(self.at.epoch, self.at.batch)?;
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let start = Instant::now();
            let mut taken = Vec::with_capacity(self.config.train.accumulate);
            for batch in batches.by_ref().take(self.config.train.accumulate) {
                taken.push(batch?);
            }
            if taken.is_empty() {
                return Ok(true);
            }
            let waited = start.elapsed().as_secs_f64();
            let count = taken.len();
            let factor = self.config.train.schedule.factor(self.at.step, steps_per_epoch);
            let images: Vec<i64> =
                taken.iter().flat_map(|batch| &batch.targets).map(|t| t.image_id).collect();
            let micro = taken.into_iter().map(|batch| self.micro_batch(batch));
            let micro = micro.collect::<Result<Vec<_>, _>>()?;
            let outcome = self.trainer.step(micro, factor)?;
            self.at.step += 1;
            self.at.batch += count;
            match outcome {
                Outcome::Updated(report) => {
                    self.in_a_row = 0;
                    let lr = self.lr * factor;
                    let seconds = [start.elapsed().as_secs_f64(), waited];
                    observer(Event::Step { at: &self.at, report: &report, lr, seconds });
                }
                // The loss scale is lower now; the run does not diverge.
                Outcome::Overflowed { .. } => {}
                Outcome::Skipped(reason) => {
                    self.at.skipped += 1;
                    self.in_a_row += 1;
                    observer(Event::Skipped { at: &self.at, reason: &reason, images: &images });
                    if self.in_a_row >= self.config.run.max_skipped {
                        let (steps, reason) = (self.in_a_row, reason.to_string());
                        return Err(RunError::Diverged { steps, reason });
                    }
                }
            }
            let every = self.config.run.checkpoint_every;
            if every > 0 && self.at.step.is_multiple_of(every) {
                self.save(observer)?;
            }
        }
    }

    fn micro_batch(&self, batch: Batch) -> Result<MicroBatch, TargetError> {
        let target = |target: &detr_data::Target| Target {
            labels: target.labels.clone(),
            boxes: target.boxes.iter().map(|b| [b.cx, b.cy, b.w, b.h]).collect(),
            masks: None,
        };
        let targets = batch.targets.iter().map(target).collect();
        let classes = self.parts.model.num_classes();
        Ok(MicroBatch {
            targets: Targets::new(targets, classes, &self.parts.device)?,
            images: upload(batch.images, &self.parts.device),
        })
    }

    /// The model that is worth keeping: the average, where there is one.
    fn result(&self) -> Model {
        match self.trainer.ema() {
            Some(ema) => ema.model().clone(),
            None => self.trainer.model().valid(),
        }
    }

    fn validate(&mut self, observer: &mut dyn FnMut(Event<'_>)) -> Result<(), RunError> {
        let Some((loader, truth)) = &self.parts.validation else { return Ok(()) };
        let device = self.parts.device.clone().inner();
        let metrics = validate(
            &self.result(),
            &self.parts.model,
            &self.parts.classes,
            truth,
            loader,
            &device,
            &mut |done| observer(Event::Validating(done)),
        )?;
        let ap = metrics.summary.ap;
        let best = self.at.best.is_none_or(|(best, _)| ap > best);
        if best {
            self.at.best = Some((ap, self.at.step));
            self.write_model()?;
        }
        observer(Event::Validated { at: &self.at, metrics: &metrics, best });
        Ok(())
    }

    /// `model/`: what `detr predict` takes.
    fn write_model(&self) -> Result<(), RunError> {
        let state = read_parameters(&self.result()).map_err(RunError::Device)?;
        let checkpoint = Checkpoint::trained(
            &self.parts.model,
            state,
            self.parts.preprocess,
            self.parts.classes.clone(),
        );
        checkpoint.save(&self.parts.folder.join("model"), &self.parts.device.clone().inner())?;
        Ok(())
    }

    /// A full disk costs a checkpoint, not the run.
    fn save(&self, observer: &mut dyn FnMut(Event<'_>)) -> Result<(), RunError> {
        let bytes = |state: &StateDict| tensors_to_bytes(state).map_err(RunError::from);
        let model = read_parameters(self.trainer.model()).map_err(RunError::Device)?;
        let optimizer =
            self.trainer.optimizer().state(self.trainer.groups()).map_err(RunError::Device)?;
        let mut files = vec![(MODEL, bytes(&model)?), (OPTIMIZER, bytes(&optimizer)?)];
        let mut at = self.at.clone();
        if let Some(ema) = self.trainer.ema() {
            files.push((EMA, bytes(&read_parameters(ema.model()).map_err(RunError::Device)?)?));
            at.ema_updates = ema.updates();
        }
        let json = serde_json::to_vec_pretty(&at).unwrap_or_default();
        files.push((PROGRESS, json));
        match self.checkpoints.save(self.at.step, &files) {
            Ok(path) => {
                let best: Vec<u64> = self.at.best.iter().map(|(_, step)| *step).collect();
                self.checkpoints.prune(self.config.run.keep, &best);
                observer(Event::Saved(&path));
            }
            Err(error) => observer(Event::NotSaved(&error.to_string())),
        }
        Ok(())
    }

    fn resume(&mut self, observer: &mut dyn FnMut(Event<'_>)) -> Result<(), RunError> {
        let (found, passed) = self.checkpoints.newest();
        let Some(found) = found else {
            observer(Event::Resumed { step: 0, passed: &passed });
            return Ok(());
        };
        let path = found.path.join(PROGRESS);
        let wrong = |reason: String| RunError::Progress { path: path.clone(), reason };
        let text = std::fs::read(&path).map_err(|error| wrong(error.to_string()))?;
        self.at = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        let load = |name: &str, device: &Device| -> Result<Model, RunError> {
            let file = found.path.join(name);
            let state = read_state_dict(&file)?;
            let model = self.parts.model.init(device);
            Ok(load_into(model, &state, FloatDType::F32, &file)?)
        };
        let step = self.config.train.step(&self.parts.model);
        let trainer = Trainer::new(load(MODEL, &self.parts.device)?, &step)?;
        let state = read_state_dict(&found.path.join(OPTIMIZER))?;
        let optimizer =
            Optimizer::resume(step.optimizer, trainer.groups(), &state, &self.parts.device)?;
        let ema = match step.ema {
            Some(ema) => {
                Some(Ema::resume(&load(EMA, &self.parts.device)?, ema, self.at.ema_updates))
            }
            None => None,
        };
        self.trainer = trainer;
        self.trainer.resume(optimizer, ema);
        observer(Event::Resumed { step: found.step, passed: &passed });
        Ok(())
    }
}

/// Losses of a report by name, for logs.
pub fn named(losses: &[(LossName, f32)]) -> impl Iterator<Item = (String, f32)> + '_ {
    losses.iter().map(|(name, value)| (name.to_string(), *value))
}
