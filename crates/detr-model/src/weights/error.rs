//! The errors of reading a checkpoint.

use std::fmt;
use std::path::{Path, PathBuf};

/// Lists longer than this are cut in messages.
const SHOWN: usize = 10;

/// A checkpoint that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file system failed.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// An artifact cannot be written.
    #[error("{path}: cannot be written: {source}", path = .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// Neither a known file format nor a known folder layout.
    #[error("{path}: {reason}\nhint: a model is an official .pth file, a .safetensors file with official names, a Hugging Face folder (config.json + model.safetensors) or a folder made by `detr models convert`", path = .path.display())]
    NotAModel {
        /// The file or folder.
        path: PathBuf,
        /// The format that the file resembles instead.
        reason: String,
    },
    /// The container is damaged.
    #[error("{path}: damaged: {reason}\nhint: fetch or copy the file again", path = .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The fault and its place.
        reason: String,
    },
    /// The tensors are not those of the model.
    #[error("{path}: the weights do not fit the model{mismatch}{hint}", path = .path.display(), hint = Hint(hint.as_deref()))]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The tensors that do not fit.
        mismatch: Mismatch,
        /// The remedy, which depends on where the architecture comes from.
        hint: Option<Box<str>>,
    },
    /// Names that stand for one tensor, with different numbers under them.
    #[error("{path}: {first} and {second} differ, but stand for one tensor of the model{hint}", path = .path.display(), hint = Hint(hint.as_deref()))]
    UnequalCopies {
        /// The file.
        path: PathBuf,
        /// One of the names.
        first: String,
        /// Another one.
        second: String,
        /// The remedy.
        hint: Option<Box<str>>,
    },
    /// NaN or infinite numbers.
    #[error("{path}: {count} tensors hold NaN or infinite numbers:{list}\nhint: the training run that wrote this file diverged; use an earlier checkpoint", path = .path.display(), count = .names.len(), list = IndentedList(names))]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// Names of the tensors, in order.
        names: Vec<String>,
    },
    /// Numbers that the asked-for precision cannot hold.
    #[error("{path}: {count} tensors hold numbers beyond the range of f16, which ends at 65504:{list}\nhint: use f32 or bf16", path = .path.display(), count = .names.len(), list = IndentedList(names))]
    BeyondHalf {
        /// The file.
        path: PathBuf,
        /// Names of the tensors, in order.
        names: Vec<String>,
    },
    /// Settings that are missing or contradict each other.
    #[error("{path}: {reason}", path = .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Field and reason, with a hint.
        reason: String,
    },
    /// A file of a newer program.
    #[error("{path}: format version {found}, but this program knows versions up to {known}\nhint: update detr", path = .path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest known version.
        known: u32,
    },
}

impl WeightsError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn write(path: &Path, source: std::io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }

    pub(super) fn corrupt(path: &Path, reason: impl fmt::Display) -> Self {
        Self::Corrupt { path: path.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn config(path: &Path, reason: impl fmt::Display) -> Self {
        Self::Config { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// The difference between the tensors of a file and those of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// In the model, not in the file.
    pub missing: Vec<String>,
    /// In the file, not in the model.
    pub unexpected: Vec<String>,
    /// In both, with different shapes: name, shape in the model, shape in the file.
    pub shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Mismatch {
    /// Returns whether everything fits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.shapes.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.missing.is_empty() {
            write!(f, "\n{} missing:{}", self.missing.len(), IndentedList(&self.missing))?;
        }
        if !self.unexpected.is_empty() {
            write!(f, "\n{} unexpected:{}", self.unexpected.len(), IndentedList(&self.unexpected))?;
        }
        if !self.shapes.is_empty() {
            let shapes: Vec<String> = self
                .shapes
                .iter()
                .map(|(name, model, file)| {
                    format!("{name}: the model has {model:?}, the file {file:?}")
                })
                .collect();
            write!(f, "\n{} of another shape:{}", shapes.len(), IndentedList(&shapes))?;
        }
        Ok(())
    }
}

/// The last line of a message, where there is something to try.
struct Hint<'a>(Option<&'a str>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

/// One indented line an item, the first ten of them.
struct IndentedList<'a>(&'a [String]);

impl fmt::Display for IndentedList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in self.0.iter().take(SHOWN) {
            write!(f, "\n  {item}")?;
        }
        match self.0.len().checked_sub(SHOWN) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "\n  and {more} more"),
        }
    }
}
