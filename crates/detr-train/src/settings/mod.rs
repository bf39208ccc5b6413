//! The settings of a run, as they stand in `configs/train/*.toml`: a model, data, and how long and how
//! fast it learns. Settings that are not stated are those of the model's reference. [`TrainConfig::load`]
//! reads a file.

mod check;
mod document;
mod error;
mod flags;
mod load;
mod read;
mod reason;
mod schema;
#[cfg(test)]
mod tests;

use detr_data::dataset::{DatasetSpec, Labels};
use detr_data::{Augmentation, CacheMode, LoaderConfig};
use detr_loss::SetCriterion;
use detr_model::ModelConfig;
use detr_types::{Precision, PreprocessSpec};
use serde::{Deserialize, Serialize};

use crate::step::{
    EmaConfig, GroupConfig, GroupsConfig, OptimizerConfig, ScheduleConfig, StepConfig, default_clip,
};
pub use error::{SettingPlace, SettingsError};
pub use schema::SettingKey;

/// All settings of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The model.
    pub model: ModelSettings,
    /// The data.
    pub data: DataSettings,
    /// The training.
    pub train: TrainSettings,
    /// The intervals of what happens beside the steps, and when to stop early.
    #[serde(default)]
    pub run: RunSettings,
}

/// The settings of the model, and of its first weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// A preset, or the path of a TOML file like those in `configs/models/`.
    pub arch: String,
    /// The number of object queries, if it is not that of the preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_queries: Option<usize>,
    /// A checkpoint of a whole model to start from: a file or folder, relative to the settings' file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// Weights of the backbone alone to start from, such as torchvision's; a path like `init`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backbone: Option<String>,
    /// A trained detector whose weights stay as they are, while the mask head is trained; a path like `init`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen_weights: Option<String>,
}

/// The settings of the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// The data for training.
    pub train: DatasetSpec,
    /// The data for validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val: Option<DatasetSpec>,
    /// Whether images are turned upright by their EXIF orientation, for training and validation alike.
    #[serde(default)]
    pub apply_exif: bool,
    /// The rule that makes labels of categories.
    #[serde(default)]
    pub labels: Labels,
    /// The transforms of the images of the training.
    #[serde(default)]
    pub augmentation: Augmentation,
    /// The preprocessing of the images of the validation, which the trained model asks for, too.
    #[serde(default)]
    pub preprocess: PreprocessSpec,
    /// The settings of the loader, which makes batches of samples.
    #[serde(default)]
    pub loader: LoaderConfig,
    /// The place where image files are kept between epochs.
    #[serde(default)]
    pub cache_mode: CacheMode,
}

/// The settings of the training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// The number of passes over the data.
    pub epochs: u64,
    /// The seed of the weights, the order, the augmentation and dropout.
    #[serde(default)]
    pub seed: u64,
    /// The learning rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// The learning rate of the backbone; 0 freezes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_backbone: Option<f64>,
    /// The weight decay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Parts of the names of parameters that are not trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Vec<String>>,
    /// Groups of parameters with rates of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<GroupConfig>>,
    /// The rule of the update.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// The schedule of the learning rate.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// The largest norm of all gradients together; 0 turns clipping off.
    #[serde(default = "default_clip")]
    pub clip_max_norm: f64,
    /// The number of batches that make one step together.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// The moving average of the parameters, which is then validated and kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<EmaConfig>,
    /// Matching and losses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criterion: Option<SetCriterion>,
    /// The type that the forward and backward pass compute in.
    #[serde(default)]
    pub precision: Precision,
    /// Whether activations are computed again in the backward pass: less memory, more time.
    #[serde(default)]
    pub activation_checkpointing: bool,
    /// The rule that ends a run whose AP does not improve; without it, no such run ends early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
}

/// The rule that ends a run whose AP does not improve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// The number of epochs without a better AP.
    pub patience: usize,
    /// The number of epochs within which the run does not end.
    #[serde(default)]
    pub min_epochs: usize,
}

