//! Group 05: Deformable DETR end to end, every intermediate result, as trained and with folded batch
//! norms.

use burn::tensor::{Bool, Tensor};
use detr_model::families::deformable_detr::{
    DeformableDetr, DeformableDetrConfig, DeformableDetrTrace, LevelTrace,
};
use detr_model::postprocess::HostOutput;
use serde_json::Value;

use crate::backends::Bench;
use crate::case::{Case, Failures, index};
use crate::detr::{backbone, decoder_layers, num_classes, post_process, target_sizes};
use crate::postprocess::{answers_each, as_in_case};

pub fn run(case: &Case, bench: &Bench) -> Failures {
    let mut failures = Failures::default();
    let config = config(case.config("args"));
    let model = case.recipe_weights(DeformableDetr::new(&config, &bench.device), "");
    compare(case, bench, &mut failures, &model);
    compare(case, bench, &mut failures, &model.fold());
    failures
}

/// Reads the reference's command line as a configuration.
pub fn config(args: &Value) -> DeformableDetrConfig {
    let number = |key: &str| usize::try_from(args[key].as_u64().expect(key)).expect("a size");
    let flag = |key: &str| args[key].as_bool().expect(key);
    DeformableDetrConfig {
        num_classes: num_classes(args),
        num_queries: number("num_queries"),
        hidden_dim: number("hidden_dim"),
        nheads: number("nheads"),
        num_feature_levels: number("num_feature_levels"),
        enc_layers: number("enc_layers"),
        dec_layers: number("dec_layers"),
        dim_feedforward: number("dim_feedforward"),
        dec_dim_feedforward: None,
        enc_n_points: number("enc_n_points"),
        dec_n_points: number("dec_n_points"),
        dropout: args["dropout"].as_f64().expect("dropout"),
        with_box_refine: flag("with_box_refine"),
        two_stage: flag("two_stage"),
        masks: false,
        backbone: backbone(args),
    }
}

fn compare(case: &Case, bench: &Bench, failures: &mut Failures, model: &DeformableDetr) {
    let slack = bench.slack;
    let images = case.images(&bench.device);
    let b = images.pixels.dims()[0];
    let features = model.extract(images);
    // The last of C2 to C5: as many as the model has levels, but for the coarser ones made of C5.
    let stages = model.input_proj.len().min(3);
    for (i, map) in features.maps.iter().skip(4 - stages).enumerate() {
        failures.tensor(case, slack, &format!("feat{i}"), map.map.clone());
    }
    let trace = model.transform(features);
    for (i, level) in trace.levels.iter().enumerate() {
        let [_, d, h, w] = level.position.dims();
        failures.tensor(case, slack, &format!("src{i}"), level.projected.clone());
        failures.mask(case, &format!("mask{i}"), level.mask.clone());
        let mut position = level.position.clone().expand([b, d, h, w]);
        if let Some(mask) = &level.mask {
            let mask = mask.clone().unsqueeze_dim::<4>(1).expand([b, d, h, w]);
            position = position.mask_fill(mask, 0.0);
        }
        failures.tensor(case, slack, &format!("pos{i}"), position);
    }
    // The content of padded tokens is meaningless, and zero in the case.
    let padding = padded_tokens(&trace.levels);
    let valid = |tokens: Tensor<3>| without_padding(tokens, padding.as_ref());
    let last = trace.encoder_layers.len().saturating_sub(1);
    for (i, tokens) in trace.encoder_layers.iter().enumerate().take(last) {
        failures.tensor(case, slack, &format!("enc{i}"), valid(tokens.clone()));
    }
    failures.tensor(case, slack, "memory", valid(trace.memory.clone()));
    decoder(case, bench, failures, &trace, b);
    if let Some(encoder) = &trace.output.enc_outputs {
        failures.tensor(case, slack, "enc_outputs.pred_logits", encoder.pred_logits.clone());
        failures.tensor(case, slack, "enc_outputs.pred_boxes", encoder.pred_boxes.clone());
        let scores = encoder.pred_logits.clone().slice_dim(2, 0..1).squeeze_dim::<2>(2);
        failures.tensor(case, slack, "enc_class0", scores);
        chosen(case, failures, &trace);
    }

    let host = HostOutput::read(&trace.output).expect("the device works");
    if case.has("post.scores") {
        let sizes = target_sizes(&case.json["post_target_sizes_hw"]);
        let answers = host.deformable(&sizes, answers_each(case, "post"), |_| true);
        post_process(case, slack, failures, as_in_case(case, answers, "post"), "post");
    }
}

fn decoder(
    case: &Case,
    bench: &Bench,
    failures: &mut Failures,
    trace: &DeformableDetrTrace,
    b: usize,
) {
    let slack = bench.slack;
    let [_, q, coordinates] = trace.init_reference.dims();
    let reference = trace.init_reference.clone().expand([b, q, coordinates]);
    failures.tensor(case, slack, "init_reference", reference);
    let references = trace.inter_references.iter().map(|reference| {
        let [_, q, coordinates] = reference.dims();
        reference.clone().expand([b, q, coordinates])
    });
    failures.tensor(case, slack, "inter_references", Tensor::stack::<4>(references.collect(), 0));
    decoder_layers(case, slack, failures, &trace.hidden, &trace.output);
}

/// Checks that the same proposals are chosen; those that propose nothing are all alike, so any of
/// them will do.
fn chosen(case: &Case, failures: &mut Failures, trace: &DeformableDetrTrace) {
    failures.used("topk_proposals");
    let expected = &case.tensors["topk_proposals"].values;
    let scores = &case.tensors["enc_class0"];
    let (s, q) = (scores.shape[1], expected.len() / scores.shape[0]);
    let found = trace.topk_proposals.clone().expect("a two-stage model").into_data();
    let found: Vec<usize> =
        found.iter::<i64>().map(|i| usize::try_from(i).expect("an index")).collect();
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let row = i / q * s;
        let alike = (scores.values[row + found] - scores.values[row + index(expected)]).abs();
        failures.check(alike <= 1e-6, || {
            format!("topk_proposals: {found} at {i}, expected {expected}")
        });
    }
}

/// Tokens `[B, S, D]` with zeros where a mask `[B, S]` is true.
pub fn without_padding(tokens: Tensor<3>, mask: Option<&Tensor<2, Bool>>) -> Tensor<3> {
    let Some(mask) = mask else { return tokens };
    let shape = tokens.dims();
    tokens.mask_fill(mask.clone().unsqueeze_dim::<3>(2).expand(shape), 0.0)
}

/// `[B, S]`, true = padding.
pub fn padded_tokens(levels: &[LevelTrace]) -> Option<Tensor<2, Bool>> {
    let masks: Option<Vec<_>> =
        levels.iter().map(|level| level.mask.clone().map(|mask| mask.flatten::<2>(1, 2))).collect();
    masks.map(|masks| Tensor::cat(masks, 1))
}
