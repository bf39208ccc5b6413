//! `cargo xtask bench msda`: multi-scale deformable attention by itself, at the sizes of the Deformable DETR
//! paper for a picture of 800 by 1066 pixels, beside the memory that must move and plain tensor operations.

use std::hint::black_box;
use std::time::Instant;

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use detr_infer::backend::{Backend, BackendError, SelectedDevice, catch_device};
use detr_infer::cli::{CliError, Console, DeviceArgs};
use detr_model::float_dtype;
use detr_model::weights::recipe_value;
use detr_ops::msda;
use detr_ops::reference::msda_reference;
use rayon::prelude::*;
use serde_json::json;

use crate::infer::peer_device;
use crate::report::{Report, Row, median, ms};
use crate::sides::{Benchmark, Flags, Script};

/// Bytes that a measured copy reads: more than a cache holds, and as many as every adapter binds.
const COPY_BYTES: usize = 1 << 27;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    device: DeviceArgs,

    /// Measure plain tensor operations too; at most 3 runs
    #[arg(long)]
    reference: bool,

    /// Only the cases whose name contains this, such as encoder or near
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

type Operation = fn(Tensor<4>, &[[usize; 2]], Tensor<6>, Tensor<5>) -> Tensor<3>;

/// Runs one kind of call.
type Call = fn(&Inputs, Operation);

impl Args {
    fn runs(flags: &Flags) -> [u32; 2] {
        [flags.runs.unwrap_or(9), flags.warmup.unwrap_or(2)]
    }
}

impl Benchmark for Args {
    fn measure(&self, flags: &Flags, console: &Console) -> Result<Report, CliError> {
        let [runs, warmup] = Self::runs(flags);
        let wanted: Vec<_> =
            Case::ALL.into_iter().filter(|case| case.name.contains(&self.only)).collect();
        if wanted.is_empty() {
            let names: Vec<_> = Case::ALL.iter().map(|case| case.name).collect();
            return Err(CliError::Usage(format!(
                "--only `{}` is part of no case's name\nhint: the cases are: {}",
                self.only,
                names.join("; ")
            )));
        }
        let selected = self.device.select()?;
        console.note(&format!("using {}", selected.name));
        let device = &selected.device;
        let copy_gb_s = copy_bandwidth(&selected, [runs, warmup])?;
        let mut rows = Vec::new();
        for case in wanted {
            console.note(case.name);
            let inputs =
                catch_device(|| Inputs::new(&case, device, float_dtype(self.device.dtype)))?;
            let forward_bytes = inputs.forward_bytes();
            let both_bytes = forward_bytes + inputs.backward_bytes();
            for (name, call, bytes) in [
                ("forward", forward as Call, forward_bytes),
                ("forward and backward", forward_backward, both_bytes),
            ] {
                let times_of = times(device, warmup, runs, || call(&inputs, msda))?;
                let mut row = Row::of_runs(format!("{}, {name}", case.name), "ms", times_of);
                #[allow(clippy::cast_precision_loss)] // megabytes for people
                row.set("mb", Some(bytes as f64 / 1e6));
                row.set("gb_s", row.get("median").map(|ms| gb_s(bytes, ms)));
                if self.reference {
                    let slow = times(device, 1, runs.min(3), || call(&inputs, msda_reference))?;
                    row.set("reference", median(slow));
                }
                rows.push(row);
            }
        }
        let facts = json!({
            "backend": selected.backend.to_string(),
            "device": selected.name,
            "dtype": self.device.dtype.to_string(),
            "runs": runs,
            "copy_gb_s": copy_gb_s,
        });
        Ok(Report::new(facts, rows))
    }

    fn peers(&self, flags: &Flags) -> [Option<Script>; 2] {
        let [runs, warmup] = Self::runs(flags);
        let args = [
            ("--dtype", self.device.dtype.to_string()),
            ("--only", self.only.clone()),
            ("--runs", runs.to_string()),
            ("--warmup", warmup.to_string()),
            ("--threads", Flags::threads()),
            ("--device", peer_device(&self.device)),
        ];
        let args = args.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        [Some(("msda_torch.py", args)), None]
    }
}

fn forward(inputs: &Inputs, operation: Operation) {
    let Inputs { levels, value, locations, weights } = inputs;
    drop(operation(value.clone(), levels, locations.clone(), weights.clone()));
}

/// Computes the gradients of the sum of the output by all three inputs.
fn forward_backward(inputs: &Inputs, operation: Operation) {
    let value = inputs.value.clone().autodiff().require_grad();
    let locations = inputs.locations.clone().autodiff().require_grad();
    let weights = inputs.weights.clone().autodiff().require_grad();
    let output = operation(value.clone(), &inputs.levels, locations.clone(), weights.clone());
    let mut grads = output.sum().backward();
    drop(value.grad_remove(&mut grads));
    drop(locations.grad_remove(&mut grads));
    drop(weights.grad_remove(&mut grads));
}

/// Returns the milliseconds of some calls, each until the device is done.
fn times(device: &Device, warmup: u32, runs: u32, call: impl Fn()) -> Result<Vec<f64>, CliError> {
    let mut times = Vec::new();
    let (warmup, runs) = (u64::from(warmup), u64::from(runs));
    for run in 0..warmup + runs {
        let start = Instant::now();
        catch_device(|| {
            call();
            device.sync()
        })?
        .map_err(|error| BackendError::Failed { message: format!("{error:?}") })?;
        if run >= warmup {
            times.push(ms(start.elapsed()));
        }
    }
    Ok(times)
}

