//! A run on disk: what a checkpoint holds, and how a run goes on from one.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, FloatDType};
use detr_model::Model;
use detr_model::weights::{
    Checkpoint, StateDict, load_into, read_parameters, read_state_dict, tensors_to_bytes,
};
use detr_types::ClassTable;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::train_loop::Course;
use super::{Event, Progress, RunError};
use crate::step::{Ema, Optimizer, Trainer};

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const EMA: &str = "ema.safetensors";
const PROGRESS: &str = "progress.json";
const CONFIG: &str = "config.json";
const CLASSES: &str = "classes.json";
/// Checkpoints in a row that may fail.
const MAX_UNSAVED: usize = 3;

impl Course {
    /// `model/`: what `detr predict` takes, of the average where there is one. A full disk does not end the
    /// run: what could not be written is kept, and tried again by [`Course::write_unwritten`].
    pub(crate) fn write_model(&mut self) {
        let model = match self.trainer.ema() {
            Some(ema) => ema.model().clone(),
            None => self.trainer.model().valid(),
        };
        self.unwritten = Some(model);
        self.write_unwritten();
    }

    /// Writes the model that is still to be written, if there is one; why not, where it cannot be.
    pub(crate) fn write_unwritten(&mut self) -> Option<String> {
        let model = self.unwritten.take()?;
        let written = read_parameters(&model).and_then(|state| {
            let (preprocess, classes) = (self.parts.preprocess, self.parts.classes.clone());
            let checkpoint = Checkpoint::trained(&self.parts.model, state, preprocess, classes);
            let device = self.parts.device.clone().inner();
            checkpoint
                .save(&self.parts.folder.join("model"), &device)
                .map_err(|error| error.to_string())
        });
        let reason = written.err()?;
        (self.observer)(Event::NotSaved(&reason));
        self.unwritten = Some(model);
        Some(reason)
    }

    /// Writes a checkpoint. A full disk costs a checkpoint, not the run, unless it goes on.
    pub(crate) fn save(&mut self) -> Result<(), RunError> {
        let bytes = |state: &StateDict| tensors_to_bytes(state).map_err(RunError::from);
        let model = read_parameters(self.trainer.model()).map_err(RunError::Device)?;
        let optimizer =
            self.trainer.optimizer().state(self.trainer.groups()).map_err(RunError::Device)?;
        let mut files = vec![(MODEL, bytes(&model)?), (OPTIMIZER, bytes(&optimizer)?)];
        if let Some(ema) = self.trainer.ema() {
            files.push((EMA, bytes(&read_parameters(ema.model()).map_err(RunError::Device)?)?));
            self.at.ema_updates = ema.updates();
        }
        self.at.loss_scale = self.trainer.loss_scale();
        files.push((PROGRESS, json(&self.at)?));
        files.push((CONFIG, json(&self.config)?));
        files.push((CLASSES, json(&self.parts.classes)?));
        let Progress { step, epoch, batch, .. } = self.at;
        // Whenever it is written, a checkpoint between two epochs is that of the end of one.
        let epoch = (batch == 0 && epoch > 0).then_some(epoch);
        let saved = self.checkpoints.save(step, epoch, &files).and_then(|path| {
            self.checkpoints.point("last", step)?;
            match self.at.best() {
                Some(best) if best.step == step => self.checkpoints.point("best", step)?,
                _ => (),
            }
            Ok(path)
        });
        match saved {
            Ok(path) => {
                self.unsaved.clear();
                // Where a checkpoint could be written, a model may be, too.
                self.write_unwritten();
                self.checkpoints.remove_passing(step);
                (self.observer)(Event::Saved(&path));
                Ok(())
            }
            Err(error) => {
                let reason = error.to_string();
                (self.observer)(Event::NotSaved(&reason));
                self.unsaved.push(reason);
                if self.unsaved.len() >= MAX_UNSAVED {
                    return Err(RunError::not_saved(&self.unsaved));
                }
                Ok(())
            }
        }
    }

    /// Goes on from the newest checkpoint that counts, if there is one.
    pub(crate) fn resume(&mut self) -> Result<(), RunError> {
        self.checkpoints.sweep();
        let (found, passed) = self.checkpoints.newest();
        match (found, passed.first()) {
            (Some(found), _) => self.load(&found.path)?,
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
            // Stopped before there was one.
            (None, None) => (),
        }
        (self.observer)(Event::Resumed { at: &self.at, passed: &passed });
        Ok(())
    }

    fn load(&mut self, folder: &Path) -> Result<(), RunError> {
        let at: Progress = read_json(&folder.join(PROGRESS))?;
        let classes: ClassTable = read_json(&folder.join(CLASSES))?;
        if classes != self.parts.classes {
            return Err(RunError::Checkpoint {
                path: folder.join(CLASSES),
                reason: "its classes are not those of the data\nhint: go on with the data of the \
                         run, or start a new one from its model with model.init"
                    .to_owned(),
            });
        }
        for (was, is, of, hint) in [
            (
                at.batches_per_epoch,
                self.at.batches_per_epoch,
                "an epoch",
                "the run's data and data.loader.batch_size",
            ),
            (
                at.batches_per_step,
                self.at.batches_per_step,
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
        let load = |name: &str, device: &Device| -> Result<Model, RunError> {
            let file = folder.join(name);
            let state = read_state_dict(&file)?;
            let model = self.parts.model.init(device);
            Ok(load_into(model, &state, FloatDType::F32, &file)?)
        };
        let step = self.config.train.step(&self.parts.model);
        let mut trainer = Trainer::new(load(MODEL, &self.parts.device)?, &step)?;
        let state = read_state_dict(&folder.join(OPTIMIZER))?;
        let optimizer =
            Optimizer::resume(step.optimizer, trainer.groups(), &state, &self.parts.device)?;
        let ema = match step.ema {
            Some(ema) if folder.join(EMA).exists() => {
                Some(Ema::resume(&load(EMA, &self.parts.device)?, ema, at.ema_updates))
            }
            // One that begins now.
            Some(ema) => Some(Ema::new(trainer.model(), ema)),
            None => None,
        };
        trainer.resume(optimizer, ema);
        if let Some(scale) = at.loss_scale {
            trainer.set_loss_scale(scale);
        }
        self.trainer = trainer;
        self.at = at;
        Ok(())
    }
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, RunError> {
    serde_json::to_vec_pretty(value).map_err(|error| RunError::not_saved(&[error.to_string()]))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, RunError> {
    let wrong = |reason: String| RunError::Checkpoint { path: path.to_owned(), reason };
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))
}
