//! Wraps named numbers as Burn's metrics, which its renderers show.

use std::sync::Arc;

use burn::tensor::{ExecutionError, Tensor, TensorReadError};
use burn_train::ItemLazy;
use burn_train::metric::state::{FormatOptions, NumericMetricState};
use burn_train::metric::{
    Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes,
    NumericEntry, SerializedEntry,
};

/// The numbers of a step or of a validation, by name.
#[derive(Clone, Debug)]
pub struct Scalars(Arc<[(&'static str, f64)]>);

impl Scalars {
    /// The weighted sum of the losses.
    pub const LOSS: &'static str = "Loss";
    /// The L2 norm of all gradients.
    pub const GRADIENT: &'static str = "Gradient norm";
    /// The learning rate of the parameters in no group.
    pub const LEARNING_RATE: &'static str = "Learning rate";
    /// COCO's AP.
    pub const AP: &'static str = "AP";
    /// COCO's AP50.
    pub const AP50: &'static str = "AP50";

    /// Collects pairs of a name and a number.
    pub fn new(scalars: impl IntoIterator<Item = (&'static str, f64)>) -> Self {
        Self(scalars.into_iter().collect())
    }

    /// Reads a loss from the device; one that cannot be read is NaN.
    pub(super) fn loss(loss: &Tensor<1>) -> Self {
        let value = loss.clone().detach().try_into_scalar::<f64>().unwrap_or(f64::NAN);
        Self::new([(Self::LOSS, value)])
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

impl ItemLazy for Scalars {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

impl Adaptor<Self> for Scalars {
    fn adapt(&self) -> Self {
        self.clone()
    }
}

/// One of the [`Scalars`] as a metric: its last value, and its mean over an epoch.
#[derive(Clone)]
pub struct ScalarMetric {
    name: MetricName,
    higher_is_better: bool,
    state: NumericMetricState,
}

impl ScalarMetric {
    /// Makes the metric of the number with this name.
    #[must_use]
    pub fn new(name: &'static str, higher_is_better: bool) -> Self {
        Self { name: Arc::new(name.to_owned()), higher_is_better, state: NumericMetricState::new() }
    }

    fn format(&self) -> FormatOptions {
        FormatOptions::new(self.name.clone()).precision(4)
    }

    /// Takes the number in and returns its text.
    pub(super) fn record(&mut self, scalars: &Scalars) -> SerializedEntry {
        match scalars.get(&self.name) {
            Some(value) => {
                self.state.update(value, 1);
                self.state.compute_update(self.format())
            }
            None => SerializedEntry::not_available(None),
        }
    }

    /// Returns the text of the mean over the epoch.
    pub(super) fn mean(&self) -> SerializedEntry {
        self.state.compute_final(self.format())
    }
}

impl Metric for ScalarMetric {
    type Input = Scalars;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: self.higher_is_better }.into()
    }

    fn update(
        &mut self,
        scalars: &Scalars,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.record(scalars))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.mean())
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for ScalarMetric {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.state.current_value()).filter(|entry| !entry.current().is_nan())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.state.running_value()).filter(|entry| !entry.current().is_nan())
    }

    fn final_value(&self) -> NumericEntry {
        self.state.final_value()
    }
}
