//! Mixed precision: steps in half precision follow those in f32, the parameters that are kept are f32,
//! an overflow lowers the loss scale and nothing else, and a precision that does not work is refused
//! before the first step.

use burn::tensor::{Device, FloatDType};
use detr_infer::backend::{self, Backend};
use detr_model::weights::Checkpoint;
use detr_train::{
    GroupsError, LossScale, NonFinite, Outcome, PrecisionError, StepConfig, StepReport, Trainer,
    check_precision,
};
use detr_types::Precision;

use super::{batch, batch_on, deformable, detr, model, parameters, same, trainer, updated};
use crate::support::devices;

/// Takes a step on a batch after the loss scale has come down to where it works.
fn step(trainer: &mut Trainer, seed: u64) -> StepReport {
    loop {
        match trainer.step(vec![batch(seed, &[3, 0, 1, 2])], 1.0).unwrap() {
            Outcome::Overflowed { .. } => {}
            outcome => return updated(outcome),
        }
    }
}

/// Reads the numbers of all gradients of a batch.
fn gradients(trainer: &Trainer) -> Vec<f32> {
    let found = trainer.gradients(vec![batch(5, &[3, 0, 1, 2])]).unwrap().unwrap();
    let found = found.read(trainer.groups()).unwrap();
    found.iter().flat_map(|(_, tensor)| tensor.to_f32().unwrap()).collect()
}

fn norm(numbers: impl Iterator<Item = f32>) -> f32 {
    numbers.map(|x| x * x).sum::<f32>().sqrt()
}

#[test]
fn steps_in_half_precision_follow_those_in_f32() {
    for config in [detr(), deformable()] {
        let with = |precision| trainer(&config, |settings| settings.precision = precision);
        let mut exact = with(Precision::F32);
        let expected = gradients(&exact);
        let reports: Vec<_> = (0..4).map(|i| step(&mut exact, 10 * i)).collect();
        // Relative differences: of the first gradient as a vector, and of the loss of four steps.
        for (precision, gradient, loss) in
            [(Precision::Bf16, 0.15, 0.01), (Precision::F16, 0.03, 0.002)]
        {
            let mut half = with(precision);
            half.set_loss_scale(LossScale { scale: 64.0, good_steps: 0 });
            let found = gradients(&half);
            let difference = norm(found.iter().zip(&expected).map(|(a, b)| a - b));
            let difference = difference / norm(expected.iter().copied());
            assert!(difference <= gradient, "{precision}: gradient differs by {difference}");
            for (i, expected) in (0..).zip(&reports) {
                let found = step(&mut half, 10 * i);
                let difference = (found.loss - expected.loss).abs() / expected.loss;
                assert!(difference <= loss, "{precision}: {found:?}, expected {expected:?}");
            }
            // The check before the first step finds that all parameters are f32 still.
            check_precision(precision, half.model()).unwrap();
        }
    }
}

#[test]
fn an_overflow_lowers_the_loss_scale_and_changes_nothing_else() {
    let mut trainer = trainer(&deformable(), |settings| settings.precision = Precision::F16);
    assert_eq!(trainer.loss_scale(), Some(LossScale { scale: 65_536.0, good_steps: 0 }));
    step(&mut trainer, 1);
    let start = 2f64.powi(24);
    trainer.set_loss_scale(LossScale { scale: start, good_steps: 7 });
    let state = |trainer: &Trainer| trainer.optimizer().state(trainer.groups()).unwrap();
    let before = (parameters(&trainer), state(&trainer));
    let mut expected = start;
    let report = loop {
        match trainer.step(vec![batch(1, &[2, 1])], 1.0).unwrap() {
            Outcome::Overflowed { scale, report } => {
                expected /= 2.0;
                assert!(report.loss.is_finite() && !report.grad_norm.is_finite());
                let lower = LossScale { scale: expected, good_steps: 0 };
                assert_eq!(lower, LossScale { scale, ..lower });
                assert_eq!(trainer.loss_scale(), Some(lower));
                assert!(same(&before.0, &parameters(&trainer)));
                assert!(same(&before.1, &state(&trainer)));
            }
            outcome => break updated(outcome),
        }
    };
    assert!(expected < start && report.grad_norm.is_finite());
    assert_eq!(trainer.loss_scale(), Some(LossScale { scale: expected, good_steps: 1 }));
    assert!(!same(&before.0, &parameters(&trainer)));

    // A number that is not finite at the smallest scale is not the scale's fault.
    trainer.set_loss_scale(LossScale { scale: LossScale::SMALLEST, good_steps: 0 });
    let mut accumulated = trainer.gradients(vec![batch(1, &[2])]).unwrap().unwrap();
    accumulated.scale(f64::INFINITY);
    let outcome = trainer.apply(accumulated, 1.0).unwrap();
    assert!(matches!(outcome, Outcome::Skipped(NonFinite::Gradient { .. })), "{outcome:?}");
}

#[test]
fn a_precision_that_does_not_work_is_refused_before_the_first_step() {
    let config = deformable();
    let mut settings = StepConfig::for_model(&config);
    settings.precision = Precision::Bf16;
    let device = Device::flex().autodiff();
    let half = Checkpoint::recipe(&config, 7, &device).load(&device, FloatDType::F16).unwrap();
    let error = Trainer::new(half, &settings).unwrap_err();
    let expected = PrecisionError::Parameters { precision: Precision::Bf16, found: "F16".into() };
    assert_eq!(error, GroupsError::Precision(expected));
    Trainer::new(model(&config), &settings).unwrap();

    // ndarray has no half precision at all, and WGSL no bf16.
    for (lacking, hint) in [(Backend::Ndarray, "use f32"), (Backend::Wgpu, "use f32")] {
        let Some(device) = devices::device(lacking, backend::Precision::F32) else { continue };
        let model = config.init(&device.autodiff());
        let error = Trainer::new(model, &settings).unwrap_err();
        assert!(matches!(&error, GroupsError::Precision(PrecisionError::Unsupported { .. })));
        let text = error.to_string();
        assert!(text.starts_with("precision is bf16, which "), "{text}");
        assert!(text.contains(&format!("\nhint: {hint}")), "{text}");
    }
}

#[test]
#[ignore = "takes minutes on a software adapter"]
fn a_wgpu_device_trains_in_f16_where_it_has_it() {
    let Some(device) = devices::device(Backend::Wgpu, backend::Precision::F16) else { return };
    let config = deformable();
    let device = device.autodiff();
    let losses = [Precision::F32, Precision::F16].map(|precision| {
        let model = Checkpoint::recipe(&config, 7, &device).load(&device, FloatDType::F32).unwrap();
        let settings = StepConfig { precision, ..StepConfig::for_model(&config) };
        let mut trainer = Trainer::new(model, &settings).unwrap();
        trainer.set_loss_scale(LossScale { scale: 64.0, good_steps: 0 });
        [1, 2].map(|seed| {
            let batch = batch_on(&device, seed, &[2, 1]);
            updated(trainer.step(vec![batch], 1.0).unwrap()).loss
        })
    });
    for (expected, found) in losses[0].iter().zip(losses[1]) {
        assert!((found - expected).abs() <= 0.01 * expected, "{losses:?}");
    }
}
