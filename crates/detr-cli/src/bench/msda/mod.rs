//! `detr bench msda`: multi-scale deformable attention by itself, at the sizes of the Deformable DETR
//! paper, beside the memory that must move and the tensor-operation reference.

mod inputs;

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use burn::tensor::{DType, Device, Tensor};
use clap::Args;
use detr_infer::backend::{Backend, BackendError, Selected, catch_device};
use detr_infer::cli::{CliError, Console, DeviceArgs, print, print_json};
use detr_model::float_dtype;
use detr_ops::msda;
use detr_ops::reference::msda_reference;
use rayon::prelude::*;
use serde::Serialize;

use super::{Spread, ms, spread};
use crate::machine::{BURN, cpu_name};
use inputs::{Case, Inputs};

/// Bytes that a measured copy reads: more than a cache holds, and as many as every adapter binds.
const COPY_BYTES: usize = 1 << 27;

/// Flags of `detr bench msda`.
#[derive(Args)]
pub(crate) struct BenchMsdaArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// Measured calls of every kind
    #[arg(long, value_name = "N", default_value = "9", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Calls before the measured ones
    #[arg(long, value_name = "N", default_value_t = 2)]
    warmup: u32,

    /// Measure plain tensor operations too; at most 3 runs
    #[arg(long)]
    reference: bool,

    /// Only the cases whose name contains this, such as encoder or near
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    backend: String,
    device: String,
    dtype: String,
    runs: u32,
    /// Of a copy on this device, bytes read and written together, in 10^9 bytes per second.
    copy_gb_s: f64,
    cases: Vec<CaseReport>,
    cpu: String,
    /// Of the CPU backends; `RAYON_NUM_THREADS` sets it.
    threads: usize,
    version: &'static str,
    burn: &'static str,
}

#[derive(Serialize)]
struct CaseReport {
    name: &'static str,
    queries: usize,
    forward: Pass,
    forward_backward: Pass,
}

/// One kind of call.
#[derive(Serialize)]
struct Pass {
    ms: Spread,
    /// Inputs and results, each once.
    bytes: usize,
    /// Those bytes over the median.
    gb_s: f64,
    /// Plain tensor operations, if asked for.
    reference_ms: Option<Spread>,
}

type Operation = fn(Tensor<4>, &[[usize; 2]], Tensor<6>, Tensor<5>) -> Tensor<3>;

/// Runs one kind of call.
type Call = fn(&Inputs, Operation);

pub(crate) fn msda_alone(args: &BenchMsdaArgs, console: &Console) -> Result<(), CliError> {
    let wanted: Vec<_> =
        Case::ALL.into_iter().filter(|case| case.name.contains(&args.only)).collect();
    if wanted.is_empty() {
        let names: Vec<_> = Case::ALL.iter().map(|case| case.name).collect();
        return Err(CliError::Usage(format!(
            "--only `{}` is part of no case's name\nhint: the cases are: {}",
            args.only,
            names.join("; ")
        )));
    }
    let selected = args.device.select()?;
    console.note(&format!("using {}", selected.name));
    let device = &selected.device;
    let copy_gb_s = copy_bandwidth(&selected, args)?;
    let mut cases = Vec::new();
    for case in wanted {
        console.note(case.name);
        let inputs = catch_device(|| Inputs::new(&case, device, float_dtype(args.device.dtype)))?;
        let pass = |call: Call, bytes: usize| -> Result<Pass, CliError> {
            let ms = times(device, args.warmup, args.runs, || call(&inputs, msda))?;
            let reference_ms = args
                .reference
                .then(|| times(device, 1, args.runs.min(3), || call(&inputs, msda_reference)))
                .transpose()?;
            Ok(Pass { ms, bytes, gb_s: gb_s(bytes, ms.median), reference_ms })
        };
        cases.push(CaseReport {
            name: case.name,
            queries: inputs.queries(),
            forward: pass(forward, inputs.forward_bytes())?,
            forward_backward: pass(
                forward_backward,
                inputs.forward_bytes() + inputs.backward_bytes(),
            )?,
        });
    }
    let report = Report {
        backend: selected.backend.to_string(),
        device: selected.name.clone(),
        dtype: args.device.dtype.to_string(),
        runs: args.runs,
        copy_gb_s,
        cases,
        cpu: cpu_name(),
        threads: rayon::current_num_threads(),
        version: env!("CARGO_PKG_VERSION"),
        burn: BURN,
    };
    if args.json { print_json(&report) } else { print(&table(&report)) }
}

fn forward(inputs: &Inputs, operation: Operation) {
    let Inputs { levels, value, locations, weights } = inputs;
    drop(operation(value.clone(), levels, locations.clone(), weights.clone()));
}

/// The gradient of the sum of the output by all three inputs.
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

/// Times of some calls, each until the device is done.
fn times(device: &Device, warmup: u32, runs: u32, call: impl Fn()) -> Result<Spread, CliError> {
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
    Ok(spread(times))
}

/// What a plain copy reaches: on a CPU by all threads, on a GPU by an element-wise operation.
fn copy_bandwidth(selected: &Selected, args: &BenchMsdaArgs) -> Result<f64, CliError> {
    let device = &selected.device;
    let (warmup, runs) = (args.warmup.max(1), args.runs.max(5));
    let time = if matches!(selected.backend, Backend::Flex | Backend::Ndarray) {
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
    Ok(gb_s(2 * COPY_BYTES, time.median))
}

#[allow(clippy::cast_precision_loss)] // a rate
fn gb_s(bytes: usize, ms: f64) -> f64 {
    bytes as f64 / ms / 1e6
}

#[allow(clippy::cast_precision_loss)] // megabytes for people
fn table(report: &Report) -> String {
    let mut text = format!(
        "msda on {}, {}; medians of {} runs; a copy reaches {:.1} GB/s\n\n{:<20}{:<18}{:>10}{:>10}{:>9}{:>9}{:>9}{:>16}\n",
        report.device,
        report.dtype,
        report.runs,
        report.copy_gb_s,
        "",
        "",
        "ms",
        "min",
        "MB",
        "GB/s",
        "of copy",
        "tensor ops ms"
    );
    for case in &report.cases {
        for (name, pass) in
            [("forward", &case.forward), ("forward, backward", &case.forward_backward)]
        {
            let reference = pass.reference_ms.map_or_else(
                || "-".to_owned(),
                |ms| format!("{:.1} (x{:.1})", ms.median, ms.median / pass.ms.median),
            );
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:<20}{name:<18}{:>10.2}{:>10.2}{:>9.1}{:>9.2}{:>8.1}%{reference:>16}",
                case.name,
                pass.ms.median,
                pass.ms.min,
                pass.bytes as f64 / 1e6,
                pass.gb_s,
                100.0 * pass.gb_s / report.copy_gb_s,
            );
        }
    }
    let _ = writeln!(
        text,
        "\n{}, {} threads; detr {}, Burn {BURN}",
        report.cpu, report.threads, report.version
    );
    text
}
