//! The peculiarities of `DeformableDetrForObjectDetection`: settings that the weights do not show,
//! and settings that must agree with them.

use std::path::Path;

use serde::Deserialize;

use super::super::hugging_face::HuggingFaceNames;
use super::config::DeformableDetrConfig;
use super::infer::{self, DEFAULT_PROPOSALS};
use crate::weights::{StateDict, TrainingArgs, WEIGHTS_FILE, WeightsError, read_json};

/// The names of the family and of its tensors.
pub(super) const NAMES: HuggingFaceNames = HuggingFaceNames {
    model_type: "deformable_detr",
    class: "DeformableDetrForObjectDetection",
    others: &[],
    marker: Some("model.level_embed"),
    cross_attention: "cross_attn",
    // The norms of the official decoder are numbered against the order of its steps.
    decoder_norms: ["norm2", "norm1"],
    translate: official_name,
    translate_head: |_| None,
};

/// Their part of `config.json`. What is left out has the value that the weights show.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Settings {
    d_model: Option<usize>,
    encoder_layers: Option<usize>,
    decoder_layers: Option<usize>,
    encoder_ffn_dim: Option<usize>,
    decoder_ffn_dim: Option<usize>,
    encoder_n_points: Option<usize>,
    decoder_n_points: Option<usize>,
    num_feature_levels: Option<usize>,
    num_queries: Option<usize>,
    two_stage_num_proposals: Option<usize>,
    with_box_refine: Option<bool>,
    two_stage: Option<bool>,
    position_embedding_type: Option<String>,
}

/// Reads the configuration, and adds the tensors that the folder leaves out. Tensors have official names.
pub(super) fn read(
    folder: &Path,
    mut state: StateDict,
    args: TrainingArgs,
) -> Result<(DeformableDetrConfig, StateDict), WeightsError> {
    let path = folder.join("config.json");
    let settings: Settings = read_json(&path)?;
    if let Some(kind) = settings.position_embedding_type.as_deref().filter(|kind| *kind != "sine") {
        return Err(WeightsError::config(
            &path,
            format_args!("position_embedding_type is `{kind}`, expected `sine`"),
        ));
    }
    let proposals = settings.two_stage_num_proposals.unwrap_or(DEFAULT_PROPOSALS);
    let args = TrainingArgs { num_queries: Some(proposals), ..args };
    let mut config = infer::infer(&state, args).map_err(|reason| {
        let hint = "config.json or model.safetensors is not that of the model; fetch both again";
        WeightsError::config(&folder.join(WEIGHTS_FILE), format_args!("{reason}\nhint: {hint}"))
    })?;
    check(&settings, &config, &path)?;
    // Not every version of transformers writes the copies of the decoder.
    config.with_box_refine = settings.with_box_refine == Some(true);
    if config.with_box_refine && !config.two_stage {
        share_class_head(&mut state, config.dec_layers);
    }
    Ok((config, state))
}

/// Refuses settings that the weights contradict.
fn check(
    settings: &Settings,
    found: &DeformableDetrConfig,
    path: &Path,
) -> Result<(), WeightsError> {
    let numbers = [
        ("d_model", settings.d_model, found.hidden_dim),
        ("encoder_layers", settings.encoder_layers, found.enc_layers),
        ("decoder_layers", settings.decoder_layers, found.dec_layers),
        ("num_feature_levels", settings.num_feature_levels, found.num_feature_levels),
        ("decoder_n_points", settings.decoder_n_points, found.dec_n_points),
        (
            "decoder_ffn_dim",
            settings.decoder_ffn_dim,
            found.dec_dim_feedforward.unwrap_or(found.dim_feedforward),
        ),
    ];
    let numbers = numbers.into_iter();
    let encoder = [
        ("encoder_n_points", settings.encoder_n_points, found.enc_n_points),
        ("encoder_ffn_dim", settings.encoder_ffn_dim, found.dim_feedforward),
    ];
    let encoder = encoder.into_iter().filter(|_| found.enc_layers > 0);
    let queries = [("num_queries", settings.num_queries, found.num_queries)];
    // A two-stage model has as many queries as proposals, whatever this says.
    let queries = queries.into_iter().filter(|_| !found.two_stage);
    for (field, stated, found) in numbers.chain(encoder).chain(queries) {
        if let Some(stated) = stated.filter(|&stated| stated != found) {
            return Err(contradiction(path, field, &stated, &found));
        }
    }
    let refines = settings.with_box_refine == Some(true);
    let two_stage = settings.two_stage == Some(true);
    if found.with_box_refine && !refines {
        return Err(contradiction(path, "with_box_refine", &false, &true));
    }
    if found.two_stage != two_stage {
        return Err(contradiction(path, "two_stage", &two_stage, &found.two_stage));
    }
    Ok(())
}

fn contradiction(
    path: &Path,
    field: &str,
    stated: &dyn std::fmt::Display,
    found: &dyn std::fmt::Display,
) -> WeightsError {
    WeightsError::config(
        path,
        format_args!(
            "{field} is {stated}, but {WEIGHTS_FILE} has {found}\nhint: the two files are not of \
             one model; fetch the folder again"
        ),
    )
}

/// Copies the one class head that current versions of transformers write for a single-stage model
/// with box refinement to all layers. If another layer has any part of a head, none is made up.
fn share_class_head(state: &mut StateDict, layers: usize) {
    let is_of_later_layer = |name: &str| {
        let rest = name.strip_prefix("class_embed.").and_then(|rest| rest.split_once('.'));
        rest.is_some_and(|(layer, _)| layer != "0")
    };
    if state.iter().any(|(name, _)| is_of_later_layer(name)) {
        return;
    }
    for field in ["weight", "bias"] {
        let Some(head) = state.get(&format!("class_embed.0.{field}")).cloned() else { return };
        for layer in 1..layers {
            state.insert(format!("class_embed.{layer}.{field}"), head.clone());
        }
    }
}

/// Returns the official name of a tensor outside the layers, `None` if it is not one of this family's alone.
/// The heads of a model are named officially, except for the copies in its decoder.
fn official_name(name: &str) -> Option<String> {
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
