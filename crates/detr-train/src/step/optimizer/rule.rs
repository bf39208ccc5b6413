//! The rules: a parameter, its gradient and what is kept of it, to the same after an update.

use burn::tensor::Tensor;
use detr_ops::adamw::Adamw;
use serde::{Deserialize, Serialize};

use crate::step::config::{ConfigError, below_one, positive};

/// Names of what is kept per parameter, as in `torch.optim`'s state.
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
        /// Decay of the mean gradient and of its mean square.
        #[serde(default = "default_betas")]
        betas: [f64; 2],
        /// Added to the denominator.
        #[serde(default = "default_eps")]
        eps: f64,
    },
    /// Gradient descent; weight decay is added to the gradient.
    Sgd {
        /// How much of the last update stays in the next; 0 for none.
        #[serde(default = "default_momentum")]
        momentum: f64,
    },
}

/// Flat, in Burn's order of the parameter, f32.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// Updates so far.
    pub(super) step: u64,
    /// Mean gradient, or the momentum.
    pub(super) first: Tensor<1>,
    /// Mean square of the gradient; `AdamW` only.
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
    /// The first field that is wrong.
    pub fn validate(&self, field: &str) -> Result<(), ConfigError> {
        match *self {
            Self::Adamw { betas, eps } => {
                below_one(format!("{field}.betas[0]"), betas[0])?;
                below_one(format!("{field}.betas[1]"), betas[1])?;
                positive(format!("{field}.eps"), eps)
            }
            Self::Sgd { momentum } => below_one(format!("{field}.momentum"), momentum),
        }
    }

    /// Names of the tensors that are kept per parameter besides the step.
    pub(super) const fn kept(&self) -> &'static [&'static str] {
        match self {
            Self::Adamw { .. } => &[MEAN, SQUARE],
            Self::Sgd { .. } => &[MOMENTUM],
        }
    }

    /// A parameter after an update, and what is kept of it. All flat and f32.
    pub(super) fn update(
        &self,
        value: Tensor<1>,
        gradient: Tensor<1>,
        state: Option<State>,
        [lr, decay]: [f64; 2],
    ) -> (Tensor<1>, State) {
        match *self {
            Self::Adamw { betas, eps } => {
                let (step, mean, square) = match state {
                    Some(State { step, first, second: Some(second) }) => (step, first, second),
                    _ => (0, gradient.zeros_like(), gradient.zeros_like()),
                };
                let update = Adamw { betas, eps, step: step + 1, lr, decay };
                let [value, mean, square] = update.update(value, gradient, mean, square);
                (value, State { step: update.step, first: mean, second: Some(square) })
            }
            Self::Sgd { momentum } => {
                let gradient =
                    if decay > 0.0 { gradient + value.clone() * decay } else { gradient };
                let (step, first) = match state {
                    Some(State { step, first, .. }) => (step + 1, first * momentum + gradient),
                    None => (1, gradient),
                };
                (value - first.clone() * lr, State { step, first, second: None })
            }
        }
    }
}
