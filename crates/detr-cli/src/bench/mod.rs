//! `detr bench infer`: how long a prediction takes, stage by stage, how many operations it has, and how
//! much memory it takes. Loading, training and single operations are in files of their own.
//!
//! The picture is generated, so that neither a file nor decoding plays a part. `cargo xtask bench`
//! reads the JSON and sets it beside other implementations.

mod backward;
mod data;
mod load;
mod msda;
mod train;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use detr_data::RgbImage;
use detr_infer::cli::{
    CliError, Console, DEFAULT_MODEL, DeviceArgs, LoadArgs, open_model, print, print_json,
};
use detr_infer::{Predictor, StageTimes};
use detr_model::flops::{CONVENTION, Flops};
use detr_model::traffic::{self, Traffic};
use detr_model::weights::StateDict;
use detr_types::{ImageSize, PreprocessSpec, ResizeRule};
use serde::Serialize;

use crate::machine::{BURN, cpu_name, peak_memory_mb};
use crate::size::Size;

pub(crate) use backward::backward;
pub(crate) use data::data;
pub(crate) use load::load;
pub(crate) use msda::msda_alone;
pub(crate) use train::train;

/// Subcommands of `detr bench`.
#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure predictions on generated pictures
    Infer(Box<BenchArgs>),
    /// Measure whole steps of training on generated pictures
    Train(Box<train::BenchTrainArgs>),
    /// Measure a forward and a backward pass alone, without matching, losses and update
    Backward(Box<backward::BenchBackwardArgs>),
    /// Measure how fast a data set becomes batches
    Data(Box<data::BenchDataArgs>),
    /// Measure loading a checkpoint
    Load(Box<load::BenchLoadArgs>),
    /// Measure multi-scale deformable attention, forward and backward
    Msda(Box<msda::BenchMsdaArgs>),
}

/// What is measured on what; flags of the commands that run a model.
#[derive(Args)]
pub(crate) struct InputArgs {
    /// Model, as for `detr predict`
    #[arg(long, value_name = "PATH|NAME", default_value = DEFAULT_MODEL)]
    model: String,

    #[command(flatten)]
    load: LoadArgs,

    #[command(flatten)]
    device: DeviceArgs,

    /// Size of the model's input
    #[arg(long, value_name = "HxW", default_value = "800x1066")]
    size: Size,

    /// Pictures per batch, all of one size
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch_size: u32,
}

/// Flags of `detr bench infer`.
#[derive(Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    input: InputArgs,

    /// Measured predictions
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Predictions before the measured ones
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
    /// Of the model's input.
    height: u32,
    width: u32,
    /// Of the picture before resizing.
    source_height: u32,
    source_width: u32,
    batch_size: u32,
    runs: u32,
    warmup: u32,
    /// Per batch.
    stages_ms: Stages,
    images_per_second: f64,
    /// Without the frozen norms, which are constants.
    parameters: usize,
    /// Operations per batch, by part.
    flops: Flops,
    /// All parts together.
    total_flops: u64,
    /// How they are counted.
    flops_convention: &'static str,
    load_ms: f64,
    /// Of one prediction of a batch.
    traffic: Counts,
    /// Largest resident memory of the process so far, where the system tells.
    peak_memory_mb: Option<f64>,
    cpu: String,
    /// Of the CPU backends; `RAYON_NUM_THREADS` sets it.
    threads: usize,
    version: &'static str,
    burn: &'static str,
}

#[derive(Serialize)]
struct Stages {
    resize: Spread,
    backbone: Spread,
    transformer: Spread,
    postprocess: Spread,
    total: Spread,
}

/// What a device was asked for.
#[derive(Serialize)]
struct Counts {
    /// Times that the host waited for numbers of the device.
    reads: usize,
    /// Kernels launched; none on the CPU.
    launches: usize,
    /// The same by kernel.
    kernels: BTreeMap<String, usize>,
}

