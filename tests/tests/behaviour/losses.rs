//! Losses from outside: their gradients are slopes, no parameter is left without one, and what cannot
//! be matched is named.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, FloatDType, Gradients, Tensor, TensorData};
use detr_loss::{MatchError, Predictions, SetCriterion, Target, TargetError, Targets};
use detr_model::ModelConfig;
use detr_model::nested::{NestedTensor, Padding};
use detr_model::output::DetrOutput;
use detr_model::weights::{Checkpoint, recipe_image, recipe_value};

/// Two layers, two images, five queries, four numbers: logits (three classes and no object, or four
/// classes), and boxes.
const SHAPE: [usize; 4] = [2, 2, 5, 4];

#[allow(clippy::cast_possible_truncation)] // any numbers will do
fn numbers(name: &str, seed: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|i| recipe_value(name, seed, i) as f32).collect()
}

/// Boxes well inside the image, of no small size.
fn boxes(name: &str, seed: u64, count: usize) -> Vec<f32> {
    let place = |(i, r): (usize, &f32)| if i % 4 < 2 { 0.5 + 0.2 * r } else { 0.3 + 0.15 * r };
    numbers(name, seed, 4 * count).iter().enumerate().map(place).collect()
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), (device, DType::F32))
}

fn targets(seed: u64, counts: &[usize], device: &Device) -> Targets {
    let images = counts.iter().enumerate().map(|(image, &n)| {
        let boxes = boxes(&format!("truth{image}"), seed, n);
        Target {
            labels: (0..n).map(|i| (i + image) % 3).collect(),
            boxes: boxes.as_chunks::<4>().0.to_vec(),
            masks: None,
        }
    });
    Targets::new(images.collect(), 3, device).unwrap()
}

fn predictions(logits: Tensor<4>, boxes: Tensor<4>) -> Predictions {
    let output = DetrOutput { pred_logits: logits, pred_boxes: boxes, enc_outputs: None };
    Predictions { output, masks: None }
}

#[test]
fn gradients_of_the_losses_are_their_slopes() {
    const STEP: f32 = 2e-3;
    let device = Device::flex().autodiff();
    let mut kinks = 0;
    let criteria = [SetCriterion::detr(), SetCriterion::deformable_detr()].repeat(3);
    for (seed, criterion) in (0..).zip(criteria) {
        let truth = targets(seed, &[3, 2], &device);
        let (logits, found) = (numbers("logits", seed, 80), boxes("boxes", seed, 20));
        let [l, b] =
            [&logits, &found].map(|values| tensor::<4>(values, SHAPE, &device).require_grad());
        let start = predictions(l.clone(), b.clone());
        // Slopes are those of one assignment.
        let matches = criterion.matches(&start, &truth).unwrap();
        let total = |logits: &[f32], boxes: &[f32]| {
            let [logits, boxes] = [logits, boxes].map(|values| tensor(values, SHAPE, &device));
            let predictions = predictions(logits, boxes);
            criterion.losses(&predictions, &truth, &matches, 5.0).read().unwrap().0
        };
        let gradients = criterion.losses(&start, &truth, &matches, 5.0).total.backward();
        let read =
            |t: Option<Tensor<4>>| -> Vec<f32> { t.unwrap().into_data().try_into_vec().unwrap() };
        let (dl, db) = (read(l.grad(&gradients)), read(b.grad(&gradients)));
        for i in 0..80 {
            // Left and right of a kink (an absolute value, an edge passing another) slopes differ, and
            // the gradient is between them.
            let slopes = |values: &[f32], of: &dyn Fn(&[f32]) -> f32| {
                let [low, here, high] = [-STEP, 0.0, STEP].map(|by| {
                    let mut values = values.to_vec();
                    values[i] += by;
                    of(&values)
                });
                [(here - low) / STEP, (high - here) / STEP]
            };
            let mut near = |what: &str, gradient: f32, [left, right]: [f32; 2]| {
                let allowed = 1e-2 + 0.02 * gradient.abs();
                let between = left.min(right) - allowed..left.max(right) + allowed;
                assert!(
                    between.contains(&gradient),
                    "{what} {i}: {gradient} of {left} and {right}"
                );
                kinks += usize::from((left - right).abs() > 2.0 * allowed);
            };
            near("logit", dl[i], slopes(&logits, &|logits| total(logits, &found)));
            near("box", db[i], slopes(&found, &|boxes| total(&logits, boxes)));
        }
    }
    assert!(kinks < 20, "{kinks} of 960 slopes are at kinks");
}

