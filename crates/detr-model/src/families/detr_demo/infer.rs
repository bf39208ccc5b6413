//! The configuration that tensors belong to.

use super::config::DetrDemoConfig;
use crate::backbone::BackboneConfig;
use crate::weights::{DEFAULT_HEADS, StateDict, TrainingArgs};

/// Finds the configuration that shapes of tensors tell.
pub(super) fn infer(state: &StateDict, args: TrainingArgs) -> Option<DetrDemoConfig> {
    Some(DetrDemoConfig {
        num_classes: state.side("linear_class.weight", 0)?.checked_sub(1)?,
        num_queries: state.side("query_pos", 0)?,
        hidden_dim: state.side("linear_class.weight", 1)?,
        nheads: args.nheads.unwrap_or(DEFAULT_HEADS),
        enc_layers: state.count(|i| format!("transformer.encoder.layers.{i}.linear1.weight")),
        dec_layers: state.count(|i| format!("transformer.decoder.layers.{i}.linear1.weight")),
        dim_feedforward: state.side("transformer.encoder.layers.0.linear1.weight", 0)?,
        dropout: 0.1,
        backbone: BackboneConfig::infer(state, "backbone.", false)?,
    })
}
