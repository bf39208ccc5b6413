//! `cargo xtask bench match`: the matching of a training step on the CPU: seeded predictions of 7 layers, 16 images
//! and 300 queries, matched to 10 objects spread over each image or to 50 of one class crowded in its middle, with the
//! costs of DETR and of Deformable DETR. The costs (on the device, read back) and the assignments (on the host) are
//! timed apart. Scipy solves the same costs, and must find the same least sums.

use std::time::Instant;

use burn::tensor::{DType, Device, Tensor, TensorData};
use detr_infer::backend::{Backend, select_untested};
use detr_infer::cli::{CliError, Console};
use detr_loss::{
    Assignment, Classification, PredictionGroup, SetCriterion, Source, Target, Targets,
};
use detr_types::Precision;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value, json};

use crate::random::Random;
use crate::report::{Report, Row, ms, root};
use crate::sides::{Benchmark, Flags, Script};

const LAYERS: usize = 7;
const B: usize = 16;
const Q: usize = 300;
const CLASSES: usize = 91;

/// The name of every case, its criterion, and the number and spread of its objects.
const CASES: [(&str, SetCriterion, usize, Spread); 4] = [
    ("detr_10", SetCriterion::detr(), 10, Spread::Anywhere),
    ("detr_50_clustered", SetCriterion::detr(), 50, Spread::Clustered),
    ("deformable_10", SetCriterion::deformable_detr(), 10, Spread::Anywhere),
    ("deformable_50_clustered", SetCriterion::deformable_detr(), 50, Spread::Clustered),
];

#[derive(Clone, Copy)]
enum Spread {
    Anywhere,
    Clustered,
}

/// Ours are sums of costs in steps of 2^-20: either side of a pair may be half a step off.
const STEP: f64 = 1.0 / (1 << 20) as f64;

/// The measurements of a case.
#[derive(Default)]
struct Case {
    costs_ms: Vec<f64>,
    assign_ms: Vec<f64>,
    totals: Vec<f64>,
    costs: Vec<f32>,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the cases whose name contains this, such as clustered
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

impl Args {
    fn cases(&self) -> impl Iterator<Item = (&'static str, SetCriterion, usize, Spread)> {
        CASES.into_iter().filter(|(name, ..)| name.contains(&self.only))
    }
}

impl Benchmark for Args {
    fn measure(&self, flags: &Flags, _console: &Console) -> Result<Report, CliError> {
        if self.cases().next().is_none() {
            return Err(CliError::Usage(format!(
                "--only `{}` is part of no case's name\nhint: the cases are: {}",
                self.only,
                CASES.map(|(name, ..)| name).join("; ")
            )));
        }
        let device = select_untested(Backend::Flex, 0, Precision::F32)?.device;
        let (mut rows, mut totals, mut written) = (Vec::new(), Map::new(), Vec::new());
        for (name, criterion, objects, spread) in self.cases() {
            let case = case(criterion, objects, spread, flags.runs.unwrap_or(9), &device)?;
            rows.push(Row::of_runs(name, "ms", case.assign_ms));
            rows.push(Row::of_runs(format!("{name}, costs"), "ms", case.costs_ms));
            totals.insert(name.to_owned(), json!(case.totals));
            let bytes: Vec<u8> = case.costs.iter().flat_map(|cost| cost.to_le_bytes()).collect();
            written.push((name, objects, bytes));
        }
        let views = written.iter().map(|(name, n, bytes)| {
            Ok((*name, TensorView::new(Dtype::F32, vec![LAYERS, B, Q, *n], bytes)?))
        });
        let bytes = views
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .and_then(|views| safetensors::serialize(views, None))
            .map_err(|error| failed(&error))?;
        let path = root().join(COSTS);
        detr_types::fs::atomic_write(&path, |out| out.write_all(&bytes))
            .map_err(|error| failed(&error))?;
        let facts = json!({ "layers": LAYERS, "batch": B, "queries": Q, "totals": totals });
        Ok(Report::new(facts, rows))
    }

    fn peers(&self, flags: &Flags) -> [Option<Script>; 2] {
        let costs = root().join(COSTS).display().to_string();
        let args = vec![costs, flags.runs.unwrap_or(9).to_string()];
        [Some(("match_scipy.py", args)), None]
    }

