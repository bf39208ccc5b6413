//! Finds every key that a type reads by asking the type itself: an unknown key in a document makes serde name the
//! keys that it knows. Nothing is listed by hand, so nothing gets out of date.

use serde::de::DeserializeOwned;

use super::document::{Entry, Node, Origin, PathStep, Value};
use super::read::{NOBODY, Problem, attempt};
use super::serde_error::SerdeError;

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
    let mut explorer = Explorer { keys: Vec::new(), ask: |document| attempt::<T>(document).err() };
    explorer.visit(&Value::Table(Vec::new()), &[], "");
    let mut keys: Vec<SettingKey> = Vec::new();
    for key in explorer.keys {
        // Variants may share a key.
        if keys.iter().all(|known| known.name != key.name) {
            keys.push(key);
        }
    }
    keys
}

struct Explorer {
    keys: Vec<SettingKey>,
    ask: fn(&Node) -> Option<Problem>,
}

impl Explorer {
    /// Returns the error about a document with an unknown key at the end of a path.
    fn probe(&self, document: &Value, path: &[PathStep]) -> Option<Problem> {
        let probe = put(document.clone(), &joined(path, NOBODY), Value::Integer(0));
        (self.ask)(&node(probe))
    }

    /// Collects the keys below a path of a document, whose other keys choose variants on the way.
    fn visit(&mut self, document: &Value, path: &[PathStep], name: &str) {
        let Some(Problem { path: at, error }) = self.probe(document, path) else {
            return self.leaf(name, "anything");
        };
        match error {
            SerdeError::UnknownKey { known, .. } => {
                for key in known {
                    self.visit(document, &joined(path, key), &dotted(name, key));
                }
            }
            SerdeError::UnknownVariant { known, .. } => {
                let tables: Vec<&str> = known
                    .iter()
                    .copied()
                    .filter(|variant| self.is_table(document, &joined(path, variant)))
                    .collect();
                if tables.is_empty() {
                    self.leaf(name, &words(known));
                }
                for variant in tables {
                    self.visit(document, &joined(path, variant), &dotted(name, variant));
                }
            }
            SerdeError::Missing(tag) => self.visit_tagged(document, path, name, tag),
            SerdeError::Wrong { expected, .. } if expected.starts_with("a list") && at == path => {
                let inner: Vec<PathStep> =
                    path.iter().cloned().chain([PathStep::Index(0)]).collect();
                let known = self.keys.len();
                self.visit(document, &inner, &format!("{name}[]"));
                if self.keys.len() == known + 1 && self.keys[known].name == format!("{name}[]") {
                    let of = self.keys.pop().map_or(String::new(), |key| key.expected);
                    self.leaf(name, &format!("{expected}: {of}"));
                }
            }
            SerdeError::Wrong { expected, .. } if at.len() > path.len() => {
                self.leaf(name, &format!("a table: {expected} each"));
            }
            SerdeError::Wrong { expected, .. } => self.leaf(name, &expected),
            SerdeError::Other(_) => self.leaf(name, "anything"),
        }
    }

    /// Collects the keys of a table in which one key decides which others there are.
    fn visit_tagged(&mut self, document: &Value, path: &[PathStep], name: &str, tag: &str) {
        let tagged =
            |word: &str| put(document.clone(), &joined(path, tag), Value::Text(word.to_owned()));
        let Some(Problem { error: SerdeError::UnknownVariant { known, .. }, .. }) =
            (self.ask)(&node(tagged(NOBODY)))
        else {
            return self.leaf(name, "a table");
        };
        self.leaf(&dotted(name, tag), &words(known));
        for variant in known {
            let chosen = tagged(variant);
            let problem = self.probe(&chosen, path);
            if let Some(Problem { error: SerdeError::UnknownKey { known, .. }, .. }) = problem {
                for key in known {
                    self.visit(&chosen, &joined(path, key), &dotted(name, key));
                }
            }
        }
    }

    /// Returns whether keys are read below a path.
    fn is_table(&self, document: &Value, path: &[PathStep]) -> bool {
        let problem = self.probe(document, path);
        matches!(problem, Some(Problem { error: SerdeError::UnknownKey { .. }, .. }))
    }

    fn leaf(&mut self, name: &str, expected: &str) {
        self.keys.push(SettingKey { name: name.to_owned(), expected: expected.to_owned() });
    }
}

/// Puts a value at the end of a path, and makes the tables and lists on the way.
fn put(value: Value, path: &[PathStep], last: Value) -> Value {
    let empty = || Value::Table(Vec::new());
    match path.split_first() {
        None => last,
        Some((PathStep::Index(_), rest)) => {
            let first = match value {
                Value::List(list) => list.into_iter().next().map(|node| node.value),
                _ => None,
            };
            Value::List(vec![node(put(first.unwrap_or_else(empty), rest, last))])
        }
        Some((PathStep::Key(key), rest)) => {
            let mut entries = match value {
                Value::Table(entries) => entries,
                _ => Vec::new(),
            };
            let at = entries.iter().position(|entry| entry.key == *key);
            let old = at.map_or_else(empty, |at| entries.remove(at).node.value);
            let (key, origin) = (key.clone(), Origin::Flag(0));
            entries.push(Entry { key, origin, node: node(put(old, rest, last)) });
            Value::Table(entries)
        }
    }
}

fn node(value: Value) -> Node {
    Node { value, origin: Origin::Flag(0) }
}

fn joined(path: &[PathStep], key: &str) -> Vec<PathStep> {
    path.iter().cloned().chain([PathStep::Key(key.to_owned())]).collect()
}

fn dotted(name: &str, key: &str) -> String {
    if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") }
}

/// Lists the words that a setting can be.
pub(super) fn words(known: &[&str]) -> String {
    known.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}
