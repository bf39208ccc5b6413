//! The configuration that the tensors of a Deformable DETR belong to.

use super::config::DeformableDetrConfig;
use crate::backbone::BackboneConfig;
use crate::weights::{DEFAULT_HEADS, StateDict, TrainingArgs};

/// Queries of the published two-stage models.
pub(super) const DEFAULT_PROPOSALS: usize = 300;

/// Returns whether these are tensors of a Deformable DETR, complete or not.
pub(super) fn is_deformable(state: &StateDict) -> bool {
    ["transformer.level_embed", "input_proj.0.0.weight"].iter().any(|n| state.get(n).is_some())
}

/// Finds the configuration that shapes of tensors tell, or what is wrong with them. The sampling points follow
/// from the number of heads.
pub(super) fn infer(state: &StateDict, args: TrainingArgs) -> Result<DeformableDetrConfig, String> {
    let need = |name: &str, axis: usize| {
        let shape = state.shape(name).ok_or_else(|| format!("a Deformable DETR without {name}"))?;
        shape.get(axis).copied().ok_or_else(|| {
            format!("{name} has shape {shape:?}, expected {} axes or more", axis + 1)
        })
    };
    let nheads = args.nheads.unwrap_or(DEFAULT_HEADS);
    let levels = state.count(|i| format!("input_proj.{i}.0.weight"));
    let embedded = need("transformer.level_embed", 0)?;
    if embedded != levels {
        return Err(format!(
            "transformer.level_embed has {embedded} levels, but input_proj has {levels}"
        ));
    }
    let points = |name: &str| {
        let rows = need(name, 0)?;
        match nheads.checked_mul(levels) {
            Some(places) if places > 0 && rows.is_multiple_of(places) => Ok(rows / places),
            _ => Err(format!(
                "{name} has {rows} rows, no multiple of {nheads} heads times {levels} levels"
            )),
        }
    };
    let (encoder, decoder) = ("transformer.encoder.layers", "transformer.decoder.layers");
    let dec_width = need(&format!("{decoder}.0.linear1.weight"), 0)?;
    let enc_width = state.side(&format!("{encoder}.0.linear1.weight"), 0);
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
        enc_layers: state.count(|i| format!("{encoder}.{i}.linear1.weight")),
        dec_layers: state.count(|i| format!("{decoder}.{i}.linear1.weight")),
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
        masks: state.iter().any(|(n, _)| n.starts_with("mask_head.")),
        backbone: BackboneConfig::infer(state, "backbone.0.body.", args.dilation.unwrap_or(false))
            .ok_or("a Deformable DETR without all four stages of a ResNet in backbone.0.body")?,
    })
}
