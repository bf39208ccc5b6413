//! Times the matching of a training step on the CPU and prints JSON: seeded predictions of 7 layers,
//! 16 images and 300 queries, matched to 10 objects spread over each image or to 50 of one class
//! crowded in its middle, with the costs of DETR and of Deformable DETR. The costs (on the device,
//! read back) and the assignments (on the host) are timed apart. `cargo xtask bench match` runs it.
//!
//! `cargo run --release -p detr-loss --example bench_match -- [RUNS] [FILE]`: with a FILE, the costs
//! are written there as safetensors `[layers, B, Q, n]`, for others to solve.

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::{DType, Device, Tensor, TensorData};
use detr_infer::backend::{Backend, Precision, select_untested};
use detr_loss::{
    Assignment, Classification, PredictionGroup, SetCriterion, Source, Target, Targets,
};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

const LAYERS: usize = 7;
const B: usize = 16;
const Q: usize = 300;
const CLASSES: usize = 91;

type Error = Box<dyn std::error::Error>;

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

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args_os().skip(1);
    let runs: usize = match arguments.next() {
        Some(text) => text.to_str().ok_or("RUNS is no number")?.parse()?,
        None => 9,
    };
    let file = arguments.next().map(PathBuf::from);
    let device = select_untested(Backend::Flex, 0, Precision::F32)?.device;
    let mut measured = Vec::new();
    let mut written = Vec::new();
    for (name, criterion, objects, spread) in CASES {
        let (mut result, costs) = case(criterion, objects, spread, runs.max(1), &device)?;
        result["name"] = json!(name);
        measured.push(result);
        written.push((name, objects, costs.iter().flat_map(|cost| cost.to_le_bytes()).collect()));
    }
    if let Some(path) = file {
        let views = written.iter().map(|(name, n, bytes): &(_, _, Vec<u8>)| {
            Ok((*name, TensorView::new(Dtype::F32, vec![LAYERS, B, Q, *n], bytes)?))
        });
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        let bytes = safetensors::serialize(views, None)?;
        detr_types::fs::atomic_write(&path, |out| out.write_all(&bytes))?;
    }
    let threads = rayon::current_num_threads();
    let report =
        json!({"layers": LAYERS, "batch": B, "queries": Q, "threads": threads, "cases": measured});
    #[allow(clippy::print_stdout)] // its output
    {
        println!("{report}");
    }
    Ok(())
}

/// Returns the times of all runs in milliseconds with the least sums of costs, and the costs themselves.
fn case(
    criterion: SetCriterion,
    objects: usize,
    spread: Spread,
    runs: usize,
    device: &Device,
) -> Result<(Value, Vec<f32>), Error> {
    let mut random = Random(objects as u64);
    let group = predictions(criterion.classification, &mut random, device);
    let images = (0..B).map(|_| target(objects, spread, &mut random)).collect();
    let targets = Targets::new(images, CLASSES, device)?;
    let of_costs = || -> Result<Vec<f32>, Error> {
        let costs = criterion.matcher().costs(&group, &targets);
        Ok(costs.into_data().try_into_vec().map_err(|error| format!("{error:?}"))?)
    };
    let counts = [objects; B];
    let (mut costs_ms, mut assign_ms) = (Vec::new(), Vec::new());
    let mut costs = of_costs()?;
    let mut assignment = Assignment::from_costs(&costs, [LAYERS, B, Q, objects], &counts)?;
    for _ in 0..runs {
        let start = Instant::now();
        costs = of_costs()?;
        costs_ms.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        assignment = Assignment::from_costs(&costs, [LAYERS, B, Q, objects], &counts)?;
        assign_ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let problems = assignment.layers.iter().flatten().zip(costs.chunks_exact(Q * objects));
    let totals: Vec<f64> = problems
        .map(|(pairs, costs)| pairs.iter().map(|&(q, n)| f64::from(costs[q * objects + n])).sum())
        .collect();
    let result =
        json!({"objects": objects, "costs_ms": costs_ms, "assign_ms": assign_ms, "totals": totals});
    Ok((result, costs))
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
        (0..LAYERS * B * Q * columns).map(|_| random.between(-6.0, 2.0)).collect();
    let boxes: Vec<f32> = (0..LAYERS * B * Q)
        .flat_map(|_| [(0.0, 1.0), (0.0, 1.0), (0.02, 0.6), (0.02, 0.6)])
        .map(|(low, high)| random.between(low, high))
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
        boxes.map(|sides| sides.map(|(low, high)| random.between(low, high)).into()).collect();
    let label = |random: &mut Random| match spread {
        Spread::Anywhere => random.below(CLASSES),
        Spread::Clustered => 1,
    };
    Target { boxes, labels: (0..objects).map(|_| label(random)).collect(), masks: None }
}

/// The splitmix64 generator of random numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    #[allow(clippy::cast_precision_loss)] // 24 bits
    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.next() >> 40) as f32 / (1u32 << 24) as f32)
    }

    #[allow(clippy::cast_possible_truncation)] // small
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
