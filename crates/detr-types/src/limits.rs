//! The limits on what a single input may cost.

use serde::{Deserialize, Serialize};

/// Upper bounds that guard against decompression bombs and oversized inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Pixels of one image, checked on the header before anything is decoded.
    pub pixels: u64,
    /// Bytes of one image file.
    pub file_bytes: u64,
    /// Bytes of one JSON file (configuration, model card).
    pub json_bytes: u64,
    /// Bytes of one file of annotations.
    pub annotation_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pixels: 100_000_000,
            file_bytes: 256 << 20,
            json_bytes: 64 << 20,
            annotation_bytes: 4 << 30,
        }
    }
}
