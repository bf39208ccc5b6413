//! Settings of a training step, and what is wrong with them.

use std::fmt::Display;

use burn::tensor::Device;
use detr_loss::SetCriterion;
use detr_model::ModelConfig;
use detr_model::postprocess::ScoreActivation;
use serde::{Deserialize, Serialize};

use super::ema::EmaConfig;
use super::groups::GroupsConfig;
use super::optimizer::OptimizerConfig;
use super::precision::Precision;

/// Everything that decides what a step does, but for the learning rate's course.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepConfig {
    /// Matching and losses.
    pub criterion: SetCriterion,
    /// The rule of the update.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// Learning rates, weight decay, and what is not trained.
    pub parameters: GroupsConfig,
    /// Largest L2 norm of all gradients together; 0 turns clipping off.
    #[serde(default = "default_clip")]
    pub clip_max_norm: f64,
    /// Moving average of the parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<EmaConfig>,
    /// What the model computes in; parameters, gradients, optimizer and losses are f32 in any case.
    #[serde(default)]
    pub precision: Precision,
    /// Whether activations of the backbone, the projections and the encoder are computed again in the
    /// backward pass, instead of being kept: less memory, more time, the same gradients up to rounding. See
    /// [`StepConfig::device`].
    #[serde(default)]
    pub activation_checkpointing: bool,
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, expected {expected}\nhint: {}", usual(field))]
pub struct ConfigError {
    /// Path of the field, such as `parameters.lr`.
    pub field: String,
    /// Its value.
    pub value: String,
    /// What it should be.
    pub expected: &'static str,
}

impl ConfigError {
    /// Values that work.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        usual(&self.field)
    }
}

/// Values that work, of a field by the end of its path.
fn usual(field: &str) -> &'static str {
    match field.rsplit('.').next().unwrap_or_default() {
        "lr" => {
            "DETR trains with 1e-4, Deformable DETR with 2e-4, their backbones with a tenth; 0 freezes"
        }
        "lr_factor" => {
            "Deformable DETR's sampling offsets have 0.1; set `lr` or `lr_factor`, not both"
        }
        "weight_decay" => "both references have 1e-4; 0 turns it off",
        "clip_max_norm" => "both references have 0.1; 0 turns clipping off",
        "betas[0]" | "betas[1]" => "AdamW's are 0.9 and 0.999",
        "eps" => "AdamW's is 1e-8",
        "momentum" => "0.9 is usual; 0 turns it off",
        "decay" => "0.9997 and 0.9999 are usual, the larger one for longer training",
        "class" | "bbox" | "giou" | "ce" | "mask" | "dice" => {
            "the references have 1 or 2 for classes, 5 for boxes and 2 for GIoU; 0 turns a term off"
        }
        "gamma" => "0.1 divides the learning rate by ten",
        "milestones" => "for example [40, 50], in the units of `per`",
        "every" => "DETR's rate drops after 200 epochs, Deformable DETR's after 40",
        "length" => "as long as the training for a cosine, some 1000 steps for a warm-up",
        "start_factor" | "min_factor" => "a share of the learning rate, such as 0.001",
        "name" | "patterns" => {
            "a group is { name = \"backbone\", patterns = [\"backbone.0\"], lr = 1e-5 }"
        }
        "epochs" => "DETR trains for 150 to 500 epochs, Deformable DETR for 50",
        "accumulate" => "1 makes a step of every batch",
        "patience" => "10 epochs are usual, the number of validations among them counts",
        "eos_coef" => "DETR's is 0.1",
        "alpha" => "Deformable DETR's is 0.25",
        _ => "leave the key out for its default",
    }
}

/// Both references' `--clip_max_norm`.
pub(crate) const fn default_clip() -> f64 {
    0.1
}

impl StepConfig {
    /// What the reference of an architecture trains with.
    #[must_use]
    pub fn for_model(model: &ModelConfig) -> Self {
        let criterion = match model.activation() {
            ScoreActivation::Sigmoid => SetCriterion::deformable_detr(),
            ScoreActivation::Softmax => SetCriterion::detr(),
        };
        Self {
            criterion,
            optimizer: OptimizerConfig::default(),
            parameters: GroupsConfig::for_model(model),
            clip_max_norm: default_clip(),
            ema: None,
            precision: Precision::F32,
            activation_checkpointing: false,
        }
    }

