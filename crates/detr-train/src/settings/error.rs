//! Errors in the settings of a run, with their places.

use std::fmt;
use std::path::PathBuf;

/// Why settings cannot be used. The last line of the message is a hint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file is not TOML.
    #[error(
        "{place}: {reason}\nhint: settings are TOML: `key = value` below a [table], texts in quotes"
    )]
    Syntax {
        /// The place of the error.
        place: Box<SettingPlace>,
        /// The message of the parser.
        reason: String,
    },
    /// A flag cannot be applied.
    #[error(
        "--set {flag}: {reason}\nhint: such as --set train.lr=1e-4 or --set 'train.frozen=[\"backbone\"]'"
    )]
    Flag {
        /// The text behind `--set`.
        flag: String,
        /// The reason.
        reason: String,
    },
    /// A key does not exist.
    #[error("{place}: unknown key `{key}`{}\nhint: {hint}", near.as_ref().map_or(String::new(), |near| format!("; did you mean `{near}`?")))]
    UnknownKey {
        /// The place of the error.
        place: Box<SettingPlace>,
        /// The key, dotted.
        key: String,
        /// The key that was meant, if there is a guess.
        near: Option<String>,
        /// The keys that exist.
        hint: String,
    },
    /// A required key is missing.
    #[error("{place}: `{key}` is missing, expected {expected}\nhint: {hint}")]
    Missing {
        /// The place where it should be.
        place: Box<SettingPlace>,
        /// The key, dotted.
        key: String,
        /// The values that it can have.
        expected: String,
        /// Advice.
        hint: String,
    },
    /// A value has another type, or cannot work.
    #[error("{place}: {key} is {found}, expected {expected}\nhint: {hint}")]
    Value {
        /// The place of the error.
        place: Box<SettingPlace>,
        /// The key, dotted.
        key: String,
        /// The value.
        found: String,
        /// The values that it can have.
        expected: String,
        /// Advice.
        hint: String,
    },
}

/// The place of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingPlace {
    /// A place in a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
    },
    /// The text behind `--set` of a flag.
    Flag(String),
}

impl fmt::Display for SettingPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Flag(flag) => write!(f, "--set {flag}"),
        }
    }
}
