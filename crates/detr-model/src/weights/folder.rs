//! The files in a folder of weights, ours or Hugging Face's.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use detr_types::Limits;
use serde_json::Value;

use super::WeightsError;

/// The name of the model card in our own folders.
pub const CARD_FILE: &str = "model.json";
/// The name of the file that describes a model in Hugging Face's folders.
pub(super) const CONFIG_FILE: &str = "config.json";
/// The name of the file that holds the tensors.
pub const WEIGHTS_FILE: &str = "model.safetensors";

/// Reads a JSON file of bounded size; errors name the key, line and column.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, WeightsError> {
    let io = |error| WeightsError::io(path, error);
    let limit = Limits::default().json_bytes;
    // The kind of the file is checked before it is opened: opening a pipe would wait for its
    // writer.
    if !path.metadata().map_err(io)?.is_file() {
        return Err(WeightsError::config(path, "not a regular file"));
    }
    let mut text = Vec::new();
    File::open(path).map_err(io)?.take(limit + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > limit {
        return Err(WeightsError::config(
            path,
            format_args!("more than {limit} bytes, the most that is read"),
        ));
    }
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| WeightsError::config(path, in_words(&error.to_string())))
}

/// Writes a value of a JSON file as it stands there, if it is short.
pub(super) fn described(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a table".to_owned(),
        Value::String(text) if text.chars().count() > 40 => "a long text".to_owned(),
        other => other.to_string(),
    }
}

/// Puts what a field should be into the words of a JSON file, where serde names a type of ours.
fn in_words(message: &str) -> String {
    const EXPECTED: &str = ", expected ";
    let Some(at) = message.rfind(EXPECTED).map(|at| at + EXPECTED.len()) else {
        return message.to_owned();
    };
    let (before, rest) = message.split_at(at);
    let (expected, place) = match rest.rfind(" at line ") {
        Some(end) => rest.split_at(end),
        None => (rest, ""),
    };
    let words = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") || other.contains(" enum ") => "a table",
        other => other,
    };
    format!("{before}{words}{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_type_of_ours_is_named() {
        for (message, expected) in [
            (
                "heads: invalid value: integer `-4`, expected usize at line 1 column 9",
                "heads: invalid value: integer `-4`, expected a whole number, 0 or more at line 1 column 9",
            ),
            (
                "invalid type: sequence, expected struct Config at line 1 column 0",
                "invalid type: sequence, expected a table at line 1 column 0",
            ),
            ("trailing comma at line 2 column 1", "trailing comma at line 2 column 1"),
        ] {
            assert_eq!(in_words(message), expected);
        }
    }
}
