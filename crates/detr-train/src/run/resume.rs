//! The beginning of a run: a new trainer at step 0, or the trainer and the progress of the newest checkpoint.

use std::path::Path;

use burn::tensor::{Device, FloatDType};
use detr_model::Model;
use detr_model::weights::{load_into, read_state_dict};
use detr_types::ClassTable;
use serde::de::DeserializeOwned;

use super::checkpointing::{CLASSES, EMA, MODEL, OPTIMIZER, PROGRESS};
use super::error::RunError;
use super::events::{Event, Watch};
use super::inputs::TrainInputs;
use super::progress::Progress;
use crate::settings::TrainConfig;
use crate::step::{Ema, Optimizer, Trainer};

/// Prepares a run: returns a trainer of the weights `start`, which are on the device with autodiff, and a progress at
/// step 0. With `resume`, both come from the newest checkpoint that counts, if there is one.
///
/// # Errors
/// See [`RunError`]; checkpoints stay as they are.
pub fn begin(
    config: &TrainConfig,
    inputs: &TrainInputs,
    start: Model,
    resume: bool,
    watch: &mut dyn Watch,
) -> Result<(Trainer, Progress), RunError> {
    inputs.check_devices(config, &start)?;
    let trainer = Trainer::new(start, &config.step(&inputs.model))?;
    let progress = Progress {
        batches_per_epoch: inputs.loader.batches_per_epoch(),
        batches_per_step: inputs.batches_per_step(config.train.accumulate),
        ..Progress::default()
    };
    if !resume {
        return Ok((trainer, progress));
    }
    let checkpoints = inputs.checkpoints();
    checkpoints.sweep();
    let (found, passed) = checkpoints.newest();
    let (trainer, progress) = match (found, passed.first()) {
        (Some(found), _) => load(&found.path, config, inputs, &progress)?,
        (None, Some(newest)) => {
            return Err(RunError::Checkpoint {
                path: newest.path.clone(),
                reason: format!(
                    "{}, and no other checkpoint counts\nhint: start anew in another folder, \
                     with model.init if a model was kept",
                    newest.reason
                ),
            });
        }
        // The run was stopped before its first checkpoint.
        (None, None) => (trainer, progress),
    };
    watch.event(Event::Resumed { at: &progress, passed: &passed });
    Ok((trainer, progress))
}

/// Reads a checkpoint. `now` has the sizes of an epoch and of a step as they are now.
fn load(
    folder: &Path,
    config: &TrainConfig,
    inputs: &TrainInputs,
    now: &Progress,
) -> Result<(Trainer, Progress), RunError> {
    let progress: Progress = read_json(&folder.join(PROGRESS))?;
    check_classes(folder, inputs)?;
    check_sizes(folder, &progress, now)?;
    let load = |name: &str, device: &Device| -> Result<Model, RunError> {
        let file = folder.join(name);
        let state = read_state_dict(&file)?;
        let model = inputs.model.init(device);
        Ok(load_into(model, &state, FloatDType::F32, &file)?)
    };
    let step = config.step(&inputs.model);
    let mut trainer = Trainer::new(load(MODEL, &inputs.device)?, &step)?;
    let state = read_state_dict(&folder.join(OPTIMIZER))?;
    let optimizer = Optimizer::resume(step.optimizer, trainer.groups(), &state, &inputs.device)?;
    let ema = match step.ema {
        Some(ema) if folder.join(EMA).exists() => {
            Some(Ema::resume(&load(EMA, &inputs.device)?, ema, progress.ema_updates))
        }
        // The settings ask for an average that the run did not have.
        Some(ema) => Some(Ema::new(trainer.model(), ema)),
        None => None,
    };
    trainer.resume(optimizer, ema);
    if let Some(scale) = progress.loss_scale {
        trainer.set_loss_scale(scale);
    }
    Ok((trainer, progress))
}

fn check_classes(folder: &Path, inputs: &TrainInputs) -> Result<(), RunError> {
    let classes: ClassTable = read_json(&folder.join(CLASSES))?;
    if classes == inputs.classes {
        return Ok(());
    }
    Err(RunError::Checkpoint {
        path: folder.join(CLASSES),
        reason: "its classes are not those of the data\nhint: go on with the data of the \
                 run, or start a new one from its model with model.init"
            .to_owned(),
    })
}

/// Refuses a checkpoint whose epochs or steps have another number of batches than those of now.
fn check_sizes(folder: &Path, was: &Progress, now: &Progress) -> Result<(), RunError> {
    for (was, is, of, hint) in [
        (
            was.batches_per_epoch,
            now.batches_per_epoch,
            "an epoch",
            "the run's data and data.loader.batch_size",
        ),
        (
            was.batches_per_step,
            now.batches_per_step,
            "a step",
            "as many devices as before, or another train.accumulate",
        ),
    ] {
        if was != is {
            return Err(RunError::Checkpoint {
                path: folder.join(PROGRESS),
                reason: format!(
                    "{of} had {was} batches and would have {is} now\nhint: go on with {hint}"
                ),
            });
        }
    }
    Ok(())
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, RunError> {
    let wrong = |reason: String| RunError::Checkpoint { path: path.to_owned(), reason };
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))
}