/// Returns what a plain copy reaches: on a CPU by all threads, on a GPU by an element-wise operation.
fn copy_bandwidth(selected: &SelectedDevice, [runs, warmup]: [u32; 2]) -> Result<f64, CliError> {
    let device = &selected.device;
    let (warmup, runs) = (warmup.max(1), runs.max(5));
    let times = if matches!(selected.backend, Backend::Flex | Backend::Ndarray) {
        let from = vec![1u8; COPY_BYTES];
        let to = std::cell::RefCell::new(vec![0u8; COPY_BYTES]);
        times(device, warmup, runs, || {
            let mut to = to.borrow_mut();
            let chunk = COPY_BYTES / rayon::current_num_threads().max(1) + 1;
            to.par_chunks_mut(chunk)
                .zip(from.par_chunks(chunk))
                .for_each(|(to, from)| to.copy_from_slice(from));
            black_box(&mut to);
        })?
    } else {
        let from = catch_device(|| Tensor::<1>::ones([COPY_BYTES / 4], (device, DType::F32)))?;
        times(device, warmup, runs, || drop(from.clone().add_scalar(1.0)))?
    };
    Ok(gb_s(2 * COPY_BYTES, median(times).unwrap_or(f64::INFINITY)))
}

#[allow(clippy::cast_precision_loss)] // a rate
fn gb_s(bytes: usize, ms: f64) -> f64 {
    bytes as f64 / ms / 1e6
}

/// Levels of strides 8 to 64, (H, W).
const LEVELS: [[usize; 2]; 4] = [[100, 134], [50, 67], [25, 34], [13, 17]];
/// Heads.
const M: usize = 8;
/// Channels per head.
const D: usize = 32;
/// Points per level.
const P: usize = 4;
/// The largest distance of points near their query, in cells of their level: those of the
/// initialisation are as far.
const NEAR: f64 = 4.0;

/// A call to measure.
struct Case {
    name: &'static str,
    /// Queries; one for every cell if none.
    queries: Option<usize>,
    /// Points near the place of their query, as in a model, or anywhere in the picture.
    near: bool,
}

impl Case {
    /// Encoder and decoder.
    const ALL: [Self; 4] = [
        Self { name: "encoder, near", queries: None, near: true },
        Self { name: "encoder, anywhere", queries: None, near: false },
        Self { name: "decoder, near", queries: Some(300), near: true },
        Self { name: "decoder, anywhere", queries: Some(300), near: false },
    ];
}

/// The arguments of a call.
struct Inputs {
    levels: Vec<[usize; 2]>,
    value: Tensor<4>,
    locations: Tensor<6>,
    weights: Tensor<5>,
}

impl Inputs {
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // any numbers will do
    fn new(case: &Case, device: &Device, dtype: FloatDType) -> Self {
        let l = LEVELS.len();
        let s: usize = LEVELS.iter().map(|[h, w]| h * w).sum();
        let q = case.queries.unwrap_or(s);
        let centres: Vec<[f64; 2]> = LEVELS
            .iter()
            .flat_map(|&[h, w]| (0..h * w).map(move |i| (i, h, w)))
            .map(|(i, h, w)| [((i % w) as f64 + 0.5) / w as f64, ((i / w) as f64 + 0.5) / h as f64])
            .collect();
        let location = |i: usize| {
            let r = recipe_value("bench.locations", 1, i as u64);
            let (axis, level, query) = (i % 2, i / (2 * P) % l, i / (2 * P * l * M));
            let side = LEVELS[level][1 - axis] as f64;
            let centre = centres[query * (s / q)][axis];
            (if case.near { centre + NEAR * r / side } else { 0.5 + 0.5 * r }) as f32
        };
        let numbers = |name: &str, count: usize| -> Vec<f32> {
            (0..count).map(|i| recipe_value(name, 1, i as u64) as f32).collect()
        };
        let count = q * M * l * P * 2;
        let locations: Vec<f32> = (0..count).map(location).collect();
        let f32 = (device, DType::F32);
        let value = TensorData::new(numbers("bench.value", s * M * D), [1, s, M, D]);
        let weights = TensorData::new(numbers("bench.weights", count / 2), [1, q, M, l, P]);
        Self {
            levels: LEVELS.to_vec(),
            value: Tensor::<4>::from_data(value, f32).cast(dtype),
            locations: Tensor::from_data(TensorData::new(locations, [1, q, M, l, P, 2]), f32),
            weights: Tensor::from_data(weights, f32),
        }
    }

    fn queries(&self) -> usize {
        self.locations.dims()[1]
    }

    /// Inputs read and output written, each once.
    fn forward_bytes(&self) -> usize {
        self.input_bytes() + self.output_bytes()
    }

    /// Inputs and the gradient of the output read, gradients of the inputs written.
    fn backward_bytes(&self) -> usize {
        2 * self.input_bytes() + self.output_bytes()
    }

    fn input_bytes(&self) -> usize {
        let value = self.value.shape().num_elements() * self.value.dtype().size();
        let points = self.locations.shape().num_elements() + self.weights.shape().num_elements();
        value + points * DType::F32.size()
    }

    fn output_bytes(&self) -> usize {
        self.queries() * M * D * self.value.dtype().size()
    }
}
