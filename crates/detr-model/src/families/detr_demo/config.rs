//! The configuration of the demonstration model.

use detr_types::range::in_range;
use serde::{Deserialize, Serialize};

use crate::backbone::BackboneConfig;
use crate::config::{ConfigError, check_dropout, check_parameters, check_transformer};

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
    #[serde(default = "crate::config::default_dropout")]
    pub dropout: f64,
    /// Backbone.
    pub backbone: BackboneConfig,
}

impl DetrDemoConfig {
    /// Refuses what cannot be built.
    ///
    /// # Errors
    /// The first field out of range, or two that contradict each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        in_range("enc_layers", self.enc_layers, 1..=64)?;
        check_transformer(
            [self.num_classes, self.num_queries, self.hidden_dim, self.nheads],
            [self.dec_layers, self.dim_feedforward],
        )?;
        check_parameters(
            self.hidden_dim,
            [(self.enc_layers, self.dim_feedforward), (self.dec_layers, self.dim_feedforward)],
        )?;
        check_dropout(self.dropout)?;
        self.backbone.validate()
    }
}
