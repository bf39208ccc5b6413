//! The rules of the update: from a parameter, its gradient and its state to the parameter and the state after it.

use burn::tensor::Tensor;
use detr_ops::adamw::Adamw;
use detr_types::RangeError;
use detr_types::range::{below_one, positive};
use serde::{Deserialize, Serialize};

// The names of the parts of a parameter's state, as in `torch.optim`.
pub(super) const STEP: &str = "step";
const MEAN: &str = "exp_avg";
const SQUARE: &str = "exp_avg_sq";
const MOMENTUM: &str = "momentum_buffer";

/// The rule of the update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum OptimizerConfig {
    /// Adam with decoupled weight decay.
    Adamw {
        /// The decays of the mean gradient and of its mean square.
        #[serde(default = "default_betas")]
        betas: [f64; 2],
        /// The number that is added to the denominator.
        #[serde(default = "default_eps")]
        eps: f64,
    },
    /// Gradient descent. The weight decay is added to the gradient.
    Sgd {
        /// The share of the last update that stays in the next.
        #[serde(default = "default_momentum")]
        momentum: f64,
    },
}

/// The state of a parameter: flattened f32 tensors in Burn's layout of the parameter.
#[derive(Clone, Debug)]
pub(super) struct ParameterState {
    /// The number of updates.
    pub(super) step: u64,
    /// The mean gradient, or the momentum.
    pub(super) first: Tensor<1>,
    /// The mean square of the gradient, which only `AdamW` has.
    pub(super) second: Option<Tensor<1>>,
}

const fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

const fn default_eps() -> f64 {
    1e-8
}

const fn default_momentum() -> f64 {
    0.9
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::Adamw { betas: default_betas(), eps: default_eps() }
    }
}

impl OptimizerConfig {
    /// Refuses numbers that cannot work; `field` is the path to these settings.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn validate(&self, field: &str) -> Result<(), RangeError> {
        match *self {
            Self::Adamw { betas, eps } => {
                below_one(format!("{field}.betas[0]"), betas[0])?;
                below_one(format!("{field}.betas[1]"), betas[1])?;
                positive(format!("{field}.eps"), eps)
            }
            Self::Sgd { momentum } => below_one(format!("{field}.momentum"), momentum),
        }
    }

    /// Returns the names of the tensors of a parameter's state.
    pub(super) const fn kept(&self) -> &'static [&'static str] {
        match self {
            Self::Adamw { .. } => &[MEAN, SQUARE],
            Self::Sgd { .. } => &[MOMENTUM],
        }
    }

    /// Returns a parameter and its state after an update. All tensors are flattened f32.
    pub(super) fn update(
        &self,
        value: Tensor<1>,
        gradient: Tensor<1>,
        state: Option<ParameterState>,
        [lr, decay]: [f64; 2],
    ) -> (Tensor<1>, ParameterState) {
        match *self {
            Self::Adamw { betas, eps } => {
                let (step, mean, square) = match state {
                    Some(ParameterState { step, first, second: Some(second) }) => {
                        (step, first, second)
                    }
                    _ => (0, gradient.zeros_like(), gradient.zeros_like()),
                };
                let update = Adamw { betas, eps, step: step + 1, lr, decay };
                let [value, mean, square] = update.update(value, gradient, mean, square);
                (value, ParameterState { step: update.step, first: mean, second: Some(square) })
            }
            Self::Sgd { momentum } => {
                let gradient =
                    if decay > 0.0 { gradient + value.clone() * decay } else { gradient };
                let (step, first) = match state {
                    Some(ParameterState { step, first, .. }) => {
                        (step + 1, first * momentum + gradient)
                    }
                    None => (1, gradient),
                };
                (value - first.clone() * lr, ParameterState { step, first, second: None })
            }
        }
    }
}
