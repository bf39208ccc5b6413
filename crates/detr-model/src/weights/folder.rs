//! The files in a folder of weights, ours or Hugging Face's.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use detr_types::Limits;

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
    // Asked before the file is opened: opening a pipe would wait for its writer.
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
        .map_err(|error| WeightsError::config(path, error))
}
