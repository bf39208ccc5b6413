//! `detr train --dry-run`: what a run would need, from steps on a large batch. Writes nothing.

use std::time::Instant;

use detr_data::Batch;
use detr_infer::cli::{CliError, Console, print};
use detr_track::clock::format_duration;
use detr_train::{Outcome, RunError, TrainConfig, Trainer, micro_batch};
use detr_types::counted;

use super::parts::RunParts;
use super::to_cli;

/// Batches that are looked at for the largest one.
const LOOKED_AT: usize = 50;
/// Steps; the first one warms up and does not count.
const STEPS: usize = 4;

pub(super) fn run(
    config: &TrainConfig,
    built: RunParts<'_>,
    console: &Console,
) -> Result<(), CliError> {
    let RunParts { parts, start, .. } = built;
    let step = config.step(&parts.model);
    let steps = parts.steps_per_epoch(config.train.accumulate) * config.train.epochs;
    let mut trainer = Trainer::new(start, &step).map_err(|error| to_cli(error.into()))?;
    print(&format!("{}\n", trainer.groups().table()))?;
    let per_epoch = parts.loader.batches_per_epoch();
    console.note(&format!("looking for the largest of {} batches", per_epoch.min(LOOKED_AT)));
    let mut largest: Option<Batch> = None;
    for batch in parts.loader.epoch(0, 0).map_err(|error| to_cli(error.into()))?.take(LOOKED_AT) {
        let batch = batch.map_err(|error| to_cli(error.into()))?;
        if largest.as_ref().is_none_or(|largest| pixels(largest) < pixels(&batch)) {
            largest = Some(batch);
        }
    }
    let batch = largest.ok_or_else(|| CliError::Data("the data has no batch".to_owned()))?;
    let looked_at = per_epoch.min(LOOKED_AT);
    let objects: usize = batch.targets.iter().map(|target| target.labels.len()).sum();
    print(&format!(
        "batch             {} of {}, {}; the largest of {looked_at}, and augmentation may make larger ones\n",
        counted(batch.images.len(), "image"),
        batch.images.size,
        counted(objects, "object")
    ))?;
    if !parts.others.is_empty() {
        print("devices           what follows is of the first one\n")?;
    }
    let mut times = Vec::with_capacity(STEPS);
    for number in 0..STEPS {
        let began = Instant::now();
        let micro: Vec<_> = (0..config.train.accumulate)
            .map(|_| micro_batch(batch.clone(), parts.model.num_classes(), &parts.device))
            .collect::<Result<_, _>>()
            .map_err(|error| to_cli(error.into()))?;
        let outcome = trainer.step(micro, 0.0).map_err(|error| {
            let batch =
                format!("{} of {}", counted(batch.images.len(), "image"), batch.images.size);
            to_cli(RunError::Step { step: number as u64 + 1, batch, error })
        });
        match outcome? {
            Outcome::Updated(report) if number == 0 => print(&format!(
                "loss              {:.3}\ngradient norm     {:.3}\n",
                report.loss, report.grad_norm
            ))?,
            Outcome::Updated(_) | Outcome::Overflowed { .. } => (),
            Outcome::Skipped(reason) => {
                return Err(CliError::Diverged(format!("the step is not finite: {reason}")));
            }
        }
        times.push(began.elapsed().as_secs_f64());
    }
    let fastest = times[1..].iter().copied().fold(f64::INFINITY, f64::min);
    #[allow(clippy::cast_precision_loss)] // an estimate
    let all = fastest * steps as f64;
    let memory = detr_track::machine::peak_memory_mb()
        .map_or_else(|| "unknown".to_owned(), |mb| format!("{mb:.0} MB of the host, at most"));
    print(&format!(
        "step              {:.3} s\nmemory            {memory}\nwhole run         {steps} steps \
         of this size take {}, without validation and waiting for images\n",
        fastest,
        format_duration(all)
    ))
}

fn pixels(batch: &Batch) -> u64 {
    batch.images.len() as u64
        * u64::from(batch.images.size.width)
        * u64::from(batch.images.size.height)
}
