//! The bounded queue between requests and the device, and how batches are taken from it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use detr_data::RgbImage;
use detr_detect::{ImageFault, StageTimes};
use detr_types::ImageSize;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::engine::{DetectedPicture, DetectionOptions};
use crate::models::Model;
use crate::options::Batching;

/// A picture that waits for the device.
pub(crate) struct Job {
    pub(crate) model: Arc<Model>,
    pub(crate) picture: RgbImage,
    pub(crate) wanted: DetectionOptions,
    pub(crate) arrived: Instant,
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<Reply>,
    /// The memory of the picture, out of what all requests have together.
    pub(crate) memory: Option<OwnedSemaphorePermit>,
}

/// The answer to a picture.
pub(crate) enum Reply {
    /// The picture with its detections.
    Detections(PictureResult),
    /// A picture that cannot be used.
    Fault(ImageFault),
    /// A prediction that failed.
    Failed(String),
}

/// A picture with its detections, and the time that they took.
pub(crate) struct PictureResult {
    pub(crate) detected: DetectedPicture,
    /// The time in the queue.
    pub(crate) queued: Duration,
    /// The times of the whole batch.
    pub(crate) stages: StageTimes,
    pub(crate) memory: Option<OwnedSemaphorePermit>,
}

/// The reason why a picture cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueError {
    /// There is no room.
    Full,
    /// The server ends.
    Closed,
}

/// The pictures of a batch are alike in this.
#[derive(Clone, Copy, PartialEq)]
struct BatchKey {
    model: *const Model,
    size: Option<ImageSize>,
    wanted: Option<DetectionOptions>,
}

