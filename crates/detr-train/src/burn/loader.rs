//! The batches of a loader as one of Burn's data loaders, for Burn's own training loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;
use detr_data::Loader;

use crate::run::micro_batch;
use crate::step::MicroBatch;

/// The batches of a loader, or of a part of each epoch, on a device. Every pass over them is the next epoch.
pub struct MicroBatchLoader {
    loader: Arc<Loader>,
    classes: usize,
    device: Device,
    epoch: AtomicU64,
    /// Positions in an epoch.
    part: std::ops::Range<usize>,
}

impl MicroBatchLoader {
    /// Gives all batches of a loader, for a head of `classes` classes, on a device with autodiff.
    #[must_use]
    pub fn new(loader: Arc<Loader>, classes: usize, device: Device) -> Self {
        let part = 0..loader.batches_per_epoch();
        Self { loader, classes, device, epoch: AtomicU64::new(0), part }
    }

    fn with(&self, device: &Device, part: std::ops::Range<usize>) -> Self {
        let epoch = AtomicU64::new(self.epoch.load(Ordering::Relaxed));
        let (loader, classes) = (self.loader.clone(), self.classes);
        Self { loader, classes, device: device.clone(), epoch, part }
    }
}

impl DataLoader<MicroBatch> for MicroBatchLoader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<MicroBatch> + 'a> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        let (batches, failed) = match self.loader.epoch(epoch, self.part.start) {
            Ok(batches) => (Some(batches.take(self.part.len())), None),
            Err(error) => (None, Some(DatasetError::new(error))),
        };
        Box::new(EpochIterator { of: self, batches, failed, done: 0 })
    }

    fn num_items(&self) -> usize {
        self.part.len()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<MicroBatch>> {
        Arc::new(self.with(device, self.part.clone()))
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<MicroBatch>> {
        let at = |index: usize| (self.part.start + index).min(self.part.end);
        Arc::new(self.with(&self.device, at(start)..at(end)))
    }
}

/// One pass over the batches.
struct EpochIterator<'a> {
    of: &'a MicroBatchLoader,
    batches: Option<std::iter::Take<detr_data::Batches>>,
    /// Why the epoch could not begin.
    failed: Option<DatasetError>,
    done: usize,
}

impl Iterator for EpochIterator<'_> {
    type Item = Result<MicroBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        let batch = self.batches.as_mut()?.next()?;
        self.done += 1;
        let batch = batch.map_err(DatasetError::new).and_then(|batch| {
            micro_batch(batch, self.of.classes, &self.of.device).map_err(DatasetError::new)
        });
        Some(batch)
    }
}

impl DataLoaderIterator<MicroBatch> for EpochIterator<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.done, self.of.part.len(), Some("batches".to_owned()))
    }
}
