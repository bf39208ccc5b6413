//! What is wrong with the settings of a run, and where it stands.

use std::fmt;
use std::path::PathBuf;

/// Settings that cannot be used. The last line of the message is a hint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file is not TOML.
    #[error(
        "{place}: {reason}\nhint: settings are TOML: `key = value` below a [table], texts in quotes"
    )]
    Syntax {
        /// Where.
        place: Box<SettingPlace>,
        /// What the parser says.
        reason: String,
    },
    /// A flag that changes nothing.
    #[error(
        "--set {flag}: {reason}\nhint: such as --set train.lr=1e-4 or --set 'train.frozen=[\"backbone\"]'"
    )]
    Flag {
        /// What stands behind `--set`.
        flag: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key `{key}`{}\nhint: {hint}", near.as_ref().map_or(String::new(), |near| format!("; did you mean `{near}`?")))]
    UnknownKey {
        /// Where.
        place: Box<SettingPlace>,
        /// The key, dotted.
        key: String,
        /// The key that was meant, perhaps.
        near: Option<String>,
        /// Which keys there are.
        hint: String,
    },
    /// A key without which nothing can start.
    #[error("{place}: `{key}` is missing, expected {expected}\nhint: {hint}")]
    Missing {
        /// Where it should be.
        place: Box<SettingPlace>,
        /// The key, dotted.
        key: String,
        /// What it can be.
        expected: String,
        /// What to do.
        hint: String,
    },
    /// A value of another type, or one that cannot work.
    #[error("{place}: {key} is {found}, expected {expected}\nhint: {hint}")]
    Value {
        /// Where.
        place: Box<SettingPlace>,
        /// The key, dotted.
        key: String,
        /// The value.
        found: String,
        /// What it can be.
        expected: String,
        /// What to do.
        hint: String,
    },
}

/// Where a setting stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingPlace {
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
    },
    /// In a flag: what stands behind `--set`.
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
