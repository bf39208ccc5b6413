//! Times of multi-scale deformable attention, forward and backward, by the kernel and by plain tensor
//! operations: `cargo run --release -p detr-tests --example bench_msda -- --backend flex`.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use clap::Parser;
use detr_infer::backend::{Backend, Precision, select};
use detr_model::weights::recipe_value;
use detr_ops::{msda, reference::msda_reference};

/// Levels, from fine to coarse, and queries.
type Case = (&'static str, [[usize; 2]; 4], Option<usize>);

/// A square picture of 640 pixels, and the paper's sizes in the encoder and in the decoder.
const CASES: [Case; 3] = [
    ("640 encoder", [[80, 80], [40, 40], [20, 20], [10, 10]], None),
    ("800 encoder", [[100, 134], [50, 67], [25, 34], [13, 17]], None),
    ("800 decoder", [[100, 134], [50, 67], [25, 34], [13, 17]], Some(300)),
];

/// Heads, channels per head, points per level.
const SIZES: [usize; 3] = [8, 32, 4];

#[derive(Parser)]
struct Args {
    /// What computes
    #[arg(long, default_value = "flex")]
    backend: Backend,
    /// Precision of the values
    #[arg(long, default_value = "f32")]
    dtype: Precision,
    /// Measured runs; the best and the median are printed
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Cases whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Measure plain tensor operations too
    #[arg(long)]
    reference: bool,
    /// Leave out the backward pass
    #[arg(long)]
    forward_only: bool,
}

fn main() {
    let args = Args::parse();
    let device = select(args.backend, 0, args.dtype).expect("a device").device;
    let dtype = match args.dtype {
        Precision::F32 => FloatDType::F32,
        Precision::F16 => FloatDType::F16,
        Precision::Bf16 => FloatDType::BF16,
    };
    println!("milliseconds, best / median of {}", args.runs);
    for (name, levels, queries) in CASES {
        for near in [false, true] {
            let name = format!("{name}, {}", if near { "near points" } else { "points anywhere" });
            if name.contains(&args.only) {
                let inputs = Inputs::new(&levels, queries, near, &device, dtype);
                inputs.report(&name, &args);
            }
        }
    }
}

struct Inputs {
    levels: Vec<[usize; 2]>,
    value: Tensor<4>,
    locations: Tensor<6>,
    weights: Tensor<5>,
    device: Device,
}

impl Inputs {
    /// Points anywhere in the picture, or within some cells of the place of their query, as in a
    /// model.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // any numbers will do
    fn new(
        levels: &[[usize; 2]],
        queries: Option<usize>,
        near: bool,
        device: &Device,
        dtype: FloatDType,
    ) -> Self {
        let [m, d, p] = SIZES;
        let l = levels.len();
        let s: usize = levels.iter().map(|[h, w]| h * w).sum();
        let q = queries.unwrap_or(s);
        let centres: Vec<[f64; 2]> = levels
            .iter()
            .flat_map(|&[h, w]| (0..h * w).map(move |i| (i, h, w)))
            .map(|(i, h, w)| [((i % w) as f64 + 0.5) / w as f64, ((i / w) as f64 + 0.5) / h as f64])
            .collect();
        let location = |i: usize| {
            let r = recipe_value("bench.loc", 1, i as u64);
            let (axis, level, query) = (i % 2, i / (2 * p) % l, i / (2 * p * l * m) % q);
            let side = levels[level][1 - axis] as f64;
            let centre = centres[query * (s / q)][axis];
            (if near { centre + 4.0 * r / side } else { 0.5 + 0.5 * r }) as f32
        };
        let numbers = |name: &str, count: usize| -> Vec<f32> {
            (0..count).map(|i| recipe_value(name, 1, i as u64) as f32).collect()
        };
        let value = TensorData::new(numbers("bench.value", s * m * d), [1, s, m, d]);
        let count = q * m * l * p * 2;
        let locations: Vec<f32> = (0..count).map(location).collect();
        let locations = TensorData::new(locations, [1, q, m, l, p, 2]);
        let weights = TensorData::new(numbers("bench.weight", count / 2), [1, q, m, l, p]);
        let f32 = (device, DType::F32);
        Self {
            levels: levels.to_vec(),
            value: Tensor::<4>::from_data(value, f32).cast(dtype),
            locations: Tensor::from_data(locations, f32),
            weights: Tensor::from_data(weights, f32),
            device: device.clone(),
        }
    }

    fn report(&self, name: &str, args: &Args) {
        let mut functions: Vec<(&str, Operation)> = vec![("kernel", kernel)];
        if args.reference {
            functions.push(("tensor operations", reference));
        }
        for (which, function) in functions {
            let forward = times(args.runs, || self.forward(function));
            let both = if args.forward_only {
                "not run".to_owned()
            } else {
                times(args.runs, || self.forward_backward(function))
            };
            println!("{name}, {which}: forward {forward}, forward and backward {both}");
        }
    }

    fn forward(&self, function: Operation) {
        let output =
            function(self, self.value.clone(), self.locations.clone(), self.weights.clone());
        drop(output);
        self.device.sync().expect("a device that works");
    }

    fn forward_backward(&self, function: Operation) {
        let value = self.value.clone().autodiff().require_grad();
        let locations = self.locations.clone().autodiff().require_grad();
        let weights = self.weights.clone().autodiff().require_grad();
        let output = function(self, value.clone(), locations.clone(), weights.clone());
        let mut grads = output.sum().backward();
        let grads = (value.grad_remove(&mut grads), locations.grad_remove(&mut grads));
        drop(grads);
        self.device.sync().expect("a device that works");
    }
}

type Operation = fn(&Inputs, Tensor<4>, Tensor<6>, Tensor<5>) -> Tensor<3>;

fn kernel(
    inputs: &Inputs,
    value: Tensor<4>,
    locations: Tensor<6>,
    weights: Tensor<5>,
) -> Tensor<3> {
    msda(value, &inputs.levels, locations, weights)
}

fn reference(
    inputs: &Inputs,
    value: Tensor<4>,
    locations: Tensor<6>,
    weights: Tensor<5>,
) -> Tensor<3> {
    msda_reference(value, &inputs.levels, locations, weights)
}

/// Best and median time of some runs, after one that is not counted.
fn times(runs: usize, run: impl Fn()) -> String {
    run();
    let mut times: Vec<Duration> = (0..runs.max(1))
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    format!("{:.1} / {:.1}", ms(times[0]), ms(times[times.len() / 2]))
}
