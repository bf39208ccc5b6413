//! Group 08: five steps of training, with the reference's groups, clipping and `AdamW`: losses, gradient
//! norms, and samples of gradients and parameters.

use std::collections::BTreeSet;

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use detr_loss::{LossName, Predictions};
use detr_model::weights::{StateDict, read_parameters};
use detr_model::{Model, ModelConfig, NestedTensor};
use detr_train::{MicroBatch, Outcome, StepConfig, StepReport, Trainer};
use serde_json::Value;

use crate::backends::Bench;
use crate::case::{Case, Failures, index};
use crate::{deformable, detr, losses};

/// What the decoder's heads are listed under a second time by the reference, where boxes are refined.
const DECODER: &str = "transformer.decoder.";

/// The units of the cases whose gradient is decided by rounding: before their `ReLU` they are zero but for
/// that. PyTorch is on one side of the kink by chance, in f32 and f64 alike; a backend may be on the other,
/// and then makes steps of Adam with gradients of a few more or fewer weights.
const AT_KINK: [Unit; 2] = [
    Unit {
        case: "detr_tiny",
        step: 0,
        stage: 3,
        inside: true,
        channel: 47,
        behind: &[
            "grad0.",
            "after",
            "grad_norm_per",
            "loss_per",
            "step 1",
            "step 2",
            "step 3",
            "step 4",
        ],
    },
    Unit {
        case: "deformable_tiny_refine",
        step: 2,
        stage: 2,
        inside: false,
        channel: 70,
        behind: &["after5.sum_l2_absmax"],
    },
];

/// A change to within rounding that may put the unit on the other side. One that a backend's own rounding
/// hides, or that moves another unit, does not.
#[derive(Clone, Copy, Debug)]
enum Nudge {
    /// Of the images, relative: of less than two roundings in f32.
    Images(f64),
    /// Of the unit's frozen bias, towards the other side: in roundings of the sum that the unit is.
    Bias(f32),
}

const NUDGES: [Nudge; 6] = [
    Nudge::Images(2e-7),
    Nudge::Images(-2e-7),
    Nudge::Bias(0.125),
    Nudge::Bias(0.5),
    Nudge::Bias(1.0),
    Nudge::Bias(2.0),
];

/// A unit of the backbone.
struct Unit {
    case: &'static str,
    /// The step that it decides.
    step: usize,
    /// Of the backbone, from 0.
    stage: usize,
    /// Whether it is inside the last block of the stage, or at its end.
    inside: bool,
    channel: usize,
    /// What follows from its gradient beyond the tolerance.
    behind: &'static [&'static str],
}

impl Unit {
    /// Adds to the frozen bias before the `ReLU`.
    fn nudge(&self, model: &mut Model, by: f32) {
        let body = match model {
            Model::Detr(model) => &mut model.backbone.0.body,
            Model::DeformableDetr(model) => &mut model.backbone.0.body,
            Model::DetrDemo(_) => unreachable!("not among the cases"),
        };
        let stages = [&mut body.layer1, &mut body.layer2, &mut body.layer3, &mut body.layer4];
        let stage = stages.into_iter().nth(self.stage).expect("one of four stages");
        let last = stage.last_mut().expect("a block");
        let norm = if self.inside { &mut last.bn1 } else { &mut last.bn2 };
        let norm = norm.as_mut().expect("a normalisation that is not folded");
        norm.bias = norm.bias.clone().map(|bias| {
            let channel = bias.clone().slice([self.channel..=self.channel]);
            bias.slice_assign([self.channel..=self.channel], channel + by)
        });
    }
}

/// A case with a unit at its kink has to match but for what is behind the unit. That has to match, with
/// everything else, after a nudge, and only if the unit is there indeed: on the other side by the nudge.
pub fn run(case: &Case, bench: &Bench) -> Failures {
    let known = AT_KINK.iter().find(|unit| unit.case == case.name);
    let (mut failures, unit) = compare(case, bench, known, Nudge::Images(0.0));
    let behind = known.is_some_and(|known| failures.all_of(known.behind));
    let Some(unit) = unit.filter(|_| failures.count() > 0 && behind) else { return failures };
    let mut tried = Vec::new();
    for nudge in NUDGES {
        let absolute = match nudge {
            Nudge::Bias(roundings) => {
                Nudge::Bias((roundings * unit.rounding()).copysign(-unit.value))
            }
            Nudge::Images(by) => Nudge::Images(by),
        };
        let (nudged, other) = compare(case, bench, known, absolute);
        let crossed = other.is_some_and(|other| (other.value > 0.0) != (unit.value > 0.0));
        if crossed && nudged.count() == 0 {
            return nudged;
        }
        tried.push((nudge, other, nudged.lines()));
    }
    failures.fail(format!("{unit:?} at the kink; nudged: {tried:?}"));
    failures
}

