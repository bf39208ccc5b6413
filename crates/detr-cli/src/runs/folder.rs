//! The folders of runs, with the messages of the command line for those that cannot be read.

use std::path::Path;

use detr_infer::cli::CliError;
use detr_track::RunRecord;

/// Reads the runs in a folder; or the folder itself, if it is that of a run.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn find(folder: &Path) -> Result<Vec<RunRecord>, CliError> {
    RunRecord::find(folder).map_err(|error| {
        let folder = folder.display();
        CliError::Data(format!("{folder}: {error}\nhint: give the folder that holds the runs"))
    })
}

/// Reads the run in a folder.
///
/// # Errors
/// The folder does not hold a run.
pub(super) fn open(path: &Path) -> Result<RunRecord, CliError> {
    if RunRecord::exists(path) {
        return Ok(RunRecord::read(path));
    }
    let what = if path.exists() { "is not the folder of a run" } else { "does not exist" };
    Err(CliError::Data(format!(
        "{}: {what}\nhint: `detr runs list DIR` shows the runs in a folder",
        path.display()
    )))
}
