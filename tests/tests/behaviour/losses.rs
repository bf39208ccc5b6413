//! Losses from outside: their gradients are slopes, no parameter is left without one, given assignments count
//! as matched ones do, and an error of the matcher says where it is.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, FloatDType, Gradients, Tensor, TensorData};
use detr_loss::{
    Assignment, LossName, MatchError, Matching, Pairs, PredictionGroup, Predictions, SetCriterion,
    Source, Target, TargetError, Targets,
};
use detr_model::ModelConfig;
use detr_model::nested::{NestedTensor, Padding};
use detr_model::weights::{Checkpoint, recipe_image, recipe_value};

/// Two layers, two images, five queries, four numbers: logits (three classes and no object, or four
/// classes), and boxes.
const SHAPE: [usize; 4] = [2, 2, 5, 4];

#[allow(clippy::cast_possible_truncation)] // any numbers will do
fn numbers(name: &str, seed: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|i| recipe_value(name, seed, i) as f32).collect()
}

/// Draws boxes well inside the image, of no small size.
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
            boxes: boxes.as_chunks::<4>().0.iter().map(|&bbox| bbox.into()).collect(),
            masks: None,
        }
    });
    Targets::new(images.collect(), 3, device).unwrap()
}

fn predictions(logits: Tensor<4>, boxes: Tensor<4>) -> Predictions {
    Predictions { groups: vec![PredictionGroup::new(Source::Decoder, logits, boxes)] }
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
            let predictions = Predictions::from(output);
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

/// Reads the losses of a batch of five objects.
fn losses(
    criterion: &SetCriterion,
    predictions: &Predictions,
    assignments: &[Assignment],
    truth: &Targets,
) -> (f32, Vec<(LossName, f32)>) {
    criterion.losses(predictions, truth, assignments, 5.0).read().unwrap()
}

#[test]
fn a_given_assignment_has_the_losses_of_the_matched_one_and_skips_the_matcher() {
    let device = Device::flex();
    let truth = targets(2, &[3, 2], &device);
    let (logits, found) = (numbers("logits", 2, 80), boxes("boxes", 2, 20));
    let [l, b] = [&logits, &found].map(|values| tensor::<4>(values, SHAPE, &device));
    for (mut criterion, aux_loss) in [
        (SetCriterion::detr(), true),
        (SetCriterion::deformable_detr(), true),
        (SetCriterion::deformable_detr(), false),
    ] {
        criterion.aux_loss = aux_loss;
        let matched = predictions(l.clone(), b.clone());
        let all_layers = SetCriterion { aux_loss: true, ..criterion };
        let assignment = all_layers.matches(&matched, &truth).unwrap().remove(0);
        let mut given = matched.clone();
        given.groups[0].matching = Matching::Given { assignment, queries_per_object: 1 };
        let assignments = criterion.matches(&matched, &truth).unwrap();
        assert_eq!(criterion.matches(&given, &truth).unwrap(), assignments);
        let expected = losses(&criterion, &matched, &assignments, &truth);
        assert_eq!(losses(&criterion, &given, &assignments, &truth), expected);
        // No cost is computed, which would be NaN.
        given.groups[0].boxes = b.clone() * f32::NAN;
        assert_eq!(criterion.matches(&given, &truth).unwrap(), assignments);
    }
}

#[test]
fn denoising_losses_have_names_of_their_own_and_do_not_grow_with_the_queries_of_an_object() {
    let device = Device::flex();
    let truth = targets(4, &[3, 1], &device);
    let (logits, found) = (numbers("logits", 4, 80), boxes("boxes", 4, 20));
    let [l, b] = [&logits, &found].map(|values| tensor::<4>(values, SHAPE, &device));
    for criterion in [SetCriterion::detr(), SetCriterion::deformable_detr()] {
        let mut both = predictions(l.clone(), b.clone());
        let matched = criterion.matches(&both, &truth).unwrap().remove(0);
        // All queries twice, and so two queries for each object.
        let [logits, boxes] = [&l, &b].map(|t| Tensor::cat(vec![t.clone(), t.clone()], 2));
        let twice = |pairs: &Pairs| -> Pairs {
            pairs
                .iter()
                .flat_map(|&(query, object)| [(query, object), (query + 5, object)])
                .collect()
        };
        let layers = matched.layers.iter().map(|images| images.iter().map(twice).collect());
        let assignment = Assignment { layers: layers.collect() };
        both.groups.push(PredictionGroup {
            matching: Matching::Given { assignment: assignment.clone(), queries_per_object: 2 },
            ..PredictionGroup::new(Source::Denoising, logits, boxes)
        });
        let assignments = criterion.matches(&both, &truth).unwrap();
        assert_eq!(assignments, [matched, assignment]);
        let (_, named) = losses(&criterion, &both, &assignments, &truth);
        let named: Vec<_> = named.iter().map(|(name, loss)| (name.to_string(), *loss)).collect();
        let names: Vec<_> = named.iter().map(|(name, _)| name.as_str()).collect();
        let expected = [
            "loss_ce_0",
            "loss_bbox_0",
            "loss_giou_0",
            "cardinality_error_0",
            "loss_ce",
            "loss_bbox",
            "loss_giou",
            "cardinality_error",
            "class_error",
            "loss_ce_dn_0",
            "loss_bbox_dn_0",
            "loss_giou_dn_0",
            "cardinality_error_dn_0",
            "loss_ce_dn",
            "loss_bbox_dn",
            "loss_giou_dn",
            "cardinality_error_dn",
        ];
        assert_eq!(names, expected);
        let (decoder, denoising) = (&named[..8], &named[9..]);
        let losses = decoder.iter().zip(denoising).filter(|(loss, _)| loss.0.starts_with("loss"));
        for ((name, once), (_, twice)) in losses {
            assert!((once - twice).abs() < 1e-5 * once.abs(), "{name}: {once}, {twice}");
        }
    }
}

#[test]
fn labels_that_the_head_does_not_have_are_refused() {
    let target = Target { labels: vec![1, 91], boxes: vec![[0.5; 4].into(); 2], masks: None };
    let error = Targets::new(vec![Target::default(), target], 91, &Device::flex()).unwrap_err();
    assert!(matches!(error, TargetError::Label { image: 1, object: 1, label: 91, classes: 91 }));
}
