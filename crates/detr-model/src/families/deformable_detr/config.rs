//! The configuration of Deformable DETR.

use detr_types::range::{in_range, require};
use serde::{Deserialize, Serialize};

use crate::backbone::BackboneConfig;
use crate::config::{
    ConfigError, MAX_PARAMETERS, check_dropout, check_parameters, check_transformer, too_large,
};

/// Most classes of a two-stage model: with the 18 thousand tokens of a usual image, as many logits as
/// the decoder's heads may put out.
const MAX_PROPOSAL_CLASSES: usize = 3600;

/// Groups of the normalisation after a projection.
pub(crate) const GROUPS: usize = 32;

/// Deformable DETR.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeformableDetrConfig {
    /// Labels of the head: 91 for COCO. There is no no-object class.
    pub num_classes: usize,
    /// Object queries; in two-stage models, the proposals that become queries.
    pub num_queries: usize,
    /// Width of the transformer, a multiple of 32.
    pub hidden_dim: usize,
    /// Attention heads.
    pub nheads: usize,
    /// Feature levels: C5 alone, C4 and C5, C3 to C5, and then coarser ones made of C5.
    pub num_feature_levels: usize,
    /// Encoder layers; may be 0.
    pub enc_layers: usize,
    /// Decoder layers.
    pub dec_layers: usize,
    /// Hidden width of the feed-forward networks.
    pub dim_feedforward: usize,
    /// Hidden width of the decoder's, where it differs from the encoder's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dec_dim_feedforward: Option<usize>,
    /// Sampling points per head and level in the encoder.
    pub enc_n_points: usize,
    /// Sampling points per head and level in the decoder.
    pub dec_n_points: usize,
    /// Dropout probability, in training only.
    #[serde(default = "crate::config::default_dropout")]
    pub dropout: f64,
    /// Every decoder layer starts from the boxes of the one before.
    #[serde(default)]
    pub with_box_refine: bool,
    /// The encoder proposes the queries; needs box refinement.
    #[serde(default)]
    pub two_stage: bool,
    /// Whether there is a mask head, which the reference does not have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masks: bool,
    /// Backbone.
    pub backbone: BackboneConfig,
}

impl DeformableDetrConfig {
    /// Refuses what cannot be built.
    ///
    /// # Errors
    /// The first field out of range, or two that contradict each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        in_range("enc_layers", self.enc_layers, 0..=64)?;
        in_range("num_feature_levels", self.num_feature_levels, 1..=8)?;
        in_range("enc_n_points", self.enc_n_points, 1..=64)?;
        in_range("dec_n_points", self.dec_n_points, 1..=64)?;
        in_range("dec_dim_feedforward", self.dec_dim_feedforward.unwrap_or(1), 1..=65_536)?;
        check_transformer(
            [self.num_classes, self.num_queries, self.hidden_dim, self.nheads],
            [self.dec_layers, self.dim_feedforward],
        )?;
        let ok = self.hidden_dim.is_multiple_of(GROUPS);
        let expected = format!("a multiple of {GROUPS}, the groups of its normalisation");
        require(ok, "hidden_dim", self.hidden_dim, expected)?;
        if self.two_stage && !self.with_box_refine {
            return Err(ConfigError::Mismatch(
                "two_stage needs with_box_refine = true: proposals are boxes to be refined".into(),
            ));
        }
        if self.two_stage && self.num_classes > MAX_PROPOSAL_CLASSES {
            return Err(ConfigError::Mismatch(format!(
                "two_stage with num_classes {}, expected at most {MAX_PROPOSAL_CLASSES}: every token \
                 of the encoder gets a logit per class",
                self.num_classes
            )));
        }
        let decoder = self.dec_dim_feedforward.unwrap_or(self.dim_feedforward);
        check_parameters(
            self.hidden_dim,
            [(self.enc_layers, self.dim_feedforward), (self.dec_layers, decoder)],
        )?;
        self.backbone.validate()?;
        self.check_rest()?;
        Ok(check_dropout(self.dropout)?)
    }

    /// Returns the number of class heads and of box heads: one for all layers, or one per layer
    /// with box refinement, and one more for the proposals of a two-stage model.
    #[must_use]
    pub fn heads(&self) -> usize {
        match (self.with_box_refine, self.two_stage) {
            (false, _) => 1,
            (true, false) => self.dec_layers,
            (true, true) => self.dec_layers + 1,
        }
    }

    /// Bounds the parameters outside the usual layers: sampling, heads, and the projections of extra
    /// levels. All numbers are in their ranges, so nothing overflows.
    fn check_rest(&self) -> Result<(), ConfigError> {
        let d = self.hidden_dim as u64;
        let places = |points: usize| (self.nheads * self.num_feature_levels * points) as u64;
        let sampling = 3
            * d
            * (self.enc_layers as u64 * places(self.enc_n_points)
                + self.dec_layers as u64 * places(self.dec_n_points));
        too_large(
            "hidden_dim, nheads, num_feature_levels and n_points",
            "parameters",
            sampling,
            MAX_PARAMETERS,
        )?;
        let heads = self.heads() as u64 * d * (self.num_classes as u64 + 2 * d + 4);
        too_large("hidden_dim, num_classes and dec_layers", "parameters", heads, MAX_PARAMETERS)?;
        let c5 = self.backbone.out_channels(3) as u64;
        let extra = self.num_feature_levels.saturating_sub(3) as u64 * 9 * d * c5.max(d);
        too_large("hidden_dim and num_feature_levels", "parameters", extra, MAX_PARAMETERS)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::family::Family;
    use super::*;

    #[test]
    fn a_deformable_detr_beyond_any_memory_is_refused() {
        let (_, text) = DeformableDetrConfig::presets()[1];
        let text = text.replace("kind = \"deformable-detr\"", "");
        let base: DeformableDetrConfig = toml::from_str(&text).unwrap();
        let error = |config: DeformableDetrConfig| config.validate().unwrap_err().to_string();
        let sampling = DeformableDetrConfig {
            nheads: 256,
            num_feature_levels: 8,
            enc_n_points: 64,
            dec_n_points: 64,
            ..base.clone()
        };
        assert!(error(sampling).starts_with("hidden_dim, nheads, num_feature_levels"));
        let heads = DeformableDetrConfig {
            num_queries: 1,
            num_classes: 100_000,
            dec_layers: 64,
            ..base.clone()
        };
        assert!(error(heads).starts_with("hidden_dim, num_classes and dec_layers"));
        let proposals = DeformableDetrConfig { two_stage: true, num_classes: 4000, ..base.clone() };
        assert!(error(proposals).contains("expected at most 3600"));
        let alone =
            DeformableDetrConfig { two_stage: true, with_box_refine: false, ..base.clone() };
        assert!(error(alone).contains("with_box_refine = true"));
        let odd = DeformableDetrConfig { hidden_dim: 200, ..base };
        assert!(error(odd).contains("multiple of 32"));
    }
}
