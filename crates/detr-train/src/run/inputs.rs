//! The inputs of a run beside its settings.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use detr_data::Loader;
use detr_eval::GroundTruth;
use detr_model::{Model, ModelConfig};
use detr_types::{ClassTable, PreprocessSpec};

use super::checkpoints::Checkpoints;
use super::error::RunError;
use crate::settings::TrainConfig;

/// The inputs of a run beside its settings.
pub struct TrainInputs {
    /// The architecture, with a head for the classes.
    pub model: ModelConfig,
    /// The device that trains, with autodiff.
    pub device: Device,
    /// Further devices, with autodiff, that share every step. Each takes whole batches of the loader.
    pub others: Vec<Device>,
    /// The classes that the labels stand for.
    pub classes: ClassTable,
    /// The batches of the training.
    pub loader: Arc<Loader>,
    /// The images of the validation and their ground truth.
    pub validation: Option<(Arc<Loader>, Arc<GroundTruth>)>,
    /// The preprocessing that the trained model asks for.
    pub preprocess: PreprocessSpec,
    /// The folder of the run.
    pub folder: PathBuf,
}

impl TrainInputs {
    /// Returns the number of steps of an epoch, if each takes `accumulate` batches on every device.
    #[must_use]
    pub fn steps_per_epoch(&self, accumulate: usize) -> u64 {
        let (batches, per_step) =
            (self.loader.batches_per_epoch(), self.batches_per_step(accumulate));
        (batches / per_step + usize::from(batches % per_step >= self.ranks())) as u64
    }

    /// Returns the number of devices that train.
    #[must_use]
    pub fn ranks(&self) -> usize {
        1 + self.others.len()
    }

    /// Returns the number of batches that make one step, `accumulate` on every device.
    #[must_use]
    pub fn batches_per_step(&self, accumulate: usize) -> usize {
        self.ranks() * accumulate
    }

    /// Returns the checkpoints in the folder of the run.
    pub(super) fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(self.folder.join("checkpoints"))
    }

    /// Refuses devices that cannot train together.
    pub(super) fn check_devices(
        &self,
        config: &TrainConfig,
        start: &Model,
    ) -> Result<(), RunError> {
        let (ranks, batches) = (self.ranks(), self.loader.batches_per_epoch());
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
}
