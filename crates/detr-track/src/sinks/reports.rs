//! `eval/epoch-N/`: the report of every validation, as `detr eval` writes it.

use std::path::PathBuf;

use detr_eval::{Metrics, write_report};

use crate::{Delivery, RunContext, RunEnd, Sample, Sink, SinkError, SinkResult, ValidationRecord};

/// Number of reports that wait at most, because they hold all curves.
const MAX_WAITING: usize = 8;

/// The writer of the reports of validations. Where there is a moving average, the report is its, and
/// `without-ema/` in the same folder has the report of the model itself.
#[derive(Debug, Default)]
pub struct ValidationReports {
    /// Reports that could not be written yet, and their folders.
    waiting: Vec<(PathBuf, Metrics)>,
}

impl ValidationReports {
    /// Creates the sink; reports go to [`RunInfo::validation_folder`](crate::RunInfo::validation_folder).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn write(&mut self) -> SinkResult {
        if self.waiting.is_empty() {
            return Ok(Delivery::Idle);
        }
        let excess = self.waiting.len().saturating_sub(MAX_WAITING);
        self.waiting.drain(..excess);
        let mut written = Ok(Delivery::Written);
        self.waiting.retain(|(folder, metrics)| match write_report(folder, metrics) {
            Ok(()) => false,
            Err(error) => {
                written = Err(SinkError::new("the report of a validation", error));
                true
            }
        });
        written
    }
}

impl Sink for ValidationReports {
    fn validation(
        &mut self,
        validation: &ValidationRecord,
        _: &[Sample],
        run: &RunContext,
    ) -> SinkResult {
        let folder = run.info().validation_folder(validation.epoch);
        if let Some(raw) = &validation.without_ema {
            self.waiting.push((folder.join("without-ema"), raw.clone()));
        }
        self.waiting.push((folder, validation.metrics.clone()));
        self.write()
    }

    fn finish(&mut self, _: &RunEnd, _: &RunContext) -> SinkResult {
        self.write()
    }
}
