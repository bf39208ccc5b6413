//! `cargo xtask bench data`: how fast a data set becomes batches, in how much memory, and a hash by which two
//! runs can be told to have given the same batches.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::ValueEnum;
use detr_cli::{AugmentationArgs, ReadArgs, UprightArgs};
use detr_data::dataset::Labels;
use detr_data::formats::Accept;
use detr_data::{Batch, CacheMode, DatasetSource, Loader, LoaderConfig};
use detr_infer::cli::{CliError, Console};
use serde_json::json;

use crate::report::{Report, Row};
use crate::sides::{Benchmark, Flags};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Data sets, taken as one: files or folders of annotations, or TOML lists of sources
    #[arg(required = true, value_name = "DATA")]
    data: Vec<PathBuf>,

    #[command(flatten)]
    read: ReadArgs,

    #[command(flatten)]
    upright: UprightArgs,

    #[command(flatten)]
    augmentation: AugmentationArgs,

    /// Images per batch
    #[arg(long, value_name = "N", default_value_t = 2)]
    batch_size: usize,

    /// Threads that decode and augment; 0 loads only while a batch is waited for
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: usize,

    /// Mebibytes of samples and batches that may wait
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    budget: u64,

    /// Classes of aspect ratio, so that batches need less padding
    #[arg(long, value_name = "N", default_value_t = 1)]
    buckets: usize,

    /// The place where image files are kept between epochs
    #[arg(long, value_enum, default_value_t = Cache::None)]
    cache: Cache,

    /// Seed of the order and of the augmentation
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// First epoch
    #[arg(long, value_name = "N", default_value_t = 0)]
    epoch: u64,

    /// Number of epochs
    #[arg(long, value_name = "N", default_value_t = 1)]
    epochs: u64,

    /// First batch of the first epoch
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Cache {
    /// Nowhere
    None,
    /// Read once, so that the system has them in its page cache
    DiskPage,
    /// In memory
    Memory,
}

impl Benchmark for Args {
    #[allow(clippy::cast_precision_loss)] // counts
    fn measure(&self, _flags: &Flags, console: &Console) -> Result<Report, CliError> {
        let usage = |error: &dyn std::fmt::Display| CliError::Usage(error.to_string());
        let augmentation = self.augmentation.load()?;
        let dataset = self.read.load(&self.data, Accept::Errors, self.upright)?;
        let classes = dataset.class_table(Labels::Auto).map_err(|error| usage(&error))?;
        let cache = match self.cache {
            Cache::None => CacheMode::None,
            Cache::DiskPage => CacheMode::DiskPage,
            Cache::Memory => CacheMode::Memory,
        };
        let source = DatasetSource::new(Arc::new(dataset), &classes, augmentation, self.seed)
            .map_err(|error| usage(&error))?
            .with_decode(self.upright.decoding())
            .with_cache(cache, u64::MAX);
        let config = LoaderConfig {
            batch_size: self.batch_size,
            seed: self.seed,
            buckets: self.buckets,
            workers: self.workers,
            budget_bytes: self.budget << 20,
            ..LoaderConfig::default()
        };
        let loader = Loader::new(Arc::new(source), config).map_err(|error| usage(&error))?;
        let bar = console.progress("batches");
        let (mut images, mut pixels, mut padded, mut peak) = (0, 0_usize, 0_usize, 0);
        let mut hashes = Vec::new();
        let start = Instant::now();
        for epoch in self.epoch..self.epoch.saturating_add(self.epochs) {
            let from = if epoch == self.epoch { self.from } else { 0 };
            let mut batches = loader.epoch(epoch, from).map_err(|error| usage(&error))?;
            let all = hashes.len() + batches.remaining();
            for batch in batches.by_ref() {
                let batch = batch.map_err(|error| CliError::Failed(error.to_string()))?;
                images += batch.targets.len();
                pixels += batch.images.pixels.len() / 3;
                let mask = batch.images.mask.iter().flatten();
                padded += mask.filter(|&&padding| padding).count();
                hashes.push(hash(&batch));
                bar.set(hashes.len(), all);
            }
            peak = peak.max(batches.high_water_bytes());
        }
        let seconds = start.elapsed().as_secs_f64();
        drop(bar);
        let mut all = DefaultHasher::new();
        hashes.hash(&mut all);
        let rate = images as f64 / seconds.max(f64::MIN_POSITIVE);
        let facts = json!({
            "images": images,
            "batches": hashes.len(),
            "workers": self.workers,
            "seconds": seconds,
            "images_per_second": rate,
            // The part of all pixels that is padding.
            "padding": padded as f64 / (pixels as f64).max(1.0),
            // The number of images that could not be used.
            "replaced": loader.bad_images().len(),
            // The most bytes of samples and batches that were accounted to the loader at one time.
            "loader_peak_mb": peak as f64 / 1e6,
            "hash": format!("{:016x}", all.finish()),
            "hashes": hashes.iter().map(|hash| format!("{hash:016x}")).collect::<Vec<_>>(),
        });
        Ok(Report::new(facts, vec![Row::of_runs("loading", "images/s", vec![rate])]))
    }
}

/// Returns a hash of everything of a batch that a model would see.
fn hash(batch: &Batch) -> u64 {
    let mut hasher = DefaultHasher::new();
    (batch.epoch, batch.index, batch.images.size, &batch.images.mask).hash(&mut hasher);
    for pixel in &batch.images.pixels {
        hasher.write_u32(pixel.to_bits());
    }
    for target in &batch.targets {
        (target.image_id, target.size, &target.labels, &target.iscrowd).hash(&mut hasher);
        for bbox in &target.boxes {
            [bbox.cx, bbox.cy, bbox.w, bbox.h].map(f32::to_bits).hash(&mut hasher);
        }
    }
    hasher.finish()
}
