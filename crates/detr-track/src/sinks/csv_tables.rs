//! `metrics.csv` and `validation.csv`: what `metrics.jsonl` says of steps and validations, for
//! spreadsheets. They are made of it anew whenever a run goes on.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use detr_types::fs::PendingFile;

use crate::history::each_line;
use crate::records::{Line, StepRow, Validation};

/// Columns of every step; its losses follow.
const STEP: &str = "step,epoch,loss,lr,grad_norm,seconds,waited,images,bad_images";

/// COCO's numbers in their order, by the names that they have in `metrics.jsonl`.
pub const METRICS: [&str; 12] = [
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar_few",
    "ar_some",
    "ar",
    "ar_small",
    "ar_medium",
    "ar_large",
];

/// The columns of `metrics.csv`, which are those of the first step: a loss that comes later has none.
#[derive(Clone, Debug, Default)]
pub struct StepTable {
    losses: Option<Vec<String>>,
}

impl StepTable {
    /// The line of a step, after the head if it is the first.
    pub fn add(&mut self, row: &StepRow) -> String {
        let mut text = String::new();
        let names = self.losses.get_or_insert_with(|| {
            let names: Vec<String> = row.losses.iter().map(|(name, _)| name.clone()).collect();
            text += STEP;
            for name in &names {
                text += ",";
                text += &name.replace([',', '"', '\n'], " ");
            }
            text += "\n";
            names
        });
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{},{},{},{},{},{:.4},{:.4},{},{}",
            row.step,
            row.epoch,
            number(row.loss),
            row.lr,
            number(row.grad_norm),
            row.seconds,
            row.waited,
            row.images.len(),
            row.bad_images
        );
        for name in names {
            let loss = row.losses.iter().find(|(of, _)| of == name);
            text += ",";
            text += &loss.map_or_else(String::new, |(_, value)| number(*value));
        }
        text + "\n"
    }
}

/// The head of `validation.csv`.
pub fn validation_head() -> String {
    format!("step,epoch,{},best,ap_without_ema\n", METRICS.join(","))
}

/// The line of a validation.
pub fn validation_line(row: &Validation) -> String {
    let numbers: Vec<String> = row.metrics.values().iter().map(|v| format!("{v:.6}")).collect();
    let raw = row.without_ema.map_or_else(String::new, |raw| format!("{:.6}", raw.ap));
    format!("{},{},{},{},{raw}\n", row.step, row.epoch, numbers.join(","), row.best)
}

/// A number of the precision that it has.
#[allow(clippy::cast_possible_truncation)] // it comes from f32
fn number(value: f64) -> String {
    if value.is_finite() { (value as f32).to_string() } else { String::new() }
}

/// Makes both tables of `metrics.jsonl`, which may be missing.
///
/// # Errors
/// A file that cannot be read or written; the tables are then as they were.
pub fn rebuild(lines: &Path, steps: &Path, validations: &Path) -> io::Result<StepTable> {
    let mut table = StepTable::default();
    let mut step_file = PendingFile::create(steps)?;
    let mut validation_file = PendingFile::create(validations)?;
    validation_file.write_all(validation_head().as_bytes())?;
    if lines.exists() {
        each_line(File::open(lines)?, |line| match line.and_then(Line::parse) {
            Some(Line::Step(row)) => step_file.write_all(table.add(&row).as_bytes()),
            Some(Line::Validated(row)) => {
                validation_file.write_all(validation_line(&row).as_bytes())
            }
            _ => Ok(()),
        })?;
    }
    step_file.persist()?;
    validation_file.persist()?;
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stay_those_of_the_first_step() {
        let mut table = StepTable::default();
        let row = |losses: &[(&str, f64)]| StepRow {
            step: 3,
            loss: f64::from(0.1_f32),
            lr: 1e-4,
            grad_norm: f64::INFINITY,
            losses: losses.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            ..StepRow::default()
        };
        let first = table.add(&row(&[("loss_ce", 0.5), ("a,b", 1.0)]));
        let head = format!("{STEP},loss_ce,a b\n");
        assert_eq!(first, head + "3,0,0.1,0.0001,,0.0000,0.0000,0,0,0.5,1\n");
        let later = table.add(&row(&[("new", 2.0), ("a,b", f64::NAN)]));
        assert_eq!(later, "3,0,0.1,0.0001,,0.0000,0.0000,0,0,,\n");
    }
}