/// The unit nearest to the kink.
#[derive(Clone, Copy, Debug)]
struct AtKink {
    /// Before the `ReLU`.
    value: f32,
    /// Sum of the magnitudes of all products that it is the sum of.
    terms: f32,
}

impl AtKink {
    /// A single rounding of the sum of all magnitudes, which sums in another order easily differ by.
    fn rounding(self) -> f32 {
        f32::EPSILON * self.terms
    }

    /// The known unit, wherever on its map it is.
    fn find(model: &Model, images: &NestedTensor, known: &Unit) -> Option<Self> {
        let body = match model {
            Model::Detr(model) => &model.backbone.0.body,
            Model::DeformableDetr(model) => &model.backbone.0.body,
            Model::DetrDemo(_) => return None,
        };
        let stages = [&body.layer1, &body.layer2, &body.layer3, &body.layer4];
        let input = body.forward(images).into_iter().nth(known.stage.checked_sub(1)?)?;
        let [first, last] = &stages.get(known.stage)?[..] else { return None };
        let shortcut = first.forward(input).map;
        let first_bn = last.bn1.as_ref()?;
        let inner = first_bn.forward(last.conv1.forward(shortcut.clone()));
        let (conv, bn, x) = match known.inside {
            true => (&last.conv1, first_bn, shortcut.clone()),
            false => (&last.conv2, last.bn2.as_ref()?, relu(inner)),
        };
        let products = conv.forward(x.clone());
        let shift = bn.forward(products.zeros_like());
        let scale = bn.forward(products.ones_like()) - shift.clone();
        let added = if known.inside { shift } else { shift + shortcut };
        let mut magnitude = conv.clone();
        magnitude.weight = magnitude.weight.map(Tensor::abs);
        let magnitude = magnitude.forward(x.abs()) * scale.clone().abs() + added.clone().abs();
        let read = |map: Tensor<4>| {
            let map = map.slice_dim(1, known.channel..=known.channel).into_data();
            map.try_into_vec::<f32>().expect("f32 data")
        };
        let pairs = read(products * scale + added).into_iter().zip(read(magnitude));
        let units = pairs.map(|(value, terms)| Self { value, terms });
        units.min_by(|a, b| a.value.abs().total_cmp(&b.value.abs()))
    }
}

fn compare(
    case: &Case,
    bench: &Bench,
    known: Option<&Unit>,
    nudge: Nudge,
) -> (Failures, Option<AtKink>) {
    let mut unit = None;
    let mut failures = Failures::default();
    let device = bench.device.clone().autodiff();
    let args = case.config("args");
    let config = match case.config("which") == "detr" {
        true => ModelConfig::Detr(detr::config(args)),
        false => ModelConfig::DeformableDetr(deformable::config(args)),
    };
    let mut model = match config.init(&device) {
        Model::Detr(model) => Model::Detr(case.recipe_weights(model, "")),
        Model::DeformableDetr(model) => Model::DeformableDetr(case.recipe_weights(model, "")),
        Model::DetrDemo(_) => unreachable!("not among the cases"),
    };
    let mut images = case.images(&device);
    match (known, nudge) {
        (_, Nudge::Images(by)) => images.pixels = images.pixels * (1.0 + by),
        (Some(known), Nudge::Bias(by)) => known.nudge(&mut model, by),
        (None, Nudge::Bias(_)) => {}
    }
    let mut trainer = Trainer::new(model, &settings(&config, args)).expect("settings that fit");
    groups(case, &mut failures, &trainer);
    predictions(case, bench, &mut failures, &trainer, &images);

    let steps = case.json["losses_per_step"].as_array().expect("steps").len();
    let (mut totals, mut norms) = (Vec::new(), Vec::new());
    for step in 0..steps {
        if let Some(known) = known.filter(|known| known.step == step) {
            unit = AtKink::find(&trainer.model().valid(), &images, known);
        }
        let batch = batch(case, &device, &images, &mut failures);
        let accumulated = trainer.gradients(vec![batch]).expect("a device that works");
        let accumulated = accumulated.expect("finite costs");
        if step == 0 {
            let gradients = accumulated.read(trainer.groups()).expect("a device that works");
            parameters(case, bench, &mut failures, "grad0", &gradients, |_, _| 0.0);
        }
        let report = updated(trainer.apply(accumulated, 1.0).expect("a device that works"));
        numbers(case, bench, &mut failures, step, &report.losses);
        totals.push(f64::from(report.loss));
        norms.push(f64::from(report.grad_norm));
        let after = format!("after{}", step + 1);
        if case.tensors.contains_key(&format!("{after}.sample")) {
            let state = read_parameters(trainer.model()).expect("a device that works");
            let slots = trainer.groups().slots();
            parameters(case, bench, &mut failures, &after, &state, |name, count| {
                let slot = slots.iter().find(|slot| slot.parameter.name == our_name(name));
                let lr = slot.and_then(|slot| slot.lr).unwrap_or(0.0);
                // There instead of back, in every step.
                bench.flips * count as f64 * 2.0 * lr * (step + 1) as f64
            });
        }
    }
    let batch = batch(case, &device, &images, &mut failures);
    totals.push(f64::from(updated(trainer.step(vec![batch], 1.0).expect("a device")).loss));
    failures.values(case, bench.slack, "loss_per_step", &[totals.len()], &totals);
    failures.values(case, bench.slack, "grad_norm_per_step", &[norms.len()], &norms);
    (failures, unit)
}

