//! Architecture configurations: what `configs/models/*.toml` and a model card's `architecture`
//! hold. Every number of a published model lives in its preset, not in code.

mod deformable;
mod resnet;

use serde::{Deserialize, Serialize};

pub use deformable::DeformableDetrConfig;
pub use resnet::{Block, ResNetConfig};

/// Any architecture of this crate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ModelConfig {
    /// DETR (Carion et al. 2020), `models/detr.py`.
    Detr(DetrConfig),
    /// Deformable DETR (Zhu et al. 2021), `models/deformable_detr.py`.
    DeformableDetr(DeformableDetrConfig),
    /// The 50-line demonstration model of the DETR paper's appendix.
    DetrDemo(DetrDemoConfig),
}

/// DETR.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetrConfig {
    /// Labels of the head, without the no-object class: 91 for COCO.
    pub num_classes: usize,
    /// Object queries.
    pub num_queries: usize,
    /// Width of the transformer.
    pub hidden_dim: usize,
    /// Attention heads.
    pub nheads: usize,
    /// Encoder layers; may be 0.
    pub enc_layers: usize,
    /// Decoder layers.
    pub dec_layers: usize,
    /// Hidden width of the feed-forward networks.
    pub dim_feedforward: usize,
    /// Hidden width of the decoder's, where it differs from the encoder's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dec_dim_feedforward: Option<usize>,
    /// Dropout probability, in training only.
    #[serde(default = "default_dropout")]
    pub dropout: f64,
    /// Normalise before each sub-layer instead of after it.
    #[serde(default)]
    pub pre_norm: bool,
    /// Position encoding.
    #[serde(default)]
    pub position_embedding: PositionKind,
    /// Convolutional backbone.
    pub backbone: ResNetConfig,
}

/// The demonstration model: a plain `nn.Transformer` on projected C5 features, learned positions,
/// linear heads, no padding mask and no auxiliary outputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetrDemoConfig {
    /// Labels of the head, without the no-object class.
    pub num_classes: usize,
    /// Object queries.
    pub num_queries: usize,
    /// Width of the transformer.
    pub hidden_dim: usize,
    /// Attention heads.
    pub nheads: usize,
    /// Encoder layers.
    pub enc_layers: usize,
    /// Decoder layers.
    pub dec_layers: usize,
    /// Hidden width of the feed-forward networks.
    pub dim_feedforward: usize,
    /// Dropout probability, in training only.
    #[serde(default = "default_dropout")]
    pub dropout: f64,
    /// Convolutional backbone.
    pub backbone: ResNetConfig,
}

/// How positions are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionKind {
    /// Fixed sines and cosines.
    #[default]
    Sine,
    /// Two learned tables of 50 entries.
    Learned,
}

/// A configuration that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A number outside its range.
    #[error("{field} is {value}, expected {min} to {max}")]
    Range {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: usize,
        /// Smallest accepted.
        min: usize,
        /// Largest accepted.
        max: usize,
    },
    /// Fields that are too large together, though each is in its range.
    #[error("{fields} make {value} {what}, expected at most {max}")]
    TooLarge {
        /// Names of the fields.
        fields: &'static str,
        /// What they make together.
        what: &'static str,
        /// How much of it.
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
    #[error("no preset `{name}`\nhint: the presets are {}", PRESETS.iter().map(|p| p.0).collect::<Vec<_>>().join(", "))]
    UnknownPreset {
        /// The name asked for.
        name: String,
    },
}

/// Most numbers the class heads of all layers may put out for one image: 256 MiB in f32. DETR on
/// COCO has some 55 thousand.
const MAX_LOGITS: u64 = 64 << 20;
/// Most parameters: 4 GiB in f32. The published models have 41 to 60 million.
const MAX_PARAMETERS: u64 = 1 << 30;

/// The papers' value.
const fn default_dropout() -> f64 {
    0.1
}

/// Name and text of every model preset in `configs/models/`.
const PRESETS: [(&str, &str); 12] = [
    ("detr-r50", include_str!("../../../configs/models/detr-r50.toml")),
    ("detr-r50-dc5", include_str!("../../../configs/models/detr-r50-dc5.toml")),
    ("detr-r101", include_str!("../../../configs/models/detr-r101.toml")),
    ("detr-r101-dc5", include_str!("../../../configs/models/detr-r101-dc5.toml")),
    ("detr-r18", include_str!("../../../configs/models/detr-r18.toml")),
    ("detr-demo", include_str!("../../../configs/models/detr-demo.toml")),
    ("deformable-detr-r50", include_str!("../../../configs/models/deformable-detr-r50.toml")),
    (
        "deformable-detr-r50-refine",
        include_str!("../../../configs/models/deformable-detr-r50-refine.toml"),
    ),
    (
        "deformable-detr-r50-two-stage",
        include_str!("../../../configs/models/deformable-detr-r50-two-stage.toml"),
    ),
    (
        "deformable-detr-r50-single-scale",
        include_str!("../../../configs/models/deformable-detr-r50-single-scale.toml"),
    ),
    (
        "deformable-detr-r50-single-scale-dc5",
        include_str!("../../../configs/models/deformable-detr-r50-single-scale-dc5.toml"),
    ),
    ("deformable-detr-tiny", include_str!("../../../configs/models/deformable-detr-tiny.toml")),
];

