//! TensorBoard's event files, as in `tensorboard --logdir runs`.

mod event_file;
mod means;

use std::path::{Path, PathBuf};

use self::event_file::EventFile;
use self::means::ScalarMeans;
use crate::records::METRIC_NAMES;
use crate::{
    Delivery, RunContext, RunEnd, Sample, Sink, SinkError, SinkResult, StepRecord,
    ValidationRecord, machine,
};

/// Name of the folder, and of the sink in messages.
const TENSORBOARD: &str = "tensorboard";

/// The writer of event files. Each process of a run writes one of its own; a resumed run tells readers to forget
/// what earlier files say of later steps.
#[derive(Debug)]
pub struct TensorBoard {
    folder: PathBuf,
    /// `None` until the run has started.
    file: Option<EventFile>,
    means: ScalarMeans,
}

impl TensorBoard {
    /// Creates the sink for a run's folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.join(TENSORBOARD), file: None, means: ScalarMeans::default() }
    }

    fn add(&mut self, step: u64, scalars: &[(String, f64)]) -> SinkResult {
        let Some(file) = &mut self.file else { return Ok(Delivery::Idle) };
        file.push(step, scalars);
        self.write()
    }

    fn write(&mut self) -> SinkResult {
        let Some(file) = &mut self.file else { return Ok(Delivery::Idle) };
        file.flush().map_err(|error| SinkError::new(TENSORBOARD, error))?;
        Ok(Delivery::Written)
    }

    /// Adds the means of the steps since the last time.
    fn add_means(&mut self, step: u64) -> SinkResult {
        let means = self.means.take();
        if means.is_empty() { Ok(Delivery::Idle) } else { self.add(step, &means) }
    }
}

impl Sink for TensorBoard {
    fn start(&mut self, run: &RunContext) -> SinkResult {
        let host = machine::host_name().unwrap_or_else(|| "unknown".to_owned());
        let resumed = run.is_resumed().then_some(run.step());
        self.file = Some(EventFile::new(&self.folder, &host, resumed));
        self.write()
    }

    fn step(&mut self, step: &StepRecord, run: &RunContext) -> SinkResult {
        self.means.add(step);
        if run.is_logged(step.step) { self.add_means(step.step) } else { Ok(Delivery::Idle) }
    }

    fn validation(
        &mut self,
        validation: &ValidationRecord,
        _: &[Sample],
        _: &RunContext,
    ) -> SinkResult {
        let raw = validation.without_ema.as_ref();
        let scalars: Vec<(String, f64)> = [("validation", Some(&validation.metrics))]
            .into_iter()
            .chain([("validation_without_ema", raw)])
            .filter_map(|(group, metrics)| Some((group, metrics?.summary)))
            .flat_map(|(group, summary)| {
                let tags = METRIC_NAMES.map(|name| format!("{group}/{name}"));
                tags.into_iter().zip(summary.values())
            })
            .filter(|(_, value)| *value >= 0.0)
            .collect();
        self.add(validation.step, &scalars)
    }

    fn finish(&mut self, _: &RunEnd, run: &RunContext) -> SinkResult {
        self.add_means(run.step())?;
        self.write()
    }
}
