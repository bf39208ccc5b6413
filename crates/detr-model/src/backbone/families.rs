//! The seam between the backbones and all that asks for their sizes, names and costs.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::ConfigError;
use crate::flops::BackboneFlops;
use crate::weights::StateDict;

/// A family of backbones, implemented by its configuration. Its network has functions `new(&config,
/// &device)`, `forward` and `fold`; see [`Backbone`](super::Backbone).
pub(crate) trait BackboneFamily: fmt::Debug {
    /// Returns the word after `kind` in a configuration.
    fn kind() -> &'static str
    where
        Self: Sized;

    /// Finds the configuration of the backbone whose tensors have names that start with `prefix`; `None`
    /// if they are of another family. `dilation` is what no tensor shows.
    fn infer(state: &StateDict, prefix: &str, dilation: bool) -> Option<Self>
    where
        Self: Sized;

    /// Refuses what cannot be built.
    ///
    /// # Errors
    /// The first field out of range, or some that contradict each other.
    fn validate(&self) -> Result<(), ConfigError>;

    /// Returns the number of channels of a feature map, 0 for C2 to 3 for C5.
    fn out_channels(&self, stage: usize) -> usize;

    /// Pixels per cell of C2 to C5.
    fn strides(&self) -> [u32; 4] {
        [4, 8, 16, 32]
    }

    /// Returns whether the last stage dilates instead of striding (DC5).
    fn is_dilated(&self) -> bool {
        false
    }

    /// Makes the last stage dilate instead of striding, where the family can; returns whether it does now.
    fn dilate(&mut self) -> bool {
        false
    }

    /// Returns the names of the modules that are never trained, within the backbone.
    fn frozen(&self) -> &'static [&'static str];

    /// Counts the multiply-adds for an image of this height and width.
    fn flops(&self, image: [u64; 2]) -> BackboneFlops;
}

/// A configuration with its kind.
#[derive(Serialize)]
pub(crate) struct TaggedConfig<'a, T> {
    pub(crate) kind: &'static str,
    #[serde(flatten)]
    pub(crate) config: &'a T,
}

/// Takes the kind, where it is given, out of a configuration.
///
/// # Errors
/// A kind that is no text.
pub(crate) fn untag(
    mut value: serde_json::Value,
) -> Result<(Option<String>, serde_json::Value), String> {
    let kind = match value.as_object_mut().and_then(|table| table.remove("kind")) {
        None => None,
        Some(serde_json::Value::String(kind)) => Some(kind),
        Some(other) => return Err(format!("kind is {other}, expected a text")),
    };
    Ok((kind, value))
}

/// Reads a configuration; errors start with the key.
///
/// # Errors
/// Unknown, missing or mistyped keys.
pub(crate) fn read<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| error.to_string())
}