    fn agree(&self, ours: &Report, theirs: &Value) -> Result<(), String> {
        let list = |value: &Value| -> Vec<f64> {
            value.as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
        };
        for (name, _, objects, _) in self.cases() {
            let mut cases = theirs["cases"].as_array().into_iter().flatten();
            let theirs = cases.find(|case| case["name"] == name).map(|case| list(&case["totals"]));
            let theirs = theirs.unwrap_or_default();
            let ours = ours.facts.get("totals").map(|all| list(&all[name])).unwrap_or_default();
            #[allow(clippy::cast_precision_loss)] // a few
            let bound = STEP * objects as f64;
            if ours.len() != theirs.len() {
                return Err(format!("{name}: {} sums of costs, not {}", theirs.len(), ours.len()));
            }
            for (problem, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                if (ours - theirs).abs() > bound {
                    return Err(format!(
                        "{name}, problem {problem}: least sums of costs {ours} and {theirs} differ by more than {bound:e}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The file of the costs that others solve, safetensors `[layers, B, Q, n]`.
const COSTS: &str = "target/bench/costs.safetensors";

fn failed(error: &dyn std::fmt::Display) -> CliError {
    CliError::Failed(error.to_string())
}

/// Returns the costs and the times of computing them and of the assignments, with the least sums of costs.
fn case(
    criterion: SetCriterion,
    objects: usize,
    spread: Spread,
    runs: u32,
    device: &Device,
) -> Result<Case, CliError> {
    let mut random = Random(objects as u64);
    let group = predictions(criterion.classification, &mut random, device);
    let images = (0..B).map(|_| target(objects, spread, &mut random)).collect();
    let targets = Targets::new(images, CLASSES, device).map_err(|error| failed(&error))?;
    let of_costs = || -> Result<Vec<f32>, CliError> {
        let costs = criterion.matcher().costs(&group, &targets);
        costs.into_data().try_into_vec().map_err(|error| CliError::Failed(format!("{error:?}")))
    };
    let assign = |costs: &[f32]| {
        Assignment::from_costs(costs, [LAYERS, B, Q, objects], &[objects; B])
            .map_err(|error| failed(&error))
    };
    let mut case = Case { costs: of_costs()?, ..Case::default() };
    let mut assignment = assign(&case.costs)?;
    for _ in 0..runs {
        let start = Instant::now();
        case.costs = of_costs()?;
        case.costs_ms.push(ms(start.elapsed()));
        let start = Instant::now();
        assignment = assign(&case.costs)?;
        case.assign_ms.push(ms(start.elapsed()));
    }
    let problems = assignment.layers.iter().flatten().zip(case.costs.chunks_exact(Q * objects));
    case.totals = problems
        .map(|(pairs, costs)| pairs.iter().map(|&(q, n)| f64::from(costs[q * objects + n])).sum())
        .collect();
    Ok(case)
}

/// Returns logits and boxes without any relation to the objects, as at the start of training.
fn predictions(
    classification: Classification,
    random: &mut Random,
    device: &Device,
) -> PredictionGroup {
    let columns = match classification {
        Classification::Softmax { .. } => CLASSES + 1,
        Classification::Focal { .. } => CLASSES,
    };
    let logits: Vec<f32> =
        (0..LAYERS * B * Q * columns).map(|_| random.between_f32(-6.0, 2.0)).collect();
    let boxes: Vec<f32> = (0..LAYERS * B * Q)
        .flat_map(|_| [(0.0, 1.0), (0.0, 1.0), (0.02, 0.6), (0.02, 0.6)])
        .map(|(low, high)| random.between_f32(low, high))
        .collect();
    let tensor = |values, shape: [usize; 4]| {
        Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
    };
    let (logits, boxes) =
        (tensor(logits, [LAYERS, B, Q, columns]), tensor(boxes, [LAYERS, B, Q, 4]));
    PredictionGroup::new(Source::Decoder, logits, boxes)
}

fn target(objects: usize, spread: Spread, random: &mut Random) -> Target {
    let (centre, side) = match spread {
        Spread::Anywhere => ((0.1, 0.9), (0.05, 0.5)),
        Spread::Clustered => ((0.45, 0.55), (0.05, 0.15)),
    };
    let boxes = (0..objects).map(|_| [centre, centre, side, side]);
    let boxes =
        boxes.map(|sides| sides.map(|(low, high)| random.between_f32(low, high)).into()).collect();
    let label = |random: &mut Random| match spread {
        Spread::Anywhere => random.below(CLASSES),
        Spread::Clustered => 1,
    };
    Target { boxes, labels: (0..objects).map(|_| label(random)).collect(), masks: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_sums_are_no_comparison() {
        let totals: Map<String, Value> =
            CASES.iter().map(|(name, ..)| ((*name).to_owned(), json!([-3.0]))).collect();
        let ours = Report::new(json!({ "totals": totals }), Vec::new());
        let theirs = |sum: f64| {
            let cases = CASES.map(|(name, ..)| json!({ "name": name, "totals": [sum] }));
            json!({ "cases": cases })
        };
        let args = Args { only: String::new() };
        assert_eq!(args.agree(&ours, &theirs(-3.0 + 4.0 * STEP)), Ok(()));
        let error = args.agree(&ours, &theirs(-3.0 + 40.0 * STEP)).unwrap_err();
        assert!(error.contains("problem 0"), "{error}");
        assert!(args.agree(&ours, &json!({})).is_err());
    }
}
