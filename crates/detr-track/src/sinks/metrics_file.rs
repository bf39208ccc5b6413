//! `metrics.jsonl`: a line for each record of a run.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::appender::Appender;
use crate::jsonl::{METRICS_FILE, event_line, step_line, truncate, validation_line};
use crate::messages::in_folder;
use crate::{
    Delivery, Event, RunContext, RunEnd, Sample, Sink, SinkError, SinkResult, StepRecord,
    ValidationRecord,
};

/// The writer of `metrics.jsonl`. It comes before [`CsvTables`](super::CsvTables), which reads the file.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    /// `None` until the run has started.
    lines: Option<Appender>,
    /// The step back to which the file has still to be cut.
    truncate_to: Option<u64>,
}

impl MetricsFile {
    /// Creates the sink for a run's folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { path: folder.join(METRICS_FILE), lines: None, truncate_to: None }
    }

    fn append(&mut self, line: &str) -> SinkResult {
        let Some(lines) = &mut self.lines else { return Ok(Delivery::Idle) };
        lines.push(format!("{line}\n").as_bytes());
        self.write()
    }

    /// Writes the lines that wait, behind those that still count.
    fn write(&mut self) -> SinkResult {
        let failed = |error| SinkError::new(METRICS_FILE, error);
        if let Some(step) = self.truncate_to {
            truncate(&self.path, step).map_err(failed)?;
            self.truncate_to = None;
        }
        let Some(lines) = &mut self.lines else { return Ok(Delivery::Idle) };
        lines.flush().map_err(failed)?;
        Ok(Delivery::Written)
    }
}

impl Sink for MetricsFile {
    fn start(&mut self, run: &RunContext) -> SinkResult {
        self.lines = Some(Appender::new(self.path.clone()));
        self.truncate_to = Some(run.step());
        self.write()
    }

    fn step(&mut self, step: &StepRecord, _: &RunContext) -> SinkResult {
        self.append(&step_line(step))
    }

    fn validation(
        &mut self,
        validation: &ValidationRecord,
        _: &[Sample],
        _: &RunContext,
    ) -> SinkResult {
        self.append(&validation_line(&validation.summary()))
    }

    fn event(&mut self, event: &Event, run: &RunContext) -> SinkResult {
        let line = match event {
            Event::Resumed { step } => event_line("resumed", *step, json!({})),
            Event::Skipped { step, epoch, reason, images } => {
                let fields = json!({ "epoch": epoch, "reason": reason, "images": images });
                event_line("skipped", *step, fields)
            }
            Event::Overflowed { step, loss_scale } => {
                event_line("overflowed", *step, json!({ "loss_scale": loss_scale }))
            }
            Event::Saved { path } => {
                event_line("saved", run.step(), json!({ "path": in_folder(path, run) }))
            }
            Event::NotSaved { reason } => {
                event_line("not_saved", run.step(), json!({ "reason": reason }))
            }
            Event::ValidationProgress { .. } => return Ok(Delivery::Idle),
        };
        self.append(&line)
    }

    fn finish(&mut self, _: &RunEnd, _: &RunContext) -> SinkResult {
        self.write()
    }
}
