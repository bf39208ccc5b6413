//! The folder of a run, read back as far as possible: a run that trains, was killed or was copied in part is read
//! with a note of what is missing.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::read_error::{ReadError, read_small};
use crate::sinks::ENVIRONMENT_FILE;
use crate::status::{BestValidation, STATUS_FILE};
use crate::{History, METRICS_FILE, ObservedState, RunStatus};

/// Name of the file of settings in the folder of a run.
pub const SETTINGS_FILE: &str = "config.toml";
/// Levels of folders in which runs are looked for.
const DEPTH: usize = 3;
/// Bytes of the largest file of settings or environment that is read; ours have a few thousand.
const LARGEST: u64 = 16 << 20;

/// The records in the folder of a run.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Name of the run: the path of its folder, relative to the folder that was searched.
    pub name: String,
    /// Folder of the run.
    pub path: PathBuf,
    /// State of the run as seen from this machine.
    pub state: ObservedState,
    /// The content of `status.json`, completed from the metrics and the settings.
    pub status: RunStatus,
    /// The content of `metrics.jsonl`, or of its last megabyte.
    pub history: History,
    /// The content of `config.toml`.
    pub settings: toml::Table,
    /// The content of `environment.json`; null if it cannot be read.
    pub environment: Value,
    /// The faults of the files, a phrase each.
    pub problems: Vec<String>,
}

impl RunRecord {
    /// Returns whether a folder holds a run.
    #[must_use]
    pub fn exists(folder: &Path) -> bool {
        let any = [STATUS_FILE, METRICS_FILE, "checkpoints"]
            .iter()
            .any(|name| folder.join(name).exists());
        any || (folder.join(SETTINGS_FILE).is_file() && folder.join(ENVIRONMENT_FILE).is_file())
    }

    /// Reads all records of a run. What cannot be read is left empty and noted in [`problems`](Self::problems).
    #[must_use]
    pub fn read(folder: &Path) -> Self {
        Self::read_as(folder, folder.display().to_string(), true)
    }

    /// Reads the runs in a folder, up to three levels deep and sorted by path; or the folder itself, if it is that of
    /// a run. Of the metrics only the last megabyte is read where the status tells the rest.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn find(folder: &Path) -> io::Result<Vec<Self>> {
        if Self::exists(folder) {
            return Ok(vec![Self::read_as(folder, folder.display().to_string(), false)]);
        }
        let mut found = Vec::new();
        search(folder, DEPTH, &mut found)?;
        found.sort();
        let name = |path: &Path| path.strip_prefix(folder).unwrap_or(path).display().to_string();
        Ok(found.iter().map(|path| Self::read_as(path, name(path), false)).collect())
    }

    fn read_as(folder: &Path, name: String, all_metrics: bool) -> Self {
        let mut problems = Vec::new();
        let mut note = |file: &str, problem: &dyn Display| {
            problems.push(format!("{file} {problem}"));
        };
        let status = RunStatus::read(folder).map_err(|error| note(STATUS_FILE, &error)).ok();
        let state = status.as_ref().map_or(ObservedState::Unknown, RunStatus::observed);
        let metrics = folder.join(METRICS_FILE);
        // A long file takes seconds, and a list needs only what the status says.
        let history = if all_metrics || status.is_none() {
            History::read(&metrics)
        } else {
            History::read_end(&metrics)
        };
        let history = history.map_err(|error| note(METRICS_FILE, &ReadError::from(error)));
        let history = history.unwrap_or_default();
        match history.unreadable {
            0 => {}
            1 => note(METRICS_FILE, &"has a line that cannot be read"),
            lines => note(METRICS_FILE, &format!("has {lines} lines that cannot be read")),
        }
        let settings = read_small(&folder.join(SETTINGS_FILE), LARGEST)
            .and_then(|text| text.parse::<toml::Table>().map_err(|e| ReadError::content(&e)));
        let settings = settings.map_err(|error| note(SETTINGS_FILE, &error)).unwrap_or_default();
        let environment = read_small(&folder.join(ENVIRONMENT_FILE), LARGEST)
            .and_then(|text| serde_json::from_str(&text).map_err(|e| ReadError::content(&e)));
        let environment = environment.map_err(|error| note(ENVIRONMENT_FILE, &error));
        let environment = environment.unwrap_or(Value::Null);
        let mut status = status.unwrap_or_default();
        complete(&mut status, &history, &settings);
        let path = folder.to_owned();
        Self { name, path, state, status, history, settings, environment, problems }
    }
}

/// Adds the folders of runs in a folder.
fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if !path.is_dir() || entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if RunRecord::exists(&path) {
            found.push(path);
        } else if depth > 1 {
            // A folder that cannot be read does not hide runs that can be.
            drop(search(&path, depth - 1, found));
        }
    }
    Ok(())
}

/// Fills in what a missing status leaves out.
fn complete(status: &mut RunStatus, history: &History, settings: &toml::Table) {
    if let Some(last) = &history.last {
        if status.step < last.step {
            (status.step, status.epoch) = (last.step, last.epoch);
        }
        status.loss = status.loss.or(Some(last.loss)).filter(|loss| loss.is_finite());
    }
    let last = history.validations.last().map(|row| row.metrics.ap);
    status.ap = status.ap.or(last.filter(|ap| *ap >= 0.0));
    status.best = status.best.or_else(|| BestValidation::of(history));
    let setting = |section: &str, key: &str| settings.get(section)?.get(key).cloned();
    if status.model.is_empty()
        && let Some(toml::Value::String(arch)) = setting("model", "arch")
    {
        status.model = arch;
    }
    if status.epochs == 0
        && let Some(toml::Value::Integer(epochs)) = setting("train", "epochs")
    {
        status.epochs = u64::try_from(epochs).unwrap_or(0);
    }
}