/// The reference's command line as settings: our defaults, but for what the case says.
fn settings(config: &ModelConfig, args: &Value) -> StepConfig {
    let number = |key: &str| args[key].as_f64().expect(key);
    let mut settings = StepConfig::for_model(config);
    settings.clip_max_norm = number("clip_max_norm");
    let parameters = &mut settings.parameters;
    parameters.lr = number("lr");
    parameters.weight_decay = number("weight_decay");
    parameters.groups[0].lr = Some(number("lr_backbone"));
    settings
}

fn batch(
    case: &Case,
    device: &Device,
    images: &NestedTensor,
    failures: &mut Failures,
) -> MicroBatch {
    MicroBatch { images: images.clone(), targets: losses::targets(case, device, failures) }
}

fn updated(outcome: Outcome) -> StepReport {
    match outcome {
        Outcome::Updated(report) => report,
        Outcome::Skipped(reason) => panic!("{reason}"),
        Outcome::Overflowed { .. } => panic!("the loss scale of f16"),
    }
}

/// Our name of a parameter of the reference.
fn our_name(name: &str) -> &str {
    let heads = ["bbox_embed.", "class_embed."];
    let bare = name.strip_prefix(DECODER).unwrap_or(name);
    if heads.iter().any(|head| bare.starts_with(head)) { bare } else { name }
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("names").iter().filter_map(Value::as_str).collect()
}

/// The same parameters share a learning rate, and the same are frozen.
fn groups(case: &Case, failures: &mut Failures, trainer: &Trainer) {
    let slots = trainer.groups().slots();
    let args = case.config("args");
    let base = args["lr"].as_f64().expect("lr");
    let rates = [Some(base), args["lr_backbone"].as_f64(), Some(base * 0.1)];
    let mut trained = 0;
    for (group, lr) in case.json["param_groups"].as_array().expect("groups").iter().zip(rates) {
        let names = names(group);
        trained += names.len();
        for name in names {
            let slot = slots.iter().find(|slot| slot.parameter.name == our_name(name));
            let found = slot.map(|slot| slot.lr);
            failures.check(found == Some(lr), || format!("{name}: {found:?}, expected {lr:?}"));
        }
    }
    let found = slots.iter().filter(|slot| slot.lr.is_some()).count();
    failures.check(found == trained, || format!("{found} trained, expected {trained}"));
    let frozen: BTreeSet<&str> = names(&case.json["frozen"]).into_iter().collect();
    let ours: BTreeSet<&str> = slots
        .iter()
        .filter(|slot| slot.lr.is_none() && slot.parameter.trained)
        .map(|slot| slot.parameter.name.as_str())
        .collect();
    failures.check(ours == frozen, || format!("frozen: {ours:?}, expected {frozen:?}"));
}

