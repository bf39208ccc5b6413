//! `cargo xtask bench infer`: how long a prediction takes, stage by stage, how many operations it has, and how much
//! memory it takes. The picture is generated, so that neither a file nor decoding plays a part.

use std::time::Instant;

use detr_cli::Size;
use detr_data::RgbImage;
use detr_infer::Predictor;
use detr_infer::backend::SelectedDevice;
use detr_infer::cli::{CliError, Console, DEFAULT_MODEL, DeviceArgs, LoadArgs, open_model};
use detr_model::flops::CONVENTION;
use detr_model::traffic::{self, Traffic};
use detr_model::weights::StateDict;
use detr_types::{ImageSize, PreprocessSpec, ResizeRule};
use serde_json::{Value, json};

use crate::report::{Report, Row, ms, root};
use crate::sides::{Benchmark, Flags, Script};

/// A model, its input and its device.
#[derive(clap::Args)]
pub(crate) struct Input {
    /// Model, as for `detr predict`
    #[arg(long, value_name = "PATH|NAME", default_value = DEFAULT_MODEL)]
    pub(crate) model: String,

    #[command(flatten)]
    pub(crate) load: LoadArgs,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,

    /// Size of the model's input
    #[arg(long, value_name = "HxW", default_value = "800x1066")]
    pub(crate) size: Size,

    /// Pictures per batch, all of one size
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) batch_size: u32,
}

impl Input {
    /// Chooses the device, and tells which.
    pub(crate) fn select(&self, console: &Console) -> Result<SelectedDevice, CliError> {
        let selected = self.device.select()?;
        console.note(&format!("using {}", selected.name));
        Ok(selected)
    }

    /// Returns the facts about what is measured.
    pub(crate) fn facts(&self, selected: &SelectedDevice, runs: u32) -> Value {
        json!({
            "model": self.model,
            "backend": selected.backend.to_string(),
            "device": selected.name,
            "dtype": self.device.dtype.to_string(),
            "height": self.size.0.height,
            "width": self.size.0.width,
            "batch_size": self.batch_size,
            "runs": runs,
        })
    }

    /// Returns the arguments of a script that has this model.
    pub(crate) fn peer_arguments(&self, runs: u32, warmup: u32) -> Option<Vec<String>> {
        let preset = self.model.strip_prefix("recipe:")?.split('@').next()?;
        let known = PEER_MODELS.contains(&preset).then(|| preset.to_owned())?;
        let Size(ImageSize { height, width }) = self.size;
        let device = peer_device(&self.device);
        let args = [
            ("--model", known),
            ("--height", height.to_string()),
            ("--width", width.to_string()),
            ("--batch-size", self.batch_size.to_string()),
            ("--dtype", self.device.dtype.to_string()),
            ("--runs", runs.to_string()),
            ("--warmup", warmup.to_string()),
            ("--threads", Flags::threads()),
            ("--device", device),
        ];
        Some(args.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect())
    }
}

/// Presets that the scripts of PyTorch can build.
const PEER_MODELS: [&str; 10] = [
    "detr-r18",
    "detr-r50",
    "detr-r50-dc5",
    "detr-r101",
    "deformable-detr-r50",
    "deformable-detr-r50-refine",
    "deformable-detr-r50-two-stage",
    "deformable-detr-r50-single-scale",
    "deformable-detr-r50-single-scale-dc5",
    "deformable-detr-tiny",
];

/// Returns the name of the device in the scripts.
pub(crate) fn peer_device(device: &DeviceArgs) -> String {
    if device.backend.to_string() == "cuda" { "cuda" } else { "cpu" }.to_owned()
}

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
}

impl Args {
    fn runs(flags: &Flags) -> [u32; 2] {
        [flags.runs.unwrap_or(10), flags.warmup.unwrap_or(2)]
    }
}

