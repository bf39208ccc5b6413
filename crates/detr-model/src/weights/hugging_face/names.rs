//! From the names of Hugging Face's transformers to the official ones.

use std::collections::BTreeMap;

use super::super::{StateDict, StoredTensor};

/// A state dict with Hugging Face's names under the official ones. Unknown names stay, so that
/// they are reported as the file has them.
///
/// # Errors
/// The name of the first fused projection of which a part is missing or of another shape.
pub fn official_names(state: &StateDict) -> Result<StateDict, String> {
    let kind = match state.get("model.level_embed") {
        Some(_) => Kind::DeformableDetr,
        None => Kind::Detr,
    };
    let mut out = StateDict::default();
    let mut projections: BTreeMap<String, [Option<StoredTensor>; 3]> = BTreeMap::new();
    for (name, tensor) in state.iter() {
        match official_name(name, kind) {
            Some(Name::Whole(name)) => out.insert(name, tensor.clone()),
            Some(Name::Projection { name, part }) => {
                projections.entry(name).or_default()[part] = Some(tensor.clone());
            }
            None => out.insert(name, tensor.clone()),
        }
    }
    for (name, parts) in projections {
        let joined = parts.into_iter().collect::<Option<Vec<_>>>().and_then(StoredTensor::join);
        out.insert(name.clone(), joined.ok_or(name)?);
    }
    Ok(out)
}

enum Name {
    Whole(String),
    /// Query (0), key (1) or value (2) third of a fused projection.
    Projection {
        name: String,
        part: usize,
    },
}

/// Whose names they are: the same word has other meanings in the two models.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Detr,
    DeformableDetr,
}

fn official_name(name: &str, kind: Kind) -> Option<Name> {
    if let Some(rest) = name.strip_prefix("class_labels_classifier.") {
        return Some(Name::Whole(format!("class_embed.{rest}")));
    }
    if let Some(rest) = name.strip_prefix("bbox_predictor.") {
        return Some(Name::Whole(format!("bbox_embed.{rest}")));
    }
    let name = name.strip_prefix("model.")?;
    if name == "query_position_embeddings.weight" {
        return Some(Name::Whole("query_embed.weight".into()));
    }
    if let Some(rest) = name.strip_prefix("input_projection.") {
        return Some(Name::Whole(format!("input_proj.{rest}")));
    }
    if kind == Kind::DeformableDetr
        && let Some(name) = deformable_name(name)
    {
        return Some(Name::Whole(name));
    }
    let body = name.strip_prefix("backbone.").map(|n| n.strip_prefix("conv_encoder.").unwrap_or(n));
    if let Some(rest) = body.and_then(|name| name.strip_prefix("model.")) {
        return Some(Name::Whole(format!("backbone.0.body.{}", backbone_name(rest)?)));
    }
    for (theirs, ours) in [("row_embeddings", "row_embed"), ("column_embeddings", "col_embed")] {
        if name.starts_with("backbone.") && name.ends_with(&format!("{theirs}.weight")) {
            return Some(Name::Whole(format!("backbone.1.{ours}.weight")));
        }
    }
    if let Some(rest) = name.strip_prefix("decoder.layernorm.") {
        return Some(Name::Whole(format!("transformer.decoder.norm.{rest}")));
    }
    layer_name(name, kind)
}

/// What Deformable DETR has outside the layers. The heads of a model are named officially, except
/// for the copies in its decoder.
fn deformable_name(name: &str) -> Option<String> {
    const PARTS: [&str; 6] = [
        "level_embed",
        "reference_points",
        "enc_output",
        "enc_output_norm",
        "pos_trans",
        "pos_trans_norm",
    ];
    if name.starts_with("input_proj.") {
        return Some(name.to_owned());
    }
    let part = name.split_once('.').map_or(name, |(part, _)| part);
    let in_decoder = ["decoder.class_embed.", "decoder.bbox_embed."];
    let known = PARTS.contains(&part) || in_decoder.iter().any(|head| name.starts_with(head));
    known.then(|| format!("transformer.{name}"))
}

/// `encoder.layers.0.self_attn.q_proj.weight` and its kind.
fn layer_name(name: &str, kind: Kind) -> Option<Name> {
    // Some versions of transformers have the feed-forward network in a module of its own.
    let mut parts = name.split('.').filter(|part| *part != "mlp");
    let (stack, "layers", index, field) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?)
    else {
        return None;
    };
    let rest: Vec<&str> = parts.collect();
    // In Deformable DETR, the decoder's norms are numbered against the order of its steps.
    let (cross, [norm_self, norm_cross]) = match kind {
        Kind::Detr => ("multihead_attn", ["norm1", "norm2"]),
        Kind::DeformableDetr => ("cross_attn", ["norm2", "norm1"]),
    };
    let field = match (stack, field) {
        ("encoder" | "decoder", "self_attn") => "self_attn",
        ("decoder", "encoder_attn") => cross,
        ("encoder" | "decoder", "fc1") => "linear1",
        ("encoder" | "decoder", "fc2") => "linear2",
        ("encoder", "self_attn_layer_norm") => "norm1",
        ("encoder", "final_layer_norm") => "norm2",
        ("decoder", "self_attn_layer_norm") => norm_self,
        ("decoder", "encoder_attn_layer_norm") => norm_cross,
        ("decoder", "final_layer_norm") => "norm3",
        _ => return None,
    };
    let prefix = format!("transformer.{stack}.layers.{index}.{field}");
    let part = match rest.first() {
        Some(&"q_proj") => 0,
        Some(&"k_proj") => 1,
        Some(&"v_proj") => 2,
        // transformers renamed the output projection for a while
        Some(&"o_proj") => return Some(Name::Whole(format!("{prefix}.out_proj.{}", rest.get(1)?))),
        _ => return Some(Name::Whole(format!("{prefix}.{}", rest.join(".")))),
    };
    Some(Name::Projection { name: format!("{prefix}.in_proj_{}", rest.get(1)?), part })
}