    /// Where a model that is trained with these settings has to be: the device with autodiff, and with
    /// activation checkpointing if that is wanted, since Burn makes it a property of the device.
    #[must_use]
    pub fn device(&self, device: Device) -> Device {
        let device = device.autodiff();
        if self.activation_checkpointing { device.gradient_checkpointing() } else { device }
    }

    /// Refuses numbers that cannot work.
    ///
    /// # Errors
    /// The first field that is wrong. Whether patterns match is known only with a model, to
    /// [`Groups::new`](crate::Groups::new).
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.optimizer.validate("optimizer")?;
        self.parameters.validate("parameters")?;
        not_negative("clip_max_norm", self.clip_max_norm)?;
        let SetCriterion { cost, weights, .. } = &self.criterion;
        for (field, value) in [
            ("criterion.cost.class", cost.class),
            ("criterion.cost.bbox", cost.bbox),
            ("criterion.cost.giou", cost.giou),
            ("criterion.weights.ce", weights.ce),
            ("criterion.weights.bbox", weights.bbox),
            ("criterion.weights.giou", weights.giou),
            ("criterion.weights.mask", weights.mask),
            ("criterion.weights.dice", weights.dice),
        ] {
            not_negative(field, value)?;
        }
        self.ema.as_ref().map_or(Ok(()), |ema| ema.validate("ema"))
    }
}

/// Refuses a field unless the condition holds.
pub(crate) fn require(
    ok: bool,
    field: impl Display,
    value: impl Display,
    expected: &'static str,
) -> Result<(), ConfigError> {
    if ok {
        return Ok(());
    }
    Err(ConfigError { field: field.to_string(), value: value.to_string(), expected })
}

pub(crate) fn not_negative(field: impl Display, value: f64) -> Result<(), ConfigError> {
    require(value.is_finite() && value >= 0.0, field, value, "a finite number, 0 or more")
}

pub(crate) fn positive(field: impl Display, value: f64) -> Result<(), ConfigError> {
    require(value.is_finite() && value > 0.0, field, value, "a finite number above 0")
}

pub(crate) fn below_one(field: impl Display, value: f64) -> Result<(), ConfigError> {
    require((0.0..1.0).contains(&value), field, value, "a number from 0 to below 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deformable() -> StepConfig {
        StepConfig::for_model(&ModelConfig::preset("deformable-detr-r50").unwrap())
    }

    #[test]
    fn the_references_settings_survive_toml() {
        for preset in ModelConfig::presets() {
            let config = StepConfig::for_model(&ModelConfig::preset(preset).unwrap());
            config.validate().unwrap();
            let text = toml::to_string(&config).unwrap();
            assert!(text.contains("precision = \"f32\""), "{text}");
            assert_eq!(toml::from_str::<StepConfig>(&text).unwrap(), config, "{text}");
        }
    }

    #[test]
    fn numbers_that_cannot_work_are_named() {
        let error = |change: fn(&mut StepConfig)| {
            let mut config = deformable();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(
            error(|config| config.parameters.lr = -1.0),
            "parameters.lr is -1, expected a finite number, 0 or more\nhint: DETR trains with 1e-4, \
             Deformable DETR with 2e-4, their backbones with a tenth; 0 freezes"
        );
        assert!(
            error(|config| config.clip_max_norm = f64::NAN).starts_with("clip_max_norm is NaN")
        );
        assert!(
            error(|config| config.parameters.groups[1].lr = Some(1e-5))
                .starts_with("parameters.groups[1] (sampling)")
        );
        assert!(
            error(|config| config.ema = Some(EmaConfig { decay: 1.0, warmup: 0 }))
                .starts_with("ema.decay is 1, expected a number from 0 to below 1\nhint: 0.9997")
        );
        let text = toml::to_string(&deformable()).unwrap() + "\n[more]\n";
        assert!(toml::from_str::<StepConfig>(&text).unwrap_err().to_string().contains("`more`"));
    }
}
