//! Group 07: the matcher, every loss, and the gradients of their weighted sum; and the assignment
//! problem by itself.

use burn::tensor::{DType, Device, Tensor, TensorData};
use detr_loss::{
    Classification, LossName, MaskPredictions, PredictionGroup, Predictions, SetCriterion, Target,
    TargetMasks, Targets, assign,
};
use detr_model::DetrOutput;
use detr_model::output::EncoderOutput;
use detr_model::weights::recipe_value;
use serde_json::Value;

use crate::backends::Bench;
use crate::case::{Case, Failures, index};

/// Ending of the gradients without the reference's table of all pairs, which has NaN where two boxes
/// without an area meet.
const MATCHED_ONLY: &str = "_matched_pairs_only";

pub fn run(case: &Case, bench: &Bench) -> Failures {
    let mut failures = Failures::default();
    match case.json["problems"].is_array() {
        true => assignments(case, &mut failures),
        false => criterion(case, bench, &mut failures),
    }
    failures
}

/// Totals equal scipy's; the pairs too, where only one choice has that total.
fn assignments(case: &Case, failures: &mut Failures) {
    let seed = case.json["seed"].as_u64().expect("a seed");
    for problem in case.json["problems"].as_array().expect("problems") {
        let i = problem["i"].as_u64().expect("a number");
        let [rows, columns]: [usize; 2] =
            serde_json::from_value(problem["shape"].clone()).expect("a shape");
        #[allow(clippy::cast_possible_truncation)] // as the recipe rounds
        let costs: Vec<f32> = match case.tensors.get(&format!("{i}.cost")) {
            Some(stored) => stored.values.iter().map(|&cost| cost as f32).collect(),
            None => (0..(rows * columns) as u64)
                .map(|at| (recipe_value(&format!("lsap{i}"), seed, at) * 10.0) as f32)
                .collect(),
        };
        for name in ["cost", "row", "col", "total"] {
            failures.used(&format!("{i}.{name}"));
        }
        let pairs = assign(&costs, rows, columns).expect("finite costs");
        let total: f64 = pairs.iter().map(|&(r, c)| f64::from(costs[r * columns + c])).sum();
        let expected = case.tensors[&format!("{i}.total")].values[0];
        failures.check((total - expected).abs() < 1e-4, || {
            format!("problem {i}: total {total}, expected {expected}")
        });
        let part = |name: &str| -> Vec<usize> {
            case.tensors[&format!("{i}.{name}")].values.iter().map(|&v| index(v)).collect()
        };
        let expected: Vec<_> = part("row").into_iter().zip(part("col")).collect();
        failures.check(problem["ties"] == true || pairs == expected, || {
            format!("problem {i}: {pairs:?}, expected {expected:?}")
        });
    }
}

/// Returns the name of the same gradient without the reference's table.
fn sane(name: &str) -> String {
    format!("{name}{MATCHED_ONLY}")
}

/// The parts of an output by their names in the case, in the order of the layers.
struct Layers {
    prefixes: Vec<String>,
    logits: Vec<Tensor<3>>,
    boxes: Vec<Tensor<3>>,
    encoder: Option<(Tensor<3>, Tensor<3>)>,
    masks: Option<Tensor<4>>,
}

