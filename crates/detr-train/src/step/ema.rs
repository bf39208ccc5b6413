//! The exponential moving average of the parameters, as a model of its own. The decay's warm-up is that of
//! `YOLOv5` and RT-DETR; the references have no average.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use detr_model::Model;
use detr_types::RangeError;
use detr_types::range::below_one;
use serde::{Deserialize, Serialize};

/// The settings of the average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmaConfig {
    /// The share of the average that stays in an update, such as 0.9999.
    pub decay: f64,
    /// The number of updates after which the decay has 63 per cent of its value; 0 means all of it from the start.
    #[serde(default)]
    pub warmup: u64,
}

/// An average of models, and the number of its updates.
#[derive(Clone, Debug)]
pub struct Ema {
    config: EmaConfig,
    model: Model,
    updates: u64,
}

impl EmaConfig {
    /// Refuses numbers that cannot work; `field` is the path to these settings.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn validate(&self, field: &str) -> Result<(), RangeError> {
        below_one(format!("{field}.decay"), self.decay)
    }

    /// Returns the decay of an update, of which the first is 1: `decay (1 - exp(-update / warmup))`.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // updates are far below 2^52
    pub fn decay_at(&self, update: u64) -> f64 {
        match self.warmup {
            0 => self.decay,
            warmup => self.decay * (1.0 - (-(update as f64) / warmup as f64).exp()),
        }
    }
}

impl Ema {
    /// Begins an average with a model.
    #[must_use]
    pub fn new(model: &Model, config: EmaConfig) -> Self {
        Self { config, model: model.valid(), updates: 0 }
    }

    /// Goes on with an average that has seen some updates.
    #[must_use]
    pub fn resume(model: &Model, config: EmaConfig, updates: u64) -> Self {
        Self { updates, ..Self::new(model, config) }
    }

    /// Returns the average, which is ready to predict.
    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the number of updates.
    #[must_use]
    pub const fn updates(&self) -> u64 {
        self.updates
    }

    /// Takes a model in: `average += (1 - decay) (model - average)`. Parameters that are not trained stay.
    pub fn update(&mut self, model: &Model) {
        self.updates += 1;
        let mut trained = TrainedValues::default();
        model.visit(&mut trained);
        let share = 1.0 - self.config.decay_at(self.updates);
        let mut updater = AverageUpdater { values: trained.0.into_iter(), share };
        self.model = self.model.clone().map(&mut updater);
    }
}

/// Collects the parameters in order, flattened, with `None` for each that is not trained.
#[derive(Default)]
struct TrainedValues(Vec<Option<Tensor<1>>>);

impl ModuleVisitor for TrainedValues {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let elements = value.shape().num_elements();
        self.0.push(value.is_require_grad().then(|| value.inner().reshape([elements])));
    }
}

/// Moves every parameter of the average towards the value of the model.
struct AverageUpdater {
    values: std::vec::IntoIter<Option<Tensor<1>>>,
    share: f64,
}

impl ModuleMapper for AverageUpdater {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(value) = self.values.next().flatten() else { return param };
        param.map(|mean| {
            let step = value.reshape(mean.dims()) - mean.clone();
            mean + step * self.share
        })
    }
}
