//! Batches for training and evaluation: worker threads decode and augment ahead of the consumer.
//!
//! The loader keeps these promises:
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

mod batch;
mod batches;
mod cache;
mod config;
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

pub use batch::{BadImage, Batch};
pub use batches::Batches;
pub use cache::CacheMode;
pub use config::{LoaderConfig, Shard};
pub use error::{LoaderError, SampleError};
pub use source::{DatasetSource, LoadedSample, SampleSource};

/// Makes the batches of a source, epoch by epoch.
pub struct Loader {
    source: Arc<dyn SampleSource>,
    config: LoaderConfig,
    bad: Arc<Mutex<BTreeMap<i64, String>>>,
    /// The most bytes that a sample needed so far, for the epochs to come.
    per_sample: Arc<AtomicU64>,
}

impl Loader {
    /// Creates a loader; nothing is read yet.
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

    /// Returns the number of batches in every epoch.
    #[must_use]
    pub fn batches_per_epoch(&self) -> usize {
        order::batches(&self.config, self.source.len())
    }

    /// Returns the source.
    #[must_use]
    pub fn source(&self) -> &Arc<dyn SampleSource> {
        &self.source
    }

    /// Plans the batches of an epoch as indices of samples, replacements not considered.
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

    /// Lists every image that was replaced so far, in all epochs of this loader.
    #[must_use]
    pub fn bad_images(&self) -> Vec<BadImage> {
        let bad = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        bad.iter()
            .map(|(&image_id, reason)| BadImage { image_id, reason: reason.clone() })
            .collect()
    }
}
