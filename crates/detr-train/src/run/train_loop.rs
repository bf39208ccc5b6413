//! The loop: epochs of steps, each followed by a validation and a checkpoint. It knows neither how a step works nor
//! who listens to it. When to stop, to validate and to remove a checkpoint is decided from [`Progress`] alone, so a
//! run that goes on after a checkpoint decides as if it had not been stopped.

use std::time::Instant;

use detr_data::Batch;
use detr_types::counted;

use super::checkpointing::{CheckpointWriter, checkpoint_files};
use super::divergence::{DivergenceReport, SkippedStep};
use super::early_stopping::is_stale;
use super::error::RunError;
use super::events::{End, Event, Phase, Step, Watch};
use super::inputs::TrainInputs;
use super::micro_batch::micro_batch;
use super::progress::{Progress, Validation};
use super::rank_workers::RankWorkers;
use super::retention::expired;
use super::stop::StopFlag;
use super::validation::validate_trainer;
use crate::settings::TrainConfig;
use crate::step::{NonFinite, Outcome, SingleRank, StepReport, TrainingStep};

/// A run that is ready to go on.
pub struct TrainLoop {
    config: TrainConfig,
    inputs: TrainInputs,
    trainer: Box<dyn TrainingStep>,
    progress: Progress,
    writer: CheckpointWriter,
    /// The ranks of further devices.
    workers: Option<RankWorkers>,
    /// Learning rate of the parameters in no group, before the schedule.
    lr: f64,
    /// Steps that were skipped, without one in between that was not.
    skipped: Vec<SkippedStep>,
}

/// The facts about a step that are known before it is computed.
struct StepPlan {
    /// Duration of the wait for data, in seconds.
    waited: f64,
    began: Instant,
    /// The schedule's factor on all learning rates.
    factor: f64,
    /// Learning rate of the parameters in no group.
    lr: f64,
    /// Number and size of the images, for messages.
    batch: String,
    /// Ids of the images.
    images: Vec<i64>,
}

impl TrainLoop {
    /// Makes a run of a trainer and of the progress that belongs to it, which [`begin`](super::begin) returns.
    #[must_use]
    pub fn new(
        config: TrainConfig,
        inputs: TrainInputs,
        trainer: Box<dyn TrainingStep>,
        progress: Progress,
    ) -> Self {
        let writer = CheckpointWriter::new(inputs.checkpoints());
        let lr = config.step(&inputs.model).parameters.lr;
        let (workers, skipped) = (None, Vec::new());
        Self { config, inputs, trainer, progress, writer, workers, lr, skipped }
    }

    /// Trains until all epochs are done, until AP is high enough or does not improve any more, or until `stop` is
    /// raised, in which case it writes a checkpoint before it ends.
    ///
    /// # Errors
    /// See [`RunError`]; checkpoints that were written stay.
    pub fn fit(mut self, stop: &StopFlag, watch: &mut dyn Watch) -> Result<End, RunError> {
        let (epoch, epochs) = (self.progress.epoch + 1, self.config.train.epochs);
        watch.phase(Phase::RunBegins { epoch, epochs });
        let end = self.epochs(stop, watch).and_then(|end| {
            self.writer.finish(&self.inputs, watch)?;
            Ok(end)
        });
        watch.phase(Phase::RunEnds);
        end
    }

    fn epochs(&mut self, stop: &StopFlag, watch: &mut dyn Watch) -> Result<End, RunError> {
        if !self.inputs.others.is_empty() {
            let step = self.config.step(&self.inputs.model);
            let (trainer, classes) = (self.trainer.trainer(), self.inputs.model.num_classes());
            self.workers = Some(RankWorkers::start(trainer, &step, &self.inputs.others, classes)?);
        }
        loop {
            if let Some(end) = self.end() {
                return Ok(end);
            }
            if !self.train_epoch(stop, watch)? || !self.validate(stop, watch)? {
                self.save(watch)?;
                return Ok(End::Interrupted);
            }
            self.progress.epoch += 1;
            self.progress.batch = 0;
            let Progress { epoch, validations, .. } = &self.progress;
            watch.phase(Phase::EpochEnds { epoch: *epoch });
            let expired = expired(validations, *epoch, self.config.run.keep as u64);
            self.save(watch)?;
            self.writer.remove(&expired);
        }
    }

