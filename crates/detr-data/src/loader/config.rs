//! The settings of the loader, and the part of an epoch that a process takes.

use detr_types::range::{in_range, require};
use detr_types::{ImageSize, RangeError};
use serde::{Deserialize, Serialize};

/// The settings of the loader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoaderConfig {
    /// The number of images in a batch, per rank.
    pub batch_size: usize,
    /// The seed of the order.
    pub seed: u64,
    /// Whether every epoch has its own order. If not, all have that of the source.
    pub shuffle: bool,
    /// Whether the last batch is left out if it would be smaller than the others.
    pub drop_last: bool,
    /// The number of classes of similar aspect ratio, whose images make batches of their own to save
    /// padding; 1 mixes all.
    pub buckets: usize,
    /// The number of threads that load. With 0 one thread loads, and only while the consumer waits.
    pub workers: usize,
    /// The bytes of samples and batches that may be in memory before the consumer takes them. A batch
    /// that the consumer waits for is loaded whatever it needs. The need of a batch is
    /// estimated from the largest so far, so a batch that is larger than all before can go beyond.
    pub budget_bytes: u64,
    /// The least size that batches are padded to, for programs that want one shape.
    pub pad_to: Option<ImageSize>,
    /// The number of different images that may be replaced before the loader gives up; if `None`, a
    /// thousandth of all images, and at least 10.
    pub max_bad_images: Option<usize>,
    /// The number of times that a failing read is tried again.
    pub retries: u32,
    /// The milliseconds before the first of these times; the wait is four times as long before each
    /// further one.
    pub retry_delay_ms: u64,
    /// The part of an epoch that this process takes.
    #[serde(skip)]
    pub shard: Shard,
}

/// The part of an epoch that a process takes.
///
/// If the images do not divide by the number of ranks, the first ones of the epoch's order are
/// used again until they do (or the rest is left out, with [`LoaderConfig::drop_last`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The number of this process, from 0.
    pub rank: usize,
    /// The number of processes.
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
    pub fn validate(&self) -> Result<(), RangeError> {
        let Shard { rank, world } = self.shard;
        in_range("batch_size", self.batch_size, 1..=65_536)?;
        in_range("buckets", self.buckets, 1..=1024)?;
        in_range("workers", self.workers, 0..=1024)?;
        in_range("world", world, 1..=65_536)?;
        require(rank < world, "rank", rank, "less than the number of ranks")
    }

    /// Returns the number of different images that may be replaced, if there are `samples` in all.
    pub(super) fn bad_limit(&self, samples: usize) -> usize {
        // One good image must be left to stand in for the bad ones.
        self.max_bad_images.unwrap_or((samples / 1000).max(10)).min(samples.saturating_sub(1))
    }
}
