//! `detr bench load`: how long a checkpoint takes to become a model, beside reading its file.

use std::time::Instant;

use clap::Args;
use detr_infer::backend::{BackendError, catch_device};
use detr_infer::cli::{
    CliError, Console, DEFAULT_MODEL, DeviceArgs, LoadArgs, open_model, print, print_json,
};
use detr_model::float_dtype;
use serde::Serialize;

use super::{Spread, ms, spread};

/// Flags of `detr bench load`.
#[derive(Args)]
pub(crate) struct BenchLoadArgs {
    /// Model, as for `detr predict`
    #[arg(long, value_name = "PATH|NAME", default_value = DEFAULT_MODEL)]
    model: String,

    #[command(flatten)]
    load: LoadArgs,

    #[command(flatten)]
    device: DeviceArgs,

    /// Measured loads
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    device: String,
    dtype: String,
    runs: u32,
    bytes: Option<u64>,
    /// Reading the weights file into memory; none for a recipe.
    read_ms: Option<Spread>,
    /// Opening the checkpoint, checking its tensors and its hash, and filling the model.
    load_ms: Spread,
    /// Folding the batch norms into the convolutions.
    fold_ms: Spread,
}

pub(crate) fn load(args: &BenchLoadArgs, console: &Console) -> Result<(), CliError> {
    let selected = args.device.select()?;
    console.note(&format!("using {}", selected.name));
    let (mut reads, mut loads, mut folds) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = None;
    // The first round fills the system's file cache and is not counted.
    for round in 0..=args.runs {
        let device = selected.device.clone();
        let start = Instant::now();
        let checkpoint = open_model(&args.model, &args.load, console, || Ok(device))?;
        let model = catch_device(|| {
            let model = checkpoint.load(&selected.device, float_dtype(args.device.dtype));
            let synced = selected.device.sync();
            (model, synced)
        })?;
        let (model, synced) = model;
        let model = model?;
        synced.map_err(|error| BackendError::Failed { message: format!("{error:?}") })?;
        let loaded = start.elapsed();
        let start = Instant::now();
        drop(catch_device(|| {
            let model = model.fold();
            selected.device.sync().map(|()| model)
        })?);
        let folded = start.elapsed();
        if let Some(path) = checkpoint.weights_file() {
            let start = Instant::now();
            let read = std::fs::read(path)
                .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?;
            bytes = Some(read.len() as u64);
            drop(read);
            if round > 0 {
                reads.push(ms(start.elapsed()));
            }
        }
        if round > 0 {
            loads.push(ms(loaded));
            folds.push(ms(folded));
        }
    }
    let report = Report {
        model: &args.model,
        device: selected.name.clone(),
        dtype: args.device.dtype.to_string(),
        runs: args.runs,
        bytes,
        read_ms: (!reads.is_empty()).then(|| spread(reads)),
        load_ms: spread(loads),
        fold_ms: spread(folds),
    };
    if args.json { print_json(&report) } else { print(&table(&report)) }
}

fn table(report: &Report<'_>) -> String {
    let row = |name: &str, Spread { min, median, p95, .. }: Spread| {
        format!("{name:<26} {min:>10.1} {median:>10.1} {p95:>10.1}")
    };
    let mut lines = vec![
        format!("{} on {}, {}, {} runs", report.model, report.device, report.dtype, report.runs),
        String::new(),
        format!("{:<26} {:>10} {:>10} {:>10}", "ms", "min", "median", "p95"),
    ];
    lines.extend(report.read_ms.map(|read| row("read the file", read)));
    lines.push(row("open, check and load", report.load_ms));
    lines.push(row("fold batch norms", report.fold_ms));
    if let Some(read) = report.read_ms {
        let ratio = report.load_ms.median / read.median;
        lines.push(format!("\nloading takes {ratio:.2} times as long as reading the file"));
    }
    lines.join("\n") + "\n"
}
