//! What is particular to `DeformableDetrForObjectDetection`: settings that the weights do not show,
//! and settings that must agree with them.

use std::path::Path;

use serde::Deserialize;

use super::super::infer::DEFAULT_PROPOSALS;
use super::super::pth::TrainingArgs;
use super::super::{StateDict, WeightsError, infer};
use super::{WEIGHTS_FILE, read_json};
use crate::config::DeformableDetrConfig;

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

/// Architecture and tensors, the latter with official names before and after.
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
    let mut config = infer::deformable(&state, args).map_err(|reason| {
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

/// With box refinement but a single stage, current versions of transformers give all layers one
/// class head, and write it once.
fn share_class_head(state: &mut StateDict, layers: usize) {
    if state.get("class_embed.1.weight").is_some() {
        return;
    }
    for field in ["weight", "bias"] {
        let Some(head) = state.get(&format!("class_embed.0.{field}")).cloned() else { return };
        for layer in 1..layers {
            state.insert(format!("class_embed.{layer}.{field}"), head.clone());
        }
    }
}
