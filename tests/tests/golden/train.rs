//! Group 08: five steps of training, with the reference's groups, clipping and `AdamW`: losses, gradient
//! norms, and samples of gradients and parameters.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Instant;

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

/// A comparison with the case, or a part of one.
#[derive(Default)]
struct Attempt {
    failures: Failures,
    /// Whether the forward pass of the first step differs already, which no gradient explains.
    unexplained: bool,
    /// The first step whose gradients something differs after.
    step: Option<usize>,
    /// Whether everything is compared, whatever differs before.
    whole: bool,
}

impl Attempt {
    /// Returns whether the gradients of more steps are right, or what differs after the same step differs less.
    fn is_better(&self, step: usize, excess: f64) -> bool {
        let later = self.step.is_none_or(|own| own > step);
        !self.unexplained && (later || (self.step == Some(step) && self.failures.excess() < excess))
    }
}

/// A unit at its kink in some step, which may be on the other side in the reference.
#[derive(Clone, Debug)]
struct Candidate {
    step: usize,
    kink: Kink,
}

impl Candidate {
    /// Returns whether the nudge moves this unit's channel.
    fn is_moved_by(&self, nudge: &Nudge) -> bool {
        (&self.kink.bias, self.kink.channel) == (&nudge.bias, nudge.channel)
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, kink } = self;
        let (bias, channel) = (&kink.bias, kink.channel);
        write!(f, "{bias}[{channel}] in step {step}, {:.2} roundings from zero", kink.distance())
    }
}

/// Compares; where gradients differ from some step on, looks for units at their kink in that step and before, since
/// the reference is on one side of each by chance and we may be on the other, and moves them to the other side by
/// changes of about a rounding of a bias. A case passes if, with at most [`UNITS`] such changes, everything matches.
pub fn run(case: &Case, bench: &Bench) -> Failures {
    let comparison = Comparison::new(case, bench);
    let plain = comparison.whole(&[]);
    let (Some(step), false) = (plain.step, plain.unexplained) else { return plain.failures };
    let begun = Instant::now();
    match search(&comparison, step) {
        Ok((failures, moved)) => {
            if env::is_on(env::DETR_GOLDEN_VERBOSE) {
                eprintln!(
                    "{}: passes after {:.1?} of search with units on the other side of their kinks: {}",
                    case.name,
                    begun.elapsed(),
                    listed(&moved)
                );
            }
            failures
        }
        Err(found) => {
            let mut failures = plain.failures;
            failures.fail(format!("{found} (searched for {:.1?})", begun.elapsed()));
            failures
        }
    }
}

/// Moves units from `step` and before to the other side, each time the one that makes most right. Returns what the
/// whole comparison then says, or which units were tried in vain.
///
/// Each unit costs no more than the steps from its own to the one that differs: the model and the optimizer before
/// each step are kept.
fn search(
    comparison: &Comparison<'_>,
    mut step: usize,
) -> Result<(Failures, Vec<Candidate>), String> {
    let (mut moved, mut nudges): (Vec<Candidate>, Vec<Nudge>) = (Vec::new(), Vec::new());
    let mut tried = Vec::new();
    while moved.len() < UNITS {
        let (states, candidates, plain) = comparison.candidates(&nudges, step);
        let mut excess = plain.failures.excess();
        let mut best: Option<(usize, Candidate)> = None;
        let candidates = candidates
            .into_iter()
            .filter(|candidate| !nudges.iter().any(|nudge| candidate.is_moved_by(nudge)));
        for candidate in candidates.take(CANDIDATES) {
            let nudge = candidate.kink.across();
            let trainer = comparison.nudged(&states[candidate.step], &nudge);
            let mut attempt = comparison.steps(trainer, candidate.step..=step, Attempt::default());
            let after = attempt.failures.lines().first().cloned().unwrap_or_default();
            let (differs, left) = (attempt.step, attempt.failures.excess());
            tried.push(format!(
                "{candidate}: {differs:?}, {left:.2} instead of {excess:.2}, {after}"
            ));
            if attempt.step.is_none() {
                let all = [&nudges[..], std::slice::from_ref(&nudge)].concat();
                attempt = comparison.whole(&all);
                if attempt.failures.count() == 0 {
                    moved.push(candidate);
                    return Ok((attempt.failures, moved));
                }
            }
            let than = best.as_ref().map_or(step, |(step, _)| *step);
            if attempt.is_better(than, if best.is_some() { excess } else { 0.9 * excess }) {
                excess = attempt.failures.excess();
                best = Some((attempt.step.unwrap_or(step), candidate));
            }
        }
        let Some((next, candidate)) = best else { break };
        nudges.push(candidate.kink.across());
        moved.push(candidate);
        step = next;
    }
    Err(format!(
        "no unit within {ROUNDINGS} roundings of its kink explains this; tried, after [{}]:\n  {}",
        listed(&moved),
        tried.join("\n  ")
    ))
}

