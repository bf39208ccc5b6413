//! Group 08: five steps of training, with the reference's groups, clipping and `AdamW`: losses, gradient
//! norms, and samples of gradients and parameters.

use std::collections::BTreeSet;

use burn::module::Module;
use burn::tensor::Device;
use detr_loss::{LossName, Predictions};
use detr_model::weights::{StateDict, StoredTensor, read_parameters};
use detr_model::{Model, ModelConfig, NestedTensor};
use detr_train::{MicroBatch, Outcome, StepConfig, StepReport, Trainer};
use detr_types::env;
use serde_json::Value;

use crate::backends::Bench;
use crate::case::{Case, Failures, index};
use crate::kinks::{self, Kink, Nudge, ROUNDINGS};
use crate::{deformable, detr, losses};

/// The prefix under which the reference lists the decoder's heads a second time, if boxes are
/// refined.
const DECODER: &str = "transformer.decoder.";

/// The number of units that may be on the other side of their kink than in the reference.
const UNITS: usize = 4;

/// The number of nearest units that are tried each time.
const CANDIDATES: usize = 16;

/// A comparison with the case, or the beginning of one.
struct Attempt {
    failures: Failures,
    /// Whether the forward pass of the first step differs already, which no gradient explains.
    unexplained: bool,
    /// The first step whose gradients something differs after.
    step: Option<usize>,
    /// Units at their kink in that step and those before, where they were looked for.
    kinks: Vec<Kink>,
}

/// Compares; where gradients differ from some step on, looks for units at their kink there, since PyTorch is
/// on one side of each by chance and we may be on the other, and moves them to the other side by changes of
/// about a rounding of a bias. A case passes if, with at most [`UNITS`] such changes, everything matches.
pub fn run(case: &Case, bench: &Bench) -> Failures {
    let plain = compare(case, bench, &[], Extent::All);
    let (Some(mut step), false) = (plain.step, plain.unexplained) else { return plain.failures };
    let (mut nudges, mut excess) = (Vec::new(), plain.failures.excess());
    let mut tried = Vec::new();
    while nudges.len() < UNITS {
        let mut best: Option<(Attempt, Nudge)> = None;
        let kinks = compare(case, bench, &nudges, Extent::Kinks(step)).kinks;
        let kinks = &kinks[..kinks.len().min(CANDIDATES)];
        let across = kinks.iter().map(|kink| (kink, kink.across()));
        for (kink, nudge) in across.chain(kinks.iter().map(|kink| (kink, kink.away()))) {
            let all = [&nudges[..], std::slice::from_ref(&nudge)].concat();
            let mut attempt = compare(case, bench, &all, Extent::Until(step));
            if !attempt.unexplained && attempt.step.is_none() {
                attempt = compare(case, bench, &all, Extent::All);
                if attempt.failures.count() == 0 {
                    report(case, &all);
                    return attempt.failures;
                }
            }
            tried.push(format!("{kink:?}: {:?}", attempt.failures.lines().first()));
            let better = |than: Option<usize>, excess: f64| {
                let same = attempt.step == than && attempt.failures.excess() < excess;
                attempt.step > than || same
            };
            let beats =
                best.as_ref().is_none_or(|(best, _)| better(best.step, best.failures.excess()));
            if !attempt.unexplained && beats && better(Some(step), 0.9 * excess) {
                best = Some((attempt, nudge));
            }
        }
        let Some((attempt, nudge)) = best else { break };
        nudges.push(nudge);
        step = attempt.step.expect("a step that differs");
        excess = attempt.failures.excess();
    }
    let mut failures = plain.failures;
    let tried = tried.join("\n  ");
    failures.fail(format!(
        "no unit within {ROUNDINGS} roundings of its kink explains this; tried after {nudges:?}:\n  {tried}"
    ));
    failures
}

/// Says which units were on the other side, where that is asked for.
fn report(case: &Case, nudges: &[Nudge]) {
    if env::is_on(env::DETR_GOLDEN_VERBOSE) {
        eprintln!("{}: passes with units on the other side of their kinks: {nudges:?}", case.name);
    }
}

/// The extent of a comparison.
#[derive(Clone, Copy, PartialEq)]
enum Extent {
    All,
    /// To the losses after the update of that step.
    Until(usize),
    /// To that step, looking for units at their kink.
    Kinks(usize),
}

impl Extent {
    fn last(self) -> usize {
        match self {
            Self::All => usize::MAX,
            Self::Until(step) | Self::Kinks(step) => step,
        }
    }
}

