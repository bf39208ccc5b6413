//! The `architecture` of a model card.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::backbone::BackboneConfig;
use crate::config::ConfigError;
use crate::families::ModelConfig;

/// The owner of some weights: a model with its heads, or a backbone alone.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // one for each checkpoint
pub enum Architecture {
    /// A detector.
    Model(ModelConfig),
    /// A backbone under torchvision's names.
    Backbone(BackboneConfig),
}

impl Architecture {
    /// Returns the model's configuration; `None` for a backbone alone.
    #[must_use]
    pub fn model(&self) -> Option<&ModelConfig> {
        match self {
            Self::Model(config) => Some(config),
            Self::Backbone(_) => None,
        }
    }

    /// Returns the backbone.
    #[must_use]
    pub fn backbone(&self) -> &BackboneConfig {
        match self {
            Self::Model(config) => config.backbone(),
            Self::Backbone(config) => config,
        }
    }

    /// Returns the beginning of the names of the backbone's tensors.
    pub(super) fn backbone_prefix(&self) -> &'static str {
        self.model().map_or("", ModelConfig::backbone_prefix)
    }

    /// Refuses what cannot be built.
    ///
    /// # Errors
    /// As [`ModelConfig::validate`] and [`BackboneConfig::validate`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::Model(config) => config.validate(),
            Self::Backbone(config) => config.validate(),
        }
    }
}

impl From<ModelConfig> for Architecture {
    fn from(config: ModelConfig) -> Self {
        Self::Model(config)
    }
}

impl Serialize for Architecture {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Model(config) => config.serialize(serializer),
            Self::Backbone(config) => config.serialize_tagged(serializer, true),
        }
    }
}

/// The kinds of models and of backbones are different words, so the kind decides.
impl<'de> Deserialize<'de> for Architecture {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let kind = value.get("kind").and_then(serde_json::Value::as_str);
        let found = match kind {
            Some(kind) if BackboneConfig::kinds().any(|known| known == kind) => {
                serde_json::from_value(value).map(Self::Backbone)
            }
            _ => serde_json::from_value(value).map(Self::Model),
        };
        found.map_err(serde::de::Error::custom)
    }
}