    /// Returns why the run is over, if it is.
    fn end(&self) -> Option<End> {
        let Progress { epoch, validations, .. } = &self.progress;
        let wanted = self.config.run.stop_at_ap.zip(validations.last());
        let early = self.config.train.early_stopping.as_ref();
        if wanted.is_some_and(|(ap, last)| last.ap >= ap) {
            Some(End::Reached)
        } else if *epoch >= self.config.train.epochs {
            Some(End::Finished)
        } else if early.is_some_and(|early| is_stale(early, validations)) {
            Some(End::EarlyStopped)
        } else {
            None
        }
    }

    /// Makes the steps of an epoch that are not done. Returns false if the run is to stop.
    fn train_epoch(&mut self, stop: &StopFlag, watch: &mut dyn Watch) -> Result<bool, RunError> {
        let Progress { epoch, batch, batches_per_epoch, batches_per_step, .. } = self.progress;
        let ranks = self.inputs.ranks();
        watch.phase(Phase::TrainingBegins { epoch: epoch + 1, batches: batches_per_epoch });
        let mut batches = self.inputs.loader.clone().epoch(epoch, batch)?;
        loop {
            if stop.should_stop() {
                return Ok(false);
            }
            let began = Instant::now();
            let taken: Vec<Batch> =
                batches.by_ref().take(batches_per_step).collect::<Result<_, _>>()?;
            if taken.len() < ranks {
                // The batches that are left are not enough for all devices.
                self.progress.batch += taken.len();
                watch.phase(Phase::TrainingEnds { epoch: epoch + 1 });
                return Ok(true);
            }
            self.step(taken, began, watch)?;
            let every = self.config.run.checkpoint_every;
            if every > 0 && self.progress.step.is_multiple_of(every) {
                self.save(watch)?;
            }
        }
    }

    fn step(
        &mut self,
        batches: Vec<Batch>,
        began: Instant,
        watch: &mut dyn Watch,
    ) -> Result<(), RunError> {
        let (count, plan) = (batches.len(), self.plan(&batches, began));
        watch.event(Event::Begins { step: self.progress.step + 1, batch: &plan.batch });
        let outcome = self.compute(batches, &plan)?;
        self.progress.step += 1;
        self.progress.batch += count;
        match outcome {
            Outcome::Updated(report) => {
                self.updated(&plan, &report, watch);
                Ok(())
            }
            Outcome::Overflowed { scale, .. } => {
                watch.event(Event::Overflowed { at: &self.progress, scale });
                Ok(())
            }
            Outcome::Skipped(reason) => self.skip(plan, &reason, watch),
        }
    }

    fn plan(&self, batches: &[Batch], began: Instant) -> StepPlan {
        let waited = began.elapsed().as_secs_f64();
        let Progress { step, epoch, .. } = self.progress;
        let factor = self.config.train.schedule.factor(step, epoch);
        let targets = batches.iter().flat_map(|batch| &batch.targets);
        let images: Vec<i64> = targets.map(|target| target.image_id).collect();
        let sizes = batches.iter().map(|batch| batch.images.size);
        let largest = sizes.max_by_key(|size| size.height * size.width);
        let largest = largest.map_or_else(String::new, |size| size.to_string());
        let batch = format!("{} of {largest}", counted(images.len(), "image"));
        let lr = self.lr * factor;
        StepPlan { waited, began, factor, lr, batch, images }
    }

    /// Lets all devices compute a step.
    fn compute(&mut self, batches: Vec<Batch>, plan: &StepPlan) -> Result<Outcome, RunError> {
        let (device, step) = (&self.inputs.device, self.progress.step + 1);
        // Dropout depends on the step alone, so a run that was stopped goes on as if it had not been.
        let seed = step_seed(self.config.train.seed, self.progress.step);
        let outcome = if let Some(workers) = &self.workers {
            workers.step(&mut *self.trainer, device, batches, plan.factor, seed)
        } else {
            let classes = self.inputs.model.num_classes();
            let micro = batches.into_iter().map(|batch| micro_batch(batch, classes, device));
            let micro = micro.collect::<Result<Vec<_>, _>>()?;
            device.seed(seed);
            self.trainer.step_together(micro, plan.factor, &SingleRank)
        };
        outcome.map_err(|error| RunError::Step { step, batch: plan.batch.clone(), error })
    }