fn criterion(case: &Case, bench: &Bench, failures: &mut Failures) {
    let device = bench.device.clone().autodiff();
    let layers = Layers::of(case, &device, failures);
    let criterion = configured(case);
    let targets = targets(case, &device, failures);
    let mut predictions = Predictions::from(DetrOutput {
        pred_logits: Tensor::stack(layers.logits.clone(), 0),
        pred_boxes: Tensor::stack(layers.boxes.clone(), 0),
        enc_outputs: layers
            .encoder
            .clone()
            .map(|(pred_logits, pred_boxes)| EncoderOutput { pred_logits, pred_boxes }),
        mask_features: None,
    });
    predictions.groups[0].masks = layers.masks.clone().map(MaskPredictions::All);
    costs(case, bench, failures, &criterion, &predictions.groups[0], &targets);
    let matches = criterion.matches(&predictions, &targets).expect("finite costs");
    for (prefix, images) in layers.prefixes.iter().zip(&matches[0].layers) {
        matching(case, failures, prefix, images);
    }
    if let Some(encoder) = matches.get(1) {
        matching(case, failures, "enc.", &encoder.layers[0]);
    }

    #[allow(clippy::cast_precision_loss)] // objects of a batch
    let num_boxes = targets.num_boxes() as f64;
    let losses = criterion.losses(&predictions, &targets, &matches, num_boxes);
    let (total, named) = losses.read().expect("the device works");
    numbers(case, failures, total, &named);

    let gradients = losses.total.backward();
    let mut compare = |name: &str, gradient: Option<Tensor<3>>| {
        let Some(gradient) = gradient else {
            return failures.fail(format!("{name}: no gradient"));
        };
        let shape = gradient.dims();
        let mut found: Vec<f64> = gradient.into_data().iter::<f64>().collect();
        if let Some(table) = case.tensors.get(name).filter(|_| case.has(&sane(name))) {
            // Our table is that of the matched pairs if the reference's has NaN.
            for (found, expected) in found.iter_mut().zip(&table.values) {
                if expected.is_nan() && found.is_finite() {
                    *found = f64::NAN;
                }
            }
        }
        // The case states one tolerance for both forms of a gradient.
        let atol = case.atol(name.trim_end_matches(MATCHED_ONLY)) * bench.slack;
        failures.values_within(case, atol, name, &shape, &found);
    };
    for ((prefix, logits), boxes) in layers.prefixes.iter().zip(&layers.logits).zip(&layers.boxes) {
        compare(&format!("{prefix}grad.pred_logits"), logits.grad(&gradients));
        let name = format!("{prefix}grad.pred_boxes");
        compare(&sane(&name), boxes.grad(&gradients));
        compare(&name, boxes.grad(&gradients));
    }
    if let Some((logits, boxes)) = &layers.encoder {
        compare("enc.grad.pred_logits", logits.grad(&gradients));
        compare("enc.grad.pred_boxes", boxes.grad(&gradients));
    }
    if let Some(masks) = &layers.masks {
        match masks.grad(&gradients) {
            Some(gradient) => failures.tensor(case, bench.slack, "grad.pred_masks", gradient),
            None => failures.fail("grad.pred_masks: no gradient".to_owned()),
        }
    }
}

impl Layers {
    fn of(case: &Case, device: &Device, failures: &mut Failures) -> Self {
        let auxiliary = case.config("weight_dict").as_object().expect("weights");
        let mut auxiliary = (0..).take_while(|i| auxiliary.contains_key(&format!("loss_ce_{i}")));
        let count = auxiliary.by_ref().count();
        let mut prefixes: Vec<String> = (0..count).map(|i| format!("aux{i}.")).collect();
        prefixes.push(String::new());
        let [b, q, c] = ["B", "Q", "logit_columns"].map(|key| case.number(key));
        let (mut logits, mut boxes) = (Vec::new(), Vec::new());
        for prefix in &prefixes {
            let (l, x) = input(case, prefix, [b, q, c], device, failures);
            logits.push(l);
            boxes.push(x);
        }
        let encoder = case.tensors.get("enc.pred_logits").map(|stored| stored.shape[1]);
        let encoder = encoder.map(|s| input(case, "enc.", [b, s, c], device, failures));
        let masks = case.tensors.get("pred_masks").map(|stored| {
            failures.used("pred_masks");
            let shape: [usize; 4] = stored.shape.clone().try_into().expect("four axes");
            leaf(&stored.values, shape, device)
        });
        Self { prefixes, logits, boxes, encoder, masks }
    }
}

