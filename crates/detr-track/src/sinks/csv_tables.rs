//! `metrics.csv` and `validation.csv`: the steps and validations of `metrics.jsonl` as tables. They are made anew of
//! that file whenever a run goes on.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use detr_types::fs::PendingFile;

use crate::appender::Appender;
use crate::jsonl::{METRICS_FILE, MetricsLine, for_each_line};
use crate::records::METRIC_NAMES;
use crate::{
    Delivery, RunContext, RunEnd, Sample, Sink, SinkError, SinkResult, StepRecord,
    ValidationRecord, ValidationSummary,
};

/// Name of the table of steps.
const STEP_FILE: &str = "metrics.csv";
/// Name of the table of validations.
const VALIDATION_FILE: &str = "validation.csv";
/// Columns of every step, before its losses.
const STEP_COLUMNS: [&str; 9] =
    ["step", "epoch", "loss", "lr", "grad_norm", "seconds", "waited", "images", "bad_images"];
/// Time between attempts to make the tables anew, which reads all of `metrics.jsonl`.
const RETRY: Duration = Duration::from_mins(1);

/// The writer of `metrics.csv` and `validation.csv`. It comes behind [`MetricsFile`](super::MetricsFile).
#[derive(Debug)]
pub struct CsvTables {
    folder: PathBuf,
    started: bool,
    /// `None` while the tables cannot be made anew.
    tables: Option<Tables>,
    tried: Instant,
}

#[derive(Debug)]
struct Tables {
    columns: StepColumns,
    steps: Appender,
    validations: Appender,
}

impl CsvTables {
    /// Creates the sink for a run's folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), started: false, tables: None, tried: Instant::now() }
    }

    /// Makes the tables anew, with the record at hand, which `metrics.jsonl` has already.
    fn rebuild(&mut self) -> SinkResult {
        self.tried = Instant::now();
        let [steps, validations] = [STEP_FILE, VALIDATION_FILE].map(|name| self.folder.join(name));
        let columns = rebuild(&self.folder.join(METRICS_FILE), &steps, &validations)
            .map_err(|error| SinkError::new(STEP_FILE, error))?;
        let (steps, validations) = (Appender::new(steps), Appender::new(validations));
        self.tables = Some(Tables { columns, steps, validations });
        Ok(Delivery::Written)
    }
}

impl Tables {
    fn flush(&mut self) -> SinkResult {
        self.steps.flush().map_err(|error| SinkError::new(STEP_FILE, error))?;
        self.validations.flush().map_err(|error| SinkError::new(VALIDATION_FILE, error))?;
        Ok(Delivery::Written)
    }
}

impl Sink for CsvTables {
    fn start(&mut self, _: &RunContext) -> SinkResult {
        self.started = true;
        self.rebuild()
    }

    fn step(&mut self, step: &StepRecord, _: &RunContext) -> SinkResult {
        match &mut self.tables {
            Some(tables) => {
                tables.steps.push(&tables.columns.rows(step));
                tables.flush()
            }
            None if self.tried.elapsed() > RETRY => self.rebuild(),
            None => Ok(Delivery::Idle),
        }
    }

    fn validation(
        &mut self,
        validation: &ValidationRecord,
        _: &[Sample],
        _: &RunContext,
    ) -> SinkResult {
        match &mut self.tables {
            Some(tables) => {
                tables.validations.push(&validation_row(&validation.summary()));
                tables.flush()
            }
            None => self.rebuild(),
        }
    }

    fn finish(&mut self, _: &RunEnd, _: &RunContext) -> SinkResult {
        match &mut self.tables {
            Some(tables) => tables.flush(),
            None if self.started => self.rebuild(),
            None => Ok(Delivery::Idle),
        }
    }
}

/// The columns of `metrics.csv`, which are those of the first step: a loss that comes later has none.
#[derive(Clone, Debug, Default)]
struct StepColumns {
    losses: Option<Vec<String>>,
}

