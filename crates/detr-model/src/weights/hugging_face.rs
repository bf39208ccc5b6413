//! Folders of Hugging Face's `DetrForObjectDetection`: `config.json`, `model.safetensors` and
//! perhaps `preprocessor_config.json`. Names become the official ones; query, key and value
//! projections are joined again. Both backbone schemes are known, timm's and transformers' own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use detr_types::{Category, ClassTable, Limits, PreprocessSpec};
use serde::Deserialize;

use super::artifact::WEIGHTS_FILE;
use super::checkpoint::default_classes;
use super::infer::DEFAULT_HEADS;
use super::{StateDict, StoredTensor, WeightsError, infer};
use crate::config::{DetrConfig, ModelConfig};

/// The part of `config.json` that shapes do not tell.
#[derive(Deserialize)]
#[allow(clippy::struct_field_names)] // the file's names
struct Config {
    model_type: String,
    #[serde(default)]
    activation_function: Option<String>,
    #[serde(default)]
    encoder_attention_heads: Option<usize>,
    #[serde(default)]
    decoder_attention_heads: Option<usize>,
    #[serde(default)]
    dilation: Option<bool>,
    #[serde(default)]
    backbone_config: Option<BackboneSettings>,
    #[serde(default)]
    backbone_kwargs: Option<BackboneSettings>,
    #[serde(default)]
    id2label: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct BackboneSettings {
    #[serde(default)]
    output_stride: Option<usize>,
    #[serde(default)]
    downsample_in_bottleneck: Option<bool>,
    #[serde(default)]
    downsample_in_first_stage: Option<bool>,
}

#[derive(Deserialize)]
struct Preprocessor {
    #[serde(default)]
    size: Option<SizeField>,
    #[serde(default)]
    max_size: Option<u32>,
    #[serde(default)]
    image_mean: Option<[f32; 3]>,
    #[serde(default)]
    image_std: Option<[f32; 3]>,
    #[serde(default)]
    do_resize: Option<bool>,
    #[serde(default)]
    do_rescale: Option<bool>,
    #[serde(default)]
    do_normalize: Option<bool>,
    #[serde(default)]
    rescale_factor: Option<f64>,
}

/// Old files give the short side alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum SizeField {
    Short(u32),
    Edges { shortest_edge: u32, longest_edge: u32 },
}

/// What a folder holds.
pub(super) struct HuggingFace {
    pub(super) config: ModelConfig,
    pub(super) classes: ClassTable,
    pub(super) preprocess: PreprocessSpec,
    pub(super) state: StateDict,
}

/// Reads a folder whose weights are given as a state dict under Hugging Face's names.
pub(super) fn read(folder: &Path, state: &StateDict) -> Result<HuggingFace, WeightsError> {
    let path = folder.join("config.json");
    let config: Config = read_json(&path)?;
    check(&config, &path)?;
    let state = official_names(state).map_err(|name| {
        WeightsError::corrupt(
            &folder.join(WEIGHTS_FILE),
            format_args!("{name}: query, key and value projections are missing or differ in shape"),
        )
    })?;
    let nheads = config.encoder_attention_heads.unwrap_or(DEFAULT_HEADS);
    let strides = [&config.backbone_config, &config.backbone_kwargs];
    let dilation = config.dilation == Some(true)
        || strides.iter().any(|c| c.as_ref().is_some_and(|c| c.output_stride == Some(16)));
    let detr = infer::detr(&state, nheads, dilation).ok_or_else(|| WeightsError::NotAModel {
        path: folder.to_owned(),
        reason: "the weights of DetrForObjectDetection were not found in model.safetensors".into(),
    })?;
    let classes = class_table(&config, &detr, &path)?;
    let preprocess = preprocessing(folder)?;
    Ok(HuggingFace { config: ModelConfig::Detr(detr), classes, preprocess, state })
}

fn check(config: &Config, path: &Path) -> Result<(), WeightsError> {
    if config.model_type != "detr" {
        return Err(WeightsError::config(
            path,
            format_args!(
                "model_type is `{}`, expected `detr`\nhint: this version reads DetrForObjectDetection",
                config.model_type
            ),
        ));
    }
    if let Some(activation) = &config.activation_function
        && activation != "relu"
    {
        return Err(WeightsError::config(
            path,
            format_args!("activation_function is `{activation}`, expected `relu`"),
        ));
    }
    let [encoder, decoder] = [config.encoder_attention_heads, config.decoder_attention_heads]
        .map(|heads| heads.unwrap_or(DEFAULT_HEADS));
    if encoder != decoder {
        return Err(WeightsError::config(
            path,
            format_args!(
                "encoder_attention_heads is {encoder} and decoder_attention_heads {decoder}, expected the same"
            ),
        ));
    }
    if let Some(backbone) = &config.backbone_config {
        let moved = [
            ("downsample_in_bottleneck", backbone.downsample_in_bottleneck),
            ("downsample_in_first_stage", backbone.downsample_in_first_stage),
        ];
        for (field, value) in moved {
            if value == Some(true) {
                return Err(WeightsError::config(
                    path,
                    format_args!("backbone_config.{field} is true, expected false"),
                ));
            }
        }
    }
    Ok(())
}

