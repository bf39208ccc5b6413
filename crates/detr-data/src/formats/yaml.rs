//! YAML as a tree in which every plain value keeps the text that it is written with: `02146` is a name of five digits,
//! not the number 2146, and `no` is not false. What a key should hold is for its reader to say.

use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{NonFiniteFloatPolicy, Spanned};

use super::DatasetError;

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    /// The line, from 1.
    line: usize,
    /// The column, from 1.
    column: usize,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Nothing, `~` or `null`, as it is written.
    Null(String),
    /// A text, a number or a truth value, as it is written.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A table, in the order of the file.
    Table(Vec<(String, Node)>),
}

impl Node {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// Text that is not YAML, or is nested or repeated beyond measure.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, DatasetError> {
        // Infinities are texts like all others.
        let policy = NonFiniteFloatPolicy::PassThrough;
        let options = serde_saphyr::options! { non_finite_float_policy: policy };
        let tree = serde_saphyr::from_str_with_options::<Spanned<Shape>>(text, options);
        let tree = tree.map_err(|error| {
            let place = error.location();
            let number = |value: Option<u64>| value.and_then(|v| v.try_into().ok()).unwrap_or(1);
            DatasetError::Syntax {
                path: path.to_owned(),
                line: number(place.map(|at| at.line())),
                column: number(place.map(|at| at.column())),
                reason: reason(&error.without_snippet().to_string()),
            }
        })?;
        Ok(Self::of(tree, text))
    }

    /// Adds the texts of plain values, which the parser has turned into numbers.
    fn of(Spanned { value, defined, .. }: Spanned<Shape>, text: &str) -> Self {
        let span = defined.span();
        let written = || {
            let start = usize::try_from(span.byte_offset()?).ok()?;
            let length = usize::try_from(span.byte_len()?).ok()?;
            text.get(start..start.checked_add(length)?).map(|text| text.trim().to_owned())
        };
        let value = match value {
            Shape::Null => Value::Null(written().unwrap_or_default()),
            Shape::Plain(value) => Value::Text(written().unwrap_or(value)),
            Shape::Text(text) => Value::Text(text),
            Shape::List(list) => {
                Value::List(list.into_iter().map(|node| Self::of(node, text)).collect())
            }
            Shape::Table(entries) => Value::Table(
                entries.into_iter().map(|(key, node)| (key, Self::of(node, text))).collect(),
            ),
        };
        let number = |value: u64| usize::try_from(value).unwrap_or(1).max(1);
        Self { value, line: number(defined.line()), column: number(defined.column()) }
    }

    /// Returns the value of a key of a table; `None` also if nothing stands after the key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Value::Table(entries) = &self.value else { return None };
        let (_, node) = entries.iter().find(|(name, _)| name == key)?;
        (!matches!(node.value, Value::Null(_))).then_some(node)
    }

    /// Returns the text of a plain value.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the kind of the value, for messages.
    pub(super) fn described(&self) -> String {
        match &self.value {
            Value::Null(_) => "nothing".to_owned(),
            Value::Text(text) => format!("`{}`", text.chars().take(40).collect::<String>()),
            Value::List(list) => format!("a list of {}", list.len()),
            Value::Table(_) => "a table".to_owned(),
        }
    }

    /// Returns an error at this value.
    pub(super) fn wrong(&self, path: &Path, reason: impl Into<String>) -> DatasetError {
        let (line, column) = (self.line, self.column);
        DatasetError::Syntax { path: path.to_owned(), line, column, reason: reason.into() }
    }
}

/// Returns the parser's message without the place, which has fields of its own, and without advice to
/// programmers.
fn reason(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let ends = [" at line ", ", set ", "; use ", "; "];
    let line = ends.iter().fold(line, |line, end| line.split(end).next().unwrap_or_default());
    match line {
        "cannot deserialize null into string" => {
            return "a key of a table is nothing, expected a text".to_owned();
        }
        line if line.contains("deserialize") || line.contains("binary") || is_type(line) => {
            return "the tag of a value does not fit it".to_owned();
        }
        _ => {}
    }
    line.replace("mapping", "table").replace("sequence", "list").replace("scalar", "value")
}

/// Returns whether a message is no more than the type of a number that a value is not.
fn is_type(message: &str) -> bool {
    let types = ["u64", "i64", "u128", "i128", "f64", "floating point"];
    message.strip_prefix("invalid ").is_some_and(|name| types.contains(&name))
}

/// A value as the parser gives it.
enum Shape {
    Null,
    /// A truth value or number, which the parser has read.
    Plain(String),
    Text(String),
    List(Vec<Spanned<Shape>>),
    Table(Vec<(String, Spanned<Shape>)>),
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Plain(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape::Plain(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Shape, E> {
        Ok(Shape::Plain(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Shape, E> {
        Ok(Shape::Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shape, E> {
        Ok(Shape::Plain(value.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Shape, E> {
        Ok(Shape::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Shape::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Shape, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = table.next_key::<String>()? {
            entries.push((key, table.next_value()?));
        }
        Ok(Shape::Table(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Node {
        Node::parse(Path::new("x.yaml"), text).unwrap()
    }

    #[test]
    fn plain_values_keep_their_text() {
        let tree = parsed(
            "a: [02146, 0x1F, 1e3, 1.50, -0, yes, no, True, ~, null, 'q 1', \"q\\t2\", 2024-01-02,\n  99999999999999999999999, .inf, 1_000]\n",
        );
        let Value::List(list) = &tree.get("a").unwrap().value else { panic!("{tree:?}") };
        let texts: Vec<String> = list
            .iter()
            .map(|node| match &node.value {
                Value::Text(text) | Value::Null(text) => text.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            texts,
            [
                "02146",
                "0x1F",
                "1e3",
                "1.50",
                "-0",
                "yes",
                "no",
                "True",
                "~",
                "null",
                "q 1",
                "q\t2",
                "2024-01-02",
                "99999999999999999999999",
                ".inf",
                "1_000"
            ]
        );
    }

    #[test]
    fn tables_lists_aliases_and_blocks_are_read() {
        let tree = parsed(
            "one: &n\n- 007 # comment\n- cat\ntwo: *n\nlong: |\n  a\n  b\n0: zero\n'1': one\nnothing:\n",
        );
        let list = |key: &str| match &tree.get(key).unwrap().value {
            Value::List(list) => list.iter().map(|n| n.text().unwrap().to_owned()).collect(),
            other => vec![format!("{other:?}")],
        };
        assert_eq!(
            (list("one"), list("two")),
            (list("two"), vec!["007".to_owned(), "cat".to_owned()])
        );
        assert_eq!(tree.get("long").unwrap().text(), Some("a\nb\n"));
        assert_eq!(
            (tree.get("0").unwrap().text(), tree.get("1").unwrap().text()),
            (Some("zero"), Some("one"))
        );
        assert!(tree.get("nothing").is_none());
        let message = tree.get("one").unwrap().wrong(Path::new("x.yaml"), "bad").to_string();
        assert!(message.starts_with("x.yaml:"), "{message}");
    }

    #[test]
    fn messages_are_in_plain_words() {
        for text in [
            "a: [b",
            "a: 1\na: 2\n",
            "a: b: c",
            "a: *none",
            "--- 1\n--- 2\n",
            "{~: 1}",
            "a: !!int x",
        ] {
            let message = Node::parse(Path::new("x.yaml"), text).unwrap_err().to_string();
            for word in ["Option", "Policy", "deserialize", "enum", "struct", "serde"] {
                assert!(!message.contains(word), "{text:?}: {message}");
            }
        }
    }
}
