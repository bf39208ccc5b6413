//! The report of an evaluation as text and as a folder of files.

use std::io;
use std::path::{Path, PathBuf};

use detr_types::fs::atomic_write;

use crate::{Metrics, curves_svg};

/// A file of a report that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct ReportError {
    /// The file.
    pub path: PathBuf,
    /// The reason.
    pub source: io::Error,
}

impl Metrics {
    /// Returns the twelve numbers as text, the classes if they are wanted, and the confusion of classes if it was
    /// counted.
    #[must_use]
    pub fn report(&self, per_class: bool) -> String {
        let mut text = self.to_string();
        if per_class {
            text += "\n";
            text += &self.class_table();
        }
        if let Some(confusion) = &self.confusion {
            text += "\n";
            text += &confusion.table();
        }
        text
    }
}

/// Writes `metrics.json`, `table.txt` and, if there are curves, `curves.svg` to a folder, which is made if need be.
///
/// # Errors
/// A file cannot be written.
pub fn write_report(folder: &Path, metrics: &Metrics) -> Result<(), ReportError> {
    let write = |name: &str, text: Result<String, io::Error>| {
        let path = folder.join(name);
        text.and_then(|text| atomic_write(&path, |file| file.write_all(text.as_bytes())))
            .map_err(|source| ReportError { path, source })
    };
    let json = serde_json::to_string_pretty(metrics).map_err(io::Error::from);
    write("metrics.json", json.map(|json| json + "\n"))?;
    write("table.txt", Ok(metrics.report(true)))?;
    match metrics.curves.first() {
        Some(curves) => write("curves.svg", Ok(curves_svg(curves, "Precision over recall"))),
        None => Ok(()),
    }
}
