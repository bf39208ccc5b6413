//! The consumer's side of an epoch: batches in order, errors at their place, threads that end with
//! it.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::batch::{BadImage, Batch};
use super::error::LoaderError;
use super::queue::{Job, Queue};

/// The batches of an epoch, in order. After an error there is nothing more.
pub struct Batches {
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
    bad: Arc<Mutex<BTreeMap<i64, String>>>,
    over: bool,
}

impl Batches {
    pub(super) fn start(
        job: Job,
        from: usize,
        bad: Arc<Mutex<BTreeMap<i64, String>>>,
    ) -> Result<Self, LoaderError> {
        let count = job.config.workers.max(1);
        let queue = Arc::new(Queue::new(job, from));
        let mut batches = Self { queue, workers: Vec::new(), bad, over: false };
        for worker in 0..count {
            let queue = batches.queue.clone();
            let thread = std::thread::Builder::new().name(format!("detr-loader-{worker}"));
            let spawned = thread.spawn(move || queue.run(worker));
            // Dropping what there is joins the threads that did start.
            let spawned =
                spawned.map_err(|error| LoaderError::Spawn { reason: error.to_string() })?;
            batches.workers.push(spawned);
        }
        Ok(batches)
    }

    /// Returns the epoch and number of the batch that comes next, for a later start from there.
    #[must_use]
    pub fn position(&self) -> (u64, usize) {
        (self.queue.job.epoch, self.queue.front())
    }

    /// Returns the number of batches that are still to come.
    #[must_use]
    pub fn remaining(&self) -> usize {
        if self.over { 0 } else { self.queue.job.plan.len() - self.position().1 }
    }

    /// Returns the most bytes that were accounted to samples and batches at one time, those that
    /// were reserved included.
    #[must_use]
    pub fn high_water_bytes(&self) -> u64 {
        self.queue.high_water()
    }

    /// Returns the number of batches that are loaded and wait for the consumer.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.queue.ready()
    }

    /// Remembers the images that were replaced, and refuses to go on with too many.
    fn count_bad(&self, replaced: &[BadImage]) -> Result<(), LoaderError> {
        let mut known = self.bad.lock().unwrap_or_else(PoisonError::into_inner);
        for bad in replaced {
            known.insert(bad.image_id, bad.reason.clone());
            let limit = self.queue.job.bad_limit;
            if known.len() > limit {
                let last = bad.reason.clone();
                return Err(LoaderError::TooManyBad { bad: known.len(), limit, last });
            }
        }
        Ok(())
    }

    /// Ends the threads; the panic of one of them, if it had one.
    fn stop(&mut self, of: Option<usize>) -> Option<Box<dyn Any + Send>> {
        self.over = true;
        self.queue.stop();
        let mut payload = None;
        for (worker, thread) in self.workers.drain(..).enumerate() {
            if let Err(panic) = thread.join()
                && of == Some(worker)
            {
                payload = Some(panic);
            }
        }
        payload
    }

    fn panicked(&mut self, worker: usize, image_id: i64) -> LoaderError {
        let payload = self.stop(Some(worker));
        let message = payload.as_deref().and_then(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            text.or_else(|| panic.downcast_ref::<String>().cloned())
        });
        let message = message.unwrap_or_else(|| "without a message".to_owned());
        LoaderError::WorkerPanicked { image_id, epoch: self.queue.job.epoch, message }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, LoaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let batch = match self.queue.wait_for_batch() {
            Some(Ok(batch)) => batch,
            Some(Err((worker, image_id))) => return Some(Err(self.panicked(worker, image_id))),
            None => {
                self.stop(None);
                return None;
            }
        };
        if let Err(error) = self.count_bad(&batch.replaced) {
            self.stop(None);
            return Some(Err(error));
        }
        Some(Ok(batch))
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.stop(None);
    }
}
