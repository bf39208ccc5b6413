//! A loader's batches as Burn's data loaders give them: epoch after epoch, on a device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;
use detr_data::Loader;

use crate::run::micro_batch;
use crate::step::MicroBatch;

/// Batches of a loader, or of a part of them, for Burn's loops. Every pass over them is the next epoch.
pub struct Batches {
    loader: Arc<Loader>,
    classes: usize,
    device: Device,
    epoch: AtomicU64,
    /// Positions in an epoch.
    part: std::ops::Range<usize>,
}

impl Batches {
    /// All batches of a loader, for a head of so many classes, on a device with autodiff.
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

impl DataLoader<MicroBatch> for Batches {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<MicroBatch> + 'a> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        let (batches, failed) = match self.loader.epoch(epoch, self.part.start) {
            Ok(batches) => (Some(batches.take(self.part.len())), None),
            Err(error) => (None, Some(DatasetError::new(error))),
        };
        Box::new(Iter { of: self, batches, failed, done: 0 })
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

struct Iter<'a> {
    of: &'a Batches,
    batches: Option<std::iter::Take<detr_data::Batches>>,
    failed: Option<DatasetError>,
    done: usize,
}

impl Iterator for Iter<'_> {
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

impl DataLoaderIterator<MicroBatch> for Iter<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.done, self.of.part.len(), Some("batches".to_owned()))
    }
}
