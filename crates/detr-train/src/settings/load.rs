//! Reads settings from the text of a file and from flags, and turns errors into messages.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use detr_types::{RangeError, nearest};
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::TrainConfig;
use super::check::check;
use super::document::{PathStep, at, described, dotted, place_of, span_of, steps_of};
use super::error::{SettingPlace, SettingsError};
use super::flags;
use super::read::{Problem, read};
use super::reason::Reason;
use super::schema::{self, SettingKey, choices, find, words};

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
        let syntax = |error: toml::de::Error| SettingsError::Syntax {
            place: place_in(path, text, error.span().unwrap_or(0..0)).into(),
            reason: error.message().trim_end().to_owned(),
        };
        let spans = DeTable::parse(text).map_err(syntax)?;
        let mut document = Value::Table(text.parse::<Table>().map_err(syntax)?);
        let mut flags = Vec::new();
        for flag in overrides {
            let path = flags::apply(&mut document, flag)
                .map_err(|reason| SettingsError::Flag { flag: flag.clone(), reason })?;
            flags.push((path, flag.as_str()));
        }
        let spans = Spanned::new(spans.span(), DeValue::Table(spans.into_inner()));
        let source = Source { path, text, spans, flags };
        let config: Self = read(&document).map_err(|problem| {
            let keys = Self::keys();
            source.explain(&document, problem.closer(&document, &keys), &keys)
        })?;
        check(&config).map_err(|error| source.refuse(error))?;
        Ok(config)
    }

    /// Returns every key that settings can have, in the order of their types.
    #[must_use]
    pub fn keys() -> Vec<SettingKey> {
        schema::keys::<Self>()
    }
}

/// Returns the place of some bytes of a text.
fn place_in(path: &Path, text: &str, span: Range<usize>) -> SettingPlace {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    SettingPlace::File { path: path.to_owned(), line, column }
}

/// The file and the flags that settings were read from.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
    spans: Spanned<DeValue<'a>>,
    /// The path that each flag set, and the flag.
    flags: Vec<(Vec<PathStep>, &'a str)>,
}

impl Source<'_> {
    /// Returns the place of the value at a path, or of its key: the last flag that set it or made its table, else the
    /// file.
    fn place(&self, path: &[PathStep], key: bool) -> SettingPlace {
        let in_file = place_of(&self.spans, path).is_some();
        let flag = self.flags.iter().rfind(|(set, _)| {
            path.starts_with(set) || (!in_file && !path.is_empty() && set.starts_with(path))
        });
        match flag {
            Some((_, flag)) => SettingPlace::Flag((*flag).to_owned()),
            None => place_in(self.path, self.text, span_of(&self.spans, path, key)),
        }
    }

    /// Explains an error of serde's to users.
    fn explain(&self, document: &Value, problem: Problem, keys: &[SettingKey]) -> SettingsError {
        let Problem { path, reason } = problem;
        let place = |key| Box::new(self.place(&path, key));
        let key = dotted(&path);
        let hint = MANUAL.to_owned();
        let parents = path.split_last().map_or(String::new(), |(_, parents)| dotted(parents));
        let found_there = |found| at(document, &path).map_or(found, described);
        match reason {
            Reason::UnknownKey { key: name, known } => {
                let near = near(&parents, &name, &known, keys);
                let hint = match (&known[..], parents.as_str()) {
                    ([], _) => format!("`{parents}` has no such key with its other values"),
                    (known, "") => format!("the tables are {}", known.join(", ")),
                    (known, _) => format!("`{parents}` has {}", known.join(", ")),
                };
                SettingsError::UnknownKey { place: place(true), key, near, hint }
            }
            Reason::UnknownVariant { found, known } => {
                let near = nearest(&found, known.iter().map(String::as_str));
                if matches!(path.last(), Some(PathStep::Key(key)) if *key == found) {
                    let hint = format!("there is {}", known.join(", "));
                    let near = near.map(|near| format!("{parents}.{near}"));
                    return SettingsError::UnknownKey { place: place(true), key, near, hint };
                }
                let hint = near.map_or(hint, |near| format!("did you mean `{near}`?"));
                let expected = format!("one of {}", words(&known));
                let found = found_there(found);
                SettingsError::Value { place: place(false), key, found, expected, hint }
            }
            Reason::Missing(name) => {
                let key = if key.is_empty() { name } else { format!("{key}.{name}") };
                let known = find(keys, &key);
                let expected = known.map_or("a table".to_owned(), |key| key.expected.clone());
                SettingsError::Missing { place: place(false), key, expected, hint }
            }
            Reason::Wrong { found, expected } if expected.is_empty() => {
                let expected = choices(keys, &key);
                let found = found_there(found);
                SettingsError::Value { place: place(false), key, found, expected, hint }
            }
            Reason::Wrong { found, expected } => {
                SettingsError::Value { place: place(false), key, found, expected, hint }
            }
            Reason::Other(expected) => {
                let found = found_there(String::new());
                SettingsError::Value { place: place(false), key, found, expected, hint }
            }
        }
    }

    /// Explains to users why a value cannot work.
    fn refuse(&self, error: RangeError) -> SettingsError {
        let RangeError { field: key, value: found, expected, hint } = error;
        let place = self.place(&steps_of(&key), false).into();
        let hint = hint.map_or_else(|| MANUAL.to_owned(), Cow::into_owned);
        SettingsError::Value { place, key, found, expected: expected.into_owned(), hint }
    }
}

/// Guesses the key that was meant: a similar one of the same table, else one of this name elsewhere.
fn near(parents: &str, name: &str, known: &[String], keys: &[SettingKey]) -> Option<String> {
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) if parents.is_empty() => Some(near.to_owned()),
        Some(near) => Some(format!("{parents}.{near}")),
        None => {
            let ending = format!(".{name}");
            keys.iter().find(|key| key.name.ends_with(&ending)).map(|key| key.name.clone())
        }
    }
}
