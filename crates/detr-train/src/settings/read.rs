//! From a document to a typed value, and from serde's fault to the key that is at fault. Serde reads some
//! enums through a buffer that forgets the way; there the key is found by leaving keys out one by one.

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::document::{Entry, Node, Origin, Step, Value};
use super::fault::Fault;

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    pub(super) path: Vec<Step>,
    pub(super) fault: Fault,
}

/// A key that no type has, for tests of what is read.
pub(super) const NOBODY: &str = "?";

/// Reads a document as a type.
///
/// # Errors
/// The first fault, with the key that is at fault.
pub(super) fn read<T: DeserializeOwned>(document: &Node) -> Result<T, Problem> {
    let value = attempt(document).map_err(|problem| closer::<T>(document, problem))?;
    match unread::<T>(document, &mut Vec::new()) {
        Some(problem) => Err(problem),
        None => Ok(value),
    }
}

/// Reads a document as a type; the fault may be of an outer table.
pub(super) fn attempt<T: DeserializeOwned>(document: &Node) -> Result<T, Problem> {
    serde_path_to_error::deserialize(document.clone()).map_err(
        |error: serde_path_to_error::Error<Fault>| {
            let path = steps(document, error.path());
            Problem { path, fault: error.into_inner() }
        },
    )
}

/// A path of serde's as one through the document: variants of enums are keys there, or words.
fn steps(document: &Node, path: &serde_path_to_error::Path) -> Vec<Step> {
    let mut steps = Vec::new();
    for segment in path {
        let step = match segment {
            Segment::Seq { index } => Step::Index(*index),
            Segment::Map { key } => Step::Key(key.clone()),
            Segment::Enum { variant } => Step::Key(variant.clone()),
            Segment::Unknown => break,
        };
        let node = document.at(&steps);
        let is_word = matches!(segment, Segment::Enum { .. })
            && node.and_then(|node| node.child(&step)).is_none();
        if !is_word {
            steps.push(step);
        }
    }
    steps
}

/// The key inside of the table that a fault was found in.
fn closer<T: DeserializeOwned>(document: &Node, mut problem: Problem) -> Problem {
    let Some(Node { value: Value::Table(entries), .. }) = document.at(&problem.path) else {
        return problem;
    };
    let matters = |entry: &&Entry| {
        let rest = without(document, &problem.path, &entry.key);
        attempt::<T>(&rest).map_or_else(|other| other != problem, |_| true)
    };
    let culprit = match &problem.fault {
        Fault::Missing(_) => None,
        Fault::UnknownKey { key, .. } => entries.iter().find(|entry| entry.key == *key),
        Fault::UnknownVariant { found, .. } => {
            let found = |entry: &&Entry| entry.key == *found || entry.node.value.is_text(found);
            entries.iter().find(found)
        }
        Fault::Wrong { found, .. } => {
            entries.iter().filter(|entry| entry.node.contains(found)).find(matters)
        }
        Fault::Other(_) => entries.iter().find(matters),
    };
    problem.path.extend(culprit.map(|entry| Step::Key(entry.key.clone())));
    problem
}

/// The first key that serde skips. Types refuse unknown keys, but a variant without fields cannot.
fn unread<T: DeserializeOwned>(document: &Node, path: &mut Vec<Step>) -> Option<Problem> {
    match &document.at(path)?.value {
        Value::Table(entries) => {
            let skips = attempt::<T>(&with(document, path, NOBODY)).is_ok();
            for entry in entries {
                path.push(Step::Key(entry.key.clone()));
                if skips
                    && attempt::<T>(&without(document, &path[..path.len() - 1], &entry.key)).is_ok()
                {
                    let fault = Fault::UnknownKey { key: entry.key.clone(), known: &[] };
                    return Some(Problem { path: path.clone(), fault });
                }
                let inner = unread::<T>(document, path);
                if inner.is_some() {
                    return inner;
                }
                path.pop();
            }
        }
        Value::List(list) => {
            for index in 0..list.len() {
                path.push(Step::Index(index));
                let inner = unread::<T>(document, path);
                if inner.is_some() {
                    return inner;
                }
                path.pop();
            }
        }
        _ => {}
    }
    None
}

/// A document without a key of one of its tables.
fn without(document: &Node, path: &[Step], key: &str) -> Node {
    changed(document, path, |entries| entries.retain(|entry| entry.key != key))
}

/// A document with a key more in one of its tables; its value is an empty table, which little can be
/// read from.
fn with(document: &Node, path: &[Step], key: &str) -> Node {
    let node = Node { value: Value::Table(Vec::new()), origin: Origin::Flag(0) };
    let entry = Entry { key: key.to_owned(), origin: Origin::Flag(0), node };
    changed(document, path, |entries| entries.push(entry))
}

fn changed(document: &Node, path: &[Step], change: impl FnOnce(&mut Vec<Entry>)) -> Node {
    let mut document = document.clone();
    if let Some(Node { value: Value::Table(entries), .. }) = document.at_mut(path) {
        change(entries);
    }
    document
}