fn compare(case: &Case, bench: &Bench, nudges: &[Nudge], extent: Extent) -> Attempt {
    let mut failures = Failures::default();
    let device = bench.device.clone().autodiff();
    let args = case.config("args");
    let config = match case.config("which") == "detr" {
        true => ModelConfig::Detr(detr::config(args)),
        false => ModelConfig::DeformableDetr(deformable::config(args)),
    };
    let model = match config.init(&device) {
        Model::Detr(model) => Model::Detr(nudged(case, model, nudges)),
        Model::DeformableDetr(model) => Model::DeformableDetr(nudged(case, model, nudges)),
        _ => unreachable!("not among the cases"),
    };
    let images = case.images(&device);
    let mut trainer = Trainer::new(model, &settings(&config, args)).expect("settings that fit");
    groups(case, &mut failures, &trainer);
    predictions(case, bench, &mut failures, &trainer, &images);
    let mut unexplained = failures.count() > 0;

    let steps = case.json["losses_per_step"].as_array().expect("steps").len();
    let (mut differs, mut kinks) = (None, Vec::new());
    for step in 0..steps.min(extent.last().saturating_add(1)) {
        if matches!(extent, Extent::Kinks(_)) {
            // None of these tensors needs autodiff.
            let images = case.images(&bench.device);
            kinks.extend(kinks::find(&trainer.model().valid(), &images));
        }
        let batch = batch(case, &device, &images, &mut failures);
        let accumulated = trainer.gradients(vec![batch]).expect("a device that works");
        let accumulated = accumulated.expect("finite costs");
        if step == 0 {
            let gradients = accumulated.read(trainer.groups()).expect("a device that works");
            let differing = failures.count();
            parameters(case, bench, &mut failures, "grad0", &gradients, |_, _| 0.0);
            gradient_table(case, &gradients);
            if failures.count() > differing {
                differs = differs.or(Some(0));
            }
        }
        let report = updated(trainer.apply(accumulated, 1.0).expect("a device that works"));
        let differing = failures.count();
        numbers(case, bench, &mut failures, step, &report.losses);
        failures.element(case, bench.slack, "loss_per_step", step, f64::from(report.loss));
        if failures.count() > differing {
            // Losses are those before the step's own gradients.
            unexplained |= step == 0;
            differs = differs.or(Some(step.saturating_sub(1)));
        }
        let differing = failures.count();
        let norm = f64::from(report.grad_norm);
        failures.element(case, bench.slack, "grad_norm_per_step", step, norm);
        let after = format!("after{}", step + 1);
        if case.has(&format!("{after}.sample")) {
            let state = read_parameters(trainer.model()).expect("a device that works");
            let slots = trainer.groups().slots();
            parameters(case, bench, &mut failures, &after, &state, |name, count| {
                let slot = slots.iter().find(|slot| slot.parameter.name == our_name(name));
                let lr = slot.and_then(|slot| slot.lr).unwrap_or(0.0);
                // There instead of back, in every step.
                bench.flips * count as f64 * 2.0 * lr * (step + 1) as f64
            });
        }
        if failures.count() > differing {
            differs = differs.or(Some(step));
        }
    }
    let ran = steps.min(extent.last().saturating_add(1));
    let batch = batch(case, &device, &images, &mut failures);
    let differing = failures.count();
    let loss = f64::from(updated(trainer.step(vec![batch], 1.0).expect("a device")).loss);
    failures.element(case, bench.slack, "loss_per_step", ran, loss);
    if failures.count() > differing {
        differs = differs.or(Some(ran - 1));
    }
    for (name, elements) in [("loss_per_step", steps + 1), ("grad_norm_per_step", steps)] {
        failures.used(name);
        let shape = case.shape(name);
        failures.check(shape.is_none_or(|shape| shape == [elements]), || {
            format!("{name}: {elements} elements are compared")
        });
    }
    Attempt { failures, unexplained, step: differs, kinks }
}

/// Loads the recipe weights of the case into a module, but for some nudges.
fn nudged<M: Module>(case: &Case, module: M, nudges: &[Nudge]) -> M {
    let mut state = case.recipe_state(&module, "");
    for Nudge { bias, channel, by } in nudges {
        let stored = state.get(bias).expect("a bias of the model");
        let mut values = stored.to_f32().expect("numbers in memory");
        let value = &mut values[*channel];
        // A change below the resolution of the number is its least one.
        *value = match *value + by {
            same if same.to_bits() == value.to_bits() && *by > 0.0 => value.next_up(),
            same if same.to_bits() == value.to_bits() => value.next_down(),
            changed => changed,
        };
        let shape = stored.shape.clone();
        state.insert(bias.as_str(), StoredTensor::from_f32(&values, shape));
    }
    case.load_weights(module, &state)
}