/// What the model says before the first step, and how it is matched.
fn predictions(
    case: &Case,
    bench: &Bench,
    failures: &mut Failures,
    trainer: &Trainer,
    images: &NestedTensor,
) {
    let output = trainer.model().valid().forward(images.clone());
    let last = output.pred_logits.dims()[0] - 1;
    let [logits, boxes] = [&output.pred_logits, &output.pred_boxes]
        .map(|t| t.clone().slice_dim(0, last..=last).squeeze_dim::<3>(0).inner());
    failures.tensor(case, bench.slack, "step0.pred_logits", logits);
    failures.tensor(case, bench.slack, "step0.pred_boxes", boxes);
    let targets = losses::targets(case, &bench.device, failures);
    let criterion = match trainer.model() {
        Model::DeformableDetr(_) => detr_loss::SetCriterion::deformable_detr(),
        _ => detr_loss::SetCriterion::detr(),
    };
    let predictions = Predictions::from(output);
    let matches = criterion.matches(&predictions, &targets).expect("finite costs");
    losses::matching(case, failures, "step0.", matches[0].layers.last().expect("a layer"));
}

/// Sum, L2 norm, largest magnitude and four samples of every parameter or gradient.
/// `flipped` is what the sum of a parameter of a size may be off beyond the tolerance.
fn parameters(
    case: &Case,
    bench: &Bench,
    failures: &mut Failures,
    when: &str,
    state: &StateDict,
    flipped: impl Fn(&str, usize) -> f64,
) {
    let idx = &case.tensors["grad0.sample_idx"];
    failures.used("grad0.sample_idx");
    let (facts, sample) = (format!("{when}.sum_l2_absmax"), format!("{when}.sample"));
    let names = names(&case.json["grad_param_names"]);
    let without_gradient = self::names(&case.json["params_with_zero_true_gradient"]);
    let (mut found_facts, mut found_sample) = (Vec::new(), Vec::new());
    for (row, name) in names.iter().enumerate() {
        let Some(stored) = state.get(our_name(name)) else {
            return failures.fail(format!("{when}: no {name}"));
        };
        let values = stored.to_f32().expect("numbers in memory");
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        let count = values.len();
        // Adam turns the noise of a gradient that is zero into updates of full size. Biases of keys have
        // no gradient either, since softmax does not see them.
        let updated = when != "grad0";
        let noise = updated && without_gradient.contains(name);
        let bias = updated && name.ends_with("in_proj_bias");
        if noise || bias {
            found_facts.extend_from_slice(&case.tensors[&facts].values[3 * row..][..3]);
        } else {
            let largest = values.iter().fold(0f64, |largest, value| largest.max(value.abs()));
            let square: f64 = values.iter().map(|value| value * value).sum();
            let sum = values.iter().sum::<f64>();
            let expected = case.tensors[&facts].values[3 * row];
            let moved = sum - expected;
            let moved = moved.signum() * (moved.abs() - flipped(name, count)).max(0.0);
            found_facts.extend([expected + moved, square.sqrt(), largest]);
        }
        for (at, place) in idx.values[4 * row..][..4].iter().enumerate() {
            let place = index(*place);
            let key = bias && (count / 3..2 * count / 3).contains(&place);
            let expected = case.tensors[&sample].values[4 * row + at];
            found_sample.push(if noise || key { expected } else { values[place] });
        }
    }
    failures.values(case, bench.slack, &facts, &[names.len(), 3], &found_facts);
    failures.values(case, bench.slack, &sample, &[names.len(), 4], &found_sample);
}

/// Every loss of a step; tolerances as those of tensors are made, from PyTorch's own f32 run.
fn numbers(
    case: &Case,
    bench: &Bench,
    failures: &mut Failures,
    step: usize,
    found: &[(LossName, f32)],
) {
    let expected = &case.json["losses_per_step"][step];
    let f32_run = &case.json["losses_per_step_f32"][step];
    let keys = expected.as_object().expect("losses").keys();
    for key in keys {
        let Some((_, value)) = found.iter().find(|(name, _)| name.to_string() == *key) else {
            failures.fail(format!("step {step}: {key} is missing"));
            continue;
        };
        let [exact, f32_run] = [expected, f32_run].map(|run| run[key].as_f64().expect("a loss"));
        let atol = (6.0 * (f32_run - exact).abs()).max(2e-6 * exact.abs()).max(1e-7);
        let tolerance = atol * bench.slack + 1e-4 * exact.abs();
        let difference = (f64::from(*value) - exact).abs();
        failures.check(difference <= tolerance, || {
            format!("step {step}: {key} {value}, expected {exact} within {tolerance:.1e}")
        });
    }
    failures.check(found.len() == expected.as_object().map_or(0, serde_json::Map::len), || {
        format!("step {step}: {} losses", found.len())
    });
}
