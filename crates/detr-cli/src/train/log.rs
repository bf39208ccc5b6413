//! What the loop tells, as the records of the run take it.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use detr_data::Dataset;
use detr_infer::cli::Console;
use detr_train::{End, Event, Step, TrainConfig, TrainInputs, named};
use detr_types::{ClassTable, Detection};

use crate::tracking::{Outcome, RunInfo, Sample, StepRow, Tracker, ValidationRow};

/// What pictures of a validation are made of.
pub(super) struct Looked {
    pub(super) dataset: Arc<Dataset>,
    pub(super) classes: ClassTable,
}

/// Records for a run that is about to start or to go on.
pub(super) fn tracker(
    config: &TrainConfig,
    file: &Path,
    parts: &TrainInputs,
    device: &str,
    console: &Console,
) -> Tracker {
    let steps = parts.steps_per_epoch(config.train.accumulate);
    let info = RunInfo {
        folder: parts.folder.clone(),
        steps: steps * config.train.epochs,
        epochs: config.train.epochs,
        validate_every: parts.validation.as_ref().map_or(0, |_| config.run.validate_every),
        log_every: config.run.log_every,
        model: config.model.arch.clone(),
        config: file.display().to_string(),
        device: device.to_owned(),
        seed: config.train.seed,
    };
    Tracker::new(info, console)
}

/// Passes on what the loop tells.
pub(super) fn tell(tracker: &mut Tracker, looked: Option<&Looked>, event: &Event<'_>) {
    match event {
        Event::Step(Step { at, steps, report, lr, seconds, waited, images, bad_images }) => {
            tracker.expect(*steps);
            tracker.step(&StepRow {
                step: at.step,
                epoch: at.epoch + 1,
                loss: report.loss.into(),
                lr: *lr,
                grad_norm: report.grad_norm.into(),
                seconds: *seconds,
                waited: *waited,
                losses: named(&report.losses).map(|(name, value)| (name, value.into())).collect(),
                images: images.to_vec(),
                bad_images: *bad_images,
            });
        }
        Event::Skipped { at, reason, images } => {
            tracker.skipped(at.step, at.epoch + 1, &reason.to_string(), images);
        }
        Event::Overflowed { at, scale } => tracker.overflowed(at.step, *scale),
        Event::Validating(done, all) => tracker.validating(*done, *all),
        Event::Validated { at, metrics, without_ema, best, found, bad_images } => {
            if *bad_images > 0 {
                tracker.warn(&format!(
                    "{bad_images} images of the validation cannot be read, and count as ones on which \
                     nothing was found"
                ));
            }
            tracker.validated(&ValidationRow {
                step: at.step,
                epoch: at.epoch + 1,
                metrics: (*metrics).clone(),
                without_ema: without_ema.cloned(),
                best: *best,
            });
            if let Some(Looked { dataset, classes }) = looked {
                let sample = |(id, found): &(i64, Vec<Detection>)| {
                    Sample::read(dataset.image(*id)?, classes, found.clone()).ok()
                };
                let samples: Vec<Sample> = found.iter().filter_map(sample).collect();
                tracker.samples(at.epoch + 1, &samples);
            }
        }
        Event::Resumed { at, passed } => {
            for one in *passed {
                let path = one.path.display();
                tracker.warn(&format!("{path} is passed over: {}", one.reason));
            }
            tracker.resumed(at.step);
        }
        Event::Saved(path) => tracker.saved(path),
        Event::NotSaved(reason) => tracker.not_saved(reason),
        Event::Begins { .. } => {}
    }
}

/// The end of a run, and what is said of it.
pub(super) fn end(tracker: &mut Tracker, ended: Result<End, &dyn Display>) {
    match ended {
        Ok(End::Interrupted) => {
            tracker.note("interrupted; --resume goes on from the checkpoint");
            tracker.finish(Outcome::Interrupted);
        }
        Ok(end) => {
            match end {
                End::EarlyStopped => tracker.note("stopped early: AP does not get better"),
                End::Reached => tracker.note("AP is as high as was asked for"),
                End::Finished | End::Interrupted => {}
            }
            tracker.finish(Outcome::Finished);
        }
        Err(error) => tracker.finish(Outcome::Failed(&error.to_string())),
    }
}