impl BatchKey {
    fn of(job: &Job) -> Self {
        let size = ImageSize::new(job.picture.height(), job.picture.width());
        Self {
            model: Arc::as_ptr(&job.model),
            size: job.model.engine.batch_size_of(size),
            // Thresholds of boxes are applied to the answers.
            wanted: (job.wanted.masks || job.wanted.output).then_some(job.wanted),
        }
    }
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// The queue. Pictures leave it in their order, but that those of a batch leave together.
pub(crate) struct Queue {
    batching: Batching,
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    pub(crate) fn new(batching: Batching) -> Self {
        Self { batching, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of pictures that wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    /// Checks that this many pictures may wait.
    pub(crate) fn check_room(&self, count: usize) -> Result<(), QueueError> {
        self.lock().check_room(count, &self.batching)
    }

    /// Lets pictures wait: all of them or none.
    pub(crate) fn push(&self, jobs: Vec<Job>) -> Result<(), QueueError> {
        let mut state = self.lock();
        state.check_room(jobs.len(), &self.batching)?;
        state.jobs.extend(jobs);
        self.changed.notify_all();
        Ok(())
    }

    /// Refuses what comes from now on. What waits is still handed out.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Takes everything that waits.
    pub(crate) fn take_all(&self) -> Vec<Job> {
        self.lock().jobs.drain(..).collect()
    }

    /// Waits for pictures and takes those of a batch: the one that waited longest, and others like it. Returns nothing
    /// once the queue is closed and empty.
    pub(crate) fn next_batch(&self) -> Option<Vec<Job>> {
        let Batching { most, delay, .. } = self.batching;
        let mut state = self.lock();
        loop {
            state.forget_stale();
            let Some(first) = state.jobs.front() else {
                if state.closed {
                    return None;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let kind = BatchKey::of(first);
            let alike =
                state.jobs.iter().filter(|job| BatchKey::of(job) == kind).take(most).count();
            let patience = (first.arrived + delay).saturating_duration_since(Instant::now());
            if alike >= most || patience.is_zero() || state.closed {
                return Some(state.take(kind, most));
            }
            let waited = self.changed.wait_timeout(state, patience);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    fn check_room(&mut self, count: usize, batching: &Batching) -> Result<(), QueueError> {
        if self.closed {
            return Err(QueueError::Closed);
        }
        if self.jobs.len() + count > batching.queue {
            self.forget_stale();
        }
        if self.jobs.len() + count > batching.queue { Err(QueueError::Full) } else { Ok(()) }
    }

    /// Drops pictures whose client went away or whose time is over: nobody waits for their answer.
    fn forget_stale(&mut self) {
        let now = Instant::now();
        self.jobs.retain(|job| !job.reply.is_closed() && job.deadline > now);
    }

    fn take(&mut self, kind: BatchKey, most: usize) -> Vec<Job> {
        let mut batch = Vec::new();
        let mut left = VecDeque::with_capacity(self.jobs.len());
        for job in self.jobs.drain(..) {
            if batch.len() < most && BatchKey::of(&job) == kind {
                batch.push(job);
            } else {
                left.push_back(job);
            }
        }
        self.jobs = left;
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    fn queue(most: usize, delay: u64, room: usize) -> Queue {
        Queue::new(Batching { most, delay: Duration::from_millis(delay), queue: room })
    }

    #[test]
    fn a_batch_has_pictures_of_one_size_and_the_oldest_first() {
        let (queue, model) = (queue(2, 0, 10), fake::model());
        let mut receivers = Vec::new();
        for (sample, side) in [(1, 8), (2, 9), (3, 8), (4, 8), (5, 9)] {
            let (job, receiver) = fake::job(&model, sample, side);
            queue.push(vec![job]).unwrap();
            receivers.push(receiver);
        }
        let next = || -> Vec<u8> {
            let batch = queue.next_batch().unwrap();
            batch.iter().map(|job| job.picture.as_raw()[0]).collect()
        };
        assert_eq!((next(), next(), next()), (vec![1, 3], vec![2, 5], vec![4]));
        queue.close();
        assert!(queue.next_batch().is_none());
    }

    #[test]
    fn thresholds_share_a_batch_unless_there_are_masks() {
        let (queue, model) = (queue(8, 0, 10), fake::model());
        let mut receivers = Vec::new();
        for (threshold, masks) in [(0.1, false), (0.2, false), (0.1, true), (0.2, true)] {
            let (mut job, receiver) = fake::job(&model, 1, 8);
            job.wanted = DetectionOptions { threshold, masks, output: false };
            queue.push(vec![job]).unwrap();
            receivers.push(receiver);
        }
        let lengths = [(); 3].map(|()| queue.next_batch().unwrap().len());
        assert_eq!(lengths, [2, 1, 1]);
    }

    #[test]
    fn a_request_waits_whole_or_not_at_all() {
        let (queue, model) = (queue(1, 0, 3), fake::model());
        let (mut jobs, mut receivers): (Vec<_>, Vec<_>) =
            (0..4).map(|sample| fake::job(&model, sample, 8)).unzip();
        let last = jobs.pop().unwrap();
        queue.push(jobs).unwrap();
        assert_eq!(queue.push(vec![last]), Err(QueueError::Full));
        assert_eq!((queue.len(), queue.check_room(1)), (3, Err(QueueError::Full)));
        // A client that goes away makes room.
        receivers.remove(1);
        assert_eq!((queue.check_room(1), queue.len()), (Ok(()), 2));
        queue.close();
        assert_eq!(queue.check_room(1), Err(QueueError::Closed));
        assert_eq!(queue.next_batch().unwrap()[0].picture.as_raw()[0], 0);
    }

    #[test]
    fn pictures_whose_time_is_over_are_not_computed() {
        let (queue, model) = (queue(1, 0, 3), fake::model());
        let (mut late, mut receiver) = fake::job(&model, 1, 8);
        late.deadline = Instant::now();
        let (good, _good_receiver) = fake::job(&model, 2, 8);
        queue.push(vec![late, good]).unwrap();
        assert_eq!(queue.next_batch().unwrap()[0].picture.as_raw()[0], 2);
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn an_idle_device_waits_for_more_but_not_for_long() {
        let (queue, model) = (queue(2, 50, 3), fake::model());
        let (first, _a) = fake::job(&model, 1, 8);
        let start = Instant::now();
        queue.push(vec![first]).unwrap();
        assert_eq!(queue.next_batch().unwrap().len(), 1);
        assert!(start.elapsed() >= Duration::from_millis(45));
        let (first, _b) = fake::job(&model, 1, 8);
        queue.push(vec![first]).unwrap();
        std::thread::scope(|scope| {
            let batch = scope.spawn(|| queue.next_batch().unwrap().len());
            let (second, receiver) = fake::job(&model, 2, 8);
            queue.push(vec![second]).unwrap();
            assert_eq!(batch.join().unwrap(), 2);
            drop(receiver);
        });
    }
}
