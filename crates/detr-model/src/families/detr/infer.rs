//! The configuration that tensors belong to.

use super::config::DetrConfig;
use crate::backbone::BackboneConfig;
use crate::position::PositionKind;
use crate::weights::{DEFAULT_HEADS, StateDict, TrainingArgs};

/// Finds the configuration that shapes of tensors tell; the number of heads and the dilation are known from
/// elsewhere.
pub(super) fn infer(state: &StateDict, args: TrainingArgs) -> Option<DetrConfig> {
    let classes = state.side("class_embed.weight", 0)?;
    let hidden_dim = state.side("class_embed.weight", 1)?;
    let enc_layers = state.count(|i| format!("transformer.encoder.layers.{i}.linear1.weight"));
    let encoder = state.side("transformer.encoder.layers.0.linear1.weight", 0);
    let decoder = state.side("transformer.decoder.layers.0.linear1.weight", 0)?;
    let learned = state.get("backbone.1.row_embed.weight").is_some();
    let masks = has_mask_head(state);
    let heads_of_masks = state
        .side("mask_head.lay1.weight", 1)
        .and_then(|channels| channels.checked_sub(hidden_dim))
        .filter(|&heads| heads > 0);
    Some(DetrConfig {
        num_classes: classes.checked_sub(1)?,
        num_queries: state.side("query_embed.weight", 0)?,
        hidden_dim,
        // The mask head puts a map of every head beside the projected image, which shows their number.
        nheads: heads_of_masks.or(args.nheads).unwrap_or(DEFAULT_HEADS),
        enc_layers,
        dec_layers: state.count(|i| format!("transformer.decoder.layers.{i}.linear1.weight")),
        dim_feedforward: encoder.unwrap_or(decoder),
        dec_dim_feedforward: (encoder.is_some_and(|encoder| encoder != decoder)).then_some(decoder),
        dropout: 0.1,
        pre_norm: state.get("transformer.encoder.norm.weight").is_some(),
        position_embedding: if learned { PositionKind::Learned } else { PositionKind::Sine },
        masks,
        backbone: BackboneConfig::infer(state, "backbone.0.body.", args.dilation.unwrap_or(false))?,
    })
}

/// Returns whether there is a tensor of a mask head.
fn has_mask_head(state: &StateDict) -> bool {
    let of_head =
        |name: &str| name.starts_with("bbox_attention.") || name.starts_with("mask_head.");
    state.iter().any(|(name, _)| of_head(name))
}
