//! The configuration of DETR.

use detr_types::range::in_range;
use serde::{Deserialize, Serialize};

use super::mask_head::groupable;
use crate::backbone::BackboneConfig;
use crate::config::{ConfigError, check_dropout, check_parameters, check_transformer};
use crate::position::PositionKind;

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
    #[serde(default = "crate::config::default_dropout")]
    pub dropout: f64,
    /// Normalise before each sub-layer instead of after it.
    #[serde(default)]
    pub pre_norm: bool,
    /// Position encoding.
    #[serde(default)]
    pub position_embedding: PositionKind,
    /// Whether there is a mask head (`DETRsegm` of the reference).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masks: bool,
    /// Backbone.
    pub backbone: BackboneConfig,
}

impl DetrConfig {
    /// Refuses what cannot be built.
    ///
    /// # Errors
    /// The first field out of range, or two that contradict each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        in_range("enc_layers", self.enc_layers, 0..=64)?;
        in_range("dec_dim_feedforward", self.dec_dim_feedforward.unwrap_or(1), 1..=65_536)?;
        check_transformer(
            [self.num_classes, self.num_queries, self.hidden_dim, self.nheads],
            [self.dec_layers, self.dim_feedforward],
        )?;
        let decoder = self.dec_dim_feedforward.unwrap_or(self.dim_feedforward);
        check_parameters(
            self.hidden_dim,
            [(self.enc_layers, self.dim_feedforward), (self.dec_layers, decoder)],
        )?;
        check_dropout(self.dropout)?;
        self.check_mask_head()?;
        self.backbone.validate()
    }

    /// Refuses widths that the mask head cannot normalise in groups.
    fn check_mask_head(&self) -> Result<(), ConfigError> {
        let fits = self.mask_channels().into_iter().all(groupable);
        if !self.masks || (fits && self.hidden_dim.is_multiple_of(16)) {
            return Ok(());
        }
        Err(ConfigError::Mismatch(format!(
            "masks is true, hidden_dim {} and nheads {}: the channels of the mask head are {:?}, expected multiples of \
             8, or fewer than 8\nhint: use a hidden_dim of 128, 256 or 512 and 8 heads",
            self.hidden_dim,
            self.nheads,
            self.mask_channels()
        )))
    }
}
