//! `cargo xtask bench load`: how long a checkpoint takes to become a model, beside reading its file.

use std::time::Instant;

use detr_infer::backend::{BackendError, catch_device};
use detr_infer::cli::{CliError, Console, DEFAULT_MODEL, DeviceArgs, LoadArgs, open_model};
use detr_model::float_dtype;
use serde_json::json;

use crate::report::{Report, Row, ms};
use crate::sides::{Benchmark, Flags};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Model, as for `detr predict`
    #[arg(long, value_name = "PATH|NAME", default_value = DEFAULT_MODEL)]
    model: String,

    #[command(flatten)]
    load: LoadArgs,

    #[command(flatten)]
    device: DeviceArgs,
}

impl Benchmark for Args {
    fn measure(&self, flags: &Flags, console: &Console) -> Result<Report, CliError> {
        let runs = flags.runs.unwrap_or(5);
        let selected = self.device.select()?;
        console.note(&format!("using {}", selected.name));
        let (mut reads, mut loads, mut folds) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = None;
        // The first round fills the system's file cache and is not counted.
        for round in 0..=runs {
            let device = selected.device.clone();
            let start = Instant::now();
            let checkpoint = open_model(&self.model, &self.load, console, || Ok(device))?;
            let model = catch_device(|| {
                let model = checkpoint.load(&selected.device, float_dtype(self.device.dtype));
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
        let mut rows = vec![
            Row::of_runs("open, check and load", "ms", loads),
            Row::of_runs("fold batch norms", "ms", folds),
        ];
        if !reads.is_empty() {
            rows.insert(0, Row::of_runs("read the file", "ms", reads));
        }
        let facts = json!({
            "model": self.model,
            "backend": selected.backend.to_string(),
            "device": selected.name,
            "dtype": self.device.dtype.to_string(),
            "runs": runs,
            "bytes": bytes,
        });
        Ok(Report::new(facts, rows))
    }
}
