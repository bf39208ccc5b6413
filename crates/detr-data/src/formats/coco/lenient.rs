//! Reads the notations that Python and other tools write instead of plain JSON numbers.

use std::fmt;

use detr_types::in_plain_words;
use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};
use serde_json::value::RawValue;

/// A whole number, also written as `1.0`.
pub(crate) struct Int(pub(crate) i64);

/// A number; `null`, `NaN` and infinities are not finite.
#[derive(Clone, Copy)]
pub(crate) struct Num(pub(crate) f64);

/// `0`, `1`, `true` or `false`.
pub(crate) struct Flag(pub(crate) bool);

/// A name: a text, or a number or truth value, which is taken as it is written.
pub(crate) struct Text(pub(crate) String);

/// The id of an annotation, on which nothing depends: a whole number, or a text.
pub(crate) enum Id {
    Number(i64),
    Text(String),
}

/// Returns a message of the parser without its place, which refers to a part of the file, and without names
/// of types.
pub(crate) fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let message = match text.rfind(" at line ") {
        Some(at) => &text[..at],
        None => &text,
    };
    in_plain_words(message)
}

/// Replaces `NaN`, `Infinity` and `-Infinity` by empty strings of the same length, which [`Num`]
/// takes as not finite. Text in quotes stays.
pub(crate) fn quote_non_finite(text: &mut String) {
    let mut found: Vec<(usize, usize)> = Vec::new();
    let bytes = text.as_bytes();
    let (mut at, mut quoted) = (0, false);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'N' if !quoted && bytes[at..].starts_with(b"NaN") => found.push((at, 3)),
            b'I' if !quoted && bytes[at..].starts_with(b"Infinity") => {
                let sign = usize::from(at > 0 && bytes[at - 1] == b'-');
                found.push((at - sign, 8 + sign));
            }
            _ => {}
        }
        at += 1;
    }
    for (start, length) in found {
        text.replace_range(start..start + length, &format!("{:<length$}", "\"\""));
    }
}

struct IntVisitor;

impl Visitor<'_> for IntVisitor {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<i64, E> {
        Ok(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<i64, E> {
        i64::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    #[allow(clippy::cast_possible_truncation)] // whole and below 2^53
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<i64, E> {
        if value.fract() == 0.0 && value.abs() < 9e15 {
            return Ok(value as i64);
        }
        Err(E::invalid_value(Unexpected::Float(value), &self))
    }
}

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntVisitor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let wrong = |found| Err(de::Error::invalid_type(found, &"a text"));
        match raw.as_bytes() {
            [b'"', ..] => serde_json::from_str(raw).map(Self).map_err(de::Error::custom),
            [b'[', ..] => wrong(Unexpected::Seq),
            [b'{', ..] => wrong(Unexpected::Map),
            b"null" => wrong(Unexpected::Unit),
            _ => Ok(Self(raw.to_owned())),
        }
    }
}

struct IdVisitor;

impl Visitor<'_> for IdVisitor {
    type Value = Id;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Id, E> {
        IntVisitor.visit_i64(value).map(Id::Number)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Id, E> {
        IntVisitor.visit_u64(value).map(Id::Number)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Id, E> {
        IntVisitor.visit_f64(value).map(Id::Number)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Id, E> {
        match value.trim() {
            "" => Err(E::invalid_type(Unexpected::Str(value), &self)),
            text => Ok(Id::Text(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IdVisitor)
    }
}

struct NumVisitor;

impl Visitor<'_> for NumVisitor {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    #[allow(clippy::cast_precision_loss)] // pixels
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    #[allow(clippy::cast_precision_loss)]
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    fn visit_unit<E: de::Error>(self) -> Result<f64, E> {
        Ok(f64::NAN)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<f64, E> {
        match value {
            "" => Ok(f64::NAN),
            _ => Err(E::invalid_type(Unexpected::Str(value), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for Num {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumVisitor).map(Self)
    }
}

struct FlagVisitor;

impl Visitor<'_> for FlagVisitor {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0 or 1")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<bool, E> {
        Ok(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<bool, E> {
        match value {
            0 | 1 => Ok(value == 1),
            _ => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FlagVisitor).map(Self)
    }
}