/// Counts parameters, and those without a gradient.
struct Census<'a> {
    gradients: &'a Gradients,
    count: usize,
    lacking: usize,
}

impl ModuleVisitor for Census<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        if value.is_require_grad() {
            self.count += 1;
            self.lacking += usize::from(value.grad(self.gradients).is_none());
        }
    }
}

#[test]
fn every_parameter_gets_a_gradient_even_without_objects() {
    let device = Device::flex().autodiff();
    let tiny = ModelConfig::preset("deformable-detr-tiny").unwrap();
    let ModelConfig::DeformableDetr(mut two_stage) = tiny else { unreachable!() };
    two_stage.two_stage = true;
    for (config, criterion) in [
        (ModelConfig::preset("detr-r18").unwrap(), SetCriterion::detr()),
        (ModelConfig::DeformableDetr(two_stage), SetCriterion::deformable_detr()),
    ] {
        let model = Checkpoint::recipe(&config, 1, &device).load(&device, FloatDType::F32).unwrap();
        for counts in [[0, 0], [0, 3]] {
            let pixels = [1, 2].map(|seed| recipe_image(seed, 64, 64)).concat();
            let pixels = tensor(&pixels, [2, 3, 64, 64], &device);
            let output = model.forward(NestedTensor { pixels, padding: Padding::None });
            let predictions = Predictions { output, masks: None };
            let truth = targets(3, &counts, &device);
            let matches = criterion.matches(&predictions, &truth).unwrap();
            let losses = criterion.losses(&predictions, &truth, &matches, 0.0);
            assert!(losses.read().unwrap().0.is_finite());
            let gradients = losses.total.backward();
            let mut found = Census { gradients: &gradients, count: 0, lacking: 0 };
            model.visit(&mut found);
            assert!(found.count > 50 && found.lacking == 0, "{counts:?}: {}", found.lacking);
        }
    }
}

#[test]
fn a_cost_that_is_not_finite_names_layer_image_query_object_and_term() {
    let device = Device::flex();
    let truth = targets(1, &[1, 2], &device);
    let (mut logits, mut found) = (numbers("logits", 1, 80), boxes("boxes", 1, 20));
    let matched = |logits: &[f32], found: &[f32]| {
        let [logits, found] = [logits, found].map(|values| tensor(values, SHAPE, &device));
        SetCriterion::detr().matches(&predictions(logits, found), &truth)
    };
    assert!(matched(&logits, &found).is_ok());
    // Layer 1, image 1, query 3.
    found[(10 + 5 + 3) * 4] = f32::NAN;
    let error = matched(&logits, &found).unwrap_err();
    let text = error.to_string();
    let place = "image 1, query 3, object 0: the box distance cost of decoder layer 1 is NaN";
    assert!(text.starts_with(place) && text.contains("hint:"), "{text}");
    assert!(matches!(error, MatchError::NonFinite { .. }));
    logits[0] = f32::NAN;
    let text = matched(&logits, &found).unwrap_err().to_string();
    let place = "image 0, query 0, object 0: the class cost of decoder layer 0 is NaN";
    assert!(text.starts_with(place), "{text}");
}

#[test]
fn labels_that_the_head_does_not_have_are_refused() {
    let target = Target { labels: vec![1, 91], boxes: vec![[0.5; 4]; 2], masks: None };
    let error = Targets::new(vec![Target::default(), target], 91, &Device::flex()).unwrap_err();
    assert!(matches!(error, TargetError::Label { image: 1, object: 1, label: 91, classes: 91 }));
}
