//! Paths through a TOML document: to its values, and to the places of these in the text.

use std::ops::Range;

use toml::de::DeValue;
use toml::{Spanned, Value};

/// A step on the way from the root to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathStep {
    Key(String),
    Index(usize),
}

/// Returns the value at the end of a path.
pub(super) fn at<'a>(root: &'a Value, path: &[PathStep]) -> Option<&'a Value> {
    path.iter().try_fold(root, |value, step| match step {
        PathStep::Key(key) => value.get(key),
        PathStep::Index(index) => value.get(*index),
    })
}

/// Returns the place in the text at the end of a path.
pub(super) fn place_of<'a, 'i>(
    root: &'a Spanned<DeValue<'i>>,
    path: &[PathStep],
) -> Option<&'a Spanned<DeValue<'i>>> {
    path.iter().try_fold(root, |value, step| match step {
        PathStep::Key(key) => value.get_ref().get(key),
        PathStep::Index(index) => value.get_ref().get(*index),
    })
}

/// Returns the bytes of the value at a path, or at the longest part of the path that the text has. With `key` they are
/// those of the last key instead of its value.
pub(super) fn span_of(root: &Spanned<DeValue<'_>>, path: &[PathStep], key: bool) -> Range<usize> {
    let parent = path.split_last().and_then(|(last, parents)| match last {
        PathStep::Key(name) if key => {
            let table = place_of(root, parents)?.get_ref().as_table()?;
            table.get_key_value(name.as_str()).map(|(key, _)| key.span())
        }
        _ => None,
    });
    let value = || {
        (0..=path.len()).rev().find_map(|length| place_of(root, &path[..length])).map(Spanned::span)
    };
    parent.or_else(value).unwrap_or_default()
}

/// Describes a value in the words of a message.
pub(super) fn described(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(is) => is.to_string(),
        Value::Datetime(time) => time.to_string(),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Table(table) => format!("a table of {}", table.len()),
    }
}

/// Writes a path as users do.
pub(super) fn dotted(path: &[PathStep]) -> String {
    path.iter().fold(String::new(), |text, step| match step {
        PathStep::Index(index) => format!("{text}[{index}]"),
        PathStep::Key(key) if text.is_empty() => key.clone(),
        PathStep::Key(key) => format!("{text}.{key}"),
    })
}

/// Returns the path of a dotted key. Behind the number of an entry of a list there may be its name, for
/// readers: `train.groups[1] (sampling).lr`.
pub(super) fn steps_of(key: &str) -> Vec<PathStep> {
    let named = key.split_once("] (").and_then(|(before, rest)| {
        let after = rest.rsplit_once(')').map(|(_, after)| after)?;
        Some(format!("{before}]{after}"))
    });
    let key = named.unwrap_or_else(|| key.to_owned());
    let mut steps = Vec::new();
    for part in key.split('.').filter(|part| !part.is_empty()) {
        let (name, indices) = part.split_once('[').unwrap_or((part, ""));
        steps.push(PathStep::Key(name.to_owned()));
        let indices = indices.split(['[', ']']).filter_map(|index| index.parse().ok());
        steps.extend(indices.map(PathStep::Index));
    }
    steps
}
