//! Every key that a type reads, asked of the type itself: a document with a key that nobody has makes
//! serde name those that there are. Nothing is listed by hand, so nothing gets out of date.

use serde::de::DeserializeOwned;

use super::document::{Entry, Node, Origin, Step, Value};
use super::fault::Fault;
use super::read::{NOBODY, Problem, attempt};

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingKey {
    /// Its name, such as `train.groups[].lr`.
    pub name: String,
    /// What it can be, such as "a number".
    pub expected: String,
}

/// All keys of a type, in the order of its fields.
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
    /// What is wrong with a document that has a key at a path that nobody has.
    fn probe(&self, document: &Value, path: &[Step]) -> Option<Problem> {
        let probe = put(document.clone(), &joined(path, NOBODY), Value::Integer(0));
        (self.ask)(&node(probe))
    }

    /// What is below a path of a document, whose other keys choose variants on the way.
    fn visit(&mut self, document: &Value, path: &[Step], name: &str) {
        let Some(Problem { path: at, fault }) = self.probe(document, path) else {
            return self.leaf(name, "anything");
        };
        match fault {
            Fault::UnknownKey { known, .. } => {
                for key in known {
                    self.visit(document, &joined(path, key), &dotted(name, key));
                }
            }
            Fault::UnknownVariant { known, .. } => {
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
            Fault::Missing(tag) => self.visit_tagged(document, path, name, tag),
            Fault::Wrong { expected, .. } if expected.starts_with("a list") && at == path => {
                let inner: Vec<Step> = path.iter().cloned().chain([Step::Index(0)]).collect();
                let known = self.keys.len();
                self.visit(document, &inner, &format!("{name}[]"));
                if self.keys.len() == known + 1 && self.keys[known].name == format!("{name}[]") {
                    let of = self.keys.pop().map_or(String::new(), |key| key.expected);
                    self.leaf(name, &format!("{expected}: {of}"));
                }
            }
            Fault::Wrong { expected, .. } if at.len() > path.len() => {
                self.leaf(name, &format!("a table: {expected} each"));
            }
            Fault::Wrong { expected, .. } => self.leaf(name, &expected),
            Fault::Other(_) => self.leaf(name, "anything"),
        }
    }

    /// A table in which one key decides which others there are.
    fn visit_tagged(&mut self, document: &Value, path: &[Step], name: &str, tag: &str) {
        let tagged =
            |word: &str| put(document.clone(), &joined(path, tag), Value::Text(word.to_owned()));
        let Some(Problem { fault: Fault::UnknownVariant { known, .. }, .. }) =
            (self.ask)(&node(tagged(NOBODY)))
        else {
            return self.leaf(name, "a table");
        };
        self.leaf(&dotted(name, tag), &words(known));
        for variant in known {
            let chosen = tagged(variant);
            let problem = self.probe(&chosen, path);
            if let Some(Problem { fault: Fault::UnknownKey { known, .. }, .. }) = problem {
                for key in known {
                    self.visit(&chosen, &joined(path, key), &dotted(name, key));
                }
            }
        }
    }

    /// Whether keys are read below a path.
    fn is_table(&self, document: &Value, path: &[Step]) -> bool {
        let problem = self.probe(document, path);
        matches!(problem, Some(Problem { fault: Fault::UnknownKey { .. }, .. }))
    }

    fn leaf(&mut self, name: &str, expected: &str) {
        self.keys.push(SettingKey { name: name.to_owned(), expected: expected.to_owned() });
    }
}

/// A value with another one at a path, and all that is needed on the way.
fn put(value: Value, path: &[Step], last: Value) -> Value {
    let empty = || Value::Table(Vec::new());
    match path.split_first() {
        None => last,
        Some((Step::Index(_), rest)) => {
            let first = match value {
                Value::List(list) => list.into_iter().next().map(|node| node.value),
                _ => None,
            };
            Value::List(vec![node(put(first.unwrap_or_else(empty), rest, last))])
        }
        Some((Step::Key(key), rest)) => {
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

fn joined(path: &[Step], key: &str) -> Vec<Step> {
    path.iter().cloned().chain([Step::Key(key.to_owned())]).collect()
}

fn dotted(name: &str, key: &str) -> String {
    if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") }
}

/// The words that a setting can be.
pub(super) fn words(known: &[&str]) -> String {
    known.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}
