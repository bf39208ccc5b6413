//! Reading a small file of a run, and why that may fail.

use std::io::{self, ErrorKind};
use std::path::Path;

/// A file of a run that cannot be read. The message begins with a verb, to stand behind the name of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file does not exist.
    #[error("is missing")]
    Missing,
    /// The file is larger than any that a run writes.
    #[error("is too large to be one of ours")]
    TooLarge,
    /// The system refuses to read the file.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// The content is not what it should be.
    #[error("cannot be read: {0}")]
    Content(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::NotFound { Self::Missing } else { Self::Io(error) }
    }
}

impl ReadError {
    /// Creates the error of a parser, with the first line of its message.
    pub(crate) fn content(error: &dyn std::fmt::Display) -> Self {
        let text = error.to_string();
        let line = text.lines().map(str::trim).find(|line| !line.is_empty());
        Self::Content(line.unwrap_or_default().to_owned())
    }
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_small(path: &Path, limit: u64) -> Result<String, ReadError> {
    if path.metadata()?.len() > limit {
        return Err(ReadError::TooLarge);
    }
    Ok(std::fs::read_to_string(path)?)
}
