//! The thread that owns the device: it takes batches from the queue and answers them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use detr_detect::{PredictError, StageTimes};
use detr_infer::backend::catch_device;

use crate::engine::Outcome;
use crate::metrics::Metrics;
use crate::models::{Model, Models};
use crate::queue::{Job, PictureResult, Queue, Reply};

/// The state of the device.
#[derive(Default)]
pub(crate) struct DeviceState {
    warm: AtomicBool,
    lost: Mutex<Option<String>>,
}

impl DeviceState {
    /// Returns whether the first prediction of every model is done.
    pub(crate) fn is_warm(&self) -> bool {
        self.warm.load(Ordering::Acquire)
    }

    /// Returns the failure after which the device is not used any more.
    pub(crate) fn lost(&self) -> Option<String> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lose(&self, message: String) {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
    }
}

/// The worker's tools.
pub(crate) struct Worker {
    pub(crate) queue: Arc<Queue>,
    pub(crate) device: Arc<DeviceState>,
    pub(crate) metrics: Arc<Metrics>,
    /// Whether the device can be used after a failure, if a prediction works then.
    pub(crate) survives: bool,
}

impl Worker {
    /// Warms every model up, and then detects until the queue is closed and empty or the device fails. `lost` is called
    /// when it failed.
    pub(crate) fn run(&self, models: &Models, ready: impl FnOnce(), lost: impl FnOnce()) {
        for model in models.ready() {
            if let Err(message) = guarded(|| model.warm_up()).and_then(|warm| warm) {
                self.give_up(&message);
                lost();
                return;
            }
        }
        self.device.warm.store(true, Ordering::Release);
        ready();
        while let Some(batch) = self.queue.next_batch() {
            self.metrics.queue_length(self.queue.len());
            if let Err(message) = self.answer(batch) {
                self.give_up(&message);
                lost();
                return;
            }
        }
    }

    /// Answers a batch. The error is a device that cannot be used any more.
    fn answer(&self, batch: Vec<Job>) -> Result<(), String> {
        let begun = Instant::now();
        let Some(first) = batch.first() else { return Ok(()) };
        let (model, wanted) = (Arc::clone(&first.model), first.wanted);
        self.metrics.batch(batch.len());
        let mut replies = Vec::with_capacity(batch.len());
        let mut pictures = Vec::with_capacity(batch.len());
        for job in batch {
            let queued = begun.saturating_duration_since(job.arrived);
            self.metrics.queued(queued);
            pictures.push(job.picture);
            replies.push((job.reply, queued, job.memory));
        }
        let outcome: Result<(Vec<Outcome>, StageTimes), PredictError> =
            match guarded(|| model.engine.detect(pictures, wanted)) {
                Ok(outcome) => outcome,
                Err(message) => Err(detr_model::DeviceError { message }.into()),
            };
        match outcome {
            Ok((found, stages)) => {
                self.metrics.stages(stages);
                for (found, (reply, queued, memory)) in found.into_iter().zip(replies) {
                    let answer = match found {
                        Ok(detected) => {
                            Reply::Detections(PictureResult { detected, queued, stages, memory })
                        }
                        Err(fault) => Reply::Fault(fault),
                    };
                    // A client that went away needs no answer.
                    drop(reply.send(answer));
                }
                Ok(())
            }
            Err(error) => {
                let message = error.to_string();
                tracing::error!("a prediction failed: {message}");
                let works = self.survives && works_again(&model);
                for (reply, ..) in replies {
                    drop(reply.send(Reply::Failed(message.clone())));
                }
                if works { Ok(()) } else { Err(message) }
            }
        }
    }

    /// Refuses all that waits and all that will come.
    fn give_up(&self, message: &str) {
        tracing::error!("the device is lost: {message}");
        self.device.lose(message.to_owned());
        self.queue.close();
        for job in self.queue.take_all() {
            drop(job.reply.send(Reply::Failed(message.to_owned())));
        }
        self.metrics.queue_length(0);
    }
}

/// Returns whether a device detects after a failure.
fn works_again(model: &Model) -> bool {
    matches!(guarded(|| model.warm_up()), Ok(Ok(())))
}

fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_device(work).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot::Receiver;

    use super::*;
    use crate::fake;
    use crate::options::Batching;

    fn worker(survives: bool) -> Worker {
        let batching = Batching { most: 8, delay: Duration::ZERO, queue: 100 };
        let (queue, metrics) = (Arc::new(Queue::new(batching)), Arc::new(Metrics::new()));
        Worker { queue, device: Arc::default(), metrics, survives }
    }

    fn shown(mut receiver: Receiver<Reply>) -> String {
        match receiver.try_recv().unwrap() {
            Reply::Detections(found) => format!("{:.2}", found.detected.detections[0].score),
            Reply::Fault(_) => "fault".to_owned(),
            Reply::Failed(reason) => reason,
        }
    }

    #[test]
    fn a_picture_that_cannot_be_used_stands_beside_the_others() {
        let (worker, model) = (worker(true), fake::model());
        let (jobs, receivers): (Vec<_>, Vec<_>) =
            [64, 254, 128].map(|sample| fake::job(&model, sample, 8)).into_iter().unzip();
        worker.answer(jobs).unwrap();
        let shown: Vec<String> = receivers.into_iter().map(shown).collect();
        assert_eq!(shown, ["0.25", "fault", "0.50"]);
    }

    #[test]
    fn after_a_panic_a_cpu_goes_on_and_a_gpu_is_lost() {
        for survives in [true, false] {
            let (worker, model) = (worker(survives), fake::model());
            let (bad, receiver) = fake::job(&model, 255, 8);
            let outcome = worker.answer(vec![bad]);
            assert_eq!(outcome.is_ok(), survives);
            assert!(shown(receiver).contains("on purpose"));
            if survives {
                let (good, receiver) = fake::job(&model, 128, 8);
                worker.answer(vec![good]).unwrap();
                assert_eq!(shown(receiver), "0.50");
            }
        }
    }

    #[test]
    fn a_device_that_is_lost_answers_all_that_wait() {
        let (worker, model) = (worker(false), fake::model());
        let (jobs, receivers): (Vec<_>, Vec<_>) =
            [255, 64, 64].map(|sample| fake::job(&model, sample, 8)).into_iter().unzip();
        let (other, waiting) = fake::job(&model, 64, 9);
        worker.queue.push(jobs).unwrap();
        worker.queue.push(vec![other]).unwrap();
        let mut lost = false;
        worker.run(&Models::none(), || (), || lost = true);
        assert!(lost && worker.device.lost().unwrap().contains("on purpose"));
        for receiver in receivers.into_iter().chain([waiting]) {
            assert!(shown(receiver).contains("on purpose"));
        }
        assert!(worker.queue.check_room(1).is_err());
    }
}
