//! Serde's error about a value that does not fit its type, kept in parts. Its message alone would leave no way to
//! name the nearest key or the flag that a value came from.

use std::fmt::{self, Display};

use serde::de::{self, Expected, Unexpected};

/// Why a value does not fit a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SerdeError {
    /// The table does not have the key; `known` are the keys that it has.
    UnknownKey { key: String, known: &'static [&'static str] },
    /// A word, or the only key of a table, names no variant; `known` are the names of variants.
    UnknownVariant { found: String, known: &'static [&'static str] },
    /// A required key is missing.
    Missing(&'static str),
    /// A value has another type, or is out of range.
    Wrong { found: String, expected: String },
    /// Another error, as a message.
    Other(String),
}

impl std::error::Error for SerdeError {}

impl Display for SerdeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { key, .. } => write!(f, "unknown key `{key}`"),
            Self::UnknownVariant { found, .. } => write!(f, "unknown `{found}`"),
            Self::Missing(key) => write!(f, "missing key `{key}`"),
            Self::Wrong { found, expected } => write!(f, "{found}, expected {expected}"),
            Self::Other(message) => f.write_str(message),
        }
    }
}

impl de::Error for SerdeError {
    fn custom<T: Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Wrong { found: described(found), expected: in_words(&expected.to_string()) }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        let (found, expected) = (format!("a list of {length}"), in_words(&expected.to_string()));
        Self::Wrong { found, expected }
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownVariant { found: found.to_owned(), known }
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownKey { key: key.to_owned(), known }
    }

    fn missing_field(key: &'static str) -> Self {
        Self::Missing(key)
    }
}

/// Writes a value as it stands in a file.
fn described(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Float(value) => format!("{value:?}"),
        Unexpected::Str(text) => format!("{text:?}"),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map | Unexpected::StructVariant => "a table".to_owned(),
        Unexpected::UnitVariant => "a word".to_owned(),
        other => other.to_string(),
    }
}

/// Translates serde's expectation into the words of a TOML file.
fn in_words(expected: &str) -> String {
    let words = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" | "string" | "variant identifier" => "a text in quotes",
        "a sequence" => "a list",
        "a map" => "a table",
        other => {
            let length = other
                .strip_prefix("an array of length ")
                .or_else(|| other.strip_suffix(" elements in sequence"));
            return match length {
                Some(length) => format!("a list of {length}"),
                None if other.starts_with("struct ") || other.contains(" enum ") => {
                    "a table".to_owned()
                }
                None => other.to_owned(),
            };
        }
    };
    words.to_owned()
}
