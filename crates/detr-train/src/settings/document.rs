//! A TOML document that remembers where each of its values came from: a place in a file, or a flag that
//! replaced it. It is read with `toml` and given to serde from here.

use std::ops::Range;

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::serde_error::SerdeError;

/// The origin of a key or a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A range of bytes of the file.
    File(Range<usize>),
    /// The flag with this number.
    Flag(usize),
}

/// A value with its origin.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// A TOML value. Dates are texts.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key of a table.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) origin: Origin,
    pub(super) node: Node,
}

/// A step on the way from the root to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathStep {
    Key(String),
    Index(usize),
}

impl Value {
    /// Describes the value in the words of a message.
    pub(super) fn described(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => format!("{number:?}"),
            Self::Boolean(is) => is.to_string(),
            Self::List(list) => format!("a list of {}", list.len()),
            Self::Table(entries) => format!("a table of {}", entries.len()),
        }
    }

    pub(super) fn is_text(&self, text: &str) -> bool {
        matches!(self, Self::Text(own) if own == text)
    }
}

impl Node {
    /// Returns whether the value, or one inside of it, is [described](Value::described) by this text.
    pub(super) fn contains(&self, described: &str) -> bool {
        self.value.described() == described
            || match &self.value {
                Value::List(list) => list.iter().any(|node| node.contains(described)),
                Value::Table(entries) => entries.iter().any(|entry| entry.node.contains(described)),
                _ => false,
            }
    }

    /// Parses a document. An error of syntax has its place.
    pub(super) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let spans = DeTable::parse(text)?;
        let values: toml::Table = text.parse()?;
        let origin = Origin::File(spans.span());
        Ok(Self { value: Value::Table(entries(values, spans.get_ref())), origin })
    }

    /// Makes a node of the value of a flag.
    pub(super) fn of_flag(value: toml::Value, flag: usize) -> Self {
        let origin = Origin::Flag(flag);
        let value = match value {
            toml::Value::Array(list) => {
                Value::List(list.into_iter().map(|one| Self::of_flag(one, flag)).collect())
            }
            toml::Value::Table(table) => {
                let entry = |(key, value)| Entry {
                    key,
                    origin: origin.clone(),
                    node: Self::of_flag(value, flag),
                };
                Value::Table(table.into_iter().map(entry).collect())
            }
            scalar => of_scalar(scalar),
        };
        Self { value, origin }
    }

    /// Returns the child at the end of a step.
    pub(super) fn child(&self, step: &PathStep) -> Option<&Self> {
        match (step, &self.value) {
            (PathStep::Key(key), Value::Table(_)) => self.entry(key).map(|entry| &entry.node),
            (PathStep::Index(index), Value::List(list)) => list.get(*index),
            _ => None,
        }
    }

    /// Returns an entry of a table.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Returns the node at the end of a path.
    pub(super) fn at(&self, path: &[PathStep]) -> Option<&Self> {
        path.iter().try_fold(self, Self::child)
    }

    /// Returns the node at the end of a path, to be changed.
    pub(super) fn at_mut(&mut self, path: &[PathStep]) -> Option<&mut Self> {
        path.iter().try_fold(self, |node, step| match (step, &mut node.value) {
            (PathStep::Key(key), Value::Table(entries)) => {
                entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.node)
            }
            (PathStep::Index(index), Value::List(list)) => list.get_mut(*index),
            _ => None,
        })
    }

    /// Returns the origin of the value at a path, or at the longest part of the path that exists. With `key` it is the
    /// origin of the last key instead of that of its value.
    pub(super) fn origin_of(&self, path: &[PathStep], key: bool) -> &Origin {
        let mut node = self;
        for (index, step) in path.iter().enumerate() {
            if key
                && index + 1 == path.len()
                && let PathStep::Key(name) = step
                && let Some(entry) = node.entry(name)
            {
                return &entry.origin;
            }
            match node.child(step) {
                Some(child) => node = child,
                None => break,
            }
        }
        &node.origin
    }
}

fn entries(values: toml::Table, spans: &DeTable<'_>) -> Vec<Entry> {
    let entry = |(key, value): (String, toml::Value)| {
        let (name, span) = spans.get_key_value(key.as_str())?;
        Some(Entry { origin: Origin::File(name.span()), node: node(value, span), key })
    };
    values.into_iter().filter_map(entry).collect()
}

/// Joins the two readings of a text: one has the values, the other has their places.
fn node(value: toml::Value, spans: &Spanned<DeValue<'_>>) -> Node {
    let origin = Origin::File(spans.span());
    let value = match (value, spans.get_ref()) {
        (toml::Value::Array(list), DeValue::Array(spans)) => {
            Value::List(list.into_iter().zip(spans.iter()).map(|(v, s)| node(v, s)).collect())
        }
        (toml::Value::Table(table), DeValue::Table(spans)) => Value::Table(entries(table, spans)),
        (scalar, _) => of_scalar(scalar),
    };
    Node { value, origin }
}

fn of_scalar(value: toml::Value) -> Value {
    match value {
        toml::Value::Integer(number) => Value::Integer(number),
        toml::Value::Float(number) => Value::Float(number),
        toml::Value::Boolean(is) => Value::Boolean(is),
        toml::Value::String(text) => Value::Text(text),
        other => Value::Text(other.to_string()),
    }
}

impl IntoDeserializer<'_, SerdeError> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Node {
    type Error = SerdeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SerdeError> {
        match self.value {
            Value::Text(text) => visitor.visit_string(text),
            Value::Integer(number) => visitor.visit_i64(number),
            Value::Float(number) => visitor.visit_f64(number),
            Value::Boolean(is) => visitor.visit_bool(is),
            Value::List(list) => {
                let mut list = SeqDeserializer::new(list.into_iter());
                let value = visitor.visit_seq(&mut list)?;
                list.end()?;
                Ok(value)
            }
            Value::Table(entries) => visitor.visit_map(map(entries)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SerdeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SerdeError> {
        match self.value {
            Value::Text(text) => visitor.visit_enum(text.into_deserializer()),
            Value::Table(entries) if entries.len() == 1 => {
                visitor.visit_enum(MapAccessDeserializer::new(map(entries)))
            }
            other => Err(SerdeError::UnknownVariant { found: other.described(), known: variants }),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

type Entries = std::iter::Map<std::vec::IntoIter<Entry>, fn(Entry) -> (String, Node)>;

fn map<'de>(entries: Vec<Entry>) -> MapDeserializer<'de, Entries, SerdeError> {
    let pair: fn(Entry) -> (String, Node) = |entry| (entry.key, entry.node);
    MapDeserializer::new(entries.into_iter().map(pair))
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

/// Writes a dotted key as a schema has it: `train.groups[].lr`.
pub(super) fn without_numbers(key: &str) -> String {
    let mut inside = false;
    key.chars()
        .filter(|&c| {
            inside = (inside || c == '[') && c != ']';
            !(inside && c.is_ascii_digit())
        })
        .collect()
}
