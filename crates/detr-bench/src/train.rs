//! `cargo xtask bench train`: whole steps of training on generated images: forward, matching, losses, backward,
//! clipping and the optimizer, as `detr train` makes them, without its data.

use std::time::Instant;

use burn::tensor::{Device, FloatDType};
use detr_cli::Size;
use detr_data::{Batch, HostBatch, PreparedImage, Target, TargetCounts};
use detr_infer::backend::{BackendError, catch_device};
use detr_infer::cli::{CliError, Console, open_model};
use detr_model::traffic;
use detr_model::weights::recipe_image;
use detr_train::{MicroBatch, Outcome, StepConfig, StepError, Trainer, micro_batch};
use detr_types::{Cxcywh, ImageSize};
use serde_json::json;

use crate::infer::{Input, counts, parameters};
use crate::report::{Report, Row, ms};
use crate::sides::{Benchmark, Flags, Script};

/// The number of steps in f16 that may overflow in a row while the loss scale finds its size.
const MOST_OVERFLOWS: u32 = 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,

    /// Objects on every image; COCO has 7 on average
    #[arg(long, value_name = "N", default_value = "7", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    objects: u32,

    /// Compute activations again in the backward pass: less memory, more time
    #[arg(long)]
    activation_checkpointing: bool,
}

impl Args {
    fn runs(flags: &Flags) -> [u32; 2] {
        [flags.runs.unwrap_or(5), flags.warmup.unwrap_or(2)]
    }
}

impl Benchmark for Args {
    fn measure(&self, flags: &Flags, console: &Console) -> Result<Report, CliError> {
        let [runs, warmup] = Self::runs(flags);
        let input = &self.input;
        let selected = input.select(console)?;
        let mut device = selected.device.clone().autodiff();
        if self.activation_checkpointing {
            device = device.gradient_checkpointing();
        }
        let checkpoint = open_model(&input.model, &input.load, console, || Ok(device.clone()))?;
        let architecture = checkpoint.config()?;
        let parameters = parameters(&checkpoint.state);
        // The model is loaded in f32 for every precision: a step makes its own copy in half.
        let model = catch_device(|| checkpoint.load(&device, FloatDType::F32))??;
        drop(checkpoint);
        let config = StepConfig {
            precision: input.device.dtype,
            activation_checkpointing: self.activation_checkpointing,
            ..StepConfig::for_model(&architecture)
        };
        let usage = |error: &dyn std::fmt::Display| CliError::Usage(error.to_string());
        let mut trainer =
            catch_device(|| Trainer::new(model, &config))?.map_err(|error| usage(&error))?;
        let trained = trainer.groups().slots().iter().filter(|slot| slot.lr.is_some());
        let trained_parameters: usize =
            trained.map(|slot| slot.parameter.shape.iter().product::<usize>()).sum();
        let batch = generated(self);
        let batch = catch_device(|| micro_batch(batch, architecture.num_classes(), &device))?
            .map_err(|error| usage(&error))?;

        let mut times: [Vec<f64>; 3] = Default::default();
        for run in 0..warmup.saturating_add(runs) {
            let step = measured_step(&mut trainer, &batch, &device)?;
            if run >= warmup {
                times.iter_mut().zip(step).for_each(|(times, time)| times.push(time));
            }
        }
        let (watched, traffic) = traffic::watch(|| measured_step(&mut trainer, &batch, &device));
        watched?;
        let rows = ["gradients", "update", "total"].into_iter().zip(times);
        let rows: Vec<Row> = rows.map(|(name, times)| Row::of_runs(name, "ms", times)).collect();
        let total = rows[2].get("median").unwrap_or_default();
        let flops = architecture.flops(input.batch_size, input.size.0);
        let mut facts = input.facts(&selected, runs);
        facts["objects"] = json!(self.objects);
        facts["images_per_second"] = json!(f64::from(input.batch_size) * 1000.0 / total);
        facts["parameters"] = json!(parameters);
        facts["trained_parameters"] = json!(trained_parameters);
        // These are the operations of the forward pass; a backward pass has about twice as many.
        facts["total_flops"] = json!(flops.total());
        facts["flops"] = json!(flops);
        facts["traffic"] = counts(&traffic);
        Ok(Report::new(facts, rows))
    }

    fn peers(&self, flags: &Flags) -> [Option<Script>; 2] {
        let [runs, warmup] = Self::runs(flags);
        let torch = self.input.peer_arguments(runs, warmup).map(|mut args| {
            args.extend(["--objects".to_owned(), self.objects.to_string()]);
            args.extend(flags.peer_options.iter().cloned());
            ("train_torch.py", args)
        });
        [torch, None]
    }
}

/// Returns the milliseconds of the gradients, of the update, and of both, of the first step that changes the model.
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

/// Makes a batch of waves and noise, with boxes all over them.
fn generated(args: &Args) -> Batch {
    let Size(size) = args.input.size;
    let seeds = 1..=u64::from(args.input.batch_size);
    let image = |seed| PreparedImage {
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

/// Makes boxes of a tenth to four tenths of a side, inside of the image; their places are spread evenly by
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
