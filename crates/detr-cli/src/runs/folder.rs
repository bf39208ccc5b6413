//! The folder of a run, read as far as it can be: a run that is at work, was killed, or was copied in
//! part is shown with what is missing.

use std::fs;
use std::path::{Path, PathBuf};

use detr_infer::cli::CliError;
use serde_json::Value;

use crate::tracking::{ENVIRONMENT, History, METRICS_FILE, STATUS, Seen, Status};

/// Name of the file of settings.
pub(super) const CONFIG: &str = "config.toml";
/// Folders below the one that was given in which runs are looked for.
const DEPTH: usize = 3;
/// Largest file of settings or environment; ours have a few thousand bytes.
const LARGEST: u64 = 16 << 20;

/// A run.
pub(super) struct Run {
    /// Its name: the path below the folder that was searched, or as it was given.
    pub(super) name: String,
    /// Its folder.
    pub(super) path: PathBuf,
    /// How it stands.
    pub(super) seen: Seen,
    /// `status.json`; what it lacks is taken from the metrics.
    pub(super) status: Status,
    /// The metrics.
    pub(super) history: History,
    /// The settings.
    pub(super) config: toml::Table,
    /// The environment.
    pub(super) environment: Value,
    /// What is wrong with its files.
    pub(super) problems: Vec<String>,
}

/// Whether a folder is that of a run.
pub(super) fn is_run(path: &Path) -> bool {
    let any = [STATUS, METRICS_FILE, "checkpoints"].iter().any(|name| path.join(name).exists());
    any || (path.join(CONFIG).is_file() && path.join(ENVIRONMENT).is_file())
}

/// The runs in a folder, by name; the folder itself, if it is one.
///
/// # Errors
/// A folder that cannot be read.
pub(super) fn find(folder: &Path) -> Result<Vec<Run>, CliError> {
    if is_run(folder) {
        return Ok(vec![Run::read(folder, folder.display().to_string(), false)]);
    }
    let mut found = Vec::new();
    search(folder, DEPTH, &mut found).map_err(|error| {
        let folder = folder.display();
        CliError::Data(format!("{folder}: {error}\nhint: give the folder that holds the runs"))
    })?;
    found.sort();
    let name = |path: &Path| path.strip_prefix(folder).unwrap_or(path).display().to_string();
    Ok(found.iter().map(|path| Run::read(path, name(path), false)).collect())
}

fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if !path.is_dir() || entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if is_run(&path) {
            found.push(path);
        } else if depth > 1 {
            // One that cannot be read hides no run that could be shown.
            drop(search(&path, depth - 1, found));
        }
    }
    Ok(())
}

impl Run {
    /// The run in a folder that was named.
    ///
    /// # Errors
    /// A folder that is none of a run.
    pub(super) fn open(path: &Path) -> Result<Self, CliError> {
        if is_run(path) {
            return Ok(Self::read(path, path.display().to_string(), true));
        }
        let what = if path.exists() { "is not the folder of a run" } else { "does not exist" };
        Err(CliError::Data(format!(
            "{}: {what}\nhint: `detr runs list DIR` shows the runs in a folder",
            path.display()
        )))
    }

    /// Reads what is there; `all` of the metrics, or their end.
    fn read(path: &Path, name: String, all: bool) -> Self {
        let mut problems = Vec::new();
        let mut note = |file: &str, reason: &str| problems.push(format!("{file} {reason}"));
        let status = Status::read(path).map_err(|reason| note(STATUS, &reason));
        let seen = status.as_ref().map_or(Seen::Unknown, Status::seen);
        let metrics = path.join(METRICS_FILE);
        // A long file takes seconds, and a list needs only what the status says.
        let all = all || status.is_err();
        let history = if all { History::read(&metrics) } else { History::read_end(&metrics) };
        let history = match history {
            Ok(history) => history,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                note(METRICS_FILE, "is missing");
                History::default()
            }
            Err(error) => {
                note(METRICS_FILE, &error.to_string());
                History::default()
            }
        };
        match history.unreadable {
            0 => {}
            1 => note(METRICS_FILE, "has a line that cannot be read"),
            lines => note(METRICS_FILE, &format!("has {lines} lines that cannot be read")),
        }
        let config = small_text(&path.join(CONFIG))
            .and_then(|text| text.parse::<toml::Table>().map_err(|error| one_line(&error)));
        let config = config.map_err(|reason| note(CONFIG, &reason)).unwrap_or_default();
        let environment = small_text(&path.join(ENVIRONMENT))
            .and_then(|text| serde_json::from_str(&text).map_err(|error| one_line(&error)));
        let environment = environment.map_err(|reason| note(ENVIRONMENT, &reason));
        let environment = environment.unwrap_or(Value::Null);
        let mut status = status.unwrap_or_default();
        complete(&mut status, &history, &config);
        Self { name, path: path.to_owned(), seen, status, history, config, environment, problems }
    }
}

/// Fills in what a missing status leaves out.
fn complete(status: &mut Status, history: &History, config: &toml::Table) {
    if let Some(last) = &history.last {
        if status.step < last.step {
            (status.step, status.epoch) = (last.step, last.epoch);
        }
        status.loss = status.loss.or(Some(last.loss)).filter(|loss| loss.is_finite());
    }
    let last = history.validations.last().map(|row| row.metrics.ap);
    status.ap = status.ap.or(last.filter(|ap| *ap >= 0.0));
    if let Some(best) = history.best().filter(|best| best.metrics.ap >= 0.0) {
        let (ap, step, epoch) = (best.metrics.ap, best.step, best.epoch);
        status.best.get_or_insert(crate::tracking::Best { ap, step, epoch });
    }
    let setting = |section: &str, key: &str| config.get(section)?.get(key).cloned();
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

fn small_text(path: &Path) -> Result<String, String> {
    match path.metadata() {
        Ok(data) if data.len() > LARGEST => Err("is too large to be one of ours".to_owned()),
        Ok(_) => fs::read_to_string(path).map_err(|error| error.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err("is missing".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A parser's message in one line.
fn one_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let text: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    format!("cannot be read: {}", text.first().copied().unwrap_or_default())
}
