//! The precision that a run computes in, as it stands in its settings.

use serde::{Deserialize, Serialize};

/// Type of the numbers of a forward and backward pass. Weights, and what the optimizer keeps, are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    F32,
    /// 8 bits of exponent as in f32, 8 bits of precision.
    Bf16,
    /// Half precision, with a loss scale.
    F16,
}