impl StepColumns {
    /// Returns the row of a step, behind the head of the table if the step is the first.
    fn rows(&mut self, record: &StepRecord) -> Vec<u8> {
        let mut text = Vec::new();
        let names = self.losses.get_or_insert_with(|| {
            let names: Vec<String> = record.losses.iter().map(|(name, _)| name.clone()).collect();
            text = row(STEP_COLUMNS.into_iter().chain(names.iter().map(String::as_str)));
            names
        });
        let mut cells = vec![
            record.step.to_string(),
            record.epoch.to_string(),
            number(record.loss),
            record.lr.to_string(),
            number(record.grad_norm),
            format!("{:.4}", record.seconds),
            format!("{:.4}", record.waited),
            record.images.len().to_string(),
            record.bad_images.to_string(),
        ];
        cells.extend(names.iter().map(|name| {
            let loss = record.losses.iter().find(|(of, _)| of == name);
            loss.map_or_else(String::new, |(_, value)| number(*value))
        }));
        text.extend(row(cells));
        text
    }
}

/// Returns the head of `validation.csv`.
fn validation_head() -> Vec<u8> {
    row(["step", "epoch"].into_iter().chain(METRIC_NAMES).chain(["best", "ap_without_ema"]))
}

/// Returns the row of a validation.
fn validation_row(summary: &ValidationSummary) -> Vec<u8> {
    let number = |value: f64| format!("{value:.6}");
    let mut cells = vec![summary.step.to_string(), summary.epoch.to_string()];
    cells.extend(summary.metrics.values().map(number));
    cells.push(summary.best.to_string());
    cells.push(summary.without_ema.map_or_else(String::new, |raw| number(raw.ap)));
    row(cells)
}

/// Returns a number that comes from an f32 with as few digits as tell it from its neighbours; nothing if it is not
/// finite.
#[allow(clippy::cast_possible_truncation)]
fn number(value: f64) -> String {
    if value.is_finite() { (value as f32).to_string() } else { String::new() }
}

/// Returns cells as a row of a table, with its end.
fn row(cells: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().buffer_capacity(1 << 10).from_writer(Vec::new());
    // Writing to memory cannot fail.
    let written = writer.write_record(cells).ok();
    written.and_then(|()| writer.into_inner().ok()).unwrap_or_default()
}

/// Makes both tables of `metrics.jsonl`, which may be missing.
///
/// # Errors
/// A file cannot be read or written; the tables are then as they were.
fn rebuild(lines: &Path, steps: &Path, validations: &Path) -> io::Result<StepColumns> {
    let mut columns = StepColumns::default();
    let mut step_file = PendingFile::create(steps)?;
    let mut validation_file = PendingFile::create(validations)?;
    validation_file.write_all(&validation_head())?;
    if lines.exists() {
        for_each_line(File::open(lines)?, |line| match line.and_then(MetricsLine::parse) {
            Some(MetricsLine::Step(record)) => step_file.write_all(&columns.rows(&record)),
            Some(MetricsLine::Validation(summary)) => {
                validation_file.write_all(&validation_row(&summary))
            }
            _ => Ok(()),
        })?;
    }
    step_file.persist()?;
    validation_file.persist()?;
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stay_those_of_the_first_step() {
        let mut columns = StepColumns::default();
        let record = |losses: &[(&str, f64)]| StepRecord {
            step: 3,
            loss: f64::from(0.1_f32),
            lr: 1e-4,
            grad_norm: f64::INFINITY,
            losses: losses.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            ..StepRecord::default()
        };
        let mut rows = |losses: &[_]| String::from_utf8(columns.rows(&record(losses))).unwrap();
        let head =
            "step,epoch,loss,lr,grad_norm,seconds,waited,images,bad_images,loss_ce,\"a,b\"\n";
        let first = rows(&[("loss_ce", 0.5), ("a,b", 1.0)]);
        assert_eq!(first, head.to_owned() + "3,0,0.1,0.0001,,0.0000,0.0000,0,0,0.5,1\n");
        let later = rows(&[("new", 2.0), ("a,b", f64::NAN)]);
        assert_eq!(later, "3,0,0.1,0.0001,,0.0000,0.0000,0,0,,\n");
    }

    #[test]
    fn a_validation_has_a_cell_for_each_metric() {
        let head = String::from_utf8(validation_head()).unwrap();
        assert!(head.starts_with("step,epoch,ap,ap50,"), "{head}");
        assert!(head.ends_with(",ar_large,best,ap_without_ema\n"), "{head}");
        let summary = ValidationSummary {
            step: 4,
            epoch: 1,
            metrics: [0.5; 12].into(),
            masks: None,
            without_ema: None,
            best: true,
        };
        let row = String::from_utf8(validation_row(&summary)).unwrap();
        assert_eq!(row, format!("4,1,{}true,\n", "0.500000,".repeat(12)));
    }
}
