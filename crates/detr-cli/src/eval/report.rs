//! Prints an evaluation, and writes the files of its folder.

use std::path::{Path, PathBuf};

use detr_eval::{Metrics, write_report};
use detr_infer::cli::{CliError, Console, escaped, print};

use super::results::ResultsFile;

/// The folder for the results, if one is wanted.
pub(super) struct Report {
    folder: Option<PathBuf>,
}

impl Report {
    /// Makes the folder, so that a folder that cannot be made is found before the work.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub(super) fn new(folder: Option<&Path>) -> Result<Self, CliError> {
        if let Some(folder) = folder {
            let shown = folder.display();
            if folder.exists() && !folder.is_dir() {
                return Err(CliError::Usage(format!(
                    "--output {shown}: it is not a folder\nhint: give a folder, or a name that is free"
                )));
            }
            std::fs::create_dir_all(folder)
                .map_err(|error| CliError::Failed(format!("cannot make {shown}: {error}")))?;
        }
        Ok(Self { folder: folder.map(Path::to_owned) })
    }

    /// Returns the folder, if one is wanted.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Opens the file for a model's detections.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(super) fn results_file(&self) -> Result<Option<ResultsFile>, CliError> {
        let create = |folder: &PathBuf| ResultsFile::create(&folder.join("results.json"));
        self.folder.as_ref().map(create).transpose()
    }

    /// Writes everything but the detections.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(super) fn write(&self, metrics: &Metrics, console: &Console) -> Result<(), CliError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        write_report(folder, metrics).map_err(|error| CliError::Failed(error.to_string()))?;
        console.note(&format!("written to {}", folder.display()));
        Ok(())
    }
}

/// Prints the numbers for people.
///
/// # Errors
/// stdout cannot be written.
pub(super) fn show(metrics: &Metrics, per_class: bool) -> Result<(), CliError> {
    print(&escaped(&metrics.report(per_class)))
}
