//! Reads settings from the text of a file and from flags, and turns errors into messages.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use detr_types::{RangeError, nearest};

use super::TrainConfig;
use super::check::check;
use super::document::{Node, Origin, PathStep};
use super::error::{SettingPlace, SettingsError};
use super::read::{Problem, read};
use super::schema::{self, SettingKey, words};
use super::serde_error::SerdeError;
use super::{document, flags};

/// The hint where users can look settings up.
const MANUAL: &str = "docs/training.md lists all settings";

impl TrainConfig {
    /// Reads settings from the text of a TOML file, with other values for some keys, each given as
    /// `key=value` like the `--set` of `detr train`. `path` is the file's name in messages; nothing is
    /// read from disk.
    ///
    /// # Errors
    /// Names the first thing that is wrong, with its line and column, or with the flag that it came from.
    pub fn load(path: &Path, text: &str, overrides: &[String]) -> Result<Self, SettingsError> {
        // Editors on Windows put a byte order mark in front.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let source = Source { path, text, overrides };
        let mut document = Node::parse(text).map_err(|error| SettingsError::Syntax {
            place: source.file(error.span().unwrap_or(0..0)).into(),
            reason: error.message().trim_end().to_owned(),
        })?;
        for (index, flag) in overrides.iter().enumerate() {
            flags::apply(&mut document, flag, index)
                .map_err(|reason| SettingsError::Flag { flag: flag.clone(), reason })?;
        }
        let config: Self = read::<Self>(&document)
            .map_err(|problem| source.explain(&document, problem, &Self::keys()))?;
        check(&config).map_err(|error| source.refuse(&document, error))?;
        Ok(config)
    }

    /// Returns every key that settings can have, in the order of their types.
    #[must_use]
    pub fn keys() -> Vec<SettingKey> {
        schema::keys::<Self>()
    }
}

/// The texts that settings were read from.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
    overrides: &'a [String],
}

impl Source<'_> {
    fn file(&self, span: Range<usize>) -> SettingPlace {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        SettingPlace::File { path: self.path.to_owned(), line, column }
    }

    fn place(&self, origin: &Origin) -> SettingPlace {
        match origin {
            Origin::File(span) => self.file(span.clone()),
            Origin::Flag(index) => {
                let flag = self.overrides.get(*index).cloned().unwrap_or_default();
                SettingPlace::Flag(flag)
            }
        }
    }

    /// Explains an error of serde's to users.
    fn explain(&self, document: &Node, problem: Problem, keys: &[SettingKey]) -> SettingsError {
        let Problem { path, error } = problem;
        let place = |key: bool| Box::new(self.place(document.origin_of(&path, key)));
        let key = document::dotted(&path);
        let expected_of = |name: &str| {
            let name = document::without_numbers(name);
            let known = keys.iter().find(|key| key.name == name);
            known.map_or("a table".to_owned(), |key| key.expected.clone())
        };
        let hint = MANUAL.to_owned();
        match error {
            SerdeError::UnknownKey { key: name, known } => {
                let near = near(&path, &name, known, keys);
                let (_, parents) = path.split_last().unwrap_or((&PathStep::Index(0), &[]));
                let inside = document::dotted(parents);
                let hint = match (known, inside.as_str()) {
                    ([], _) => format!("`{inside}` has no such key with its other values"),
                    (known, "") => format!("the tables are {}", known.join(", ")),
                    (known, _) => format!("`{inside}` has {}", known.join(", ")),
                };
                SettingsError::UnknownKey { place: place(true), key, near, hint }
            }
            SerdeError::UnknownVariant { found, known } => {
                let is_key = matches!(path.last(), Some(PathStep::Key(key)) if *key == found);
                let near = nearest(&found, known.iter().copied());
                let hint = near.map_or(hint, |near| format!("did you mean `{near}`?"));
                if is_key {
                    let hint = format!("there is {}", known.join(", "));
                    let parents = &path[..path.len() - 1];
                    let near = near.map(|near| format!("{}.{near}", document::dotted(parents)));
                    return SettingsError::UnknownKey { place: place(true), key, near, hint };
                }
                let found = document.at(&path).map_or(found, |node| node.value.described());
                let expected = format!("one of {}", words(known));
                SettingsError::Value { place: place(false), key, found, expected, hint }
            }
            SerdeError::Missing(name) => {
                let key = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
                let expected = expected_of(&key);
                SettingsError::Missing { place: place(false), key, expected, hint }
            }
            SerdeError::Wrong { found, expected } => {
                SettingsError::Value { place: place(false), key, found, expected, hint }
            }
            SerdeError::Other(message) => {
                let found = document.at(&path).map_or(String::new(), |node| node.value.described());
                SettingsError::Value { place: place(false), key, found, expected: message, hint }
            }
        }
    }

    /// Explains to users why a value cannot work.
    fn refuse(&self, document: &Node, error: RangeError) -> SettingsError {
        let RangeError { field: key, value: found, expected, hint } = error;
        let place = self.place(document.origin_of(&document::steps_of(&key), false)).into();
        let hint = hint.map_or_else(|| MANUAL.to_owned(), Cow::into_owned);
        SettingsError::Value { place, key, found, expected: expected.into_owned(), hint }
    }
}

/// Guesses the key that was meant: a similar one of the same table, else one of this name elsewhere.
fn near(path: &[PathStep], name: &str, known: &[&str], keys: &[SettingKey]) -> Option<String> {
    let (_, parents) = path.split_last()?;
    if let Some(near) = nearest(name, known.iter().copied()) {
        let parents = document::dotted(parents);
        return Some(if parents.is_empty() {
            near.to_owned()
        } else {
            format!("{parents}.{near}")
        });
    }
    let ending = format!(".{name}");
    keys.iter().find(|key| key.name.ends_with(&ending)).map(|key| key.name.clone())
}