/// The intervals of what happens beside the steps, and when to stop early.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunSettings {
    /// The number of epochs between validations.
    pub validate_every: u64,
    /// The number of steps between checkpoints, beside those after every epoch; 0 for none.
    pub checkpoint_every: u64,
    /// The number of epochs whose checkpoints are kept, beside the best one.
    pub keep: usize,
    /// The number of steps between lines of the log.
    pub log_every: u64,
    /// The number of steps in a row without finite numbers that ends the run.
    pub max_skipped: u32,
    /// The number of pictures that are drawn at every validation, with detections and ground truth.
    pub samples: usize,
    /// The least score of a box that is drawn on them.
    pub threshold: f32,
    /// The number of pairs of query and class, the best of each image, that a validation counts.
    pub max_detections: usize,
    /// The number of images to learn from, if not all: the first ones that have objects, without augmentation. The
    /// validation is on the same images, so a model and data that fit together soon come near an AP of 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overfit: Option<usize>,
    /// The AP that ends the run, once a validation reaches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_at_ap: Option<f64>,
}

const fn one() -> usize {
    1
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            validate_every: 1,
            checkpoint_every: 0,
            keep: 2,
            log_every: 10,
            max_skipped: 5,
            samples: 4,
            threshold: 0.3,
            max_detections: 100,
            overfit: None,
            stop_at_ap: None,
        }
    }
}

impl TrainConfig {
    /// Returns the settings of a step for a model. Where a detector's weights are frozen, only the mask head is
    /// trained.
    #[must_use]
    pub fn step(&self, model: &ModelConfig) -> StepConfig {
        let mut step = self.train.step(model);
        if self.model.frozen_weights.is_some() {
            step.parameters.frozen = self.frozen(step.parameters.frozen, model);
        }
        step
    }

    /// Returns the settings of the training with everything that they leave to the model's reference.
    #[must_use]
    pub fn resolved(&self, model: &ModelConfig) -> TrainSettings {
        let mut train = self.train.resolved(model);
        if self.model.frozen_weights.is_some() {
            train.frozen = train.frozen.map(|frozen| self.frozen(frozen, model));
        }
        train
    }

    /// Adds the parts outside the mask head to the patterns of frozen parameters that the settings state.
    fn frozen(&self, patterns: Vec<String>, model: &ModelConfig) -> Vec<String> {
        let mut all: Vec<String> = model.detector_parts().into_iter().map(str::to_owned).collect();
        let stated = if self.train.frozen.is_some() { patterns } else { Vec::new() };
        all.extend(
            stated
                .into_iter()
                .filter(|pattern| !model.detector_parts().contains(&pattern.as_str())),
        );
        all
    }
}

impl TrainSettings {
    /// Returns the settings with everything that they leave to the model's reference.
    #[must_use]
    pub fn resolved(&self, model: &ModelConfig) -> Self {
        let StepConfig { criterion, parameters, .. } = self.step(model);
        let GroupsConfig { lr, weight_decay, frozen, groups } = parameters;
        Self {
            lr: Some(lr),
            lr_backbone: None,
            weight_decay: Some(weight_decay),
            frozen: Some(frozen),
            groups: Some(groups),
            criterion: Some(criterion),
            ..self.clone()
        }
    }

    /// Returns the settings of a step for a model.
    #[must_use]
    pub fn step(&self, model: &ModelConfig) -> StepConfig {
        let reference = StepConfig::for_model(model);
        let defaults = reference.parameters.clone();
        let mut groups = self.groups.clone().unwrap_or(defaults.groups);
        for group in groups.iter_mut().filter(|group| group.name == "backbone") {
            if self.lr_backbone.is_some() {
                (group.lr, group.lr_factor) = (self.lr_backbone, None);
            }
        }
        StepConfig {
            criterion: self.criterion.unwrap_or(reference.criterion),
            optimizer: self.optimizer,
            parameters: GroupsConfig {
                lr: self.lr.unwrap_or(defaults.lr),
                weight_decay: self.weight_decay.unwrap_or(defaults.weight_decay),
                frozen: self.frozen.clone().unwrap_or(defaults.frozen),
                groups,
            },
            clip_max_norm: self.clip_max_norm,
            ema: self.ema,
            precision: self.precision,
            activation_checkpointing: self.activation_checkpointing,
        }
    }
}