fn listed(units: &[Candidate]) -> String {
    units.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A case, and all that its steps need.
struct Comparison<'a> {
    case: &'a Case,
    bench: &'a Bench,
    device: Device,
    config: ModelConfig,
    settings: StepConfig,
    images: NestedTensor,
}

impl<'a> Comparison<'a> {
    fn new(case: &'a Case, bench: &'a Bench) -> Self {
        let device = bench.device.clone().autodiff();
        let args = case.config("args");
        let config = match case.config("which") == "detr" {
            true => ModelConfig::Detr(detr::config(args)),
            false => ModelConfig::DeformableDetr(deformable::config(args)),
        };
        let settings = settings(&config, args);
        let images = case.images(&device);
        Self { case, bench, device, config, settings, images }
    }

    /// Returns the number of steps of the case.
    fn count(&self) -> usize {
        self.case.json["losses_per_step"].as_array().expect("steps").len()
    }

    /// Makes a trainer of the case's own weights, but for some nudges.
    fn start(&self, nudges: &[Nudge]) -> Trainer {
        let mut state = match self.config.init(&self.device) {
            Model::Detr(model) => self.case.recipe_state(&model, ""),
            Model::DeformableDetr(model) => self.case.recipe_state(&model, ""),
            _ => unreachable!("not among the cases"),
        };
        for nudge in nudges {
            change(&mut state, nudge);
        }
        self.trainer(&state)
    }

    /// Makes a trainer as another is, but for a nudge.
    fn nudged(&self, before: &Trainer, nudge: &Nudge) -> Trainer {
        let mut state = read_parameters(before.model()).expect("a device that works");
        change(&mut state, nudge);
        let mut trainer = self.trainer(&state);
        trainer.resume(before.optimizer().clone(), None);
        trainer
    }

    fn trainer(&self, state: &StateDict) -> Trainer {
        let model = match self.config.init(&self.device) {
            Model::Detr(model) => Model::Detr(self.case.load_weights(model, state)),
            Model::DeformableDetr(model) => {
                Model::DeformableDetr(self.case.load_weights(model, state))
            }
            _ => unreachable!("not among the cases"),
        };
        Trainer::new(model, &self.settings).expect("settings that fit")
    }

    /// Compares everything.
    fn whole(&self, nudges: &[Nudge]) -> Attempt {
        let Self { case, bench, .. } = self;
        let trainer = self.start(nudges);
        let mut failures = Failures::default();
        groups(case, &mut failures, &trainer);
        predictions(case, bench, &mut failures, &trainer, &self.images);
        let unexplained = failures.count() > 0;
        let steps = self.count();
        let attempt = Attempt { failures, unexplained, step: None, whole: true };
        let mut attempt = self.steps(trainer, 0..=steps - 1, attempt);
        for (name, elements) in [("loss_per_step", steps + 1), ("grad_norm_per_step", steps)] {
            attempt.failures.used(name);
            let shape = case.shape(name);
            attempt.failures.check(shape.is_none_or(|shape| shape == [elements]), || {
                format!("{name}: {elements} elements are compared")
            });
        }
        attempt
    }

    /// Makes steps with some nudges up to `last`. Returns the trainer before each, the units at their kink in all of
    /// them, the nearest first, and the comparison.
    fn candidates(&self, nudges: &[Nudge], last: usize) -> (Vec<Trainer>, Vec<Candidate>, Attempt) {
        let mut trainer = self.start(nudges);
        let (mut states, mut candidates) = (Vec::new(), Vec::new());
        let mut attempt = Attempt::default();
        for step in 0..=last {
            let kinks = kinks::find(trainer.model(), &self.images).into_iter();
            candidates.extend(kinks.map(|kink| Candidate { step, kink }));
            states.push(trainer.clone());
            self.step(&mut trainer, step, &mut attempt);
        }
        self.loss_after(&mut trainer, last, &mut attempt);
        candidates.sort_by(|a, b| a.kink.distance().total_cmp(&b.kink.distance()));
        (states, candidates, attempt)
    }

