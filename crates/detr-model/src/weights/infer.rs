//! The architecture that a state dict with official names belongs to. Shapes tell everything but
//! the number of heads, whether the last stage is dilated, and how many proposals of a two-stage
//! model become queries.

use super::StateDict;
use super::pth::TrainingArgs;
use crate::config::{
    Block, DeformableDetrConfig, DetrConfig, DetrDemoConfig, ModelConfig, PositionKind,
    ResNetConfig,
};

/// What a state dict is.
pub(super) enum Inferred {
    /// A model with its heads.
    Model(ModelConfig),
    /// A torchvision ResNet: a backbone alone.
    Backbone(ResNetConfig),
    /// A known kind of model, but not all of it: what is wrong.
    Broken(String),
    /// Nothing known.
    Unknown,
}

/// The published models all have 8 heads.
pub(super) const DEFAULT_HEADS: usize = 8;
/// Queries of the published two-stage models.
pub(super) const DEFAULT_PROPOSALS: usize = 300;

pub(super) fn infer(state: &StateDict, args: TrainingArgs) -> Inferred {
    let dilation = args.dilation.unwrap_or(false);
    let nheads = args.nheads.unwrap_or(DEFAULT_HEADS);
    if is_deformable(state) {
        match deformable(state, args) {
            Ok(config) => Inferred::Model(ModelConfig::DeformableDetr(config)),
            Err(reason) => Inferred::Broken(reason),
        }
    } else if let Some(config) = detr(state, nheads, dilation) {
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

/// Whether these are tensors of a Deformable DETR, complete or not.
fn is_deformable(state: &StateDict) -> bool {
    ["transformer.level_embed", "input_proj.0.0.weight"].iter().any(|n| state.get(n).is_some())
}

/// Deformable DETR, or what is wrong with it. The sampling points follow from the number of heads.
pub(super) fn deformable(
    state: &StateDict,
    args: TrainingArgs,
) -> Result<DeformableDetrConfig, String> {
    let need = |name: &str, axis| {
        side(state, name, axis).ok_or_else(|| format!("a Deformable DETR without {name}"))
    };
    let nheads = args.nheads.unwrap_or(DEFAULT_HEADS);
    let levels = count(state, |i| format!("input_proj.{i}.0.weight"));
    let embedded = need("transformer.level_embed", 0)?;
    if embedded != levels {
        return Err(format!(
            "transformer.level_embed has {embedded} levels, but input_proj has {levels}"
        ));
    }
    let points = |name: &str| {
        let rows = need(name, 0)?;
        let places = nheads * levels;
        if places > 0 && rows.is_multiple_of(places) {
            return Ok(rows / places);
        }
        Err(format!("{name} has {rows} rows, no multiple of {nheads} heads times {levels} levels"))
    };
    let (encoder, decoder) = ("transformer.encoder.layers", "transformer.decoder.layers");
    let dec_width = need(&format!("{decoder}.0.linear1.weight"), 0)?;
    let enc_width = side(state, &format!("{encoder}.0.linear1.weight"), 0);
    let dec_n_points = points(&format!("{decoder}.0.cross_attn.attention_weights.weight"))?;
    let two_stage = state.get("transformer.enc_output.weight").is_some();
    // Files that list every tensor once may have the heads under the decoder alone.
    let in_decoder = "transformer.decoder.class_embed.0.weight";
    let head = if state.get(in_decoder).is_some() { in_decoder } else { "class_embed.0.weight" };
    Ok(DeformableDetrConfig {
        num_classes: need(head, 0)?,
        num_queries: if two_stage {
            args.num_queries.unwrap_or(DEFAULT_PROPOSALS)
        } else {
            need("query_embed.weight", 0)?
        },
        hidden_dim: need("transformer.level_embed", 1)?,
        nheads,
        num_feature_levels: levels,
        enc_layers: count(state, |i| format!("{encoder}.{i}.linear1.weight")),
        dec_layers: count(state, |i| format!("{decoder}.{i}.linear1.weight")),
        dim_feedforward: enc_width.unwrap_or(dec_width),
        dec_dim_feedforward: enc_width.is_some_and(|enc| enc != dec_width).then_some(dec_width),
        enc_n_points: match enc_width {
            Some(_) => points(&format!("{encoder}.0.self_attn.attention_weights.weight"))?,
            None => dec_n_points,
        },
        dec_n_points,
        dropout: 0.1,
        with_box_refine: state
            .iter()
            .any(|(n, _)| n.starts_with("transformer.decoder.bbox_embed.")),
        two_stage,
        backbone: resnet(state, "backbone.0.body.", args.dilation.unwrap_or(false))
            .ok_or("a Deformable DETR without all four stages of a ResNet in backbone.0.body")?,
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