/// Prints, with `DETR_GOLDEN_VERBOSE`, how far the sampled first gradients of every layer are from the
/// f64 run, relative to the largest of the parameter, beside PyTorch's own f32 run where the case has
/// it.
fn gradient_table(case: &Case, gradients: &StateDict) {
    if !env::is_on(env::DETR_GOLDEN_VERBOSE) {
        return;
    }
    let names = names(&case.json["grad_param_names"]);
    let numbers = |name: &str| case.tensors.get(name).map(|stored| &stored.values);
    let (Some(facts), Some(sample), Some(places)) =
        (numbers("grad0.sum_l2_absmax"), numbers("grad0.sample"), numbers("grad0.sample_idx"))
    else {
        return;
    };
    let f32_run = numbers("grad0.sample_f32_run");
    let without = self::names(&case.json["params_with_zero_true_gradient"]);
    let each = sample.len() / names.len().max(1);
    let mut layers: Vec<(&str, f64, f64)> = Vec::new();
    for (row, name) in names.iter().enumerate() {
        let stored = gradients.get(our_name(name)).filter(|_| !without.contains(name));
        let Some(stored) = stored else { continue };
        let found = stored.to_f32().expect("numbers in memory");
        let (mut ours, mut theirs) = (0f64, 0f64);
        for at in each * row..each * (row + 1) {
            let scale = facts[3 * row + 2].max(f64::MIN_POSITIVE);
            ours = ours.max((f64::from(found[index(places[at])]) - sample[at]).abs() / scale);
            let other = f32_run.map_or(f64::NAN, |run| run[at]);
            theirs = theirs.max((other - sample[at]).abs() / scale);
        }
        // The layer is everything before the module's own name: `transformer.encoder.layers.0`.
        let layer = name.rsplitn(3, '.').last().unwrap_or(name);
        match layers.iter_mut().find(|(known, ..)| *known == layer) {
            Some((_, a, b)) => (*a, *b) = (a.max(ours), b.max(theirs)),
            None => layers.push((layer, ours, theirs)),
        }
    }
    for (layer, ours, theirs) in layers {
        match f32_run {
            Some(_) => {
                eprintln!("{layer}: gradients off by {ours:.1e}, PyTorch's f32 by {theirs:.1e}");
            }
            None => eprintln!("{layer}: gradients off by {ours:.1e}"),
        }
    }
}

/// Reads the reference's command line as settings: our defaults, but for the values that the case
/// states.
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

/// Returns our name of a parameter of the reference.
fn our_name(name: &str) -> &str {
    let heads = ["bbox_embed.", "class_embed."];
    let bare = name.strip_prefix(DECODER).unwrap_or(name);
    if heads.iter().any(|head| bare.starts_with(head)) { bare } else { name }
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("names").iter().filter_map(Value::as_str).collect()
}

/// Checks that the same parameters share a learning rate, and that the same are frozen.
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

/// Compares the predictions before the first step, and their assignment.
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
    let criterion = match case.config("which") == "detr" {
        true => detr_loss::SetCriterion::detr(),
        false => detr_loss::SetCriterion::deformable_detr(),
    };
    let predictions = Predictions::from(output);
    let matches = criterion.matches(&predictions, &targets).expect("finite costs");
    losses::matching(case, failures, "step0.", matches[0].layers.last().expect("a layer"));
}

/// Compares the sum, L2 norm, largest magnitude and samples of every parameter or gradient.
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
    let each = idx.shape[1];
    for name in ["grad0.sample_idx", "grad0.sample_f32_run", "grad0.sum_l2_absmax_f32_run"] {
        failures.used(name);
    }
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
        for (at, place) in idx.values[each * row..][..each].iter().enumerate() {
            let place = index(*place);
            let key = bias && (count / 3..2 * count / 3).contains(&place);
            let expected = case.tensors[&sample].values[each * row + at];
            found_sample.push(if noise || key { expected } else { values[place] });
        }
    }
    failures.values(case, bench.slack, &facts, &[names.len(), 3], &found_facts);
    failures.values(case, bench.slack, &sample, &[names.len(), each], &found_sample);
}

/// Compares every loss of a step; tolerances as those of tensors are made, from PyTorch's own f32
/// run.
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
