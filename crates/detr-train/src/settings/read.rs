//! Reads a typed value from a document, and finds the key that serde's error is about. Serde reads some
//! enums through a buffer that forgets the path; there the key is found by leaving keys out one by one.

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::document::{Entry, Node, Origin, PathStep, Value};
use super::serde_error::SerdeError;

/// An error in a document, with its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    pub(super) path: Vec<PathStep>,
    pub(super) error: SerdeError,
}

/// A key that no type has, with which types are asked for their keys.
pub(super) const NOBODY: &str = "?";

/// Reads a document as a type.
///
/// # Errors
/// Returns the first error, with the key that it is about.
pub(super) fn read<T: DeserializeOwned>(document: &Node) -> Result<T, Problem> {
    let value = attempt(document).map_err(|problem| closer::<T>(document, problem))?;
    match unread::<T>(document, &mut Vec::new()) {
        Some(problem) => Err(problem),
        None => Ok(value),
    }
}

/// Reads a document as a type. The place of an error may be that of an outer table.
pub(super) fn attempt<T: DeserializeOwned>(document: &Node) -> Result<T, Problem> {
    serde_path_to_error::deserialize(document.clone()).map_err(
        |error: serde_path_to_error::Error<SerdeError>| {
            let path = steps(document, error.path());
            Problem { path, error: error.into_inner() }
        },
    )
}

/// Translates serde's path into one through the document, where variants of enums are keys or words.
fn steps(document: &Node, path: &serde_path_to_error::Path) -> Vec<PathStep> {
    let mut steps = Vec::new();
    for segment in path {
        let step = match segment {
            Segment::Seq { index } => PathStep::Index(*index),
            Segment::Map { key } => PathStep::Key(key.clone()),
            Segment::Enum { variant } => PathStep::Key(variant.clone()),
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

/// Finds the key that an error is about, inside of the table that serde names.
fn closer<T: DeserializeOwned>(document: &Node, mut problem: Problem) -> Problem {
    let Some(Node { value: Value::Table(entries), .. }) = document.at(&problem.path) else {
        return problem;
    };
    let matters = |entry: &&Entry| {
        let rest = without(document, &problem.path, &entry.key);
        attempt::<T>(&rest).map_or_else(|other| other != problem, |_| true)
    };
    let culprit = match &problem.error {
        SerdeError::Missing(_) => None,
        SerdeError::UnknownKey { key, .. } => entries.iter().find(|entry| entry.key == *key),
        SerdeError::UnknownVariant { found, .. } => {
            let found = |entry: &&Entry| entry.key == *found || entry.node.value.is_text(found);
            entries.iter().find(found)
        }
        SerdeError::Wrong { found, .. } => {
            entries.iter().filter(|entry| entry.node.contains(found)).find(matters)
        }
        SerdeError::Other(_) => entries.iter().find(matters),
    };
    problem.path.extend(culprit.map(|entry| PathStep::Key(entry.key.clone())));
    problem
}

/// Finds the first key that serde skips. Types refuse unknown keys, but a variant without fields cannot.
fn unread<T: DeserializeOwned>(document: &Node, path: &mut Vec<PathStep>) -> Option<Problem> {
    match &document.at(path)?.value {
        Value::Table(entries) => {
            let skips = attempt::<T>(&with(document, path, NOBODY)).is_ok();
            for entry in entries {
                path.push(PathStep::Key(entry.key.clone()));
                if skips
                    && attempt::<T>(&without(document, &path[..path.len() - 1], &entry.key)).is_ok()
                {
                    let error = SerdeError::UnknownKey { key: entry.key.clone(), known: &[] };
                    return Some(Problem { path: path.clone(), error });
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
                path.push(PathStep::Index(index));
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

/// Returns the document without a key of one of its tables.
fn without(document: &Node, path: &[PathStep], key: &str) -> Node {
    changed(document, path, |entries| entries.retain(|entry| entry.key != key))
}

/// Returns the document with one key more in one of its tables. Its value is an empty table, which hardly any type can
/// be read from.
fn with(document: &Node, path: &[PathStep], key: &str) -> Node {
    let node = Node { value: Value::Table(Vec::new()), origin: Origin::Flag(0) };
    let entry = Entry { key: key.to_owned(), origin: Origin::Flag(0), node };
    changed(document, path, |entries| entries.push(entry))
}

fn changed(document: &Node, path: &[PathStep], change: impl FnOnce(&mut Vec<Entry>)) -> Node {
    let mut document = document.clone();
    if let Some(Node { value: Value::Table(entries), .. }) = document.at_mut(path) {
        change(entries);
    }
    document
}
