//! `status.json`: the state of a run, for any program that waits for it. [`StatusFile`](crate::StatusFile) writes it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::clock::unix_now;
use crate::read_error::{ReadError, read_small};
use crate::{History, machine};

/// Name of the file.
pub const STATUS_FILE: &str = "status.json";
/// Bytes of the largest file that is read; ours have some hundred.
const LARGEST: u64 = 1 << 20;
/// Seconds without an update after which a run of another machine is taken for dead or stuck.
const SILENCE: f64 = 600.0;

/// The state of a run in its own words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportedState {
    /// It trains, or did until it was killed.
    #[default]
    Running,
    /// All epochs are done, or it stopped early because AP did not get better.
    Finished,
    /// It was asked to stop and can be resumed.
    Interrupted,
    /// It ended with an error.
    Failed,
}

/// The content of `status.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunStatus {
    /// The state in the run's own words.
    pub state: ReportedState,
    /// Steps done.
    pub step: u64,
    /// Steps of all epochs.
    pub steps: u64,
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// Number of epochs.
    pub epochs: u64,
    /// Loss of the last step.
    pub loss: Option<f64>,
    /// AP of the last validation.
    pub ap: Option<f64>,
    /// The best validation.
    pub best: Option<BestValidation>,
    /// Number of skipped steps.
    pub skipped: u64,
    /// Seconds of work until now, including those of earlier processes.
    pub seconds: f64,
    /// Seconds that are left, estimated.
    pub eta_seconds: Option<f64>,
    /// The error that ended the run.
    pub error: Option<String>,
    /// Name of the architecture.
    pub model: String,
    /// Path of the file of settings.
    pub config: String,
    /// Name of the device.
    pub device: String,
    /// Number of the process.
    pub pid: u32,
    /// When the process began, in the kernel's ticks since the machine was started.
    pub process_start: Option<u64>,
    /// Name of the machine.
    pub host: Option<String>,
    /// When the run began, in UTC; a resume does not change it.
    pub started: String,
    /// When the file was written, in UTC.
    pub updated: String,
    /// When the file was written, in seconds since 1970.
    pub updated_unix: f64,
}

/// The best validation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BestValidation {
    /// Its AP.
    pub ap: f64,
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u64,
}

impl BestValidation {
    /// Returns the validation with the highest AP; `None` if nothing was averaged in any.
    pub(crate) fn of(history: &History) -> Option<Self> {
        let best = history.best().filter(|best| best.metrics.ap >= 0.0)?;
        Some(Self { ap: best.metrics.ap, step: best.step, epoch: best.epoch })
    }
}

/// The state of a run as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ObservedState {
    /// It trains.
    Running,
    /// It ended without an error.
    Finished,
    /// It was asked to stop and can be resumed.
    Interrupted,
    /// It ended with an error.
    Failed,
    /// Its process is gone, but the file says that it runs.
    Died,
    /// It was not updated for ten minutes, and whether its process exists cannot be told from here.
    Silent,
    /// It left no status.
    Unknown,
}

impl ObservedState {
    /// Returns the state as one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Died => "died",
            Self::Silent => "silent",
            Self::Unknown => "unknown",
        }
    }
}

impl RunStatus {
    /// Reads the file in the folder of a run.
    ///
    /// # Errors
    /// The file is missing or cannot be read.
    pub fn read(folder: &Path) -> Result<Self, ReadError> {
        let text = read_small(&folder.join(STATUS_FILE), LARGEST).map_err(|error| match error {
            ReadError::Io(error) => ReadError::Content(error.to_string()),
            other => other,
        })?;
        serde_json::from_str(&text).map_err(|error| ReadError::Content(error.to_string()))
    }

    /// Enters this process as the one that trains.
    pub(crate) fn enter_process(&mut self) {
        self.pid = std::process::id();
        self.process_start = machine::process_start(self.pid);
        self.host = machine::host_name();
    }

    /// Returns the state as seen from this machine now.
    #[must_use]
    pub fn observed(&self) -> ObservedState {
        match self.state {
            ReportedState::Finished => return ObservedState::Finished,
            ReportedState::Interrupted => return ObservedState::Interrupted,
            ReportedState::Failed => return ObservedState::Failed,
            ReportedState::Running => {}
        }
        if machine::knows_processes() && self.host.is_some() && self.host == machine::host_name() {
            let alive = machine::process_start(self.pid);
            let same =
                alive.is_some() && (alive == self.process_start || self.process_start.is_none());
            return if same { ObservedState::Running } else { ObservedState::Died };
        }
        let silent = unix_now() - self.updated_unix > SILENCE;
        if silent { ObservedState::Silent } else { ObservedState::Running }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_died_only_where_that_is_known() {
        let mut status = RunStatus { updated_unix: unix_now(), ..RunStatus::default() };
        status.enter_process();
        assert_eq!(status.observed(), ObservedState::Running);
        if machine::knows_processes() {
            // The number was given to another process.
            let reborn = RunStatus { process_start: Some(1), ..status.clone() };
            assert_eq!(reborn.observed(), ObservedState::Died);
            assert_eq!(
                RunStatus { pid: u32::MAX, ..status.clone() }.observed(),
                ObservedState::Died
            );
        }
        let elsewhere = RunStatus { host: Some("else where".to_owned()), pid: u32::MAX, ..status };
        assert_eq!(elsewhere.observed(), ObservedState::Running);
        assert_eq!(
            RunStatus { updated_unix: 1e9, ..elsewhere.clone() }.observed(),
            ObservedState::Silent
        );
        assert_eq!(
            RunStatus { state: ReportedState::Finished, ..elsewhere }.observed(),
            ObservedState::Finished
        );
    }
}
