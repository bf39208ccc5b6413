//! `status.json`: how a run stands, replaced as a whole, at most once a second. `detr runs` reads it, and
//! so may any program that waits for a run.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use detr_types::fs::atomic_write;
use serde::{Deserialize, Serialize};

use crate::clock::{rfc3339, unix_now};
use crate::machine;

/// Name of the file.
pub const STATUS: &str = "status.json";
/// Time between writes, unless there is something new.
const EVERY: Duration = Duration::from_secs(1);
/// Bytes of the largest file that is read; ours have some hundred.
const LARGEST: u64 = 1 << 20;
/// Seconds without news after which a run of another machine is taken for dead or stuck.
const SILENCE: f64 = 600.0;

/// What a run says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is at work, or was until it was killed.
    #[default]
    Running,
    /// All epochs are done, or it stopped early because it learned no more.
    Finished,
    /// It was asked to stop and can go on.
    Interrupted,
    /// It ended with an error.
    Failed,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// What the run says of itself.
    pub state: State,
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// Epochs in all.
    pub epochs: u64,
    /// Loss of the last step.
    pub loss: Option<f64>,
    /// AP of the last validation.
    pub ap: Option<f64>,
    /// The best validation.
    pub best: Option<Best>,
    /// Steps that were skipped.
    pub skipped: u64,
    /// Seconds of work until now, those before a resume included.
    pub seconds: f64,
    /// Seconds that are left.
    pub eta_seconds: Option<f64>,
    /// The error that ended it.
    pub error: Option<String>,
    /// The architecture.
    pub model: String,
    /// The file of settings.
    pub config: String,
    /// The device.
    pub device: String,
    /// The process.
    pub pid: u32,
    /// When the process began, in the kernel's ticks.
    pub process_start: Option<u64>,
    /// The machine.
    pub host: Option<String>,
    /// When the run began, in UTC; a resume does not change it.
    pub started: String,
    /// When this was written, in UTC.
    pub updated: String,
    /// The same, in seconds since 1970.
    pub updated_unix: f64,
}

/// The best validation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Its AP.
    pub ap: f64,
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u64,
}

/// How a run stands, for one who looks from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// It is at work.
    Running,
    /// It ended well.
    Finished,
    /// It was asked to stop.
    Interrupted,
    /// It ended with an error.
    Failed,
    /// Its process is gone without a word.
    Died,
    /// It was long not heard of; whether its process is there cannot be told from here.
    Silent,
    /// It left no status.
    Unknown,
}

impl Seen {
    /// One word.
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

impl Status {
    /// Reads a run's status.
    ///
    /// # Errors
    /// What is wrong with the file, in words.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let path = folder.join(STATUS);
        let wrong = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => "is missing".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        if path.metadata().map_err(wrong)?.len() > LARGEST {
            return Err("is too large to be one of ours".to_owned());
        }
        let text = std::fs::read(&path).map_err(wrong)?;
        serde_json::from_slice(&text).map_err(|error| format!("cannot be read: {error}"))
    }

    /// Enters the process that writes it.
    pub fn enter_process(&mut self) {
        self.pid = std::process::id();
        self.process_start = machine::process_start(self.pid);
        self.host = machine::host_name();
    }

    /// How the run stands.
    pub fn seen(&self) -> Seen {
        match self.state {
            State::Finished => return Seen::Finished,
            State::Interrupted => return Seen::Interrupted,
            State::Failed => return Seen::Failed,
            State::Running => {}
        }
        if machine::knows_processes() && self.host.is_some() && self.host == machine::host_name() {
            let alive = machine::process_start(self.pid);
            let same =
                alive.is_some() && (alive == self.process_start || self.process_start.is_none());
            return if same { Seen::Running } else { Seen::Died };
        }
        let silent = unix_now() - self.updated_unix > SILENCE;
        if silent { Seen::Silent } else { Seen::Running }
    }
}

/// The file, as it is written.
#[derive(Debug, Default)]
pub struct StatusFile {
    written: Option<Instant>,
}

impl StatusFile {
    /// Writes the file, unless it was just written; `None` then.
    pub fn update(&mut self, folder: &Path, status: &mut Status) -> Option<io::Result<()>> {
        let recent = self.written.is_some_and(|written| written.elapsed() < EVERY);
        (!recent).then(|| self.write(folder, status))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn write(&mut self, folder: &Path, status: &mut Status) -> io::Result<()> {
        // Counts from the attempt: a full disk is not to be tried at every step.
        self.written = Some(Instant::now());
        status.updated_unix = unix_now();
        status.updated = rfc3339(status.updated_unix);
        let text = serde_json::to_string_pretty(status)?;
        atomic_write(&folder.join(STATUS), |file| writeln!(file, "{text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_died_only_where_that_is_known() {
        let mut status = Status { updated_unix: unix_now(), ..Status::default() };
        status.enter_process();
        assert_eq!(status.seen(), Seen::Running);
        if machine::knows_processes() {
            // The number was given to another process.
            let reborn = Status { process_start: Some(1), ..status.clone() };
            assert_eq!(reborn.seen(), Seen::Died);
            assert_eq!(Status { pid: u32::MAX, ..status.clone() }.seen(), Seen::Died);
        }
        let elsewhere = Status { host: Some("else where".to_owned()), pid: u32::MAX, ..status };
        assert_eq!(elsewhere.seen(), Seen::Running);
        assert_eq!(Status { updated_unix: 1e9, ..elsewhere.clone() }.seen(), Seen::Silent);
        assert_eq!(Status { state: State::Finished, ..elsewhere }.seen(), Seen::Finished);
    }
}
