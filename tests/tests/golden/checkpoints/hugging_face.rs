//! Folders of transformers: the outputs of the models in them, with their hidden states.

use burn::tensor::{FloatDType, Tensor};
use detr_model::output::EncoderOutput;
use detr_model::weights::Checkpoint;
use detr_model::{DeformableDetr, Detr, Model, ModelConfig};

use super::predictions;
use crate::backends::Bench;
use crate::case::{Case, Failures};
use crate::deformable::{padded_tokens, without_padding};

pub fn run(case: &Case, bench: &Bench, failures: &mut Failures) {
    let folder = case.folder.join(case.name.trim_end_matches(".outputs"));
    let checkpoint = Checkpoint::open(&folder, None).expect("a readable folder");
    match checkpoint.load(&bench.device, FloatDType::F32).expect("weights fit") {
        Model::Detr(model) => detr(case, bench, failures, &model),
        Model::DeformableDetr(model) => {
            settings(&checkpoint, failures);
            deformable_detr(case, bench, failures, &model);
        }
        _ => failures.fail("seen as a model of another family".into()),
    }
}

fn detr(case: &Case, bench: &Bench, failures: &mut Failures, model: &Detr) {
    let trace = model.transform(model.extract(case.images(&bench.device)));
    failures.tensor(case, bench.slack, "last_hidden_state", last(&trace.hidden));
    failures.tensor(case, bench.slack, "encoder_last_hidden_state", trace.memory);
    predictions(case, bench, failures, &trace.output, "logits", false);
    if let Some(features) = &trace.output.mask_features {
        let [b, q, _] = features.hidden.dims();
        let queries: Vec<usize> = (0..q).collect();
        let masks = (0..b).map(|image| model.masks(features, image, &queries).expect("queries"));
        failures.tensor(case, bench.slack, "pred_masks", Tensor::stack::<4>(masks.collect(), 0));
    }
}

fn deformable_detr(case: &Case, bench: &Bench, failures: &mut Failures, model: &DeformableDetr) {
    let slack = bench.slack;
    let images = case.images(&bench.device);
    let b = images.pixels.dims()[0];
    let trace = model.transform(model.extract(images));
    failures.tensor(case, slack, "last_hidden_state", last(&trace.hidden));
    let hidden = trace.hidden.clone().swap_dims(0, 1);
    failures.tensor(case, slack, "intermediate_hidden_states", hidden);
    let memory = without_padding(trace.memory.clone(), padded_tokens(&trace.levels).as_ref());
    failures.tensor(case, slack, "encoder_last_hidden_state", memory);
    let [_, q, coordinates] = trace.init_reference.dims();
    let reference = trace.init_reference.clone().expand([b, q, coordinates]);
    failures.tensor(case, slack, "init_reference_points", reference);
    if let Some(encoder) = &trace.output.enc_outputs {
        failures.tensor(case, slack, "enc_outputs_class", encoder.pred_logits.clone());
        proposals(case, slack, failures, encoder);
    }
    predictions(case, bench, failures, &trace.output, "logits", false);
}

/// Compares proposals: we keep boxes where transformers keeps their logits. Where a token proposes
/// nothing these are infinite, and our boxes exactly 1. The logistic function shrinks errors to a
/// quarter or less.
fn proposals(case: &Case, slack: f64, failures: &mut Failures, encoder: &EncoderOutput) {
    let name = "enc_outputs_coord_logits";
    failures.used(name);
    let expected = &case.tensors[name];
    let boxes = encoder.pred_boxes.clone();
    failures.check(boxes.dims().as_slice() == expected.shape, || format!("{name}: another shape"));
    let atol = case.atol(name) * slack / 4.0;
    let mut worst = 0f64;
    for (found, logit) in boxes.into_data().iter::<f64>().zip(&expected.values) {
        let difference = (found - 1.0 / (1.0 + (-logit).exp())).abs();
        let within = if logit.is_finite() { atol } else { 0.0 };
        failures.check(difference <= within, || format!("{name}: {found} from logit {logit}"));
        worst = worst.max(difference);
    }
    if detr_types::env::is_on(detr_types::env::DETR_GOLDEN_VERBOSE) {
        eprintln!("{name}: largest difference {worst:.3e} of a box, atol {atol:.3e}");
    }
}

/// Compares the settings that the file states and no tensor shows.
fn settings(checkpoint: &Checkpoint, failures: &mut Failures) {
    let text = std::fs::read(checkpoint.path.join("config.json")).expect("readable");
    let json: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let Ok(ModelConfig::DeformableDetr(config)) = checkpoint.config() else { return };
    let number = |key: &str| json[key].as_u64().and_then(|n| usize::try_from(n).ok());
    for (key, found) in [
        ("num_queries", config.num_queries),
        ("encoder_attention_heads", config.nheads),
        ("num_feature_levels", config.num_feature_levels),
        ("encoder_n_points", config.enc_n_points),
        ("decoder_n_points", config.dec_n_points),
        ("encoder_ffn_dim", config.dim_feedforward),
        ("decoder_ffn_dim", config.dec_dim_feedforward.unwrap_or(config.dim_feedforward)),
    ] {
        failures.check(number(key) == Some(found), || format!("{key}: {found}"));
    }
    failures.check(json["with_box_refine"] == config.with_box_refine, || "with_box_refine".into());
    failures.check(json["two_stage"] == config.two_stage, || "two_stage".into());
}

/// Returns the last layer of `[layers, B, Q, D]`.
fn last(hidden: &Tensor<4>) -> Tensor<3> {
    let layers = hidden.dims()[0];
    hidden.clone().slice_dim(0, layers - 1..layers).squeeze_dim::<3>(0)
}
