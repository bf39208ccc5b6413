//! Batches for training and evaluation: worker threads decode and augment ahead of the consumer.
//!
//! What it promises:
//! - the same batches in the same order for a seed and an epoch, whatever the number of workers;
//! - it starts at any batch of any epoch, without going through the ones before;
//! - ranks take disjoint parts of an epoch (see [`LoaderConfig::shard`]) and all have the same number
//!   of batches;
//! - memory stays within [`LoaderConfig::budget_bytes`], by the measured sizes of samples;
//! - an image that cannot be used is replaced by the next one of the source and reported, up to a
//!   limit; a worker that panics ends the epoch with an error that names the image. An epoch is
//!   never shorter than planned without an error;
//! - dropping [`Batches`] stops its threads and waits for them.
//!
//! It is not Burn's data loader, which yields in the order of arrival, bounds batches by number and
//! cannot start in the middle.

mod batches;
mod cache;
mod error;
mod order;
mod queue;
mod source;
mod stack;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use detr_types::ImageSize;
use serde::{Deserialize, Serialize};

pub use batches::Batches;
pub use cache::CacheMode;
pub use error::{LoaderError, SampleError};
pub use source::{DatasetSource, Loaded, SampleSource};

use crate::batch::HostBatch;
use crate::target::{Target, TargetCounts};

/// How samples become batches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoaderConfig {
    /// Images in a batch, per rank.
    pub batch_size: usize,
    /// Seed of the order.
    pub seed: u64,
    /// Whether every epoch has its own order; otherwise that of the source.
    pub shuffle: bool,
    /// Leave out the last batch where it would be smaller than the others.
    pub drop_last: bool,
    /// Batches of similar aspect ratio, in so many classes, to save padding; 1 mixes all.
    pub buckets: usize,
    /// Threads that load. With 0 one thread loads, and only while the consumer waits.
    pub workers: usize,
    /// Bytes of samples and batches that may be in memory before the consumer takes them. A batch
    /// that the consumer waits for is loaded whatever it needs. What a batch will need is taken
    /// from the largest so far, so a batch that is larger than all before can go beyond.
    pub budget_bytes: u64,
    /// Pads every batch at least to this size, for programs that want one shape.
    pub pad_to: Option<ImageSize>,
    /// Different images that may be replaced before the loader gives up; not stated, a thousandth
    /// of all images, and at least 10.
    pub max_bad_images: Option<usize>,
    /// How often a failing read is tried again.
    pub retries: u32,
    /// Milliseconds before the first of these; four times as long before each further one.
    pub retry_delay_ms: u64,
    /// The part of this process.
    #[serde(skip)]
    pub shard: Shard,
}

/// The part of an epoch that a process takes.
///
/// Where the images do not divide by the number of ranks, the first ones of the epoch's order are
/// used again until they do (or the rest is left out, with [`LoaderConfig::drop_last`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Number of this process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub world: usize,
}

impl Default for Shard {
    fn default() -> Self {
        Self { rank: 0, world: 1 }
    }
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            batch_size: 2,
            seed: 0,
            shuffle: true,
            drop_last: false,
            buckets: 1,
            workers: 2,
            budget_bytes: 1 << 30,
            pad_to: None,
            max_bad_images: None,
            retries: 3,
            retry_delay_ms: 100,
            shard: Shard::default(),
        }
    }
}

impl LoaderConfig {
    /// Refuses numbers that cannot work.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), LoaderError> {
        let fields = [
            ("batch_size", self.batch_size, 1..=65_536, "1 to 65536"),
            ("buckets", self.buckets, 1..=1024, "1 to 1024"),
            ("workers", self.workers, 0..=1024, "0 to 1024"),
            ("world", self.shard.world, 1..=65_536, "1 to 65536"),
        ];
        for (field, value, range, expected) in fields {
            if !range.contains(&value) {
                return Err(LoaderError::Config { field, value: value.to_string(), expected });
            }
        }
        if self.shard.rank >= self.shard.world {
            let (value, expected) = (self.shard.rank.to_string(), "less than the number of ranks");
            return Err(LoaderError::Config { field: "rank", value, expected });
        }
        Ok(())
    }

    fn bad_limit(&self, samples: usize) -> usize {
        // One good image must be left to stand in for the bad ones.
        self.max_bad_images.unwrap_or((samples / 1000).max(10)).min(samples.saturating_sub(1))
    }
}

/// Images and targets of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Epoch.
    pub epoch: u64,
    /// Number of the batch in the epoch, from 0.
    pub index: usize,
    /// Normalised and padded pixels.
    pub images: HostBatch,
    /// What is on each image.
    pub targets: Vec<Target>,
    /// What became of the annotations.
    pub counts: TargetCounts,
    /// Images that could not be used, each with the reason; another one took its place.
    pub replaced: Vec<BadImage>,
}

/// An image that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadImage {
    /// Its id.
    pub image_id: i64,
    /// The reason, with the path.
    pub reason: String,
}

/// Makes the batches of a source, epoch by epoch.
pub struct Loader {
    source: Arc<dyn SampleSource>,
    config: LoaderConfig,
    bad: Arc<Mutex<BTreeMap<i64, String>>>,
    /// What a sample needed at most, for the epochs to come.
    per_sample: Arc<AtomicU64>,
}

impl Loader {
    /// A loader; nothing is read yet.
    ///
    /// # Errors
    /// A configuration that cannot work, or fewer images than one batch needs.
    pub fn new(source: Arc<dyn SampleSource>, config: LoaderConfig) -> Result<Self, LoaderError> {
        config.validate()?;
        let samples = source.len();
        if order::batches(&config, samples) == 0 {
            let group = config.batch_size * config.shard.world;
            let least = if config.drop_last { group } else { 1 };
            return Err(LoaderError::TooFew { samples, least });
        }
        Ok(Self { source, config, bad: Arc::default(), per_sample: Arc::default() })
    }

    /// Number of batches in every epoch.
    #[must_use]
    pub fn batches_per_epoch(&self) -> usize {
        order::batches(&self.config, self.source.len())
    }

    /// The source.
    #[must_use]
    pub fn source(&self) -> &Arc<dyn SampleSource> {
        &self.source
    }

    /// The batches of an epoch as indices of samples, replacements not considered.
    #[must_use]
    pub fn plan(&self, epoch: u64) -> Vec<Vec<usize>> {
        let size = |index| self.source.stated_size(index);
        order::plan(&self.config, epoch, self.source.len(), size)
    }

    /// Starts loading an epoch, from batch number `from` on. At the end of an epoch (`from` equal to
    /// the number of batches) there is nothing left to yield.
    ///
    /// # Errors
    /// A position beyond the end, or threads that cannot be started.
    pub fn epoch(&self, epoch: u64, from: usize) -> Result<Batches, LoaderError> {
        let plan = self.plan(epoch);
        if from > plan.len() {
            let batches = plan.len();
            return Err(LoaderError::Position { epoch, index: from, batches });
        }
        let job = queue::Job {
            source: self.source.clone(),
            spec: self.source.normalization(),
            bad_limit: self.config.bad_limit(self.source.len()),
            config: self.config.clone(),
            epoch,
            plan,
            per_sample: self.per_sample.clone(),
        };
        Batches::start(job, from, self.bad.clone())
    }

    /// Every image that was replaced so far, in all epochs of this loader.
    #[must_use]
    pub fn bad_images(&self) -> Vec<BadImage> {
        let bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        bad.iter()
            .map(|(&image_id, reason)| BadImage { image_id, reason: reason.clone() })
            .collect()
    }
}