/// Logits and boxes of a layer, stored or by recipe.
fn input(
    case: &Case,
    prefix: &str,
    [b, q, c]: [usize; 3],
    device: &Device,
    failures: &mut Failures,
) -> (Tensor<3>, Tensor<3>) {
    let [logits, boxes] = ["pred_logits", "pred_boxes"].map(|name| format!("{prefix}{name}"));
    if let (Some(l), Some(x)) = (case.tensors.get(&logits), case.tensors.get(&boxes)) {
        failures.used(&logits);
        failures.used(&boxes);
        return (leaf(&l.values, [b, q, c], device), leaf(&x.values, [b, q, 4], device));
    }
    let seed = case.number("seed") as u64;
    let tag = if prefix.is_empty() {
        String::new()
    } else {
        format!(".{}", prefix.trim_end_matches('.'))
    };
    let stream = |name: &str, count: usize| -> Vec<f64> {
        (0..count as u64).map(|i| recipe_value(&format!("{name}{tag}"), seed, i)).collect()
    };
    let logits: Vec<f64> = stream("loss.logits", b * q * c).iter().map(|r| r * 2.0).collect();
    let boxes: Vec<f64> = stream("loss.boxes", b * q * 4)
        .iter()
        .enumerate()
        .map(|(i, r)| match ((r + 1.0) / 2.0, i % 4 < 2) {
            (u, true) => 0.15 + 0.7 * u,
            (u, false) => 0.02 + 0.5 * u * u,
        })
        .collect();
    if prefix.is_empty() {
        for (name, values) in [("logits_check", &logits), ("boxes_check", &boxes)] {
            let head = case.shape(name).map_or(0, |shape| shape[0]).min(values.len());
            failures.values_within(case, 1e-6, name, &[head], &values[..head]);
        }
    }
    (leaf(&logits, [b, q, c], device), leaf(&boxes, [b, q, 4], device))
}

/// Makes a tensor that gets a gradient.
fn leaf<const D: usize>(values: &[f64], shape: [usize; D], device: &Device) -> Tensor<D> {
    #[allow(clippy::cast_possible_truncation)] // as PyTorch's f32 run
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32)).require_grad()
}

fn configured(case: &Case) -> SetCriterion {
    let weight = |name: &str| case.config("weight_dict")[name].as_f64();
    let cost = |name: &str| case.config("cost")[name].as_f64().expect("a weight");
    let (mut criterion, number) = match case.config("which") == "detr" {
        true => (SetCriterion::detr(), "eos_coef"),
        false => (SetCriterion::deformable_detr(), "focal_alpha"),
    };
    let number = case.config(number).as_f64().expect("a number");
    criterion.classification = match criterion.classification {
        Classification::Softmax { .. } => Classification::Softmax { eos_coef: number },
        Classification::Focal { .. } => Classification::Focal { alpha: number },
    };
    criterion.cost.class = cost("cls");
    criterion.cost.bbox = cost("bbox");
    criterion.cost.giou = cost("giou");
    let weights = &mut criterion.weights;
    for (slot, name) in [
        (&mut weights.ce, "loss_ce"),
        (&mut weights.bbox, "loss_bbox"),
        (&mut weights.giou, "loss_giou"),
        (&mut weights.mask, "loss_mask"),
        (&mut weights.dice, "loss_dice"),
    ] {
        *slot = weight(name).unwrap_or(*slot);
    }
    criterion
}

/// Returns the stored targets of the case.
pub fn targets(case: &Case, device: &Device, failures: &mut Failures) -> Targets {
    let counts: Vec<usize> =
        serde_json::from_value(case.config("targets").clone()).expect("counts");
    let images = (0..counts.len())
        .map(|image| {
            let mut part = |name: &str| {
                let name = format!("t{image}.{name}");
                failures.used(&name);
                case.tensors.get(&name)
            };
            let labels = part("labels").expect("labels").values.iter().map(|&v| index(v)).collect();
            #[allow(clippy::cast_possible_truncation)] // as PyTorch's f32 run
            let boxes = part("boxes").expect("boxes").values.as_chunks::<4>().0;
            #[allow(clippy::cast_possible_truncation)] // as PyTorch's f32 run
            let boxes = boxes.iter().map(|bbox| bbox.map(|v| v as f32).into()).collect();
            let masks = part("masks").map(|stored| TargetMasks {
                size: [stored.shape[1], stored.shape[2]],
                bits: stored.values.iter().map(|&v| u8::from(v > 0.5)).collect(),
            });
            Target { labels, boxes, masks }
        })
        .collect();
    // The labels of COCO where the case does not say.
    let classes = if case.config("num_classes").is_u64() { case.number("num_classes") } else { 91 };
    Targets::new(images, classes, device).expect("targets that fit")
}

