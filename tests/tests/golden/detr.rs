//! Group 04: DETR end to end, every intermediate result, as trained and with folded batch norms.

use burn::tensor::{Bool, Int, Tensor};
use detr_model::backbone::BackboneConfig;
use detr_model::backbone::resnet::ResNetConfig;
use detr_model::position::PositionKind;
use detr_model::postprocess::{HostOutput, RawDetection};
use detr_model::{Detr, DetrConfig, DetrDemo, DetrDemoConfig, DetrOutput, ModelConfig};
use detr_types::ImageSize;
use serde_json::Value;

use crate::backends::Bench;
use crate::case::{Case, Failures};

pub fn run(case: &Case, bench: &Bench) -> Failures {
    let mut failures = Failures::default();
    if case.config("demo").is_object() {
        demo(case, bench, &mut failures);
        return failures;
    }
    if let Some(preset) = case.config("preset").as_str() {
        published(case, bench, &mut failures, preset);
        return failures;
    }
    let config = config(case.config("args"));
    let model = case.recipe_weights(Detr::new(&config, &bench.device), "");
    compare(case, bench, &mut failures, &model);
    compare(case, bench, &mut failures, &model.fold());
    failures
}

/// Compares the predictions of the paper's demonstration model.
fn demo(case: &Case, bench: &Bench, failures: &mut Failures) {
    let config: DetrDemoConfig =
        serde_json::from_value(case.config("demo").clone()).expect("a configuration");
    let model = case.recipe_weights(DetrDemo::new(&config, &bench.device), "");
    for model in [model.clone(), model.fold()] {
        let output = model.transform(model.extract(case.images(&bench.device)));
        let logits = output.pred_logits.squeeze_dim::<3>(0);
        failures.tensor(case, bench.slack, "pred_logits", logits);
        let boxes = output.pred_boxes.squeeze_dim::<3>(0);
        failures.tensor(case, bench.slack, "pred_boxes", boxes);
    }
}

/// Compares the predictions of a preset, whose numbers are those of transformers.
fn published(case: &Case, bench: &Bench, failures: &mut Failures, preset: &str) {
    let Ok(ModelConfig::Detr(config)) = ModelConfig::preset(preset) else {
        return failures.fail(format!("{preset} is no preset of a DETR"));
    };
    let model = case.recipe_weights(Detr::new(&config, &bench.device), "");
    for model in [model.clone(), model.fold()] {
        let output = model.transform(model.extract(case.images(&bench.device))).output;
        let last = |t: &Tensor<4>| t.clone().slice_dim(0, config.dec_layers - 1..).squeeze_dim(0);
        failures.tensor::<3>(case, bench.slack, "pred_logits", last(&output.pred_logits));
        failures.tensor::<3>(case, bench.slack, "pred_boxes", last(&output.pred_boxes));
    }
}

/// Reads the reference's command line as a configuration.
pub fn config(args: &Value) -> DetrConfig {
    let number = |key: &str| usize::try_from(args[key].as_u64().expect(key)).expect("a size");
    let flag = |key: &str| args[key].as_bool().expect(key);
    let learned = args["position_embedding"] == "learned";
    DetrConfig {
        num_classes: num_classes(args),
        num_queries: number("num_queries"),
        hidden_dim: number("hidden_dim"),
        nheads: number("nheads"),
        enc_layers: number("enc_layers"),
        dec_layers: number("dec_layers"),
        dim_feedforward: number("dim_feedforward"),
        dec_dim_feedforward: None,
        dropout: args["dropout"].as_f64().expect("dropout"),
        pre_norm: flag("pre_norm"),
        position_embedding: if learned { PositionKind::Learned } else { PositionKind::Sine },
        masks: false,
        backbone: backbone(args),
    }
}

/// Returns the reference's number of classes, which goes by the name of the data set.
pub fn num_classes(args: &Value) -> usize {
    match args["dataset_file"].as_str() {
        None | Some("coco") => 91,
        Some("coco_panoptic") => 250,
        Some(_) => 20,
    }
}

/// Reads the reference's `--backbone` and `--dilation`.
pub fn backbone(args: &Value) -> BackboneConfig {
    let depth = args["backbone"].as_str().expect("a backbone").trim_start_matches("resnet");
    let mut backbone =
        ResNetConfig::torchvision(depth.parse().expect("a depth")).expect("a known depth");
    backbone.dilation = args["dilation"].as_bool().expect("dilation");
    backbone.into()
}

