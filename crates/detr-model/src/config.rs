//! Errors of configurations, and checks that several families share.

use detr_types::RangeError;
use detr_types::range::{in_range, require};

/// A configuration that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A number outside its range.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// Fields that are too large together, though each is in its range.
    #[error("{fields} make {value} {what}, expected at most {max}")]
    TooLarge {
        /// Names of the fields.
        fields: &'static str,
        /// The quantity that they make together.
        what: &'static str,
        /// The value of this quantity.
        value: u64,
        /// Largest accepted.
        max: u64,
    },
    /// Two fields that do not go together.
    #[error("{0}")]
    Mismatch(String),
    /// Not valid TOML or JSON for a model.
    #[error("{0}")]
    Syntax(String),
    /// No preset of that name.
    #[error("no preset `{name}`\nhint: the presets are {presets}")]
    UnknownPreset {
        /// The name asked for.
        name: String,
        /// The names that there are.
        presets: String,
    },
}

impl ConfigError {
    /// Returns the error for a configuration whose kind is missing or unknown.
    pub(crate) fn unknown_kind(found: Option<&toml::Value>, kinds: &[&str]) -> Self {
        let found = found.map_or("missing".to_owned(), ToString::to_string);
        let quoted: Vec<String> = kinds.iter().map(|kind| format!("\"{kind}\"")).collect();
        let expected = match &quoted[..] {
            [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
            _ => quoted.concat(),
        };
        Self::Syntax(format!("kind is {found}, expected {expected}"))
    }
}

/// Most numbers the class heads of all layers may put out for one image: 256 MiB in f32. DETR on
/// COCO has some 55 thousand.
pub(crate) const MAX_LOGITS: u64 = 64 << 20;
/// Most parameters: 4 GiB in f32. The published models have 41 to 60 million.
pub(crate) const MAX_PARAMETERS: u64 = 1 << 30;

/// Returns the papers' value.
pub(crate) const fn default_dropout() -> f64 {
    0.1
}

/// Reads a table; errors start with the key.
pub(crate) fn keyed<T: serde::de::DeserializeOwned>(table: toml::Table) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(table)
        .map_err(|error| ConfigError::Syntax(error.to_string().trim_end().to_owned()))
}

pub(crate) fn check_transformer(sizes: [usize; 4], inner: [usize; 2]) -> Result<(), ConfigError> {
    let [num_classes, num_queries, hidden_dim, nheads] = sizes;
    let [dec_layers, dim_feedforward] = inner;
    in_range("num_classes", num_classes, 1..=100_000)?;
    in_range("num_queries", num_queries, 1..=10_000)?;
    in_range("hidden_dim", hidden_dim, 4..=8192)?;
    in_range("nheads", nheads, 1..=256)?;
    in_range("dec_layers", dec_layers, 1..=64)?;
    in_range("dim_feedforward", dim_feedforward, 1..=65_536)?;
    let logits = (dec_layers * num_queries) as u64 * (num_classes as u64 + 1);
    too_large("dec_layers * num_queries * (num_classes + 1)", "logits", logits, MAX_LOGITS)?;
    let ok = hidden_dim.is_multiple_of(nheads) && hidden_dim.is_multiple_of(4);
    let expected = format!("a multiple of nheads ({nheads}) and of 4");
    Ok(require(ok, "hidden_dim", hidden_dim, expected)?)
}

/// Bounds the parameters of the layers, counted roughly: four square matrices of an attention, two
/// of a feed-forward network. Numbers are in their ranges, so nothing overflows.
pub(crate) fn check_parameters(
    hidden_dim: usize,
    [(enc_layers, enc_width), (dec_layers, dec_width)]: [(usize, usize); 2],
) -> Result<(), ConfigError> {
    let d = hidden_dim as u64;
    let encoder = enc_layers as u64 * (4 * d * d + 2 * d * enc_width as u64);
    let decoder = dec_layers as u64 * (8 * d * d + 2 * d * dec_width as u64);
    too_large(
        "hidden_dim, dim_feedforward, enc_layers and dec_layers",
        "parameters",
        encoder + decoder,
        MAX_PARAMETERS,
    )
}

pub(crate) fn too_large(
    fields: &'static str,
    what: &'static str,
    value: u64,
    max: u64,
) -> Result<(), ConfigError> {
    if value <= max { Ok(()) } else { Err(ConfigError::TooLarge { fields, what, value, max }) }
}

pub(crate) fn check_dropout(dropout: f64) -> Result<(), RangeError> {
    require((0.0..1.0).contains(&dropout), "dropout", dropout, "0 up to, but not, 1")
}