impl Benchmark for Args {
    fn measure(&self, flags: &Flags, console: &Console) -> Result<Report, CliError> {
        let [runs, warmup] = Self::runs(flags);
        let input = &self.input;
        let selected = input.select(console)?;
        let start = Instant::now();
        let device = selected.device.clone();
        let checkpoint = open_model(&input.model, &input.load, console, || Ok(device))?;
        let Size(target) = input.size;
        let spec = PreprocessSpec {
            shortest_edge: target.height.min(target.width),
            longest_edge: target.height.max(target.width),
            resize: ResizeRule::ShortestEdge {},
            ..checkpoint.preprocess
        };
        let predictor =
            Predictor::new(&checkpoint, &selected, input.device.dtype)?.with_preprocess(spec)?;
        let flops = checkpoint.config()?.flops(input.batch_size, target);
        let parameters = parameters(&checkpoint.state);
        drop(checkpoint);
        let load_ms = ms(start.elapsed());

        let picture = picture(source_size(&spec, target));
        let batch = vec![&picture; input.batch_size as usize];
        for _ in 0..warmup {
            predictor.predict_timed(&batch)?;
        }
        let mut times: [Vec<f64>; 6] = Default::default();
        for _ in 0..runs {
            let start = Instant::now();
            let (_, stages) = predictor.predict_timed(&batch)?;
            let total = start.elapsed();
            let model = stages.backbone + stages.transformer;
            let all = [stages.resize, stages.backbone, stages.transformer];
            let all = all.into_iter().chain([stages.postprocess, model, total]);
            times.iter_mut().zip(all).for_each(|(times, time)| times.push(ms(time)));
        }
        let (watched, traffic) = traffic::watch(|| predictor.predict_batch(&batch));
        watched?;
        // Backbone and transformer are what all sides run, whatever else they count as their total.
        let names = ["resize", "backbone", "transformer", "postprocess", "model", "total"];
        let rows: Vec<Row> = names
            .into_iter()
            .zip(times)
            .map(|(name, times)| Row::of_runs(name, "ms", times))
            .collect();
        let total = rows[5].get("median").unwrap_or_default();
        let mut facts = input.facts(&selected, runs);
        facts["images_per_second"] = json!(f64::from(input.batch_size) * 1000.0 / total);
        facts["load_ms"] = json!(load_ms);
        facts["parameters"] = json!(parameters);
        facts["total_flops"] = json!(flops.total());
        facts["flops"] = json!(flops);
        facts["flops_convention"] = json!(CONVENTION);
        facts["traffic"] = counts(&traffic);
        Ok(Report::new(facts, rows))
    }

    fn peers(&self, flags: &Flags) -> [Option<Script>; 2] {
        let [runs, warmup] = Self::runs(flags);
        let Some(args) = self.input.peer_arguments(runs, warmup) else {
            return [None, None];
        };
        let torch = args.iter().chain(&flags.peer_options).cloned().collect();
        // The CPU of ONNX Runtime knows no bfloat16.
        let onnx = (self.input.device.dtype.to_string() != "bf16").then(|| {
            let cache = root().join("target/bench/onnx").display().to_string();
            ("detr_onnx.py", args.into_iter().chain(["--cache".to_owned(), cache]).collect())
        });
        [Some(("detr_torch.py", torch)), onnx]
    }
}

/// Returns how often the host waited for numbers of the device, and the kernels that were launched, none on the CPU.
pub(crate) fn counts(traffic: &Traffic) -> Value {
    json!({ "reads": traffic.reads, "launches": traffic.launched(), "kernels": traffic.launches })
}

/// Counts the numbers that a model learns, or could learn: all but those of the frozen norms.
pub(crate) fn parameters(state: &StateDict) -> usize {
    let of_norm = |name: &str| {
        let norm = name.rsplit_once('.').map(|(norm, _)| format!("{norm}.running_mean"));
        norm.is_some_and(|name| state.get(&name).is_some())
    };
    let tensors = state.iter().filter(|(name, _)| !of_norm(name));
    tensors.map(|(_, tensor)| tensor.shape.iter().product::<usize>()).sum()
}

/// Returns the size of a picture that is resized to exactly the target: from six tenths of it up, as 480x640 for
/// 800x1066.
fn source_size(spec: &PreprocessSpec, target: ImageSize) -> ImageSize {
    let least = (target.height * 3).div_ceil(5);
    (least..target.height)
        .flat_map(|height| {
            let width = height * target.width / target.height;
            [ImageSize::new(height, width), ImageSize::new(height, width + 1)]
        })
        .find(|&source| source.pixels() > 0 && spec.target_size(source) == target)
        .unwrap_or(target)
}

/// Draws colour gradients with a fine texture.
#[allow(clippy::cast_possible_truncation)] // remainders fit a byte
fn picture(size: ImageSize) -> RgbImage {
    RgbImage::from_fn(size.width, size.height, |x, y| {
        let texture = (x * 7 + y * 13) % 31;
        let values = [x + texture, y + texture, u32::midpoint(x, y) + texture];
        values.map(|value| (value % 256) as u8).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_resized_to_the_size_asked_for() {
        for (height, width, source) in
            [(800, 1066, (480, 640)), (100, 80, (60, 48)), (128, 170, (78, 104)), (1, 9, (1, 9))]
        {
            let target = ImageSize::new(height, width);
            let spec = PreprocessSpec {
                shortest_edge: height.min(width),
                longest_edge: height.max(width),
                ..PreprocessSpec::default()
            };
            let found = source_size(&spec, target);
            assert_eq!((found.height, found.width), source, "{height}x{width}");
            assert_eq!(spec.target_size(found), target);
        }
    }
}
