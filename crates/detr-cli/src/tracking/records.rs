//! The files of a run that say what happened: the lines of `metrics.jsonl`, and tables, events, pictures
//! and reports beside them. What goes wrong with one does not touch the others.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use detr_eval::Metrics;
use detr_track::METRICS_FILE;
use detr_track::appender::Appender;
use detr_track::clock::{rfc3339, unix_now};
use detr_track::history::{self, History};
use detr_track::records::{StepRow, ValidationRow};
use detr_track::sinks::csv_tables::{self as tables, METRICS, StepTable};
use detr_track::sinks::plots;
use detr_track::sinks::tensorboard::events::Events;
use detr_track::sinks::tensorboard::means::Scalars;

use super::troubles::Troubles;
use crate::eval::write_report;

/// Time between pictures of the loss, beside those after every validation.
const PLOT_EVERY: Duration = Duration::from_mins(1);
/// Reports that wait at most, because they have all curves.
const REPORTS: usize = 8;

/// The files, and what is remembered for them.
pub(super) struct Records {
    folder: PathBuf,
    /// `None` until the run has begun.
    files: Option<Files>,
    log: Appender,
    history: History,
    scalars: Scalars,
    /// Reports that could not be written yet, and where they belong.
    reports: Vec<(PathBuf, Metrics)>,
    troubles: Troubles,
    /// What is to be said of the troubles.
    news: Vec<String>,
    plotted: Instant,
}

struct Files {
    lines: Appender,
    events: Events,
    /// `None` while they cannot be made.
    tables: Option<Tables>,
}

struct Tables {
    layout: StepTable,
    steps: Appender,
    validations: Appender,
}

impl Records {
    /// Of a folder in which nothing is touched yet.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            log: Appender::new(folder.join("log.txt")),
            folder,
            files: None,
            history: History::default(),
            scalars: Scalars::default(),
            reports: Vec::new(),
            troubles: Troubles::default(),
            news: Vec::new(),
            plotted: Instant::now(),
        }
    }

    /// Opens the files for a run that goes on after `step`, or begins; false if it was done before.
    pub(super) fn begin(&mut self, step: u64, resumed: bool, host: &str) -> bool {
        if self.files.is_some() {
            return false;
        }
        let lines = self.folder.join(METRICS_FILE);
        match history::cut(&lines, step) {
            Ok(cut) if cut.torn > 0 => {
                let plural = if cut.torn == 1 { "" } else { "s" };
                self.news.push(format!("{METRICS_FILE}: {} torn line{plural} left out", cut.torn));
            }
            Ok(_) => {}
            Err(error) => self.note_trouble("the metrics of earlier steps", Err(error)),
        }
        self.history = History::read(&lines).unwrap_or_default();
        let folder = self.folder.join("tensorboard");
        let (events, written) = Events::start(&folder, host, resumed.then_some(step));
        self.files = Some(Files { lines: Appender::new(lines), events, tables: None });
        self.note_trouble("tensorboard", written);
        self.make_tables();
        true
    }

    /// What the run told until now.
    pub(super) const fn history(&self) -> &History {
        &self.history
    }

    /// A line of `metrics.jsonl`.
    pub(super) fn line(&mut self, line: &str) {
        let Some(files) = &mut self.files else { return };
        let written = files.lines.append(format!("{line}\n").as_bytes());
        self.note_trouble(METRICS_FILE, written);
    }

    /// A step.
    pub(super) fn step(&mut self, row: &StepRow) {
        self.line(&row.line());
        if let Some(tables) = self.tables() {
            let written = tables.steps.append(tables.layout.add(row).as_bytes());
            self.note_trouble("metrics.csv", written);
        }
        self.scalars.add(row);
        self.history.add_step(row);
        if self.plotted.elapsed() > PLOT_EVERY {
            self.plot();
        }
    }

    /// A validation, whose report belongs to a folder.
    pub(super) fn validated(&mut self, row: &ValidationRow, folder: PathBuf) {
        let summary = row.summary();
        self.line(&summary.line());
        if let Some(tables) = self.tables() {
            let line = tables::validation_line(&summary);
            let written = tables.validations.append(line.as_bytes());
            self.note_trouble("validation.csv", written);
        }
        let raw = summary.without_ema.as_ref().map(|raw| ("validation_without_ema", raw));
        let scalars: Vec<(String, f64)> = [("validation", &summary.metrics)]
            .into_iter()
            .chain(raw)
            .flat_map(|(kind, of)| {
                METRICS.map(|name| format!("{kind}/{name}")).into_iter().zip(of.values())
            })
            .filter(|(_, value)| *value >= 0.0)
            .collect();
        self.history.add_validation(summary);
        self.add_scalars(row.step, &scalars);
        if let Some(raw) = &row.without_ema {
            self.reports.push((folder.join("without-ema"), raw.clone()));
        }
        self.reports.push((folder, row.metrics.clone()));
        self.write_reports();
        self.plot();
    }

    /// Tells TensorBoard of the steps since the last time.
    pub(super) fn tell_tensorboard(&mut self, step: u64) {
        let scalars = self.scalars.take();
        if !scalars.is_empty() {
            self.add_scalars(step, &scalars);
        }
    }

    /// A message in `log.txt`, with the time before its first line.
    pub(super) fn log(&mut self, message: &str) {
        let time = rfc3339(unix_now());
        let written = self.log.append(format!("{time} {message}\n").as_bytes());
        self.note_trouble("log.txt", written);
    }

    /// The end of the run: what waits gets a last chance.
    pub(super) fn finish(&mut self, step: u64) {
        if self.files.is_some() {
            self.tell_tensorboard(step);
            self.write_reports();
            self.plot();
        }
    }

    /// Remembers how it went to write something.
    pub(super) fn note_trouble<E: Display>(&mut self, name: &'static str, result: Result<(), E>) {
        self.news.extend(self.troubles.news(name, result));
    }

    /// What is to be said of the troubles since the last time.
    pub(super) fn take_news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }

    fn tables(&mut self) -> Option<&mut Tables> {
        self.files.as_mut()?.tables.as_mut()
    }

    /// Makes the tables of `metrics.jsonl`, unless they are there.
    fn make_tables(&mut self) {
        let Some(files) = self.files.as_mut().filter(|files| files.tables.is_none()) else {
            return;
        };
        let [steps, validations] =
            ["metrics.csv", "validation.csv"].map(|name| self.folder.join(name));
        let made = tables::rebuild(&self.folder.join(METRICS_FILE), &steps, &validations);
        let made = made.map(|layout| {
            let (steps, validations) = (Appender::new(steps), Appender::new(validations));
            files.tables = Some(Tables { layout, steps, validations });
        });
        self.note_trouble("metrics.csv", made);
    }

    fn add_scalars(&mut self, step: u64, scalars: &[(String, f64)]) {
        let Some(files) = &mut self.files else { return };
        let written = files.events.add(step, scalars);
        self.note_trouble("tensorboard", written);
    }

    fn write_reports(&mut self) {
        let excess = self.reports.len().saturating_sub(REPORTS);
        self.reports.drain(..excess);
        let mut written = Ok(());
        self.reports.retain(|(folder, metrics)| {
            let one = write_report(folder, metrics);
            let failed = one.is_err();
            if failed {
                written = one;
            }
            failed
        });
        self.note_trouble("the report of a validation", written);
    }

    fn plot(&mut self) {
        self.plotted = Instant::now();
        self.make_tables();
        let written = plots::write(&self.folder.join("plots"), &self.history);
        self.note_trouble("plots", written);
    }
}
