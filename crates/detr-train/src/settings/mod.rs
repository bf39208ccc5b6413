//! The settings of a run, as they stand in `configs/train/*.toml`: a model, data, and how long and how
//! fast it learns. What is not stated is the reference's for the model. [`TrainConfig::load`] reads them.

mod check;
mod document;
mod error;
mod fault;
mod flags;
mod load;
mod read;
mod schema;
#[cfg(test)]
mod tests;

use detr_data::dataset::{DatasetSpec, Labels};
use detr_data::{Augmentation, CacheMode, LoaderConfig};
use detr_loss::SetCriterion;
use detr_model::ModelConfig;
use detr_types::PreprocessSpec;
use serde::{Deserialize, Serialize};

use crate::step::{
    EmaConfig, GroupConfig, GroupsConfig, OptimizerConfig, Precision, ScheduleConfig, StepConfig,
    default_clip,
};
pub use error::{SettingPlace, SettingsError};
pub use schema::SettingKey;

/// Everything that a run is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The model.
    pub model: ModelSettings,
    /// The data.
    pub data: DataSettings,
    /// The course of the training.
    pub train: TrainSettings,
    /// How often something is written, validated or checked.
    #[serde(default)]
    pub run: RunSettings,
}

/// Which model, and what it starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// A preset, or the path of a TOML file like those in `configs/models/`.
    pub arch: String,
    /// Object queries, where they are not those of the preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_queries: Option<usize>,
    /// A checkpoint of a whole model to start from: a file or folder, relative to the settings' file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// Weights of the backbone alone to start from, such as torchvision's; a path like `init`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backbone: Option<String>,
}

/// What is learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// Data for training.
    pub train: DatasetSpec,
    /// Data for validation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val: Option<DatasetSpec>,
    /// How categories become labels.
    #[serde(default)]
    pub labels: Labels,
    /// What is done with the images of the training.
    #[serde(default)]
    pub augmentation: Augmentation,
    /// Sizes of the images of the validation, and of the model that comes out.
    #[serde(default)]
    pub preprocess: PreprocessSpec,
    /// How samples become batches.
    #[serde(default)]
    pub loader: LoaderConfig,
    /// Where image files are kept between epochs.
    #[serde(default)]
    pub cache_mode: CacheMode,
}

/// How the model learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// Passes over the data.
    pub epochs: u64,
    /// Seed of the weights, the order, the augmentation and dropout.
    #[serde(default)]
    pub seed: u64,
    /// Learning rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Learning rate of the backbone; 0 freezes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_backbone: Option<f64>,
    /// Weight decay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Parts of the names of parameters that are not trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Vec<String>>,
    /// Groups of parameters with numbers of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<GroupConfig>>,
    /// The rule of the update.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// The course of the learning rate.
    #[serde(default)]
    pub schedule: ScheduleConfig,
    /// Largest norm of all gradients together; 0 for no clipping.
    #[serde(default = "default_clip")]
    pub clip_max_norm: f64,
    /// Batches that make one step together.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Moving average of the parameters, which is then validated and kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<EmaConfig>,
    /// Matching and losses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criterion: Option<SetCriterion>,
    /// What the forward and backward pass compute in.
    #[serde(default)]
    pub precision: Precision,
    /// Whether activations are computed again in the backward pass: less memory, more time.
    #[serde(default)]
    pub activation_checkpointing: bool,
    /// When a run ends before its last epoch; without it, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
}

/// When to stop before all epochs are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Epochs without a better AP.
    pub patience: usize,
    /// Epochs before which it does not stop.
    #[serde(default)]
    pub min_epochs: usize,
}

/// How often something happens beside the steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunSettings {
    /// Epochs between validations.
    pub validate_every: u64,
    /// Steps between checkpoints, beside those after every epoch; 0 for none.
    pub checkpoint_every: u64,
    /// Checkpoints that are kept, the best not counted.
    pub keep: usize,
    /// Steps between lines of the log.
    pub log_every: u64,
    /// Steps in a row without finite numbers after which the run stops.
    pub max_skipped: u32,
    /// Pictures that are drawn at every validation, with what was found and what is there.
    pub samples: usize,
    /// Least score of a box that is drawn on them.
    pub threshold: f32,
    /// Pairs of query and class per image that a validation counts, the best ones.
    pub max_detections: usize,
    /// Learns from the first so many images with objects alone, as they are, and validates on the same:
    /// a model and data that fit together come near an AP of 1 soon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overfit: Option<usize>,
    /// Stops after a validation with this AP or a higher one.
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

impl TrainSettings {
    /// The settings with what they leave to the model's reference.
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

    /// What a step does, for a model.
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
