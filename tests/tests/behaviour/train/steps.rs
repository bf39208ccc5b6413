//! The promises of a step: micro-batches make the large batch, frozen parameters keep their bits, a
//! saved optimizer goes on as if nothing had happened, and numbers that are not finite change nothing.

use burn::tensor::Device;
use detr_loss::LossName;
use detr_model::weights::{StateDict, StoredTensor, read_parameters};
use detr_train::{
    EmaConfig, MicroBatch, NonFinite, NonFiniteInput, Optimizer, OptimizerConfig, Outcome,
    StateError, Trainer,
};

use super::{batch, deformable, detr, model, parameters, poked, same, trainer, updated};

/// Objects of the images of a step, and how many images there are in each part.
const OBJECTS: [usize; 4] = [3, 0, 1, 2];

/// Splits a batch into parts of `size` images.
pub(super) fn parts(seed: u64, size: usize) -> Vec<MicroBatch> {
    let parts = OBJECTS.chunks(size).zip((seed..).step_by(size));
    parts.map(|(objects, seed)| batch(seed, objects)).collect()
}

/// Returns the largest difference of parameters that have a gradient, and where it is. Softmax does not
/// see the biases of keys: their gradient is rounding noise, which Adam turns into steps of full size.
pub(super) fn largest_difference(a: &StateDict, b: &StateDict) -> (f32, String) {
    let mut largest = (0.0, String::new());
    for (name, tensor) in a.iter() {
        let (one, two) = (tensor.to_f32().unwrap(), b.get(name).unwrap().to_f32().unwrap());
        let third = one.len() / 3;
        for (i, (one, two)) in one.iter().zip(two).enumerate() {
            let key = name.ends_with("in_proj_bias") && (third..2 * third).contains(&i);
            if !key && (one - two).abs() > largest.0 {
                largest = ((one - two).abs(), format!("{name}[{i}]"));
            }
        }
    }
    largest
}

#[test]
fn micro_batches_make_the_batch_that_they_are_parts_of() {
    for config in [detr(), deformable()] {
        for optimizer in [OptimizerConfig::default(), OptimizerConfig::Sgd { momentum: 0.9 }] {
            let run = |size: usize| {
                let mut trainer = trainer(&config, |settings| {
                    settings.optimizer = optimizer;
                    if let OptimizerConfig::Sgd { .. } = optimizer {
                        // At the rates and norms of Adam, nothing would move.
                        settings.parameters.lr = 1e-2;
                        settings.clip_max_norm = 0.0;
                    }
                });
                let mut reports = Vec::new();
                for step in 0..4 {
                    reports.push(updated(trainer.step(parts(10 * step, size), 1.0).unwrap()));
                }
                (parameters(&trainer), reports)
            };
            let (whole, expected) = run(4);
            let start = read_parameters(&model(&config)).unwrap();
            let (moved, _) = largest_difference(&start, &whole);
            assert!(moved > if optimizer == OptimizerConfig::default() { 2e-4 } else { 1e-3 });
            for size in [2, 1] {
                let (found, reports) = run(size);
                let (difference, place) = largest_difference(&whole, &found);
                assert!(difference <= 1e-5, "parts of {size}: {place} differs by {difference}");
                for (found, expected) in reports.iter().zip(&expected) {
                    let near = |a: f32, b: f32| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
                    assert!(near(found.loss, expected.loss), "{found:?}\n{expected:?}");
                    assert!(near(found.grad_norm, expected.grad_norm));
                    for ((name, a), (other, b)) in found.losses.iter().zip(&expected.losses) {
                        assert!(name == other && near(*a, *b), "{name}: {a}, expected {b}");
                    }
                }
            }
        }
    }
}

