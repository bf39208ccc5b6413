//! Named numbers on their way into Burn's metrics, event store and renderers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{ExecutionError, Tensor, TensorReadError};
use burn_train::ItemLazy;
use burn_train::logger::MetricLogger;
use burn_train::metric::state::{FormatOptions, NumericMetricState};
use burn_train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn_train::metric::{
    Adaptor, Metric, MetricAttributes, MetricDefinition, MetricId, MetricMetadata, MetricName,
    Numeric, NumericAttributes, NumericEntry, SerializedEntry,
};

/// Numbers of a step or of a validation.
#[derive(Clone, Debug)]
pub struct Numbers(Arc<[(&'static str, f64)]>);

impl Numbers {
    /// Weighted sum of the losses.
    pub const LOSS: &'static str = "Loss";
    /// L2 norm of all gradients.
    pub const GRADIENT: &'static str = "Gradient norm";
    /// Learning rate of the parameters in no group.
    pub const LEARNING_RATE: &'static str = "Learning rate";
    /// COCO's first number.
    pub const AP: &'static str = "AP";
    /// COCO's second number.
    pub const AP50: &'static str = "AP50";

    /// These.
    pub fn of(numbers: impl IntoIterator<Item = (&'static str, f64)>) -> Self {
        Self(numbers.into_iter().collect())
    }

    /// A loss that is still on the device; NaN if it cannot be read.
    pub(crate) fn loss(loss: &Tensor<1>) -> Self {
        let value = loss.clone().detach().try_into_scalar::<f64>().unwrap_or(f64::NAN);
        Self::of([(Self::LOSS, value)])
    }
}

impl ItemLazy for Numbers {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

impl Adaptor<Self> for Numbers {
    fn adapt(&self) -> Self {
        self.clone()
    }
}

/// One of the [`Numbers`] as a metric.
#[derive(Clone)]
pub struct Number {
    name: MetricName,
    higher_is_better: bool,
    state: NumericMetricState,
}

impl Number {
    /// The metric of that name.
    #[must_use]
    pub fn new(name: &'static str, higher_is_better: bool) -> Self {
        Self { name: Arc::new(name.to_owned()), higher_is_better, state: NumericMetricState::new() }
    }

    fn format(&self) -> FormatOptions {
        FormatOptions::new(self.name.clone()).precision(4)
    }
}

impl Metric for Number {
    type Input = Numbers;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: self.higher_is_better }.into()
    }

    fn update(
        &mut self,
        numbers: &Numbers,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        let found = numbers.0.iter().find(|(name, _)| *name == self.name.as_str());
        Ok(match found {
            Some((_, value)) => {
                self.state.update(*value, 1);
                self.state.compute_update(self.format())
            }
            None => SerializedEntry::not_available(None),
        })
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.state.compute_final(self.format()))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for Number {
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

/// Name of a metric, number of an epoch, and split.
type Key = (String, usize, String);

/// What Burn's event store looks values up in: by epoch, whichever epochs there are, so that a run that
/// goes on can be given those of before. In memory: the loop keeps them in its checkpoints.
#[derive(Clone, Default)]
pub(crate) struct Values {
    entries: Arc<Mutex<HashMap<Key, Vec<NumericEntry>>>>,
    names: HashMap<MetricId, MetricName>,
}

impl Values {
    /// Adds the value of an epoch that an earlier process computed.
    pub(crate) fn remember(&self, name: &str, epoch: usize, split: &Split, value: f64) {
        self.add(name, epoch, split, NumericEntry::Final(value));
    }

    fn add(&self, name: &str, epoch: usize, split: &Split, entry: NumericEntry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.entry((name.to_owned(), epoch, split.to_string())).or_default().push(entry);
    }
}

impl MetricLogger for Values {
    fn log(&mut self, update: MetricsUpdate, epoch: usize, split: &Split) {
        for numeric in update.entries_numeric {
            let name = self.names.get(&numeric.entry.metric_id);
            // A value a step would fill the memory of long runs: an epoch's last one says it all.
            if let (Some(name), Some(entry @ NumericEntry::Final(_))) =
                (name, numeric.numeric_entry)
            {
                self.add(name, epoch, split, entry);
            }
        }
    }

    fn read_numeric(
        &mut self,
        name: &str,
        epoch: usize,
        split: &Split,
    ) -> Result<Vec<NumericEntry>, String> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(entries.get(&(name.to_owned(), epoch, split.to_string())).cloned().unwrap_or_default())
    }

    fn log_metric_definition(&mut self, definition: MetricDefinition) {
        self.names.insert(definition.metric_id, definition.name);
    }

    fn log_epoch_summary(&mut self, _summary: EpochSummary) {}
}