impl From<Traffic> for Counts {
    fn from(traffic: Traffic) -> Self {
        Self { reads: traffic.reads, launches: traffic.launched(), kernels: traffic.launches }
    }
}

impl Display for Counts {
    /// A line, if a device was asked for anything; the most frequent kernels by name.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut kernels: Vec<_> = self.kernels.iter().collect();
        kernels.sort_by_key(|(name, count)| (Reverse(**count), name.as_str()));
        write!(f, "{} kernels launched, {} times read back", self.launches, self.reads)?;
        for (name, count) in kernels.iter().take(8) {
            write!(f, "\n{count:>6} {name}")?;
        }
        match kernels.len().saturating_sub(8) {
            0 => Ok(()),
            more => write!(f, "\n       and {more} others"),
        }
    }
}

/// Of all runs, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    min: f64,
    median: f64,
    p95: f64,
    p99: f64,
}

pub(crate) fn infer(args: &BenchArgs, console: &Console) -> Result<(), CliError> {
    let selected = args.input.device.select()?;
    console.note(&format!("using {}", selected.name));
    let start = Instant::now();
    let device = selected.device.clone();
    let checkpoint = open_model(&args.input.model, &args.input.load, console, || Ok(device))?;
    let Size(target) = args.input.size;
    let spec = PreprocessSpec {
        shortest_edge: target.height.min(target.width),
        longest_edge: target.height.max(target.width),
        resize: ResizeRule::ShortestEdge {},
        ..checkpoint.preprocess
    };
    let predictor =
        Predictor::new(&checkpoint, &selected, args.input.device.dtype)?.with_preprocess(spec)?;
    let flops = checkpoint.config()?.flops(args.input.batch_size, target);
    let parameters = parameters(&checkpoint.state);
    drop(checkpoint);
    let load_ms = ms(start.elapsed());

    let source = source_size(&spec, target);
    let picture = picture(source);
    let batch = vec![&picture; args.input.batch_size as usize];
    for _ in 0..args.warmup {
        predictor.predict_timed(&batch)?;
    }
    let mut runs = Vec::new();
    for _ in 0..args.runs {
        let start = Instant::now();
        let (_, times) = predictor.predict_timed(&batch)?;
        runs.push((times, start.elapsed()));
    }
    let (watched, traffic) = traffic::watch(|| predictor.predict_batch(&batch));
    watched?;
    let stages = stages(&runs);
    let report = Report {
        model: &args.input.model,
        backend: selected.backend.to_string(),
        device: selected.name.clone(),
        dtype: args.input.device.dtype.to_string(),
        height: target.height,
        width: target.width,
        source_height: source.height,
        source_width: source.width,
        batch_size: args.input.batch_size,
        runs: args.runs,
        warmup: args.warmup,
        images_per_second: f64::from(args.input.batch_size) * 1000.0 / stages.total.median,
        stages_ms: stages,
        parameters,
        total_flops: flops.total(),
        flops,
        flops_convention: CONVENTION,
        load_ms,
        traffic: traffic.into(),
        peak_memory_mb: peak_memory_mb(),
        cpu: cpu_name(),
        threads: rayon::current_num_threads(),
        version: env!("CARGO_PKG_VERSION"),
        burn: BURN,
    };
    if args.json { print_json(&report) } else { print(&table(&report)) }
}

/// Numbers that a model learns, or could learn: all but those of the frozen norms.
fn parameters(state: &StateDict) -> usize {
    let of_norm = |name: &str| {
        let norm = name.rsplit_once('.').map(|(norm, _)| format!("{norm}.running_mean"));
        norm.is_some_and(|name| state.get(&name).is_some())
    };
    let tensors = state.iter().filter(|(name, _)| !of_norm(name));
    tensors.map(|(_, tensor)| tensor.shape.iter().product::<usize>()).sum()
}

/// A picture of this size is resized to exactly the target: from six tenths of it up, as 480x640
/// for 800x1066.
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

