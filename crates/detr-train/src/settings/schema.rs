//! Finds every key that a type reads by asking the type itself: an unknown key in a document makes serde name the
//! keys that it knows. Nothing is listed by hand, so nothing gets out of date.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::document::PathStep;
use super::read::{Problem, read};
use super::reason::Reason;

/// A key that no type has, with which types are asked for their keys.
const NOBODY: &str = "?";

/// A key of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingKey {
    /// The dotted name, such as `train.groups[].lr`.
    pub name: String,
    /// The values that it can have, such as "a number".
    pub expected: String,
}

/// Returns all keys of a type, in the order of its fields.
pub(super) fn keys<T: DeserializeOwned>() -> Vec<SettingKey> {
    let mut explorer = Explorer { keys: Vec::new(), ask: |document| read::<T>(document).err() };
    explorer.visit(&Value::Table(Table::new()), &[], "");
    let mut keys: Vec<SettingKey> = Vec::new();
    for key in explorer.keys {
        // Variants may share a key.
        if keys.iter().all(|known| known.name != key.name) {
            keys.push(key);
        }
    }
    keys
}

/// Returns the key with a dotted name, which may have numbers of entries of lists.
pub(super) fn find<'a>(keys: &'a [SettingKey], name: &str) -> Option<&'a SettingKey> {
    let name = without_numbers(name);
    keys.iter().find(|key| key.name == name)
}

/// Returns the values that a key can have, or the keys of its table, one of which chooses a variant.
pub(super) fn choices(keys: &[SettingKey], name: &str) -> String {
    let inside = format!("{}.", without_numbers(name));
    let mut choices: Vec<String> = Vec::new();
    for rest in keys.iter().filter_map(|key| key.name.strip_prefix(&inside)) {
        let choice = rest.split(['.', '[']).next().unwrap_or(rest).to_owned();
        if !choices.contains(&choice) {
            choices.push(choice);
        }
    }
    match find(keys, name) {
        Some(key) if key.expected.starts_with('"') => format!("one of {}", key.expected),
        Some(key) => key.expected.clone(),
        None => format!("one of {}", words(&choices)),
    }
}

/// Writes a dotted key as a schema has it: `train.groups[].lr`.
fn without_numbers(key: &str) -> String {
    let mut inside = false;
    key.chars()
        .filter(|&c| {
            inside = (inside || c == '[') && c != ']';
            !(inside && c.is_ascii_digit())
        })
        .collect()
}

struct Explorer {
    keys: Vec<SettingKey>,
    ask: fn(&Value) -> Option<Problem>,
}

impl Explorer {
    /// Returns the error about a document with an unknown key at the end of a path.
    fn probe(&self, document: &Value, path: &[PathStep]) -> Option<Problem> {
        (self.ask)(&with(document.clone(), &joined(path, NOBODY), Value::Integer(0)))
    }

    /// Collects the keys below a path of a document, whose other keys choose variants on the way.
    fn visit(&mut self, document: &Value, path: &[PathStep], name: &str) {
        let Some(Problem { path: at, reason }) = self.probe(document, path) else {
            return self.leaf(name, "anything");
        };
        match reason {
            Reason::UnknownKey { known, .. } => {
                for key in known {
                    self.visit(document, &joined(path, &key), &dotted(name, &key));
                }
            }
            Reason::UnknownVariant { known, .. } => {
                let tables: Vec<&String> = known
                    .iter()
                    .filter(|variant| self.is_table(document, &joined(path, variant)))
                    .collect();
                if tables.is_empty() {
                    self.leaf(name, &words(&known));
                }
                for variant in tables {
                    self.visit(document, &joined(path, variant), &dotted(name, variant));
                }
            }
            Reason::Missing(tag) => self.visit_tagged(document, path, name, &tag),
            Reason::Wrong { expected, .. } if expected.starts_with("a list") && at == path => {
                let inner: Vec<PathStep> =
                    path.iter().cloned().chain([PathStep::Index(0)]).collect();
                let known = self.keys.len();
                self.visit(document, &inner, &format!("{name}[]"));
                if self.keys.len() == known + 1 && self.keys[known].name == format!("{name}[]") {
                    let of = self.keys.pop().map_or(String::new(), |key| key.expected);
                    self.leaf(name, &format!("{expected}: {of}"));
                }
            }
            Reason::Wrong { expected, .. } if at.len() > path.len() => {
                self.leaf(name, &format!("a table: {expected} each"));
            }
            Reason::Wrong { expected, .. } => self.leaf(name, &expected),
            Reason::Other(_) => self.leaf(name, "anything"),
        }
    }

    /// Collects the keys of a table in which one key decides which others there are.
    fn visit_tagged(&mut self, document: &Value, path: &[PathStep], name: &str, tag: &str) {
        let tagged = |word: &str| with(document.clone(), &joined(path, tag), Value::from(word));
        let Some(Problem { reason: Reason::UnknownVariant { known, .. }, .. }) =
            (self.ask)(&tagged(NOBODY))
        else {
            return self.leaf(name, "a table");
        };
        self.leaf(&dotted(name, tag), &words(&known));
        for chosen in known.iter().map(|variant| tagged(variant)) {
            let problem = self.probe(&chosen, path);
            if let Some(Problem { reason: Reason::UnknownKey { known, .. }, .. }) = problem {
                for key in known {
                    self.visit(&chosen, &joined(path, &key), &dotted(name, &key));
                }
            }
        }
    }

    /// Returns whether keys are read below a path.
    fn is_table(&self, document: &Value, path: &[PathStep]) -> bool {
        let problem = self.probe(document, path);
        matches!(problem, Some(Problem { reason: Reason::UnknownKey { .. }, .. }))
    }

    fn leaf(&mut self, name: &str, expected: &str) {
        self.keys.push(SettingKey { name: name.to_owned(), expected: expected.to_owned() });
    }
}

/// Puts a value at the end of a path, and makes the tables and lists on the way.
fn with(document: Value, path: &[PathStep], last: Value) -> Value {
    let empty = || Value::Table(Table::new());
    match path.split_first() {
        None => last,
        Some((PathStep::Index(_), rest)) => {
            let first = match document {
                Value::Array(list) => list.into_iter().next(),
                _ => None,
            };
            Value::Array(vec![with(first.unwrap_or_else(empty), rest, last)])
        }
        Some((PathStep::Key(key), rest)) => {
            let mut table = match document {
                Value::Table(table) => table,
                _ => Table::new(),
            };
            let old = table.remove(key).unwrap_or_else(empty);
            table.insert(key.clone(), with(old, rest, last));
            Value::Table(table)
        }
    }
}

fn joined(path: &[PathStep], key: &str) -> Vec<PathStep> {
    path.iter().cloned().chain([PathStep::Key(key.to_owned())]).collect()
}

fn dotted(name: &str, key: &str) -> String {
    if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") }
}

/// Lists the words that a setting can be.
pub(super) fn words(known: &[String]) -> String {
    known.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}