/// A name of timm's ResNet stays; one of transformers' ResNet is translated.
fn backbone_name(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("embedder.embedder.") {
        let (module, field) = rest.split_once('.')?;
        return Some(format!("{}.{field}", if module == "convolution" { "conv1" } else { "bn1" }));
    }
    let Some(rest) = name.strip_prefix("encoder.stages.") else {
        return Some(name.to_owned());
    };
    let parts: Vec<&str> = rest.split('.').collect();
    let (stage, block, at) = match parts[..] {
        [stage, "layers", block, ..] => (stage.parse::<usize>().ok()? + 1, block, 3),
        _ => return None,
    };
    let module = |index: Option<usize>, module: &str| {
        Some(match (index, module) {
            (Some(index), "convolution") => format!("conv{}", index + 1),
            (Some(index), "normalization") => format!("bn{}", index + 1),
            (None, "convolution") => "downsample.0".to_owned(),
            (None, "normalization") => "downsample.1".to_owned(),
            _ => return None,
        })
    };
    let (module, field) = match parts[at..] {
        ["layer", index, name, field] => (module(Some(index.parse().ok()?), name)?, field),
        ["shortcut", name, field] => (module(None, name)?, field),
        _ => return None,
    };
    Some(format!("layer{stage}.{block}.{module}.{field}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(name: &str, kind: Kind) -> String {
        match official_name(name, kind) {
            Some(Name::Whole(name)) => name,
            Some(Name::Projection { name, part }) => format!("{name}[{part}]"),
            None => "unknown".into(),
        }
    }

    #[test]
    fn both_backbone_schemes_and_the_projections_become_official_names() {
        for (theirs, ours) in [
            (
                "model.backbone.conv_encoder.model.layer1.0.downsample.1.bias",
                "backbone.0.body.layer1.0.downsample.1.bias",
            ),
            (
                "model.backbone.conv_encoder.model.encoder.stages.1.layers.0.layer.2.normalization.bias",
                "backbone.0.body.layer2.0.bn3.bias",
            ),
            (
                "model.backbone.conv_encoder.model.encoder.stages.3.layers.2.shortcut.convolution.weight",
                "backbone.0.body.layer4.2.downsample.0.weight",
            ),
            (
                "model.decoder.layers.5.encoder_attn.k_proj.weight",
                "transformer.decoder.layers.5.multihead_attn.in_proj_weight[1]",
            ),
            (
                "model.encoder.layers.0.final_layer_norm.bias",
                "transformer.encoder.layers.0.norm2.bias",
            ),
            ("model.something.else", "unknown"),
        ] {
            assert_eq!(whole(theirs, Kind::Detr), ours);
        }
    }

    #[test]
    fn deformable_layers_get_the_official_names_of_what_they_do() {
        for (theirs, ours) in [
            ("model.level_embed", "transformer.level_embed"),
            ("model.enc_output_norm.bias", "transformer.enc_output_norm.bias"),
            ("model.input_proj.3.1.weight", "input_proj.3.1.weight"),
            (
                "model.decoder.bbox_embed.5.layers.0.bias",
                "transformer.decoder.bbox_embed.5.layers.0.bias",
            ),
            (
                "model.decoder.layers.0.encoder_attn.value_proj.bias",
                "transformer.decoder.layers.0.cross_attn.value_proj.bias",
            ),
            (
                "model.decoder.layers.0.encoder_attn_layer_norm.bias",
                "transformer.decoder.layers.0.norm1.bias",
            ),
            (
                "model.decoder.layers.0.self_attn_layer_norm.bias",
                "transformer.decoder.layers.0.norm2.bias",
            ),
            (
                "model.decoder.layers.0.self_attn.v_proj.bias",
                "transformer.decoder.layers.0.self_attn.in_proj_bias[2]",
            ),
            (
                "model.encoder.layers.0.self_attn_layer_norm.bias",
                "transformer.encoder.layers.0.norm1.bias",
            ),
            ("model.encoder.layers.0.mlp.fc1.bias", "transformer.encoder.layers.0.linear1.bias"),
            ("model.backbone.model.conv1.weight", "backbone.0.body.conv1.weight"),
            ("model.decoder.mystery.bias", "unknown"),
        ] {
            assert_eq!(whole(theirs, Kind::DeformableDetr), ours);
        }
    }
}
