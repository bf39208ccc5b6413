//! `detr runs show`: everything about one run.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use detr_eval::Metrics;
use detr_infer::cli::{CliError, Console, escaped, print, print_json};
use detr_track::{RunRecord, ValidationSummary, flatten};
use serde_json::{Value, json};

use super::checkpoints::{self, Checkpoint};
use super::table::{bytes, number, table};
use super::{folder, list, numbers};

/// Flags of `detr runs show`.
#[derive(Args)]
pub(crate) struct ShowArgs {
    /// Folder of the run
    #[arg(value_name = "RUN")]
    run: PathBuf,

    /// Check the hashes of the checkpoints, too: all their files are read
    #[arg(long)]
    verify: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ShowArgs, console: &Console) -> Result<(), CliError> {
    let run = folder::open(&args.run)?;
    let details = RunDetails {
        best: run.history.best().cloned(),
        last: run.history.validations.last().cloned(),
        checkpoints: checkpoints::list(&run.path, args.verify),
        files: files(&run.path),
        run,
    };
    if args.json {
        return print_json(&details.described());
    }
    for problem in &details.run.problems {
        console.note(&format!("{}: {problem}", details.run.name));
    }
    print(&escaped(&details.text()))
}

struct RunDetails {
    run: RunRecord,
    best: Option<ValidationSummary>,
    last: Option<ValidationSummary>,
    checkpoints: Vec<Checkpoint>,
    /// Names and bytes of what is in the folder.
    files: Vec<(String, u64)>,
}

impl RunDetails {
    fn described(&self) -> Value {
        let row = self.run.history.last.as_ref();
        let mut value = list::described(&self.run);
        let more = json!({
            "settings": self.run.settings,
            "environment": self.run.environment,
            "best": self.best,
            "last": self.last,
            "classes": self.report().map(|metrics| metrics.classes),
            "lr": row.map(|row| row.lr),
            "skipped": self.run.status.skipped,
            "checkpoints": self.checkpoints,
            "files": self.files.iter()
                .map(|(name, bytes)| json!({ "name": name, "bytes": bytes }))
                .collect::<Vec<_>>(),
        });
        if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
            value.extend(more);
        }
        value
    }

    fn text(&self) -> String {
        let RunRecord { name, state, status, history, settings, .. } = &self.run;
        let mut text = format!("{name}  {}\n", state.word());
        let mut line = |key: &str, value: String| {
            if !value.is_empty() {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "  {key:<9} {value}");
            }
        };
        line("model", status.model.clone());
        line("config", status.config.clone());
        line("device", status.device.clone());
        line("started", status.started.clone());
        line("updated", status.updated.clone());
        line("worked", list::duration(status.seconds));
        line("epoch", list::of(status.epoch, status.epochs, " of "));
        line("step", list::of(status.step, status.steps, " of "));
        line("loss", number(status.loss, 4));
        let rate = |lr: f64| format!("{lr:.1e}");
        line("lr", history.last.as_ref().map_or_else(String::new, |row| rate(row.lr)));
        line("skipped", format!("{} steps", status.skipped));
        line("error", status.error.clone().unwrap_or_default());

        let rows = [("best", &self.best), ("last", &self.last)];
        let rows = rows.iter().filter_map(|(name, row)| Some((*name, row.as_ref()?)));
        let rows: Vec<(String, &ValidationSummary)> =
            rows.map(|(name, row)| (name.to_owned(), row)).collect();
        if !rows.is_empty() {
            text = text + "\n" + &numbers::table_of(&rows);
        }
        if let Some(metrics) = self.report() {
            text = text + "\n" + &metrics.class_table();
        }
        if !self.checkpoints.is_empty() {
            text = text + "\n" + &self.checkpoint_table();
        }
        let pairs = flatten(settings);
        if !pairs.is_empty() {
            text += "\nsettings\n";
            text.extend(pairs.iter().map(|(key, value)| format!("  {key} = {value}\n")));
        }
        text += "\nfiles\n";
        text.extend(self.files.iter().map(|(name, size)| format!("  {name}  {}\n", bytes(*size))));
        text
    }

    fn checkpoint_table(&self) -> String {
        let row = |one: &Checkpoint| {
            let state = one.problem.clone().unwrap_or_else(|| "whole".to_owned());
            vec![format!("step-{}", one.step), bytes(one.bytes), one.is.join(", "), state]
        };
        let rows: Vec<Vec<String>> = self.checkpoints.iter().map(row).collect();
        table(&["checkpoint", "size", "is", "state"], &rows, &[1])
    }

    /// Returns the report of the best validation, or else of the last.
    fn report(&self) -> Option<Metrics> {
        [&self.best, &self.last].into_iter().flatten().find_map(|row| {
            let folder = format!("eval/epoch-{}", row.epoch);
            let text = fs::read(self.run.path.join(folder).join("metrics.json")).ok()?;
            serde_json::from_slice(&text).ok()
        })
    }
}

/// Lists the content of a run's folder, with the total size of each folder in bytes.
fn files(run: &Path) -> Vec<(String, u64)> {
    let entries = fs::read_dir(run).into_iter().flatten().flatten();
    let mut found: Vec<(String, u64)> = entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_folder = entry.path().is_dir();
            (if is_folder { name + "/" } else { name }, size(&entry.path(), 8))
        })
        .collect();
    found.sort();
    found
}

/// Returns the size of a file, or of all in a folder, in bytes; links are not followed.
fn size(path: &Path, depth: usize) -> u64 {
    match path.symlink_metadata() {
        Ok(data) if data.is_dir() && depth > 0 => {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| size(&entry.path(), depth - 1)).sum()
        }
        Ok(data) if data.is_file() => data.len(),
        _ => 0,
    }
}