#[test]
fn frozen_parameters_keep_their_bits() {
    let config = deformable();
    let before = read_parameters(&model(&config)).unwrap();
    let changed = |trainer: &Trainer| -> Vec<String> {
        let after = parameters(trainer);
        let names = before.iter().filter(|(name, tensor)| {
            tensor.bytes().unwrap() != after.get(name).unwrap().bytes().unwrap()
        });
        names.map(|(name, _)| name.to_owned()).collect()
    };
    let mut usual = trainer(&config, |_| {});
    let mut frozen = trainer(&config, |settings| settings.parameters.groups[0].lr = Some(0.0));
    for step in 0..2 {
        for trainer in [&mut usual, &mut frozen] {
            updated(trainer.step(vec![batch(step, &[2, 1])], 1.0).unwrap());
        }
    }
    let usual = changed(&usual);
    let of_backbone = |name: &&String| name.starts_with("backbone");
    assert!(usual.iter().any(|name| name == "backbone.0.body.layer2.0.conv1.weight"));
    for still in ["body.conv1", "body.layer1", ".bn", "downsample.1"] {
        assert!(!usual.iter().filter(of_backbone).any(|name| name.contains(still)), "{usual:?}");
    }
    let frozen = changed(&frozen);
    assert!(frozen.len() > 50 && !frozen.iter().any(|name| of_backbone(&name)), "{frozen:?}");
}