    /// Compares some steps, and the loss after them.
    fn steps(
        &self,
        mut trainer: Trainer,
        steps: RangeInclusive<usize>,
        mut attempt: Attempt,
    ) -> Attempt {
        let last = *steps.end();
        for step in steps {
            self.step(&mut trainer, step, &mut attempt);
            // A unit that makes an earlier step differ is not the one that is looked for.
            if !attempt.whole && attempt.step.is_some_and(|differs| differs < last) {
                return attempt;
            }
        }
        self.loss_after(&mut trainer, last, &mut attempt);
        attempt
    }

    /// Makes a step and compares.
    fn step(&self, trainer: &mut Trainer, step: usize, attempt: &mut Attempt) {
        let Self { case, bench, .. } = self;
        let Attempt { failures, unexplained, step: differs, .. } = attempt;
        let batch = batch(case, &self.device, &self.images, failures);
        let accumulated = trainer.gradients(vec![batch]).expect("a device that works");
        let accumulated = accumulated.expect("finite costs");
        if step == 0 {
            let gradients = accumulated.read(trainer.groups()).expect("a device that works");
            let differing = failures.count();
            parameters(case, bench, failures, "grad0", &gradients, |_, _| 0.0);
            gradient_table(case, &gradients);
            if failures.count() > differing {
                *differs = differs.or(Some(0));
            }
        }
        let report = updated(trainer.apply(accumulated, 1.0).expect("a device that works"));
        let differing = failures.count();
        numbers(case, bench, failures, step, &report.losses);
        failures.element(case, bench.slack, "loss_per_step", step, f64::from(report.loss));
        if failures.count() > differing {
            // Losses are those before the step's own gradients.
            *unexplained |= step == 0;
            *differs = differs.or(Some(step.saturating_sub(1)));
        }
        let differing = failures.count();
        let norm = f64::from(report.grad_norm);
        failures.element(case, bench.slack, "grad_norm_per_step", step, norm);
        let after = format!("after{}", step + 1);
        if case.has(&format!("{after}.sample")) {
            let state = read_parameters(trainer.model()).expect("a device that works");
            let slots = trainer.groups().slots();
            parameters(case, bench, failures, &after, &state, |name, count| {
                let slot = slots.iter().find(|slot| slot.parameter.name == our_name(name));
                let lr = slot.and_then(|slot| slot.lr).unwrap_or(0.0);
                // There instead of back, in every step.
                bench.flips * count as f64 * 2.0 * lr * (step + 1) as f64
            });
        }
        if failures.count() > differing {
            *differs = differs.or(Some(step));
        }
    }

    /// Compares the loss after the update of a step.
    fn loss_after(&self, trainer: &mut Trainer, step: usize, attempt: &mut Attempt) {
        let Self { case, bench, .. } = self;
        let Attempt { failures, step: differs, .. } = attempt;
        let batch = batch(case, &self.device, &self.images, failures);
        let differing = failures.count();
        let report = updated(trainer.step(vec![batch], 1.0).expect("a device that works"));
        failures.element(case, bench.slack, "loss_per_step", step + 1, f64::from(report.loss));
        if failures.count() > differing {
            *differs = differs.or(Some(step));
        }
    }
}

/// Adds a nudge to a bias.
fn change(state: &mut StateDict, Nudge { bias, channel, by }: &Nudge) {
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

/// Makes the case expect the backbone's largest gradient to be larger by one per cent.
pub fn spoil(case: &mut Case) {
    let names = names(&case.json["grad_param_names"]);
    let norms = &case.tensors["grad0.sum_l2_absmax"].values;
    let norm = |row: &usize| norms[3 * row + 1];
    let row = (0..names.len())
        .filter(|&row| names[row].starts_with("backbone."))
        .max_by(|a, b| norm(a).total_cmp(&norm(b)))
        .expect("a trained backbone");
    for name in ["grad0.sum_l2_absmax", "grad0.sample"] {
        let stored = case.tensors.get_mut(name).expect("gradients");
        let each = stored.shape[1];
        stored.values[each * row..][..each].iter_mut().for_each(|value| *value *= 1.01);
    }
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
