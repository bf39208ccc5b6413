//! `detr bench train`: whole steps of training on generated images: forward, matching, losses, backward,
//! clipping and the optimizer, as `detr train` makes them, without its data.

use std::fmt::Write;
use std::time::Instant;

use burn::tensor::{Device, FloatDType};
use clap::Args;
use detr_data::{Batch, HostBatch, Prepared, Target, TargetCounts};
use detr_infer::backend::{BackendError, catch_device};
use detr_infer::cli::{CliError, Console, open_model, print, print_json};
use detr_model::flops::Flops;
use detr_model::traffic;
use detr_model::weights::recipe_image;
use detr_train::{MicroBatch, Outcome, StepConfig, StepError, Trainer, micro_batch};
use detr_types::{Cxcywh, ImageSize};
use serde::Serialize;

use super::{Counts, InputArgs, Size, Spread, ms, parameters, spread, spread_table};
use crate::machine::{BURN, cpu_name, peak_memory_mb};

/// Steps in f16 that may overflow in a row while the loss scale finds its size.
const MOST_OVERFLOWS: u32 = 20;

/// Flags of `detr bench train`.
#[derive(Args)]
pub(crate) struct BenchTrainArgs {
    #[command(flatten)]
    input: InputArgs,

    /// Objects on every image; COCO has 7 on average
    #[arg(long, value_name = "N", default_value = "7", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    objects: u32,

    /// Compute activations again in the backward pass: less memory, more time
    #[arg(long)]
    activation_checkpointing: bool,

    /// Measured steps
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Steps before the measured ones
    #[arg(long, value_name = "N", default_value_t = 2)]
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
    objects: u32,
    runs: u32,
    warmup: u32,
    stages_ms: Stages,
    images_per_second: f64,
    /// Without the frozen norms, which are constants.
    parameters: usize,
    /// Those that a step changes.
    trained_parameters: usize,
    /// Operations of the forward pass; a backward pass has about twice as many.
    forward_flops: Flops,
    /// All parts together.
    total_forward_flops: u64,
    /// Of one step.
    traffic: Counts,
    peak_memory_mb: Option<f64>,
    cpu: String,
    threads: usize,
    version: &'static str,
    burn: &'static str,
}

#[derive(Serialize)]
struct Stages {
    /// Forward, matching, losses, backward.
    gradients: Spread,
    /// Norm, clipping, optimizer.
    update: Spread,
    total: Spread,
}

pub(crate) fn train(args: &BenchTrainArgs, console: &Console) -> Result<(), CliError> {
    let selected = args.input.device.select()?;
    console.note(&format!("using {}", selected.name));
    let mut device = selected.device.clone().autodiff();
    if args.activation_checkpointing {
        device = device.gradient_checkpointing();
    }
    let checkpoint =
        open_model(&args.input.model, &args.input.load, console, || Ok(device.clone()))?;
    let architecture = checkpoint.config()?;
    let parameters = parameters(&checkpoint.state);
    // Of every precision: a step makes its own copy in half.
    let model = catch_device(|| checkpoint.load(&device, FloatDType::F32))??;
    drop(checkpoint);
    let config = StepConfig {
        precision: args.input.device.dtype,
        activation_checkpointing: args.activation_checkpointing,
        ..StepConfig::for_model(&architecture)
    };
    let usage = |error: &dyn std::fmt::Display| CliError::Usage(error.to_string());
    let mut trainer =
        catch_device(|| Trainer::new(model, &config))?.map_err(|error| usage(&error))?;
    let trained = trainer.groups().slots().iter().filter(|slot| slot.lr.is_some());
    let trained_parameters =
        trained.map(|slot| slot.parameter.shape.iter().product::<usize>()).sum();
    let batch = generated(args);
    let batch = catch_device(|| micro_batch(batch, architecture.num_classes(), &device))?
        .map_err(|error| usage(&error))?;

    let mut times: [Vec<f64>; 3] = Default::default();
    for run in 0..u64::from(args.warmup) + u64::from(args.runs) {
        let step = measured_step(&mut trainer, &batch, &device)?;
        if run >= u64::from(args.warmup) {
            times.iter_mut().zip(step).for_each(|(times, time)| times.push(time));
        }
    }
    let (watched, traffic) = traffic::watch(|| measured_step(&mut trainer, &batch, &device));
    watched?;
    let Size(size) = args.input.size;
    let [gradients, update, total] = times.map(spread);
    let forward_flops = architecture.flops(args.input.batch_size, size);
    let report = Report {
        model: &args.input.model,
        backend: selected.backend.to_string(),
        device: selected.name,
        dtype: args.input.device.dtype.to_string(),
        height: size.height,
        width: size.width,
        batch_size: args.input.batch_size,
        objects: args.objects,
        runs: args.runs,
        warmup: args.warmup,
        images_per_second: f64::from(args.input.batch_size) * 1000.0 / total.median,
        stages_ms: Stages { gradients, update, total },
        parameters,
        trained_parameters,
        total_forward_flops: forward_flops.total(),
        forward_flops,
        traffic: traffic.into(),
        peak_memory_mb: peak_memory_mb(),
        cpu: cpu_name(),
        threads: rayon::current_num_threads(),
        version: env!("CARGO_PKG_VERSION"),
        burn: BURN,
    };
    if args.json { print_json(&report) } else { print(&table(&report)) }
}

