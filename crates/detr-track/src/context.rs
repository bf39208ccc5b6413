//! A run as it stands: what the tracker knows beside the record at hand.

use std::time::{Duration, Instant};

use crate::status::BestValidation;
use crate::step_times::StepTimes;
use crate::{History, METRICS_FILE, RunInfo, StepRecord, ValidationRecord};

/// A run as it stands, which every call of a [`Sink`](crate::Sink) is given.
#[derive(Clone, Debug)]
pub struct RunContext {
    info: RunInfo,
    history: History,
    step_times: StepTimes,
    began: Instant,
    step: u64,
    epoch: u64,
    resumed: bool,
}

impl RunContext {
    pub(crate) fn new(info: RunInfo) -> Self {
        Self {
            info,
            history: History::default(),
            step_times: StepTimes::default(),
            began: Instant::now(),
            step: 0,
            epoch: 1,
            resumed: false,
        }
    }

    /// Returns what was known of the run before its first step.
    #[must_use]
    pub const fn info(&self) -> &RunInfo {
        &self.info
    }

    /// Returns the records of the run so far, including those of earlier processes.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Returns the number of steps done.
    #[must_use]
    pub const fn step(&self) -> u64 {
        self.step
    }

    /// Returns the number of the epoch, from 1.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns whether the run goes on from a checkpoint.
    #[must_use]
    pub const fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Returns the time since the tracker was created.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns the seconds that are left, by the duration of recent steps and of all validations; `None` before the
    /// first step.
    #[must_use]
    pub fn eta_seconds(&self) -> Option<f64> {
        let steps = self.info.steps.saturating_sub(self.step);
        self.step_times.seconds_of(steps, self.validations_left())
    }

    /// Returns whether a step is one of those after which the user is told of the progress: every
    /// [`log_every`](RunInfo::log_every) steps, and the last.
    #[must_use]
    pub const fn is_logged(&self, step: u64) -> bool {
        let every = if self.info.log_every == 0 { 1 } else { self.info.log_every };
        step.is_multiple_of(every) || step == self.info.steps
    }

    /// Returns the AP of the last validation; `None` if there was none or nothing to average.
    #[must_use]
    pub fn last_ap(&self) -> Option<f64> {
        self.history.validations.last().map(|row| row.metrics.ap).filter(|ap| *ap >= 0.0)
    }

    /// Returns the validation with the highest AP.
    #[must_use]
    pub fn best(&self) -> Option<BestValidation> {
        BestValidation::of(&self.history)
    }

    pub(crate) const fn step_times(&self) -> &StepTimes {
        &self.step_times
    }

    /// Goes on after a step, with the history of the steps until then.
    pub(crate) fn start(&mut self, step: u64, resumed: bool) {
        let metrics = self.info.folder.join(METRICS_FILE);
        self.history = History::read_until(&metrics, step).unwrap_or_default();
        self.step = step;
        self.epoch = self.history.last.as_ref().map_or(1, |record| record.epoch);
        self.resumed = resumed;
    }

    pub(crate) const fn set_total_steps(&mut self, steps: u64) {
        self.info.steps = steps;
    }

    pub(crate) fn add_step(&mut self, record: &StepRecord) {
        self.step = record.step;
        self.epoch = record.epoch;
        self.history.add_step(record);
        self.step_times.add_step(record);
    }

    pub(crate) fn add_validation(&mut self, record: &ValidationRecord, seconds: Option<f64>) {
        self.history.add_validation(record.summary());
        if let Some(seconds) = seconds {
            self.step_times.add_validation(seconds);
        }
    }

    pub(crate) const fn set_step(&mut self, step: u64) {
        self.step = step;
    }

    pub(crate) const fn add_skipped(&mut self, step: u64) {
        self.step = step;
        self.history.skipped += 1;
    }

    /// Returns the number of validations that are still to come.
    fn validations_left(&self) -> u64 {
        let RunInfo { steps, epochs, validate_every, .. } = self.info;
        let done = self.step.saturating_mul(epochs).checked_div(steps).unwrap_or(epochs);
        // There is always one after the last epoch.
        let all = if validate_every == 0 { 0 } else { epochs.div_ceil(validate_every) };
        all.saturating_sub(done.checked_div(validate_every).unwrap_or(0))
    }
}