impl ModelConfig {
    /// Names of the built-in presets.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// A built-in preset by name.
    ///
    /// # Errors
    /// An unknown name.
    pub fn preset(name: &str) -> Result<Self, ConfigError> {
        let (_, text) = PRESETS
            .iter()
            .find(|(preset, _)| *preset == name)
            .ok_or_else(|| ConfigError::UnknownPreset { name: name.to_owned() })?;
        Self::from_toml(text)
    }

    /// Reads and checks a TOML text such as those in `configs/models/`.
    ///
    /// # Errors
    /// Bad syntax (with line and column), unknown, missing or mistyped keys, or numbers that cannot
    /// work.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let mut table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| ConfigError::Syntax(error.to_string()))?;
        // Serde forgets the key of what is wrong inside an enum, so the kind is chosen here.
        let kind = table.remove("kind");
        let config = match kind.as_ref().and_then(toml::Value::as_str) {
            Some("detr") => Self::Detr(keyed(table)?),
            Some("deformable-detr") => Self::DeformableDetr(keyed(table)?),
            Some("detr-demo") => Self::DetrDemo(keyed(table)?),
            _ => {
                let found = kind.map_or("missing".to_owned(), |kind| kind.to_string());
                return Err(ConfigError::Syntax(format!(
                    "kind is {found}, expected \"detr\", \"deformable-detr\" or \"detr-demo\""
                )));
            }
        };
        config.validate()?;
        Ok(config)
    }

    /// Refuses what cannot be built.
    ///
    /// # Errors
    /// The first field out of range, or two that contradict each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::Detr(c) => {
                range("enc_layers", c.enc_layers, 0, 64)?;
                range("dec_dim_feedforward", c.dec_dim_feedforward.unwrap_or(1), 1, 65_536)?;
                check_transformer(
                    [c.num_classes, c.num_queries, c.hidden_dim, c.nheads],
                    [c.dec_layers, c.dim_feedforward],
                )?;
                let decoder = c.dec_dim_feedforward.unwrap_or(c.dim_feedforward);
                check_parameters(
                    c.hidden_dim,
                    [(c.enc_layers, c.dim_feedforward), (c.dec_layers, decoder)],
                )?;
                check_dropout(c.dropout)?;
                c.backbone.validate()
            }
            Self::DeformableDetr(c) => c.validate(),
            Self::DetrDemo(c) => {
                range("enc_layers", c.enc_layers, 1, 64)?;
                check_transformer(
                    [c.num_classes, c.num_queries, c.hidden_dim, c.nheads],
                    [c.dec_layers, c.dim_feedforward],
                )?;
                check_parameters(
                    c.hidden_dim,
                    [(c.enc_layers, c.dim_feedforward), (c.dec_layers, c.dim_feedforward)],
                )?;
                check_dropout(c.dropout)?;
                c.backbone.validate()
            }
        }
    }

    /// Labels of the head, without the no-object class.
    #[must_use]
    pub fn num_classes(&self) -> usize {
        match self {
            Self::Detr(c) => c.num_classes,
            Self::DeformableDetr(c) => c.num_classes,
            Self::DetrDemo(c) => c.num_classes,
        }
    }

    /// Attention heads.
    #[must_use]
    pub const fn nheads(&self) -> usize {
        match self {
            Self::Detr(c) => c.nheads,
            Self::DeformableDetr(c) => c.nheads,
            Self::DetrDemo(c) => c.nheads,
        }
    }

    /// The same architecture for other classes or another number of queries.
    #[must_use]
    pub fn with_sizes(mut self, num_classes: usize, num_queries: Option<usize>) -> Self {
        let (classes, queries) = match &mut self {
            Self::Detr(c) => (&mut c.num_classes, &mut c.num_queries),
            Self::DeformableDetr(c) => (&mut c.num_classes, &mut c.num_queries),
            Self::DetrDemo(c) => (&mut c.num_classes, &mut c.num_queries),
        };
        *classes = num_classes;
        *queries = num_queries.unwrap_or(*queries);
        self
    }

    /// The backbone.
    #[must_use]
    pub fn backbone(&self) -> &ResNetConfig {
        match self {
            Self::Detr(c) => &c.backbone,
            Self::DeformableDetr(c) => &c.backbone,
            Self::DetrDemo(c) => &c.backbone,
        }
    }

    /// Largest side of an input image in pixels, where the position table sets one.
    #[must_use]
    pub fn max_image_side(&self) -> Option<u32> {
        let learned = match self {
            Self::Detr(c) => c.position_embedding == PositionKind::Learned,
            Self::DeformableDetr(_) => false,
            Self::DetrDemo(_) => true,
        };
        learned.then(|| 50 * self.backbone().stride())
    }
}

/// Reads a table; errors start with the key.
fn keyed<T: serde::de::DeserializeOwned>(table: toml::Table) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(table)
        .map_err(|error| ConfigError::Syntax(error.to_string().trim_end().to_owned()))
}

