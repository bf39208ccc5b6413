//! From the names of Hugging Face's transformers to the official ones.

use std::collections::BTreeMap;

use super::super::{StateDict, StoredTensor};
use crate::backbone::resnet;
use crate::families::{HuggingFaceNames, ModelConfig};

/// Renames the tensors of a state dict from Hugging Face's names to the official ones. Unknown
/// names stay, so that they are reported as the file has them.
///
/// # Errors
/// What is wrong, with the names: two names that stand for one tensor, or a fused projection of which
/// a part is missing or of another shape.
pub fn official_names(state: &StateDict) -> Result<StateDict, String> {
    let family = family_of(state);
    let mut out = StateDict::default();
    let mut sources: BTreeMap<String, &str> = BTreeMap::new();
    let mut projections: BTreeMap<String, [Option<(&str, &StoredTensor)>; 3]> = BTreeMap::new();
    let twice = |first: &str, second: &str, name: &str| {
        Err(format!("{first} and {second} both stand for {name}"))
    };
    for (theirs, tensor) in state.iter() {
        let name = match official_name(theirs, &family) {
            Some(Name::Projection { name, part }) => {
                let place = &mut projections.entry(name.clone()).or_default()[part];
                if let Some((first, _)) = place.replace((theirs, tensor)) {
                    return twice(first, theirs, &name);
                }
                continue;
            }
            Some(Name::Whole(name)) => name,
            None => theirs.to_owned(),
        };
        if let Some(first) = sources.insert(name.clone(), theirs) {
            return twice(first, theirs, &name);
        }
        out.insert(name, tensor.clone());
    }
    for (name, parts) in projections {
        if let (Some(whole), Some((part, _))) = (sources.get(&name), parts.iter().flatten().next())
        {
            return twice(whole, part, &name);
        }
        let parts = parts.into_iter().map(|part| part.map(|(_, tensor)| tensor.clone()));
        let joined = parts.collect::<Option<Vec<_>>>().and_then(StoredTensor::join);
        let joined = joined.ok_or_else(|| {
            format!("{name}: query, key and value projections are missing or differ in shape")
        })?;
        out.insert(name, joined);
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

/// Returns the family that tensors belong to.
fn family_of(state: &StateDict) -> HuggingFaceNames {
    let families = ModelConfig::hugging_face();
    let has = |marker: &str| state.get(marker).is_some();
    let marked = families.iter().find(|family| family.marker.is_some_and(has));
    let other = || families.iter().find(|family| family.marker.is_none());
    *marked.or_else(other).expect("DETR has no marker")
}

fn official_name(name: &str, family: &HuggingFaceNames) -> Option<Name> {
    if let Some(name) = (family.translate_head)(name) {
        return Some(Name::Whole(name));
    }
    // Models of masks wrap a detector.
    let name = name.strip_prefix("detr.").unwrap_or(name);
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
    if let Some(name) = (family.translate)(name) {
        return Some(Name::Whole(name));
    }
    let body = name.strip_prefix("backbone.").map(|n| n.strip_prefix("conv_encoder.").unwrap_or(n));
    if let Some(rest) = body.and_then(|name| name.strip_prefix("model.")) {
        return Some(Name::Whole(format!(
            "backbone.0.body.{}",
            resnet::hugging_face::official_name(rest)?
        )));
    }
    for (theirs, ours) in [("row_embeddings", "row_embed"), ("column_embeddings", "col_embed")] {
        if name.starts_with("backbone.") && name.ends_with(&format!("{theirs}.weight")) {
            return Some(Name::Whole(format!("backbone.1.{ours}.weight")));
        }
    }
    if let Some(rest) = name.strip_prefix("decoder.layernorm.") {
        return Some(Name::Whole(format!("transformer.decoder.norm.{rest}")));
    }
    layer_name(name, family)
}

/// `encoder.layers.0.self_attn.q_proj.weight` and its kind.
fn layer_name(name: &str, family: &HuggingFaceNames) -> Option<Name> {
    // Some versions of transformers have the feed-forward network in a module of its own.
    let mut parts = name.split('.').filter(|part| *part != "mlp");
    let (stack, "layers", index, field) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?)
    else {
        return None;
    };
    let rest: Vec<&str> = parts.collect();
    let HuggingFaceNames { cross_attention: cross, decoder_norms: [norm_self, norm_cross], .. } =
        *family;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(name: &str, model_type: &str) -> String {
        let families = ModelConfig::hugging_face();
        let family = families.iter().find(|family| family.model_type == model_type).unwrap();
        match official_name(name, family) {
            Some(Name::Whole(name)) => name,
            Some(Name::Projection { name, part }) => format!("{name}[{part}]"),
            None => "unknown".into(),
        }
    }

    #[test]
    fn two_names_of_one_tensor_are_an_error() {
        for (names, expected) in [
            (
                ["model.encoder.layers.0.fc1.bias", "model.encoder.layers.0.mlp.fc1.bias"],
                "both stand for transformer.encoder.layers.0.linear1.bias",
            ),
            (
                ["bbox_embed.layers.0.bias", "bbox_predictor.layers.0.bias"],
                "both stand for bbox_embed.layers.0.bias",
            ),
            (
                [
                    "model.encoder.layers.0.self_attn.q_proj.bias",
                    "transformer.encoder.layers.0.self_attn.in_proj_bias",
                ],
                "both stand for transformer.encoder.layers.0.self_attn.in_proj_bias",
            ),
        ] {
            let mut state = StateDict::default();
            for name in names {
                state.insert(name, StoredTensor::from_f32(&[1.0, 2.0], vec![2]));
            }
            let reason = official_names(&state).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
            assert!(names.iter().all(|name| reason.contains(name)), "{reason}");
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
            (
                "detr.model.decoder.layers.0.mlp.fc2.bias",
                "transformer.decoder.layers.0.linear2.bias",
            ),
            ("detr.class_labels_classifier.bias", "class_embed.bias"),
            ("mask_head.output_conv.bias", "mask_head.out_lay.bias"),
            ("model.something.else", "unknown"),
        ] {
            assert_eq!(whole(theirs, "detr"), ours);
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
            assert_eq!(whole(theirs, "deformable_detr"), ours);
        }
    }
}
