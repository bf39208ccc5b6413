//! Why a data set cannot be read, converted or written.

use std::io;
use std::path::{Path, PathBuf};

use detr_types::ClassTableError;

use crate::dataset::{ReadReport, Severity};
use crate::decode::ImageError;

/// The errors of reading a data set, with the file and the place in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// The error that the system reported.
        error: io::Error,
    },
    /// Neither a file nor a folder: a pipe, a device.
    #[error("{}: is no regular file", path.display())]
    NotARegularFile {
        /// The path.
        path: PathBuf,
    },
    /// A file beyond its limit.
    #[error(
        "{}: has {bytes} bytes, more than the limit of {limit}\n\
         hint: split the file, or raise the limit if it can be trusted",
        path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Text that is not what its format says.
    #[error("{}:{line}:{column}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
        /// The reason; a hint may follow on a line of its own.
        reason: String,
    },
    /// A part that the format needs is missing.
    #[error("{}: {reason}", path.display())]
    Layout {
        /// File or folder.
        path: PathBuf,
        /// The files that were looked for, and a hint.
        reason: String,
    },
    /// Problems that the caller does not accept; see [`ReadReport`].
    #[error("{}", refusal(report, *.least))]
    Refused {
        /// Everything that was found.
        report: Box<ReadReport>,
        /// The least severity that is refused.
        least: Severity,
    },
    /// An image whose header is needed.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Classes that contradict each other.
    #[error("class {name:?}: {reason}")]
    Class {
        /// Name of the class.
        name: String,
        /// The reason, and a hint.
        reason: String,
    },
    /// Categories that make no class table.
    #[error(transparent)]
    ClassTable(#[from] ClassTableError),
}

impl DatasetError {
    /// Wraps an error of the file system at a path.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { path: path.to_owned(), error }
    }

    /// Returns the error for something that is missing at a path.
    pub(crate) fn layout(path: &Path, reason: impl Into<String>) -> Self {
        Self::Layout { path: path.to_owned(), reason: reason.into() }
    }
}

/// Lists the problems that matter, one per line.
fn refusal(report: &ReadReport, least: Severity) -> String {
    let matters = report.problems.iter().filter(|(problem, _)| problem.severity() >= least);
    let lines = matters.clone().map(|(problem, found)| {
        format!("  {}: {problem} ({})\n", found.count, found.first.join(", "))
    });
    let hint = matters.clone().next().map_or("", |(problem, _)| problem.hint());
    format!("{}: refused\n{}hint: {hint}", report.sources.join(", "), lines.collect::<String>())
}
