//! The error of a setting whose number cannot work, and the checks that make it.

use std::fmt::Display;

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, expected {expected}\nhint: {}", usual(field))]
pub struct ConfigError {
    /// The path of the field, such as `parameters.lr`.
    pub field: String,
    /// Its value.
    pub value: String,
    /// The values that it can have.
    pub expected: &'static str,
}

impl ConfigError {
    /// Returns values that work, as a sentence.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        usual(&self.field)
    }
}

/// Returns values that work for a field, which is known by the end of its path.
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

/// Refuses a negative or infinite number, and NaN.
pub(crate) fn not_negative(field: impl Display, value: f64) -> Result<(), ConfigError> {
    require(value.is_finite() && value >= 0.0, field, value, "a finite number, 0 or more")
}

/// Refuses a number that is not above 0, or infinite.
pub(crate) fn positive(field: impl Display, value: f64) -> Result<(), ConfigError> {
    require(value.is_finite() && value > 0.0, field, value, "a finite number above 0")
}

/// Refuses a number outside of `[0, 1)`.
pub(crate) fn below_one(field: impl Display, value: f64) -> Result<(), ConfigError> {
    require((0.0..1.0).contains(&value), field, value, "a number from 0 to below 1")
}
