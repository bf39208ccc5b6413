//! Reads a typed value from a document, and finds the key that an error is about.

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use toml::Value;

use super::document::{PathStep, at, dotted};
use super::reason::Reason;
use super::schema::{SettingKey, find};

/// An error in a document, with its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    pub(super) path: Vec<PathStep>,
    pub(super) reason: Reason,
}

/// Reads a document as a type. The place of an error may be that of an outer table: serde reads an enum with a tag
/// through a buffer that forgets the path.
///
/// # Errors
/// Returns the first error.
pub(super) fn read<T: DeserializeOwned>(document: &Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(document.clone()).map_err(
        |error: serde_path_to_error::Error<toml::de::Error>| Problem {
            path: steps(document, error.path()),
            reason: Reason::parse(error.inner().message()),
        },
    )
}

/// Translates serde's path into one through the document, where variants of enums are keys or words.
fn steps(document: &Value, path: &serde_path_to_error::Path) -> Vec<PathStep> {
    let mut steps = Vec::new();
    for segment in path {
        let (step, is_variant) = match segment {
            Segment::Seq { index } => (PathStep::Index(*index), false),
            Segment::Map { key } => (PathStep::Key(key.clone()), false),
            Segment::Enum { variant } => (PathStep::Key(variant.clone()), true),
            Segment::Unknown => break,
        };
        steps.push(step);
        if is_variant && at(document, &steps).is_none() {
            steps.pop();
        }
    }
    steps
}

impl Problem {
    /// Goes on to the key that the error is about, inside of the table that serde names.
    pub(super) fn closer(mut self, document: &Value, keys: &[SettingKey]) -> Self {
        let Some(Value::Table(table)) = at(document, &self.path) else { return self };
        let table_name = dotted(&self.path);
        let culprit = table.iter().find(|(key, value)| match &self.reason {
            Reason::UnknownKey { key: unknown, .. } => *key == unknown,
            Reason::UnknownVariant { found, .. } => {
                *key == found || value.as_str() == Some(found.as_str())
            }
            Reason::Wrong { found, expected } => {
                let setting = find(keys, &format!("{table_name}.{key}"));
                let fits = setting.is_some_and(|setting| setting.expected == *expected);
                // The number in a list has another type than the list.
                (fits || value.is_array()) && Reason::is_about(found, value)
            }
            Reason::Missing(_) | Reason::Other(_) => false,
        });
        self.path.extend(culprit.map(|(key, _)| PathStep::Key(key.clone())));
        self
    }
}
