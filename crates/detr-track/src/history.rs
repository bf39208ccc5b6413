//! The history of a run in bounded memory, as it goes on and read back from `metrics.jsonl`.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use crate::jsonl::{LONGEST_LINE, MetricsLine, for_each_line};
use crate::records::{StepRecord, ValidationSummary};
use crate::series::Series;

/// The history of a run, whose losses are thinned out to what a plot can show.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The loss over steps.
    pub loss: Series,
    /// Losses of the last decoder layer over steps, by name.
    pub losses: Vec<(String, Series)>,
    /// The last step.
    pub last: Option<StepRecord>,
    /// Validations in order, at most one for a step.
    pub validations: Vec<ValidationSummary>,
    /// Number of skipped steps.
    pub skipped: u64,
    /// Number of lines that could not be read.
    pub unreadable: u64,
}

impl History {
    /// Reads a file, and counts the lines that it cannot read.
    ///
    /// # Errors
    /// The file does not exist or cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        Self::read_until(path, u64::MAX)
    }

    /// Reads a file as [`read`](Self::read) does, without the lines of steps beyond `step`.
    ///
    /// # Errors
    /// The file does not exist or cannot be read.
    pub fn read_until(path: &Path, step: u64) -> io::Result<Self> {
        let mut history = Self::default();
        for_each_line(File::open(path)?, |line| {
            history.add_line(line, step);
            Ok(())
        })?;
        Ok(history)
    }

    /// Reads the last megabyte of a file of any length.
    ///
    /// # Errors
    /// The file does not exist or cannot be read.
    pub fn read_end(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut history = Self::default();
        let mut is_partial = length > LONGEST_LINE;
        if is_partial {
            file.seek(SeekFrom::Start(length - LONGEST_LINE))?;
        }
        for_each_line(file, |line| {
            // The first line is the end of one that begins earlier.
            if !std::mem::take(&mut is_partial) {
                history.add_line(line, u64::MAX);
            }
            Ok(())
        })?;
        Ok(history)
    }

    fn add_line(&mut self, line: Option<&[u8]>, last_step: u64) {
        match line.and_then(MetricsLine::parse) {
            None => self.unreadable += 1,
            Some(line) if line.step().is_some_and(|step| step > last_step) => {}
            Some(MetricsLine::Step(record)) => self.add_step(&record),
            Some(MetricsLine::Validation(summary)) => self.add_validation(*summary),
            Some(MetricsLine::Skipped(_)) => self.skipped += 1,
            Some(MetricsLine::Other(_)) => {}
        }
    }

    /// Adds a step.
    pub(crate) fn add_step(&mut self, record: &StepRecord) {
        self.loss.push(record.step, record.loss);
        for (name, value) in record.losses.iter().filter(|(name, _)| is_of_last_layer(name)) {
            let known = self.losses.iter().position(|(known, _)| known == name);
            let index = known.unwrap_or_else(|| {
                self.losses.push((name.clone(), Series::default()));
                self.losses.len() - 1
            });
            self.losses[index].1.push(record.step, *value);
        }
        self.last = Some(record.clone());
    }

    /// Adds a validation, which replaces one of the same step.
    pub(crate) fn add_validation(&mut self, summary: ValidationSummary) {
        self.validations.retain(|other| other.step != summary.step);
        self.validations.push(summary);
    }

    /// Returns the validation with the highest AP, the earliest of equals.
    #[must_use]
    pub fn best(&self) -> Option<&ValidationSummary> {
        // `max_by` takes the last of equals.
        self.validations.iter().rev().max_by(|a, b| a.metrics.ap.total_cmp(&b.metrics.ap))
    }

    /// Returns one of COCO's twelve numbers over epochs, by its index in [`METRIC_NAMES`](crate::METRIC_NAMES),
    /// as points of epoch and value. Validations in which there was nothing to average are left out.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // epochs are few
    pub fn metric_over_epochs(&self, index: usize) -> Vec<[f64; 2]> {
        let points =
            self.validations.iter().map(|row| [row.epoch as f64, row.metrics.values()[index]]);
        points.filter(|point| point[1] >= 0.0).collect()
    }
}

/// Returns whether a name is that of a loss of the last decoder layer: those of other layers end in the layer's
/// number, or in `enc` for the encoder.
fn is_of_last_layer(name: &str) -> bool {
    let end = name.rsplit('_').next().unwrap_or_default();
    name.starts_with("loss_") && end != "enc" && !end.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonl::step_line;

    #[test]
    fn a_line_without_end_costs_neither_memory_nor_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let long = "x".repeat(usize::try_from(LONGEST_LINE).unwrap() * 3 + 5);
        let step = step_line(&StepRecord { step: 1, loss: 2.0, ..StepRecord::default() });
        std::fs::write(&path, format!("{long}\n{step}\n{long}")).unwrap();
        let history = History::read(&path).unwrap();
        assert_eq!((history.unreadable, history.last.unwrap().step), (2, 1));
        std::fs::write(&path, format!("{long}\n{step}\n{{")).unwrap();
        let end = History::read_end(&path).unwrap();
        assert_eq!((end.unreadable, end.last.unwrap().step), (1, 1));
    }

    #[test]
    fn losses_of_the_last_layer_are_plotted() {
        let names = ["loss_ce", "loss_bbox", "loss_ce_0", "loss_giou_enc", "class_error"];
        assert_eq!(names.map(is_of_last_layer), [true, true, false, false, false]);
    }
}