/// Ids are both label and category id, as in the published checkpoints; `N/A` marks a hole.
fn class_table(
    config: &Config,
    detr: &DetrConfig,
    path: &Path,
) -> Result<ClassTable, WeightsError> {
    let slots = detr.num_classes;
    if config.id2label.is_empty() {
        return Ok(default_classes(slots));
    }
    let mut categories = Vec::new();
    for (id, name) in &config.id2label {
        let label: usize = id.parse().map_err(|_| {
            WeightsError::config(path, format_args!("id2label: `{id}` is not a number"))
        })?;
        if name != "N/A" {
            categories.push(Category { label, id: label as u64, name: name.clone() });
        }
    }
    if config.id2label.len() != slots {
        return Err(WeightsError::config(
            path,
            format_args!(
                "id2label does not fit a head of {slots} classes: it has {} entries",
                config.id2label.len()
            ),
        ));
    }
    categories.sort_by_key(|category| category.label);
    ClassTable::new(slots, categories).map_err(|error| {
        WeightsError::config(
            path,
            format_args!("id2label does not fit a head of {slots} classes: {error}"),
        )
    })
}

fn preprocessing(folder: &Path) -> Result<PreprocessSpec, WeightsError> {
    let path = folder.join("preprocessor_config.json");
    if !path.exists() {
        return Ok(PreprocessSpec::default());
    }
    let file: Preprocessor = read_json(&path)?;
    check_steps(&file, &path)?;
    let mut spec = PreprocessSpec::default();
    match file.size {
        Some(SizeField::Short(short)) => spec.shortest_edge = short,
        Some(SizeField::Edges { shortest_edge, longest_edge }) => {
            (spec.shortest_edge, spec.longest_edge) = (shortest_edge, longest_edge);
        }
        None => {}
    }
    spec.longest_edge = file.max_size.unwrap_or(spec.longest_edge);
    spec.mean = file.image_mean.unwrap_or(spec.mean);
    spec.std = file.image_std.unwrap_or(spec.std);
    spec.validate().map_err(|error| WeightsError::config(&path, error))?;
    Ok(spec)
}

/// Refuses an image processor that leaves out one of the steps we always take, or takes another.
fn check_steps(file: &Preprocessor, path: &Path) -> Result<(), WeightsError> {
    /// Bytes to `[0, 1]`.
    const FACTOR: f64 = 1.0 / 255.0;
    for (field, value) in [
        ("do_resize", file.do_resize),
        ("do_rescale", file.do_rescale),
        ("do_normalize", file.do_normalize),
    ] {
        if value == Some(false) {
            return Err(WeightsError::config(
                path,
                format_args!("{field} is false, expected true"),
            ));
        }
    }
    match file.rescale_factor {
        // NaN is no JSON.
        Some(factor) if (factor - FACTOR).abs() > 1e-6 => Err(WeightsError::config(
            path,
            format_args!("rescale_factor is {factor}, expected 1/255 ({FACTOR:.7})"),
        )),
        _ => Ok(()),
    }
}

/// Reads a JSON file of bounded size; errors name the key, line and column.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, WeightsError> {
    let io = |error| WeightsError::io(path, error);
    let limit = Limits::default().json_bytes;
    // Asked before the file is opened: opening a pipe would wait for its writer.
    if !path.metadata().map_err(io)?.is_file() {
        return Err(WeightsError::config(path, "not a regular file"));
    }
    let mut text = Vec::new();
    File::open(path).map_err(io)?.take(limit + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() as u64 > limit {
        return Err(WeightsError::config(
            path,
            format_args!("more than {limit} bytes, the most that is read"),
        ));
    }
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| WeightsError::config(path, error))
}

/// A state dict with Hugging Face's names under the official ones. Unknown names stay, so that
/// they are reported as the file has them.
///
/// # Errors
/// The name of the first fused projection of which a part is missing or of another shape.
pub fn official_names(state: &StateDict) -> Result<StateDict, String> {
    let mut out = StateDict::default();
    let mut projections: BTreeMap<String, [Option<StoredTensor>; 3]> = BTreeMap::new();
    for (name, tensor) in state.iter() {
        match official_name(name) {
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

fn official_name(name: &str) -> Option<Name> {
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
    if let Some(rest) = name.strip_prefix("backbone.conv_encoder.model.") {
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
    layer_name(name)
}

/// `encoder.layers.0.self_attn.q_proj.weight` and its kind.
fn layer_name(name: &str) -> Option<Name> {
    let mut parts = name.split('.');
    let (stack, "layers", index, field) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?)
    else {
        return None;
    };
    let rest: Vec<&str> = parts.collect();
    let field = match (stack, field) {
        ("encoder" | "decoder", "self_attn") => "self_attn",
        ("decoder", "encoder_attn") => "multihead_attn",
        ("encoder" | "decoder", "fc1") => "linear1",
        ("encoder" | "decoder", "fc2") => "linear2",
        ("encoder" | "decoder", "self_attn_layer_norm") => "norm1",
        ("decoder", "encoder_attn_layer_norm") | ("encoder", "final_layer_norm") => "norm2",
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

    fn whole(name: &str) -> String {
        match official_name(name) {
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
            assert_eq!(whole(theirs), ours);
        }
    }
}