#[test]
fn a_saved_optimizer_goes_on_bit_by_bit() {
    for optimizer in [OptimizerConfig::default(), OptimizerConfig::Sgd { momentum: 0.9 }] {
        let config = deformable();
        let mut first = trainer(&config, |settings| settings.optimizer = optimizer);
        let steps = |trainer: &mut Trainer, range: std::ops::Range<u64>| {
            for step in range {
                updated(trainer.step(vec![batch(step, &[2, 1])], 0.5).unwrap());
            }
        };
        steps(&mut first, 0..2);
        let saved = first.optimizer().state(first.groups()).unwrap();
        let trained = first.groups().slots().iter().filter(|slot| slot.lr.is_some()).count();
        let kept = if matches!(optimizer, OptimizerConfig::Adamw { .. }) { 3 } else { 2 };
        assert_eq!(saved.len(), trained * kept);

        // A loop resumes like this: weights into a new model, then the state beside it.
        let device = Device::flex().autodiff();
        let weights = parameters(&first);
        let fresh = config.init(&device);
        let path = std::path::Path::new("checkpoint");
        let f32 = burn::tensor::FloatDType::F32;
        let fresh = detr_model::weights::load_into(fresh, &weights, f32, path).unwrap();
        let mut settings = detr_train::StepConfig::for_model(&config);
        settings.optimizer = optimizer;
        let mut second = Trainer::new(fresh, &settings).unwrap();
        let resumed = Optimizer::resume(optimizer, second.groups(), &saved, &device).unwrap();
        assert!(same(&resumed.state(second.groups()).unwrap(), &saved));
        second.resume(resumed, None);
        steps(&mut first, 2..4);
        steps(&mut second, 2..4);
        assert!(same(&parameters(&first), &parameters(&second)));
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    let config = deformable();
    let mut trained = trainer(&config, |_| {});
    updated(trained.step(vec![batch(1, &[1])], 1.0).unwrap());
    let groups = trained.groups();
    let saved = trained.optimizer().state(groups).unwrap();
    let resume = |change: &dyn Fn(&mut StateDict)| {
        let mut state = saved.clone();
        change(&mut state);
        Optimizer::resume(OptimizerConfig::default(), groups, &state, &Device::flex()).unwrap_err()
    };
    let name = |kind: &str| format!("query_embed.weight.{kind}");
    let missing = resume(&|state| drop(state.remove(&name("exp_avg"))));
    assert_eq!(missing, StateError::Missing(name("exp_avg")));
    let missing = resume(&|state| drop(state.remove(&name("step"))));
    assert_eq!(missing, StateError::Missing(name("step")));
    let shape =
        resume(&|state| state.insert(name("exp_avg"), StoredTensor::from_f32(&[1.0], vec![1])));
    assert!(matches!(shape, StateError::Shape { found, .. } if found == [1]));
    for stranger in
        ["a.step", "backbone.0.body.conv1.weight.exp_avg", "query_embed.weight.momentum_buffer"]
    {
        let error = resume(&|state| state.insert(stranger, StoredTensor::from_f32(&[1.0], vec![])));
        assert_eq!(error, StateError::Unexpected(stranger.to_owned()));
    }
}

/// Takes a step that has to be skipped and must change nothing, and returns the reason.
fn skipped(mut trainer: Trainer, parts: Vec<MicroBatch>) -> NonFinite {
    updated(trainer.step(vec![batch(50, &[1, 1])], 1.0).unwrap());
    let everything = |trainer: &Trainer| {
        let state = trainer.optimizer().state(trainer.groups()).unwrap();
        let ema = trainer.ema().unwrap();
        (parameters(trainer), state, read_parameters(ema.model()).unwrap(), ema.updates())
    };
    let before = everything(&trainer);
    let outcome = trainer.step(parts, 1.0).unwrap();
    let after = everything(&trainer);
    assert!(same(&before.0, &after.0) && same(&before.1, &after.1) && same(&before.2, &after.2));
    assert_eq!(before.3, after.3);
    let Outcome::Skipped(reason) = outcome else { panic!("{outcome:?}") };
    // The next step works.
    updated(trainer.step(vec![batch(60, &[1, 1])], 1.0).unwrap());
    reason
}

#[test]
fn what_is_not_finite_is_named_and_changes_nothing() {
    let config = deformable();
    let averaged = || {
        trainer(&config, |settings| {
            settings.ema = Some(EmaConfig { decay: 0.9, warmup: 0 });
        })
    };
    let mut parts = parts(70, 2);
    let pixels = parts[1].images.pixels.clone();
    let before = parts[0].targets.images().len();
    let spot = pixels.clone().slice([1..2, 0..1, 3..4, 5..6]) * f32::NAN;
    parts[1].images.pixels = pixels.slice_assign([1..2, 0..1, 3..4, 5..6], spot);
    let reason = skipped(averaged(), parts);
    let text = reason.to_string();
    let named = format!("; image {} is not finite to begin with", before + 1);
    assert!(text.ends_with(&named), "{text}");
    let NonFinite::Cost { origin: Some(NonFiniteInput::Image(image)), .. } = reason else {
        panic!("{reason:?}")
    };
    assert_eq!(image, before + 1, "of the whole batch");

    // The moment a gradient overflows, with finite losses.
    let trainer = averaged();
    let mut accumulated = trainer.gradients(vec![batch(1, &[2])]).unwrap().unwrap();
    accumulated.scale(f64::INFINITY);
    let mut after = trainer.clone();
    let Outcome::Skipped(reason) = after.apply(accumulated, 1.0).unwrap() else { panic!() };
    let NonFinite::Gradient { parameter: Some(name), report, .. } = &reason else {
        panic!("{reason:?}")
    };
    let first = trainer.groups().slots().iter().find(|slot| slot.lr.is_some()).unwrap();
    assert!(*name == first.parameter.name && report.loss.is_finite());
    assert!(same(&parameters(&trainer), &parameters(&after)));
}

#[test]
fn a_weight_or_loss_that_is_not_finite_is_named() {
    let config = detr();
    let name = "transformer.encoder.layers.0.linear1.weight";
    let settings = detr_train::StepConfig::for_model(&config);
    let mut broken = Trainer::new(poked(model(&config), name, f32::NAN), &settings).unwrap();
    let Outcome::Skipped(reason) = broken.step(vec![batch(1, &[2, 1])], 1.0).unwrap() else {
        panic!("a step with NaN")
    };
    let NonFinite::Cost { origin: Some(NonFiniteInput::Parameter(found)), .. } = &reason else {
        panic!("{reason:?}")
    };
    assert_eq!(found, name);

    let mut heavy = trainer(&config, |settings| settings.criterion.weights.giou = 3e38);
    let before = parameters(&heavy);
    let Outcome::Skipped(reason) = heavy.step(vec![batch(1, &[2, 1])], 1.0).unwrap() else {
        panic!("a sum beyond f32")
    };
    assert!(matches!(reason, NonFinite::Loss { name: None::<LossName>, .. }), "{reason:?}");
    assert!(same(&before, &parameters(&heavy)));
    assert!(heavy.step(Vec::new(), 1.0).is_err());
}
