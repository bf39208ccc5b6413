//! Measures the speed of a run: the duration of recent steps and of validations.

use std::collections::VecDeque;

use crate::StepRecord;

/// Number of recent steps whose mean is the pace.
const RECENT: usize = 100;

/// Durations of recent steps and of all validations.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepTimes {
    /// Seconds of recent steps, and seconds of each that were spent waiting for data.
    recent: VecDeque<(f64, f64)>,
    /// Seconds of all validations, and their number.
    validations: (f64, u32),
}

impl StepTimes {
    pub(crate) fn add_step(&mut self, record: &StepRecord) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((record.seconds, record.waited));
    }

    pub(crate) fn add_validation(&mut self, seconds: f64) {
        self.validations.0 += seconds;
        self.validations.1 += 1;
    }

    /// Returns the mean seconds of a recent step, and how many of them were spent waiting for data.
    #[allow(clippy::cast_precision_loss)] // at most 100
    pub(crate) fn step_seconds(&self) -> Option<(f64, f64)> {
        let count = self.recent.len() as f64;
        let (all, waited) = self.recent.iter().fold((0.0, 0.0), |(a, w), s| (a + s.0, w + s.1));
        (count > 0.0).then(|| (all / count, waited / count))
    }

    /// Returns the seconds that so many steps and validations will take; `None` before the first step.
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    pub(crate) fn seconds_of(&self, steps: u64, validations: u64) -> Option<f64> {
        let (step, _) = self.step_seconds()?;
        let (spent, count) = self.validations;
        let validation = if count == 0 { 0.0 } else { spent / f64::from(count) };
        Some(steps as f64 * step + validations as f64 * validation)
    }
}