fn compare(case: &Case, bench: &Bench, failures: &mut Failures, model: &Detr) {
    let slack = bench.slack;
    let images = case.images(&bench.device);
    let b = images.pixels.dims()[0];
    failures.mask(case, "pixel_mask", images.padding.mask().map(every_eighth));

    let features = model.extract(images);
    failures.tensor(case, slack, "feat", features.maps[3].map.clone());

    let trace = model.transform(features);
    failures.mask(case, "mask", trace.mask);
    let [_, d, h, w] = trace.position.dims();
    failures.tensor(case, slack, "pos", trace.position.expand([b, d, h, w]));
    failures.tensor(case, slack, "src_proj", trace.projected);
    for (i, tokens) in trace.encoder_layers.into_iter().enumerate() {
        failures.tensor(case, slack, &format!("enc{i}"), tokens.swap_dims(0, 1));
    }
    let memory = trace.memory.swap_dims(1, 2).reshape([b, d, h, w]);
    failures.tensor(case, slack, "memory", memory);

    decoder_layers(case, slack, failures, &trace.hidden, &trace.output);

    if case.has("post.scores") {
        let host = HostOutput::read(&trace.output).expect("the device works");
        let answers = host.detr(&target_sizes(&case.json["post_target_sizes_hw"]));
        post_process(case, slack, failures, answers, "post");
    }
}

/// Keeps every eighth row and column of a mask `[B, H, W]`, as cases do.
fn every_eighth(mask: &Tensor<3, Bool>) -> Tensor<3, Bool> {
    let device = mask.device();
    let [_, height, width] = mask.dims();
    let every = |len: usize| {
        let picks: Vec<i32> =
            (0..len).step_by(8).map(|i| i32::try_from(i).expect("small")).collect();
        Tensor::<1, Int>::from_ints(picks.as_slice(), &device)
    };
    mask.clone().float().select(1, every(height)).select(2, every(width)).greater_elem(0.5)
}

/// Compares the decoder's outputs and the predictions of every layer.
pub fn decoder_layers(
    case: &Case,
    slack: f64,
    failures: &mut Failures,
    hidden: &Tensor<4>,
    output: &DetrOutput,
) {
    let layer = |t: &Tensor<4>, i: usize| t.clone().slice_dim(0, i..=i).squeeze_dim::<3>(0);
    let layers = hidden.dims()[0];
    for i in 0..layers {
        let name = |what: &str| match i + 1 == layers {
            true => what.to_owned(),
            false => format!("aux{i}.{what}"),
        };
        failures.tensor(case, slack, &format!("hs{i}"), layer(hidden, i));
        let logits = layer(&output.pred_logits, i);
        failures.tensor(case, slack, &name("pred_logits"), logits);
        failures.tensor(case, slack, &name("pred_boxes"), layer(&output.pred_boxes, i));
    }
}

/// Heights and widths of the original images.
pub fn target_sizes(sizes: &Value) -> Vec<ImageSize> {
    serde_json::from_value::<Vec<[u32; 2]>>(sizes.clone())
        .expect("heights and widths")
        .into_iter()
        .map(|[height, width]| ImageSize { height, width })
        .collect()
}

/// Compares scores, labels and boxes of every answer.
pub fn post_process(
    case: &Case,
    slack: f64,
    failures: &mut Failures,
    answers: Vec<Vec<RawDetection>>,
    prefix: &str,
) {
    let (b, q) = (answers.len(), answers[0].len());
    let found: Vec<_> = answers.into_iter().flatten().collect();
    let scores: Vec<f64> = found.iter().map(|query| f64::from(query.score)).collect();
    failures.values(case, slack, &format!("{prefix}.scores"), &[b, q], &scores);
    #[allow(clippy::cast_precision_loss)] // labels are small
    let labels: Vec<f64> = found.iter().map(|query| query.label as f64).collect();
    failures.values(case, slack, &format!("{prefix}.labels"), &[b, q], &labels);
    let boxes: Vec<f64> = found
        .iter()
        .flat_map(|query| [query.bbox.x1, query.bbox.y1, query.bbox.x2, query.bbox.y2])
        .map(f64::from)
        .collect();
    let name = format!("{prefix}.boxes");
    if case.states_atol(&name) {
        failures.values(case, slack, &name, &[b, q, 4], &boxes);
    } else {
        // A corner is half a side from the centre, in pixels.
        let side = boxes.iter().fold(0f64, |side, &x| side.max(x.abs()));
        let atol = 1.5 * side * case.atol("pred_boxes") * slack;
        failures.values_within(case, atol, &name, &[b, q, 4], &boxes);
    }
}