/// Colour gradients with a fine texture.
#[allow(clippy::cast_possible_truncation)] // remainders fit a byte
fn picture(size: ImageSize) -> RgbImage {
    RgbImage::from_fn(size.width, size.height, |x, y| {
        let texture = (x * 7 + y * 13) % 31;
        let values = [x + texture, y + texture, u32::midpoint(x, y) + texture];
        values.map(|value| (value % 256) as u8).into()
    })
}

fn stages(runs: &[(StageTimes, Duration)]) -> Stages {
    let of = |stage: fn(&(StageTimes, Duration)) -> Duration| {
        spread(runs.iter().map(|run| ms(stage(run))).collect())
    };
    Stages {
        resize: of(|(times, _)| times.resize),
        backbone: of(|(times, _)| times.backbone),
        transformer: of(|(times, _)| times.transformer),
        postprocess: of(|(times, _)| times.postprocess),
        total: of(|(_, total)| *total),
    }
}

/// Smallest value, median, and the smallest values that 95 and 99 of 100 do not exceed.
fn spread(mut values: Vec<f64>) -> Spread {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
    let median = f64::midpoint(at((n.max(1) - 1) / 2), at(n / 2));
    let of_hundred = |share: usize| at((share * n).div_ceil(100).max(1) - 1);
    Spread { min: at(0), median, p95: of_hundred(95), p99: of_hundred(99) }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A title, and a line of milliseconds per row.
fn spread_table(title: &str, rows: &[(&str, Spread)]) -> String {
    let mut text = format!(
        "{title}\n\n{:<12} {:>10} {:>10} {:>10} {:>10}\n",
        "ms", "min", "p50", "p95", "p99"
    );
    for (name, Spread { min, median, p95, p99 }) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<12} {min:>10.2} {median:>10.2} {p95:>10.2} {p99:>10.2}");
    }
    text
}

#[allow(clippy::cast_precision_loss)] // billions for people
fn operations(report: &Report<'_>) -> String {
    let Flops { backbone, projection, encoder, decoder, heads } = report.flops;
    let billions = |n: u64| n as f64 / 1e9;
    let [backbone, projection, encoder, decoder, heads] =
        [backbone, projection, encoder, decoder, heads].map(billions);
    let total = billions(report.total_flops);
    format!(
        "{:.1} million parameters; {total:.1} GFLOP a batch (backbone {backbone:.1}, projection {projection:.1}, \
         encoder {encoder:.1}, decoder {decoder:.1}, heads {heads:.1}), {:.1} GFLOP/s\n({CONVENTION})",
        report.parameters as f64 / 1e6,
        total * 1e3 / report.stages_ms.total.median,
    )
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
    let stages = &report.stages_ms;
    let mut text = spread_table(
        &title,
        &[
            ("resize", stages.resize),
            ("backbone", stages.backbone),
            ("transformer", stages.transformer),
            ("postprocess", stages.postprocess),
            ("total", stages.total),
        ],
    );
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "\n{:.2} images/s; model ready after {:.0} ms",
        report.images_per_second, report.load_ms
    );
    let _ = writeln!(text, "{}", operations(report));
    if report.traffic.launches > 0 {
        let _ = writeln!(text, "{}", report.traffic);
    }
    if let Some(peak) = report.peak_memory_mb {
        let _ = writeln!(text, "peak memory {peak:.0} MB");
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
    fn spreads_of_few_runs() {
        let of = |values: &[f64]| spread(values.to_vec());
        assert_eq!(of(&[3.0]), Spread { min: 3.0, median: 3.0, p95: 3.0, p99: 3.0 });
        assert_eq!(of(&[4.0, 1.0, 2.0, 9.0]), Spread { min: 1.0, median: 3.0, p95: 9.0, p99: 9.0 });
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(of(&hundred), Spread { min: 1.0, median: 50.5, p95: 95.0, p99: 99.0 });
    }

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