/// Milliseconds of the gradients, of the update, and of both, of the first step that changes the model.
fn measured_step(
    trainer: &mut Trainer,
    batch: &MicroBatch,
    device: &Device,
) -> Result<[f64; 3], CliError> {
    for _ in 0..=MOST_OVERFLOWS {
        let step = catch_device(|| -> Result<_, StepError> {
            let wait = || traffic::wait(device);
            wait()?;
            let start = Instant::now();
            let gradients = match trainer.gradients(vec![batch.clone()])? {
                Ok(gradients) => gradients,
                Err(reason) => return Ok((Outcome::Skipped(reason), [0.0; 3])),
            };
            wait()?;
            let between = Instant::now();
            let outcome = trainer.apply(gradients, 1.0)?;
            wait()?;
            let times = [between - start, between.elapsed(), start.elapsed()];
            Ok((outcome, times.map(ms)))
        })?;
        match step.map_err(|error| CliError::Device(error.to_string()))? {
            (Outcome::Updated(_), times) => return Ok(times),
            (Outcome::Overflowed { .. }, _) => {}
            (Outcome::Skipped(reason), _) => return Err(CliError::Diverged(reason.to_string())),
        }
    }
    let message = "the gradients overflow f16 at every loss scale".to_owned();
    Err(CliError::from(BackendError::Failed { message }))
}

/// Waves and noise, with boxes all over them.
fn generated(args: &BenchTrainArgs) -> Batch {
    let Size(size) = args.input.size;
    let seeds = 1..=u64::from(args.input.batch_size);
    let image = |seed| Prepared {
        pixels: recipe_image(seed, size.height as usize, size.width as usize),
        size,
        original_size: size,
    };
    Batch {
        epoch: 0,
        index: 0,
        images: HostBatch::stack(seeds.clone().map(image).collect()),
        targets: seeds.map(|seed| target(seed, args.objects, size)).collect(),
        counts: TargetCounts::default(),
        replaced: Vec::new(),
    }
}

/// Boxes of a tenth to four tenths of a side, inside of the image; their places are spread evenly by
/// multiples of irrational numbers. Labels are those of the first classes, of which every head has one.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // small numbers
fn target(seed: u64, objects: u32, size: ImageSize) -> Target {
    let boxes: Vec<Cxcywh> = (0..objects)
        .map(|object| {
            let at = (seed * 1000 + u64::from(object)) as f64;
            let part = |step: f64| (at * step).fract() as f32;
            let (w, h) = (0.1 + 0.3 * part(0.754_877_666), 0.1 + 0.3 * part(0.569_840_291));
            let cx = w / 2.0 + (1.0 - w) * part(0.618_033_989);
            let cy = h / 2.0 + (1.0 - h) * part(0.414_213_562);
            Cxcywh { cx, cy, w, h }
        })
        .collect();
    let (width, height) = (size.width as f32, size.height as f32);
    Target {
        image_id: seed.cast_signed(),
        original_size: size,
        size,
        labels: vec![0; boxes.len()],
        areas: boxes.iter().map(|bbox| bbox.w * width * bbox.h * height).collect(),
        iscrowd: vec![false; boxes.len()],
        boxes,
        masks: None,
    }
}

fn table(report: &Report<'_>) -> String {
    let title = format!(
        "training {} on {}, {}, {} x {}x{}, {} objects each, {} steps",
        report.model,
        report.device,
        report.dtype,
        report.batch_size,
        report.height,
        report.width,
        report.objects,
        report.runs
    );
    let Stages { gradients, update, total } = report.stages_ms;
    let mut text =
        spread_table(&title, &[("gradients", gradients), ("update", update), ("total", total)]);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "\n{:.2} images/s; {} parameters, {} of them trained",
        report.images_per_second, report.parameters, report.trained_parameters
    );
    if report.traffic.launches > 0 {
        let _ = writeln!(text, "{}", report.traffic);
    }
    if let Some(peak) = report.peak_memory_mb {
        let _ = writeln!(text, "peak memory of the process {peak:.0} MB, without that of a GPU");
    }
    let _ = writeln!(
        text,
        "{}, {} threads; detr {}, Burn {BURN}",
        report.cpu, report.threads, report.version
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_boxes_are_inside_of_their_image() {
        let target = target(3, 500, ImageSize::new(480, 640));
        assert_eq!(target.len(), 500);
        for (bbox, area) in target.boxes.iter().zip(&target.areas) {
            let corners = bbox.to_xyxy();
            assert!(corners.x1 >= -1e-6 && corners.y1 >= -1e-6, "{bbox:?}");
            assert!(corners.x2 <= 1.0 + 1e-6 && corners.y2 <= 1.0 + 1e-6, "{bbox:?}");
            assert!(bbox.w >= 0.1 && bbox.h >= 0.1 && *area > 1000.0, "{bbox:?}");
        }
        assert!(target.boxes.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
