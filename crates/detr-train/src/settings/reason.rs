//! The reason why a value does not fit its type, from serde's message. Every deserializer words these alike (the
//! defaults of `serde::de::Error`), so a reason is taken apart here, and worded anew for people who write TOML.

use toml::Value;

use super::document::described;

/// The reason why a value does not fit its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The table does not have the key; `known` are the keys that it has.
    UnknownKey { key: String, known: Vec<String> },
    /// A word, or the only key of a table, names no variant; `known` are the names of variants.
    UnknownVariant { found: String, known: Vec<String> },
    /// A required key is missing.
    Missing(String),
    /// A value has another type, or is out of range. `expected` is empty where the schema knows better.
    Wrong { found: String, expected: String },
    /// Another reason, as a message.
    Other(String),
}

impl Reason {
    /// Takes a message of serde's apart.
    pub(super) fn parse(message: &str) -> Self {
        let (what, expected) = message.rsplit_once(", expected ").unwrap_or((message, ""));
        let known = || expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let name = |prefix| {
            let (name, _) = what.strip_prefix(prefix)?.rsplit_once('`')?;
            Some(name.to_owned())
        };
        if let Some(key) = name("unknown field `") {
            return Self::UnknownKey { key, known: known() };
        }
        if let Some(found) = name("unknown variant `") {
            return Self::UnknownVariant { found, known: known() };
        }
        if let Some(key) = name("missing field `") {
            return Self::Missing(key);
        }
        let value = what.strip_prefix("invalid type: ").or(what.strip_prefix("invalid value: "));
        let length =
            what.strip_prefix("invalid length ").map(|length| format!("a list of {length}"));
        match value.map(found_in_words).or(length) {
            Some(found) => Self::Wrong { found, expected: expected_in_words(expected) },
            // An enum of `toml` wants a text, or a table of one key.
            None if message.starts_with("wanted exactly 1 element") => {
                Self::Wrong { found: "a table".to_owned(), expected: String::new() }
            }
            None => Self::Other(message.to_owned()),
        }
    }

    /// Returns whether a value, or one inside of it, may be the one that was found.
    pub(super) fn is_about(found: &str, value: &Value) -> bool {
        described(value) == found
            || match value {
                Value::Array(list) => {
                    found == "a list" || list.iter().any(|value| Self::is_about(found, value))
                }
                Value::Table(table) => {
                    found == "a table" || table.values().any(|value| Self::is_about(found, value))
                }
                _ => false,
            }
    }
}

/// Writes the value of a message as it stands in a file.
fn found_in_words(found: &str) -> String {
    match found {
        "sequence" => "a list".to_owned(),
        "map" | "struct variant" => "a table".to_owned(),
        "unit variant" => "a word".to_owned(),
        other => match other.strip_prefix("string ") {
            Some(text) => text.to_owned(),
            None => other.split('`').nth(1).unwrap_or(other).to_owned(),
        },
    }
}

/// Translates serde's expectation into the words of a TOML file.
fn expected_in_words(expected: &str) -> String {
    let words = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" | "string" | "variant identifier" => "a text in quotes",
        "a sequence" => "a list",
        "a map" | "newtype variant" | "struct variant" => "a table",
        "string only" | "fewer elements in array" => "",
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
