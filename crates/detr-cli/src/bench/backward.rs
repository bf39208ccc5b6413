//! `detr bench backward`: a forward and a backward pass of a model, without matching and losses: the
//! gradient of the sum of all outputs. On a CPU, what it takes in memory bounds the pictures that can
//! be trained on.

use std::fmt::Write;
use std::time::Instant;

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use clap::Args;
use detr_infer::backend::catch_device;
use detr_infer::cli::{CliError, Console, open_model, print, print_json};
use detr_model::nested::{NestedTensor, Padding};
use detr_model::weights::recipe_image;
use detr_model::{DeviceError, Model, float_dtype, traffic};
use serde::Serialize;

use super::{InputArgs, Size, Spread, ms, spread, spread_table};
use crate::machine::{BURN, cpu_name, peak_memory_mb};

/// Flags of `detr bench backward`.
#[derive(Args)]
pub(crate) struct BenchBackwardArgs {
    #[command(flatten)]
    input: InputArgs,

    /// Measured passes
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Passes before the measured ones
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: u32,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    backend: String,
    device: String,
    dtype: String,
    height: u32,
    width: u32,
    batch_size: u32,
    runs: u32,
    warmup: u32,
    forward_ms: Spread,
    backward_ms: Spread,
    peak_memory_mb: Option<f64>,
    cpu: String,
    threads: usize,
    version: &'static str,
    burn: &'static str,
}

pub(crate) fn backward(args: &BenchBackwardArgs, console: &Console) -> Result<(), CliError> {
    let selected = args.input.device.select()?;
    console.note(&format!("using {}", selected.name));
    let device = selected.device.clone().autodiff();
    let checkpoint =
        open_model(&args.input.model, &args.input.load, console, || Ok(device.clone()))?;
    let model = catch_device(|| checkpoint.load(&device, float_dtype(args.input.device.dtype)))??;
    drop(checkpoint);

    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    let once = || -> Result<[f64; 2], CliError> {
        catch_device(|| pass(&model, args, &device))?
            .map_err(|error| CliError::Failed(error.message))
    };
    for _ in 0..args.warmup {
        once()?;
    }
    for _ in 0..args.runs {
        let times = once()?;
        forward.push(times[0]);
        backward.push(times[1]);
    }
    let Size(size) = args.input.size;
    let report = Report {
        model: &args.input.model,
        backend: selected.backend.to_string(),
        device: selected.name,
        dtype: args.input.device.dtype.to_string(),
        height: size.height,
        width: size.width,
        batch_size: args.input.batch_size,
        runs: args.runs,
        warmup: args.warmup,
        forward_ms: spread(forward),
        backward_ms: spread(backward),
        peak_memory_mb: peak_memory_mb(),
        cpu: cpu_name(),
        threads: rayon::current_num_threads(),
        version: env!("CARGO_PKG_VERSION"),
        burn: BURN,
    };
    if args.json { print_json(&report) } else { print(&table(&report)) }
}

/// Milliseconds of a forward and of a backward pass.
fn pass(model: &Model, args: &BenchBackwardArgs, device: &Device) -> Result<[f64; 2], DeviceError> {
    let Size(size) = args.input.size;
    let [b, h, w] = [args.input.batch_size, size.height, size.width].map(|side| side as usize);
    let pixels = (1..=u64::from(args.input.batch_size)).flat_map(|seed| recipe_image(seed, h, w));
    let pixels = TensorData::new(pixels.collect::<Vec<f32>>(), [b, 3, h, w]);
    let pixels: Tensor<4> = Tensor::from_data(pixels, (device, DType::F32));
    let wait = || traffic::wait(device);
    wait()?;
    let start = Instant::now();
    let output = model.forward(NestedTensor { pixels, padding: Padding::None });
    let mut sum = output.pred_logits.cast(FloatDType::F32).sum() + output.pred_boxes.sum();
    if let Some(encoder) = output.enc_outputs {
        sum = sum + encoder.pred_logits.cast(FloatDType::F32).sum() + encoder.pred_boxes.sum();
    }
    wait()?;
    let forward = ms(start.elapsed());
    let start = Instant::now();
    drop(sum.backward());
    wait()?;
    Ok([forward, ms(start.elapsed())])
}

fn table(report: &Report<'_>) -> String {
    let title = format!(
        "{} on {}, {}, {} x {}x{}, {} runs",
        report.model,
        report.device,
        report.dtype,
        report.batch_size,
        report.height,
        report.width,
        report.runs
    );
    let rows = [("forward", report.forward_ms), ("backward", report.backward_ms)];
    let mut text = spread_table(&title, &rows);
    if let Some(peak) = report.peak_memory_mb {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\npeak memory of the process {peak:.0} MB, without that of a GPU");
    }
    text
}
