//! Results as JSON: what `--json` prints, and what a server answers.

use serde_json::{Value, json};

use super::ImageResult;

/// The text before the first object of an array of results.
pub(crate) const ARRAY_START: &str = "[\n";
/// The text between two objects.
pub(crate) const ARRAY_COMMA: &str = ",\n";
/// The text after the last object.
pub(crate) const ARRAY_END: &str = "\n]\n";

/// Returns the JSON of an image's result: `{"file", "width", "height", "detections": [..]}`.
#[must_use]
pub fn result_json(result: &ImageResult) -> Value {
    json!(result)
}

/// Returns the JSON of an image that failed: `{"file", "error"}`, and `"hint"` where the message ends in one.
#[must_use]
pub fn failure_json(file: &str, message: &str) -> Value {
    match message.split_once("\nhint: ") {
        Some((error, hint)) => json!({ "file": file, "error": error, "hint": hint }),
        None => json!({ "file": file, "error": message }),
    }
}

/// Returns results as one array, as `--json` prints them: an object on each line.
#[must_use]
pub fn array_json<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    let mut text = String::new();
    for value in values {
        text.push_str(if text.is_empty() { ARRAY_START } else { ARRAY_COMMA });
        text.push_str(&value.to_string());
    }
    if text.is_empty() {
        text.push('[');
    }
    text + ARRAY_END
}