fn check_transformer(sizes: [usize; 4], inner: [usize; 2]) -> Result<(), ConfigError> {
    let [num_classes, num_queries, hidden_dim, nheads] = sizes;
    let [dec_layers, dim_feedforward] = inner;
    range("num_classes", num_classes, 1, 100_000)?;
    range("num_queries", num_queries, 1, 10_000)?;
    range("hidden_dim", hidden_dim, 4, 8192)?;
    range("nheads", nheads, 1, 256)?;
    range("dec_layers", dec_layers, 1, 64)?;
    range("dim_feedforward", dim_feedforward, 1, 65_536)?;
    let logits = (dec_layers * num_queries) as u64 * (num_classes as u64 + 1);
    too_large("dec_layers * num_queries * (num_classes + 1)", "logits", logits, MAX_LOGITS)?;
    if !hidden_dim.is_multiple_of(nheads) || !hidden_dim.is_multiple_of(4) {
        return Err(ConfigError::Mismatch(format!(
            "hidden_dim is {hidden_dim}, expected a multiple of nheads ({nheads}) and of 4"
        )));
    }
    Ok(())
}

/// Bounds the parameters of the layers, counted roughly: four square matrices of an attention, two
/// of a feed-forward network. Numbers are in their ranges, so nothing overflows.
fn check_parameters(
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

fn too_large(
    fields: &'static str,
    what: &'static str,
    value: u64,
    max: u64,
) -> Result<(), ConfigError> {
    if value <= max { Ok(()) } else { Err(ConfigError::TooLarge { fields, what, value, max }) }
}

fn check_dropout(dropout: f64) -> Result<(), ConfigError> {
    if (0.0..1.0).contains(&dropout) {
        return Ok(());
    }
    Err(ConfigError::Mismatch(format!("dropout is {dropout}, expected 0 up to, but not, 1")))
}

fn range(field: &'static str, value: usize, min: usize, max: usize) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(ConfigError::Range { field, value, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid_and_says_what_its_name_says() {
        for name in ModelConfig::presets() {
            let config = ModelConfig::preset(name).unwrap();
            assert_eq!(config.backbone().dilation, name.ends_with("dc5"), "{name}");
            assert_eq!(config.num_classes(), 91, "{name}");
            let depth = name.split('-').find_map(|part| part.strip_prefix('r')?.parse().ok());
            if name.ends_with("tiny") {
                continue; // a backbone of its own
            }
            let expected = ResNetConfig::torchvision(depth.unwrap_or(50)).unwrap();
            assert_eq!(config.backbone().depths, expected.depths, "{name}");
            assert_eq!(config.backbone().block, expected.block, "{name}");
        }
        let error = ModelConfig::preset("detr-r51").unwrap_err().to_string();
        assert!(error.contains("hint: the presets are detr-r50"), "{error}");
    }

    #[test]
    fn impossible_models_are_refused() {
        let text = include_str!("../../../configs/models/detr-r50.toml");
        for (from, to, message) in [
            ("nheads = 8", "nheads = 7", "multiple of nheads (7)"),
            ("num_queries = 100", "num_queries = 0", "num_queries is 0"),
            ("dec_layers = 6", "dec_layers = -1", "dec_layers: invalid value"),
            ("dec_layers = 6", "decoder_layers = 6", "decoder_layers"),
            ("kind = \"detr\"", "kind = \"yolo\"", "yolo"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from}");
            let error = ModelConfig::from_toml(&changed).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn impossible_deformable_models_are_refused() {
        let text = include_str!("../../../configs/models/deformable-detr-r50-two-stage.toml");
        for (from, to, message) in [
            ("with_box_refine = true", "with_box_refine = false", "two_stage needs with_box"),
            ("num_feature_levels = 4", "num_feature_levels = 0", "num_feature_levels is 0"),
            ("enc_n_points = 4", "enc_n_points = 0", "enc_n_points is 0, expected 1 to 64"),
            (
                "hidden_dim = 256",
                "hidden_dim = 240",
                "hidden_dim is 240, expected a multiple of 32",
            ),
            ("two_stage = true", "two_stages = true", "two_stages"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from}");
            let error = ModelConfig::from_toml(&changed).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn fields_that_are_too_large_together_are_refused() {
        let ModelConfig::Detr(detr) = ModelConfig::preset("detr-r101").unwrap() else {
            panic!("a DETR")
        };
        let error = |config| ModelConfig::Detr(config).validate().unwrap_err().to_string();
        let wide = DetrConfig { num_classes: 100_000, num_queries: 10_000, ..detr.clone() };
        let found = error(wide);
        assert!(found.contains("num_queries * (num_classes + 1) make 6000060000"), "{found}");
        let thick = DetrConfig { hidden_dim: 8192, dim_feedforward: 65_536, ..detr.clone() };
        let found = error(thick);
        assert!(found.starts_with("hidden_dim, dim_feedforward"), "{found}");
        let mut deep = detr;
        deep.backbone.widths = [8192; 4];
        let found = error(deep);
        assert!(found.starts_with("backbone.depths and backbone.widths make"), "{found}");
    }
}
