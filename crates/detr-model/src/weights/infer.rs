//! The architecture that a state dict with official names belongs to. Shapes tell everything but
//! the number of heads and whether the last stage is dilated.

use super::StateDict;
use super::pth::TrainingArgs;
use crate::config::{Block, DetrConfig, DetrDemoConfig, ModelConfig, PositionKind, ResNetConfig};

/// What a state dict is.
pub(super) enum Inferred {
    /// A model with its heads.
    Model(ModelConfig),
    /// A torchvision ResNet: a backbone alone.
    Backbone(ResNetConfig),
    /// Nothing known.
    Unknown,
}

/// The published models all have 8 heads.
pub(super) const DEFAULT_HEADS: usize = 8;

pub(super) fn infer(state: &StateDict, args: TrainingArgs) -> Inferred {
    let dilation = args.dilation.unwrap_or(false);
    let nheads = args.nheads.unwrap_or(DEFAULT_HEADS);
    if let Some(config) = detr(state, nheads, dilation) {
        Inferred::Model(ModelConfig::Detr(config))
    } else if let Some(config) = demo(state, nheads) {
        Inferred::Model(ModelConfig::DetrDemo(config))
    } else if let Some(config) = resnet(state, "", false) {
        Inferred::Backbone(config)
    } else {
        Inferred::Unknown
    }
}

pub(super) fn detr(state: &StateDict, nheads: usize, dilation: bool) -> Option<DetrConfig> {
    let classes = side(state, "class_embed.weight", 0)?;
    let hidden_dim = side(state, "class_embed.weight", 1)?;
    let enc_layers = count(state, |i| format!("transformer.encoder.layers.{i}.linear1.weight"));
    let encoder = side(state, "transformer.encoder.layers.0.linear1.weight", 0);
    let decoder = side(state, "transformer.decoder.layers.0.linear1.weight", 0)?;
    let learned = state.get("backbone.1.row_embed.weight").is_some();
    Some(DetrConfig {
        num_classes: classes.checked_sub(1)?,
        num_queries: side(state, "query_embed.weight", 0)?,
        hidden_dim,
        nheads,
        enc_layers,
        dec_layers: count(state, |i| format!("transformer.decoder.layers.{i}.linear1.weight")),
        dim_feedforward: encoder.unwrap_or(decoder),
        dec_dim_feedforward: (encoder.is_some_and(|encoder| encoder != decoder)).then_some(decoder),
        dropout: 0.1,
        pre_norm: state.get("transformer.encoder.norm.weight").is_some(),
        position_embedding: if learned { PositionKind::Learned } else { PositionKind::Sine },
        backbone: resnet(state, "backbone.0.body.", dilation)?,
    })
}

fn demo(state: &StateDict, nheads: usize) -> Option<DetrDemoConfig> {
    Some(DetrDemoConfig {
        num_classes: side(state, "linear_class.weight", 0)?.checked_sub(1)?,
        num_queries: side(state, "query_pos", 0)?,
        hidden_dim: side(state, "linear_class.weight", 1)?,
        nheads,
        enc_layers: count(state, |i| format!("transformer.encoder.layers.{i}.linear1.weight")),
        dec_layers: count(state, |i| format!("transformer.decoder.layers.{i}.linear1.weight")),
        dim_feedforward: side(state, "transformer.encoder.layers.0.linear1.weight", 0)?,
        dropout: 0.1,
        backbone: resnet(state, "backbone.", false)?,
    })
}

pub(super) fn resnet(state: &StateDict, prefix: &str, dilation: bool) -> Option<ResNetConfig> {
    let bottleneck = state.get(&format!("{prefix}layer1.0.conv3.weight")).is_some();
    let mut depths = [0; 4];
    let mut widths = [0; 4];
    for stage in 0..4 {
        let layer = stage + 1;
        depths[stage] = count(state, |i| format!("{prefix}layer{layer}.{i}.conv2.weight"));
        widths[stage] = side(state, &format!("{prefix}layer{layer}.0.conv2.weight"), 0)?;
    }
    Some(ResNetConfig {
        block: if bottleneck { Block::Bottleneck } else { Block::Basic },
        depths,
        stem: side(state, &format!("{prefix}conv1.weight"), 0)?,
        widths,
        dilation,
    })
}

/// One side of a tensor's shape.
fn side(state: &StateDict, name: &str, axis: usize) -> Option<usize> {
    state.shape(name)?.get(axis).copied()
}

/// How many consecutive indices have a tensor.
fn count(state: &StateDict, name: impl Fn(usize) -> String) -> usize {
    (0..state.len()).take_while(|&i| state.get(&name(i)).is_some()).count()
}