    fn updated(&mut self, plan: &StepPlan, report: &StepReport, watch: &mut dyn Watch) {
        self.skipped.clear();
        let steps_per_epoch = self.inputs.steps_per_epoch(self.config.train.accumulate);
        watch.event(Event::Step(Step {
            at: &self.progress,
            steps: steps_per_epoch * self.config.train.epochs,
            report,
            lr: plan.lr,
            seconds: plan.began.elapsed().as_secs_f64(),
            waited: plan.waited,
            images: &plan.images,
            bad_images: self.inputs.loader.bad_images().len(),
        }));
    }

    /// Takes note of a step that was not finite. Several in a row end the run.
    fn skip(
        &mut self,
        plan: StepPlan,
        reason: &NonFinite,
        watch: &mut dyn Watch,
    ) -> Result<(), RunError> {
        self.progress.skipped += 1;
        watch.event(Event::Skipped { at: &self.progress, reason, images: &plan.images });
        self.skipped.push(SkippedStep::new(self.progress.step, plan.lr, plan.images, reason));
        if self.skipped.len() < self.config.run.max_skipped as usize {
            return Ok(());
        }
        let steps = std::mem::take(&mut self.skipped);
        let count = steps.len();
        let report = DivergenceReport { epoch: self.progress.epoch + 1, steps };
        let dump = report.write(&self.inputs.folder);
        if let Err((path, error)) = &dump {
            watch.event(Event::NotSaved(&format!("{}: {error}", path.display())));
        }
        // Whether that can be written or not, the run diverged.
        drop(self.save(watch));
        Err(RunError::Diverged { steps: count, reason: reason.to_string(), dump: dump.ok() })
    }

    /// Validates the epoch whose steps are done, if it is due. Returns false if the run is to stop.
    fn validate(&mut self, stop: &StopFlag, watch: &mut dyn Watch) -> Result<bool, RunError> {
        let epoch = self.progress.epoch + 1;
        let is_last = epoch == self.config.train.epochs;
        if !is_last && !epoch.is_multiple_of(self.config.run.validate_every) {
            return Ok(true);
        }
        let Some(set) = &self.inputs.validation else {
            if is_last {
                self.writer.write_model(&self.inputs, self.trainer.trainer(), watch);
            }
            return Ok(true);
        };
        let batches = set.source.dataset().images.len().div_ceil(set.batch_size);
        watch.phase(Phase::ValidationBegins { epoch, batches });
        let validated =
            validate_trainer(&self.config, &self.inputs, self.trainer.trainer(), stop, watch)?;
        let Some(validated) = validated else { return Ok(false) };
        // Boxes may be frozen where there are masks.
        let counted = validated.masks.as_ref().unwrap_or(&validated.metrics).summary;
        let (ap, ap50) = (counted.ap, counted.ap50);
        let best = self.progress.best().is_none_or(|best| ap > best.ap);
        let step = self.progress.step;
        self.progress.validations.push(Validation { epoch, step, ap, ap50 });
        if best {
            self.writer.write_model(&self.inputs, self.trainer.trainer(), watch);
        }
        watch.event(Event::Validated {
            at: &self.progress,
            metrics: &validated.metrics,
            masks: validated.masks.as_ref(),
            without_ema: validated.without_ema.as_ref(),
            best,
            found: &validated.found,
            bad_images: validated.bad_images,
        });
        Ok(true)
    }

    /// Writes a checkpoint.
    fn save(&mut self, watch: &mut dyn Watch) -> Result<(), RunError> {
        let trainer = self.trainer.trainer();
        if let Some(ema) = trainer.ema() {
            self.progress.ema_updates = ema.updates();
        }
        self.progress.loss_scale = trainer.loss_scale();
        let files = checkpoint_files(&self.config, &self.inputs, trainer, &self.progress)?;
        self.writer.save(&self.inputs, &self.progress, &files, watch)
    }
}

/// Returns a seed of its own for every step (the finaliser of `SplitMix64`).
fn step_seed(seed: u64, step: u64) -> u64 {
    let z = seed.wrapping_add(step.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
