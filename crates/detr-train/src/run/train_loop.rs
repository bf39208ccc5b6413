//! The loop: epochs of steps, validation, checkpoints; a `SupervisedLearningStrategy` of Burn's, whose
//! events go to Burn's metrics and renderers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::data::dataloader;
use burn::module::Module;
use burn_train::checkpoint::{
    CheckpointingAction, CheckpointingStrategy, ComposedCheckpointingStrategy, KeepLastNCheckpoints,
};
use burn_train::metric::store::{Aggregate, EventStoreClient, Split};
use burn_train::{
    EventProcessorTraining, Interrupter, Learner, LearnerEvent, SupervisedLearningStrategy,
    SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents, TrainingItem, ValidLoader,
};
use detr_data::Batch;
use detr_eval::Metrics;
use detr_model::Model;

use super::checkpoints::Checkpoints;
use super::divergence::{Dump, SkippedStep};
use super::micro_batch::micro_batch;
use super::rank_workers::Others;
use super::validate::{Watched, validate};
use super::{End, Event, Parts, Progress, RunError, Step, Validation};
use crate::burn::{Learned, Numbers};
use crate::fault::{self, Site};
use crate::settings::TrainConfig;
use crate::step::{MicroBatch, Outcome, Trainer};

type Processor = SupervisedTrainingEventProcessor<Learned>;

/// The strategy that Burn calls, once.
pub(crate) struct Loop {
    pub(crate) course: Mutex<Option<Course>>,
    pub(crate) outcome: Arc<Mutex<Option<Result<End, RunError>>>>,
}

impl SupervisedLearningStrategy<Learned> for Loop {
    fn fit(
        &self,
        components: TrainingComponents<Learned>,
        learner: Learner<Learned>,
        _train: TrainLoader<Learned>,
        _valid: ValidLoader<Learned>,
        _starting_epoch: usize,
    ) -> (Learned, Processor) {
        let mut burn = Burn {
            early: components.early_stopping,
            store: components.event_store,
            interrupter: components.interrupter,
            processor: components.event_processor,
        };
        let course = self.course.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut course) = course else { return (learner.model(), burn.processor) };
        // The weights of the start are not needed any more.
        drop(learner);
        let outcome = course.epochs(&mut burn).and_then(|end| match &course.unsaved[..] {
            [] => course
                .write_unwritten()
                .map_or(Ok(end), |reason| Err(RunError::not_saved(&[reason]))),
            unsaved => Err(RunError::not_saved(unsaved)),
        });
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        let criterion = course.config.train.step(&course.parts.model).criterion;
        (Learned::new(course.trainer.model().clone(), criterion), burn.processor)
    }
}

/// What Burn gives the loop.
struct Burn {
    early: Option<Box<dyn burn_train::CloneEarlyStoppingStrategy>>,
    store: Arc<EventStoreClient>,
    interrupter: Interrupter,
    processor: Processor,
}

impl Burn {
    fn train(&mut self, event: LearnerEvent<Numbers>) {
        self.interrupter.fail_on_error(self.processor.process_train(event));
    }

    fn valid(&mut self, event: LearnerEvent<Numbers>) {
        self.interrupter.fail_on_error(self.processor.process_valid(event));
    }

    fn should_stop(&mut self, epoch: usize) -> bool {
        let store = &self.store;
        self.early.as_mut().is_some_and(|early| early.should_stop(epoch, store))
    }
}

/// Burn's strategy that keeps the best looks for a value in every epoch; this one takes the epochs that
/// were validated.
#[derive(Default)]
struct KeepBest {
    best: Option<(usize, f64)>,
}

impl CheckpointingStrategy for KeepBest {
    fn checkpointing(
        &mut self,
        epoch: usize,
        store: &EventStoreClient,
    ) -> Vec<CheckpointingAction> {
        let found = store.find_metric(Numbers::AP, epoch, Aggregate::Mean, &Split::Valid);
        let Some(ap) = found else { return Vec::new() };
        match self.best {
            Some((_, best)) if ap <= best => Vec::new(),
            before => {
                self.best = Some((epoch, ap));
                let mut actions = vec![CheckpointingAction::Save];
                actions.extend(before.map(|(epoch, _)| CheckpointingAction::Delete(epoch)));
                actions
            }
        }
    }
}

