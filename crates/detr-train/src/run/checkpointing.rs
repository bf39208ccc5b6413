//! The checkpoints and the model of a run on disk. A full disk does not end a run: what cannot be written is tried
//! again with the next checkpoint, and only several failures in a row, or one at the end, are an error.

use burn::module::Module;
use detr_model::Model;
use detr_model::weights::{Checkpoint, StateDict, read_parameters, tensors_to_bytes};
use serde::Serialize;

use super::checkpoints::Checkpoints;
use super::error::RunError;
use super::events::{Event, Watch};
use super::inputs::TrainInputs;
use super::progress::Progress;
use crate::settings::TrainConfig;
use crate::step::Trainer;

// The files of a checkpoint.
pub(super) const MODEL: &str = "model.safetensors";
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";
pub(super) const EMA: &str = "ema.safetensors";
pub(super) const PROGRESS: &str = "progress.json";
pub(super) const CLASSES: &str = "classes.json";
const CONFIG: &str = "config.json";

/// Checkpoints in a row that may fail.
const MAX_FAILURES: usize = 3;

/// The name and the content of a file of a checkpoint.
pub(super) type CheckpointFile = (&'static str, Vec<u8>);

/// Returns the files of a checkpoint: all that a run needs to go on.
///
/// # Errors
/// The device fails.
pub(super) fn checkpoint_files(
    config: &TrainConfig,
    inputs: &TrainInputs,
    trainer: &Trainer,
    progress: &Progress,
) -> Result<Vec<CheckpointFile>, RunError> {
    let bytes = |state: &StateDict| tensors_to_bytes(state).map_err(RunError::from);
    let model = read_parameters(trainer.model())?;
    let optimizer = trainer.optimizer().state(trainer.groups())?;
    let mut files = vec![(MODEL, bytes(&model)?), (OPTIMIZER, bytes(&optimizer)?)];
    if let Some(ema) = trainer.ema() {
        files.push((EMA, bytes(&read_parameters(ema.model())?)?));
    }
    files.push((PROGRESS, json(progress)?));
    files.push((CONFIG, json(config)?));
    files.push((CLASSES, json(&inputs.classes)?));
    Ok(files)
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, RunError> {
    serde_json::to_vec_pretty(value).map_err(|error| RunError::not_saved(&[error.to_string()]))
}

/// Writes the checkpoints and the model of a run, and remembers what could not be written.
pub(super) struct CheckpointWriter {
    checkpoints: Checkpoints,
    /// The messages of the file system since the last checkpoint that was written.
    failures: Vec<String>,
    /// The model that the folder `model` should hold, if it could not be written.
    unwritten: Option<Model>,
}

impl CheckpointWriter {
    pub(super) const fn new(checkpoints: Checkpoints) -> Self {
        Self { checkpoints, failures: Vec::new(), unwritten: None }
    }

    /// Writes a checkpoint at the position that `progress` tells.
    ///
    /// # Errors
    /// This checkpoint and those before it could not be written.
    pub(super) fn save(
        &mut self,
        inputs: &TrainInputs,
        progress: &Progress,
        files: &[CheckpointFile],
        watch: &mut dyn Watch,
    ) -> Result<(), RunError> {
        let Progress { step, epoch, batch, .. } = *progress;
        // Whenever it is written, a checkpoint between two epochs is that of the end of one.
        let epoch = (batch == 0 && epoch > 0).then_some(epoch);
        let saved = self.checkpoints.save(step, epoch, files).and_then(|path| {
            self.checkpoints.point("last", step)?;
            match progress.best() {
                Some(best) if best.step == step => self.checkpoints.point("best", step)?,
                _ => (),
            }
            Ok(path)
        });
        match saved {
            Ok(path) => {
                self.failures.clear();
                // If a checkpoint could be written, a model may be, too.
                self.write_unwritten(inputs, watch);
                self.checkpoints.remove_passing(step);
                watch.event(Event::Saved(&path));
                Ok(())
            }
            Err(error) => {
                let reason = error.to_string();
                watch.event(Event::NotSaved(&reason));
                self.failures.push(reason);
                if self.failures.len() >= MAX_FAILURES {
                    return Err(RunError::not_saved(&self.failures));
                }
                Ok(())
            }
        }
    }

    /// Removes the checkpoints at the ends of these epochs, but none as long as no new one can be written.
    pub(super) fn remove(&self, epochs: &[u64]) {
        if self.failures.is_empty() {
            for &epoch in epochs {
                self.checkpoints.remove(epoch);
            }
        }
    }

    /// Writes the folder `model`, which `detr predict` takes: the moving average if there is one. What cannot be
    /// written is tried again later.
    pub(super) fn write_model(
        &mut self,
        inputs: &TrainInputs,
        trainer: &Trainer,
        watch: &mut dyn Watch,
    ) {
        let model = match trainer.ema() {
            Some(ema) => ema.model().clone(),
            None => trainer.model().valid(),
        };
        self.unwritten = Some(model);
        self.write_unwritten(inputs, watch);
    }

    /// Writes the model that is still to be written. Returns the reason if there is one and it cannot be written.
    fn write_unwritten(&mut self, inputs: &TrainInputs, watch: &mut dyn Watch) -> Option<String> {
        let model = self.unwritten.take()?;
        let read = read_parameters(&model).map_err(|error| error.message);
        let written = read.and_then(|state| {
            let (preprocess, classes) = (inputs.preprocess, inputs.classes.clone());
            let checkpoint = Checkpoint::trained(&inputs.model, state, preprocess, classes);
            let device = inputs.device.clone().inner();
            checkpoint
                .save(&inputs.folder.join("model"), &device)
                .map_err(|error| error.to_string())
        });
        let reason = written.err()?;
        watch.event(Event::NotSaved(&reason));
        self.unwritten = Some(model);
        Some(reason)
    }

    /// Ends a run that was saved.
    ///
    /// # Errors
    /// The last checkpoint or the model could not be written.
    pub(super) fn finish(
        &mut self,
        inputs: &TrainInputs,
        watch: &mut dyn Watch,
    ) -> Result<(), RunError> {
        if !self.failures.is_empty() {
            return Err(RunError::not_saved(&self.failures));
        }
        match self.write_unwritten(inputs, watch) {
            Some(reason) => Err(RunError::not_saved(&[reason])),
            None => Ok(()),
        }
    }
}
