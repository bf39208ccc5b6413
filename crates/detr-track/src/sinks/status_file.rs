//! `status.json`, replaced as a whole at most once a second, and at everything that matters.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use detr_types::fs::atomic_write;

use crate::clock::{rfc3339, unix_now};
use crate::status::{ReportedState, RunStatus, STATUS_FILE};
use crate::{
    Delivery, Event, RunContext, RunEnd, RunInfo, Sample, Sink, SinkError, SinkResult, StepRecord,
    ValidationRecord,
};

/// Time between writes, unless there is something that matters.
const EVERY: Duration = Duration::from_secs(1);

/// The writer of `status.json`.
#[derive(Debug)]
pub struct StatusFile {
    folder: PathBuf,
    status: RunStatus,
    /// Seconds of work of earlier processes.
    earlier: f64,
    written: Option<Instant>,
}

impl StatusFile {
    /// Creates the sink for a run's folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let status = RunStatus::default();
        Self { folder: folder.to_owned(), status, earlier: 0.0, written: None }
    }

    /// Writes the file, unless it was just written.
    fn update(&mut self, run: &RunContext) -> SinkResult {
        let recent = self.written.is_some_and(|written| written.elapsed() < EVERY);
        if recent { Ok(Delivery::Idle) } else { self.write(run) }
    }

    fn write(&mut self, run: &RunContext) -> SinkResult {
        // Counts from the attempt: a full disk is not to be tried at every step.
        self.written = Some(Instant::now());
        self.take(run);
        self.replace().map_err(|error| SinkError::new(STATUS_FILE, error))?;
        Ok(Delivery::Written)
    }

    /// Takes over what the run tells of itself.
    fn take(&mut self, run: &RunContext) {
        let status = &mut self.status;
        status.steps = run.info().steps;
        status.step = run.step();
        status.epoch = run.epoch();
        status.skipped = run.history().skipped;
        status.ap = run.last_ap();
        status.best = run.best();
        status.seconds = self.earlier + run.elapsed().as_secs_f64();
        status.eta_seconds = match status.state {
            ReportedState::Running => run.eta_seconds(),
            ReportedState::Finished => Some(0.0),
            ReportedState::Interrupted | ReportedState::Failed => None,
        };
    }

    fn replace(&mut self) -> io::Result<()> {
        self.status.updated_unix = unix_now();
        self.status.updated = rfc3339(self.status.updated_unix);
        let text = serde_json::to_string_pretty(&self.status)?;
        atomic_write(&self.folder.join(STATUS_FILE), |file| writeln!(file, "{text}"))
    }
}

impl Sink for StatusFile {
    fn begin(&mut self, run: &RunContext) -> SinkResult {
        let before = RunStatus::read(&self.folder).unwrap_or_default();
        let RunInfo { config, epochs, model, device, .. } = run.info();
        // A run that goes on by its own copy of the settings is still one of the file that it began with.
        let is_copy = Path::new(config).parent() == Some(&self.folder);
        let config =
            if is_copy && !before.config.is_empty() { before.config } else { config.clone() };
        let started = Some(before.started).filter(|started| !started.is_empty());
        self.status = RunStatus {
            epochs: *epochs,
            model: model.clone(),
            config,
            device: device.clone(),
            started: started.unwrap_or_else(|| rfc3339(unix_now())),
            ..RunStatus::default()
        };
        self.status.enter_process();
        self.earlier = before.seconds;
        self.write(run)
    }

    fn step(&mut self, step: &StepRecord, run: &RunContext) -> SinkResult {
        self.status.loss = Some(step.loss).filter(|loss| loss.is_finite());
        self.update(run)
    }

    fn validation(&mut self, _: &ValidationRecord, _: &[Sample], run: &RunContext) -> SinkResult {
        self.write(run)
    }

    fn event(&mut self, event: &Event, run: &RunContext) -> SinkResult {
        match event {
            Event::Resumed { .. } => self.write(run),
            Event::Skipped { .. } | Event::Overflowed { .. } | Event::ValidationProgress { .. } => {
                self.update(run)
            }
            Event::Saved { .. } | Event::NotSaved { .. } => Ok(Delivery::Idle),
        }
    }

    fn finish(&mut self, end: &RunEnd, run: &RunContext) -> SinkResult {
        self.status.state = match end {
            RunEnd::Finished => ReportedState::Finished,
            RunEnd::Interrupted => ReportedState::Interrupted,
            RunEnd::Failed { reason } => {
                self.status.error = Some(reason.clone());
                ReportedState::Failed
            }
        };
        self.write(run)
    }
}