/// A run on its way.
pub(crate) struct Course {
    pub(crate) config: TrainConfig,
    pub(crate) parts: Parts,
    pub(crate) trainer: Trainer,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) at: Progress,
    pub(crate) observer: Box<dyn FnMut(Event<'_>)>,
    /// The other devices, where there are some.
    others: Option<Others>,
    /// Why checkpoints could not be written, without one between that was.
    pub(crate) unsaved: Vec<String>,
    /// The model that `model/` should hold and does not, because it could not be written.
    pub(crate) unwritten: Option<Model>,
    keep: ComposedCheckpointingStrategy,
    /// Of the parameters that are in no group.
    lr: f64,
    /// Steps that were skipped without one between that was not.
    skipped: Vec<SkippedStep>,
}

impl Course {
    /// At the start.
    pub(crate) fn new(
        config: TrainConfig,
        parts: Parts,
        start: Model,
        observer: Box<dyn FnMut(Event<'_>)>,
    ) -> Result<Self, RunError> {
        let step = config.train.step(&parts.model);
        Ok(Self {
            trainer: Trainer::new(start, &step)?,
            checkpoints: Checkpoints::new(parts.folder.join("checkpoints")),
            at: Progress {
                batches_per_epoch: parts.loader.batches_per_epoch(),
                batches_per_step: parts.batches_per_step(config.train.accumulate),
                ..Progress::default()
            },
            keep: ComposedCheckpointingStrategy::builder()
                .add(KeepLastNCheckpoints::new(config.run.keep))
                .add(KeepBest::default())
                .build(),
            lr: step.parameters.lr,
            others: None,
            unsaved: Vec::new(),
            unwritten: None,
            skipped: Vec::new(),
            config,
            parts,
            observer,
        })
    }

    fn epochs(&mut self, burn: &mut Burn) -> Result<End, RunError> {
        if !self.parts.others.is_empty() {
            let step = self.config.train.step(&self.parts.model);
            let classes = self.parts.model.num_classes();
            self.others = Some(Others::start(&self.trainer, &step, &self.parts.others, classes)?);
        }
        let mut stop = self.reached();
        for epoch in 1..=number(self.at.epoch) {
            // What the strategies remember is a function of what was; nothing is removed again.
            stop |= burn.should_stop_if_known(epoch);
            self.keep.checkpointing(epoch, &burn.store);
        }
        while !stop && self.at.epoch < self.config.train.epochs {
            let epoch = number(self.at.epoch) + 1;
            if !self.steps(epoch, burn)? || !self.validate(epoch, burn)? {
                self.save()?;
                return match burn.interrupter.error() {
                    Some(error) => Err(RunError::Device(error.to_string())),
                    None => Ok(End::Interrupted),
                };
            }
            burn.train(LearnerEvent::EndEpoch(epoch));
            burn.interrupter.fail_on_error(burn.processor.flush());
            self.at.epoch += 1;
            self.at.batch = 0;
            for action in self.keep.checkpointing(epoch, &burn.store) {
                match action {
                    CheckpointingAction::Save => self.save()?,
                    // As long as nothing new can be written, the old is all there is.
                    CheckpointingAction::Delete(_) if !self.unsaved.is_empty() => (),
                    CheckpointingAction::Delete(epoch) => self.checkpoints.remove(epoch as u64),
                }
            }
            stop = self.reached() || burn.should_stop_if_known(epoch);
        }
        Ok(if self.reached() {
            End::Reached
        } else if self.at.epoch >= self.config.train.epochs {
            End::Finished
        } else {
            End::EarlyStopped
        })
    }

    /// The rest of an epoch; false if it was stopped.
    fn steps(&mut self, epoch: usize, burn: &mut Burn) -> Result<bool, RunError> {
        let Progress { batches_per_epoch, batches_per_step: per_step, .. } = self.at;
        let ranks = self.parts.ranks();
        burn.train(LearnerEvent::StartSplit {
            epoch_number: epoch,
            total_items: batches_per_epoch,
        });
        let mut batches = self.parts.loader.clone().epoch(self.at.epoch, self.at.batch)?;
        loop {
            if burn.interrupter.should_stop() {
                return Ok(false);
            }
            let start = Instant::now();
            let taken: Vec<Batch> = batches.by_ref().take(per_step).collect::<Result<_, _>>()?;
            if taken.len() < ranks {
                // What is left is not enough for all devices.
                self.at.batch += taken.len();
                burn.train(LearnerEvent::EndSplit(epoch));
                return Ok(true);
            }
            self.step(taken, start, burn)?;
            let every = self.config.run.checkpoint_every;
            if every > 0 && self.at.step.is_multiple_of(every) {
                self.save()?;
            }
        }
    }

    fn step(
        &mut self,
        batches: Vec<Batch>,
        start: Instant,
        burn: &mut Burn,
    ) -> Result<(), RunError> {
        let waited = start.elapsed().as_secs_f64();
        let count = batches.len();
        let batches_per_epoch = self.at.batches_per_epoch;
        let steps_per_epoch = self.parts.steps_per_epoch(self.config.train.accumulate);
        let factor = self.config.train.schedule.factor(self.at.step, self.at.epoch);
        let lr = self.lr * factor;
        let images: Vec<i64> =
            batches.iter().flat_map(|batch| &batch.targets).map(|t| t.image_id).collect();
        let shape =
            batches.iter().map(|batch| batch.images.size).max_by_key(|s| s.height * s.width);
        let shape = shape.map_or_else(String::new, |shape| shape.to_string());
        let batch = format!("{} images of {shape}", images.len());
        (self.observer)(Event::Begins { step: self.at.step + 1, batch: &batch });
        let outcome = self.compute(batches, factor, batch)?;
        self.at.step += 1;
        self.at.batch += count;
        match outcome {
            Outcome::Updated(report) => {
                self.skipped.clear();
                let item = Numbers::of([
                    (Numbers::LOSS, f64::from(report.loss)),
                    (Numbers::GRADIENT, f64::from(report.grad_norm)),
                    (Numbers::LEARNING_RATE, lr),
                ]);
                let unit = Some("batches".to_owned());
                let progress = dataloader::Progress::new(self.at.batch, batches_per_epoch, unit);
                let step = number(self.at.step);
                let item = TrainingItem::new(item, progress, Some(step), Some(lr.into()));
                burn.train(LearnerEvent::ProcessedItem(item));
                (self.observer)(Event::Step(Step {
                    at: &self.at,
                    steps: steps_per_epoch * self.config.train.epochs,
                    report: &report,
                    lr,
                    seconds: start.elapsed().as_secs_f64(),
                    waited,
                    images: &images,
                    bad_images: self.parts.loader.bad_images().len(),
                }));
                Ok(())
            }
            Outcome::Overflowed { scale, .. } => {
                (self.observer)(Event::Overflowed { at: &self.at, scale });
                Ok(())
            }
            Outcome::Skipped(reason) => {
                self.at.skipped += 1;
                (self.observer)(Event::Skipped { at: &self.at, reason: &reason, images: &images });
                self.skipped.push(SkippedStep::new(self.at.step, lr, images, &reason));
                if self.skipped.len() < self.config.run.max_skipped as usize {
                    return Ok(());
                }
                let steps = self.skipped.len();
                let dump =
                    Dump { epoch: self.at.epoch + 1, steps: std::mem::take(&mut self.skipped) };
                let dump = dump.write(&self.parts.folder);
                if let Err((path, error)) = &dump {
                    (self.observer)(Event::NotSaved(&format!("{}: {error}", path.display())));
                }
                let dump = dump.ok();
                // Whether that can be written or not, the run diverged.
                drop(self.save());
                Err(RunError::Diverged { steps, reason: reason.to_string(), dump })
            }
        }
    }

    /// What the devices do in a step.
    fn compute(
        &mut self,
        batches: Vec<Batch>,
        factor: f64,
        batch: String,
    ) -> Result<Outcome, RunError> {
        let (device, step) = (&self.parts.device, self.at.step + 1);
        // Dropout depends on the step alone, so a run that was stopped goes on as if it had not been.
        let seed = mixed(self.config.train.seed, self.at.step);
        let outcome = if let Some(others) = &self.others {
            others.step(&mut self.trainer, device, batches, factor, seed)
        } else {
            let classes = self.parts.model.num_classes();
            let micro = batches.into_iter().map(|batch| micro_batch(batch, classes, device));
            let mut micro = micro.collect::<Result<Vec<_>, _>>()?;
            fault::begin(step);
            if fault::now(Site::Image) {
                for MicroBatch { images, .. } in &mut micro {
                    images.pixels = images.pixels.clone() * f32::NAN;
                }
            }
            assert!(!fault::now(Site::Device), "out of memory on purpose");
            if fault::now(Site::Weight) {
                self.trainer.break_parameters();
            }
            device.seed(seed);
            self.trainer.step(micro, factor)
        };
        outcome.map_err(|error| RunError::Step { step, batch, error })
    }

    /// Whether AP is as high as was asked for.
    fn reached(&self) -> bool {
        let last = self.at.validations.last();
        self.config.run.stop_at_ap.zip(last).is_some_and(|(ap, last)| last.ap >= ap)
    }

    /// Validates after an epoch, if it is time to; false if it was stopped.
    fn validate(&mut self, epoch: usize, burn: &mut Burn) -> Result<bool, RunError> {
        let last = epoch as u64 == self.config.train.epochs;
        if !last && !(epoch as u64).is_multiple_of(self.config.run.validate_every) {
            return Ok(true);
        }
        let Some((loader, _)) = &self.parts.validation else {
            if last {
                self.write_model();
            }
            return Ok(true);
        };
        let items = loader.batches_per_epoch();
        burn.valid(LearnerEvent::StartSplit { epoch_number: epoch, total_items: items });
        let mut watched =
            Watched::spread(loader, self.config.run.samples, self.config.run.threshold);
        let raw = self.trainer.model().valid();
        let average = self.trainer.ema().map(|ema| ema.model().clone());
        let of_model = self.metrics(&raw, &mut watched, &burn.interrupter)?;
        let Some(of_model) = of_model else { return Ok(false) };
        let (metrics, without_ema) = match average {
            Some(average) => {
                watched.found.clear();
                match self.metrics(&average, &mut watched, &burn.interrupter)? {
                    Some(metrics) => (metrics, Some(of_model)),
                    None => return Ok(false),
                }
            }
            None => (of_model, None),
        };
        let (ap, ap50) = (metrics.summary.ap, metrics.summary.ap50);
        let best = self.at.best().is_none_or(|best| ap > best.ap);
        let (epoch_done, step) = (epoch as u64, self.at.step);
        self.at.validations.push(Validation { epoch: epoch_done, step, ap, ap50 });
        if best {
            self.write_model();
        }
        let numbers = Numbers::of([(Numbers::AP, ap), (Numbers::AP50, ap50)]);
        let progress = dataloader::Progress::new(items, items, Some("batches".to_owned()));
        let item = TrainingItem::new(numbers, progress, Some(number(step)), None);
        burn.valid(LearnerEvent::ProcessedItem(item));
        burn.valid(LearnerEvent::EndSplit(epoch));
        let without_ema = without_ema.as_ref();
        let (at, metrics, found) = (&self.at, &metrics, &watched.found[..]);
        let bad_images =
            self.parts.validation.as_ref().map_or(0, |(loader, _)| loader.bad_images().len());
        (self.observer)(Event::Validated { at, metrics, without_ema, best, found, bad_images });
        Ok(true)
    }

    /// COCO's metrics of a model; none if the run was stopped meanwhile.
    fn metrics(
        &mut self,
        model: &Model,
        watched: &mut Watched,
        interrupter: &Interrupter,
    ) -> Result<Option<Metrics>, RunError> {
        let Some(validation) = &self.parts.validation else { return Ok(None) };
        let device = self.parts.device.clone().inner();
        let images = validation.0.source().len();
        let observer = &mut self.observer;
        Ok(validate(
            model,
            &self.parts.model,
            &self.parts.classes,
            validation,
            self.config.run.max_detections,
            &device,
            watched,
            &mut |done| {
                observer(Event::Validating(done, images));
                !interrupter.should_stop()
            },
        )?)
    }
}

impl Burn {
    /// Whether to stop early after an epoch; never after one without validation.
    fn should_stop_if_known(&mut self, epoch: usize) -> bool {
        let known = self.store.find_metric(Numbers::AP, epoch, Aggregate::Mean, &Split::Valid);
        known.is_some() && self.should_stop(epoch)
    }
}

pub(crate) fn number(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// A seed of its own for every step (the finaliser of `SplitMix64`).
fn mixed(seed: u64, step: u64) -> u64 {
    let z = seed.wrapping_add(step.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