/// Costs of the last layer, image by image; those of pairs across images are never used.
fn costs(
    case: &Case,
    bench: &Bench,
    failures: &mut Failures,
    criterion: &SetCriterion,
    group: &PredictionGroup,
    targets: &Targets,
) {
    let layers = group.logits.dims()[0];
    let found = criterion.matcher().costs(group, targets);
    let [_, b, q, n] = found.dims();
    let found = found.slice_dim(0, layers - 1..layers).into_data();
    let found: Vec<f32> = found.iter::<f32>().collect();
    total_costs(case, bench, &found, [b, q, n], failures);
    let Some(stored) = case.tensors.get("cost_matrix") else { return };
    let mut all = stored.values.clone();
    let columns = stored.shape[1];
    let mut first = 0;
    for image in 0..b {
        let objects = targets.images()[image].labels.len();
        for query in 0..q {
            for object in 0..objects {
                all[(image * q + query) * columns + first + object] =
                    f64::from(found[(image * q + query) * n + object]);
            }
        }
        first += objects;
    }
    failures.values(case, bench.slack, "cost_matrix", &[b * q, columns], &all);
}

/// Computes the cost of each image's pairs, from our costs `[B, Q, N]` and the pairs of the case. The sum
/// of n costs may be off by n times what one may.
fn total_costs(
    case: &Case,
    bench: &Bench,
    costs: &[f32],
    [b, q, n]: [usize; 3],
    failures: &mut Failures,
) {
    let side = |image: usize, side: &str| case.tensors.get(&format!("match{image}.{side}"));
    let mut totals = Vec::with_capacity(b);
    let mut most = 0;
    for image in 0..b {
        let (Some(queries), Some(objects)) = (side(image, "src"), side(image, "tgt")) else {
            return;
        };
        let pairs = queries.values.iter().zip(&objects.values);
        let cost = |(&query, &object): (&f64, &f64)| {
            f64::from(costs[(image * q + index(query)) * n + index(object)])
        };
        totals.push(pairs.map(cost).sum::<f64>());
        most = most.max(queries.values.len());
    }
    let atol = case.atol("cost_matrix").max(1e-5) * most as f64 * bench.slack;
    failures.values_within(case, atol, "match_total_cost", &[b], &totals);
}

/// Compares the pairs of every image, if the case has them.
pub fn matching(
    case: &Case,
    failures: &mut Failures,
    prefix: &str,
    images: &[Vec<(usize, usize)>],
) {
    for (image, pairs) in images.iter().enumerate() {
        let [queries, objects] = ["src", "tgt"].map(|side| format!("{prefix}match{image}.{side}"));
        if !case.tensors.contains_key(&queries) {
            continue;
        }
        failures.used(&queries);
        failures.used(&objects);
        let of = |name: &str| -> Vec<usize> {
            case.tensors[name].values.iter().map(|&v| index(v)).collect()
        };
        let expected: Vec<_> = of(&queries).into_iter().zip(of(&objects)).collect();
        failures.check(*pairs == expected, || {
            format!("{prefix}match{image}: {pairs:?}, expected {expected:?}")
        });
    }
}

/// Losses, logged numbers and their weighted sum; six times the error of PyTorch's f32 run.
fn numbers(case: &Case, failures: &mut Failures, total: f32, named: &[(LossName, f32)]) {
    let mut check = |name: &str, found: f32, expected: &Value, f32_run: &Value| {
        let (Some(expected), Some(f32_run)) = (expected.as_f64(), f32_run.as_f64()) else {
            return failures.fail(format!("{name}: not among the losses of the case"));
        };
        let tolerance = (6.0 * (f32_run - expected).abs()).max(2e-6 * expected.abs()).max(1e-6);
        let difference = (f64::from(found) - expected).abs();
        failures.check(difference <= tolerance, || {
            format!("{name}: {found}, expected {expected} within {tolerance:.1e}")
        });
    };
    check("total", total, &case.json["total"], &case.json["total_f32"]);
    for (name, found) in named {
        let name = name.to_string();
        check(&name, *found, &case.json["losses"][&name], &case.json["losses_f32"][&name]);
    }
    let expected = case.json["losses"].as_object().expect("losses");
    for name in expected.keys() {
        failures.check(named.iter().any(|(found, _)| found.to_string() == *name), || {
            format!("{name} is missing")
        });
    }
}
