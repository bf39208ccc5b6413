//! The sinks that come with the crate: the files of a run's folder, as `docs/runs.md` describes them.

mod csv_tables;
mod environment;
mod metrics_file;
mod pictures;
mod plots;
mod reports;
mod status_file;
mod tensorboard;
mod text_log;

use std::path::Path;

pub use csv_tables::CsvTables;
pub use environment::{ENVIRONMENT_FILE, Environment};
pub use metrics_file::MetricsFile;
pub use pictures::SamplePictures;
pub use plots::Plots;
pub use reports::ValidationReports;
pub use status_file::StatusFile;
pub use tensorboard::TensorBoard;
pub use text_log::TextLog;

use crate::Sink;

/// Returns the sinks of all files that `detr train` writes to the folder of a run, except for the pictures of
/// validations ([`SamplePictures`]).
#[must_use]
pub fn folder_sinks(folder: &Path) -> Vec<Box<dyn Sink>> {
    vec![
        Box::new(Environment::new(folder)),
        Box::new(MetricsFile::new(folder)),
        Box::new(CsvTables::new(folder)),
        Box::new(TensorBoard::new(folder)),
        Box::new(ValidationReports::new()),
        Box::new(Plots::new(folder)),
        Box::new(StatusFile::new(folder)),
        Box::new(TextLog::new(folder)),
    ]
}
