//! The settings of a training step.

use burn::tensor::Device;
use detr_loss::SetCriterion;
use detr_model::ModelConfig;
use detr_model::postprocess::ScoreActivation;
use detr_types::range::not_negative;
use detr_types::{Precision, RangeError};
use serde::{Deserialize, Serialize};

use super::ema::EmaConfig;
use super::groups::GroupsConfig;
use super::optimizer::OptimizerConfig;
use super::usual_values::with_usual_values;

/// The settings of a training step. The schedule of the learning rate is not among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepConfig {
    /// Matching and losses.
    pub criterion: SetCriterion,
    /// The rule of the update.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// Learning rates, weight decay and frozen parameters.
    pub parameters: GroupsConfig,
    /// Largest L2 norm of all gradients together; 0 turns clipping off.
    #[serde(default = "default_clip")]
    pub clip_max_norm: f64,
    /// Moving average of the parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<EmaConfig>,
    /// The type that the model computes in; parameters, gradients, optimizer and losses are f32 in any case.
    #[serde(default)]
    pub precision: Precision,
    /// Whether activations of the backbone, the projections and the encoder are computed again in the
    /// backward pass, instead of being kept: less memory, more time, the same gradients up to rounding. See
    /// [`StepConfig::device`].
    #[serde(default)]
    pub activation_checkpointing: bool,
}

/// Returns the default of both references' `--clip_max_norm`.
pub(crate) const fn default_clip() -> f64 {
    0.1
}

impl StepConfig {
    /// Returns the settings that the reference of an architecture trains with.
    #[must_use]
    pub fn for_model(model: &ModelConfig) -> Self {
        let criterion = match model.activation() {
            ScoreActivation::Sigmoid if model.has_masks() => {
                SetCriterion::deformable_detr_with_masks()
            }
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

    /// Returns the device on which a model that is trained with these settings has to be: `device` with autodiff, and
    /// with activation checkpointing if that is wanted, since Burn makes it a property of the device.
    #[must_use]
    pub fn device(&self, device: Device) -> Device {
        let device = device.autodiff();
        if self.activation_checkpointing { device.gradient_checkpointing() } else { device }
    }

    /// Refuses numbers that cannot work.
    ///
    /// # Errors
    /// Names the first field that is wrong, with a hint at values that work. Whether patterns match a parameter is known only with a model, to
    /// [`Groups::new`](crate::Groups::new).
    pub fn validate(&self) -> Result<(), RangeError> {
        self.check_ranges().map_err(with_usual_values)
    }

    fn check_ranges(&self) -> Result<(), RangeError> {
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
