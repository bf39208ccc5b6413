//! The threads behind an epoch. Batches are admitted in order while they fit the budget, their
//! samples are handed out one by one, whoever finishes the last sample of a batch stacks it, and the
//! consumer takes batches in order.
//!
//! No deadlock: the batch that the consumer waits for is always admitted, whatever it needs; a
//! thread holds the lock only for bookkeeping; and a thread that panics says so while it unwinds.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use detr_types::{ImageSize, PreprocessSpec};

use super::batch::{BadImage, Batch};
use super::config::LoaderConfig;
use super::source::{LoadedSample, SampleSource};
use super::stack::{batch_bytes, padded_size, stack};
use crate::target::{Target, TargetCounts};

/// The work of an epoch.
pub(super) struct Job {
    pub(super) source: Arc<dyn SampleSource>,
    pub(super) spec: PreprocessSpec,
    pub(super) config: LoaderConfig,
    pub(super) bad_limit: usize,
    pub(super) epoch: u64,
    /// Samples of each batch.
    pub(super) plan: Vec<Vec<usize>>,
    /// The most bytes that a batch needed so far, per sample; 0 before the first batch.
    pub(super) per_sample: Arc<AtomicU64>,
}

/// The state that the threads of an epoch share.
pub(super) struct Queue {
    pub(super) job: Job,
    state: Mutex<State>,
    /// Something to do, or the end.
    work: Condvar,
    /// Something for the consumer.
    ready: Condvar,
}

#[derive(Default)]
struct State {
    /// The batch that the consumer takes next.
    front: usize,
    /// The batch that is admitted next.
    admitted: usize,
    /// The samples of admitted batches that no worker has taken yet.
    tasks: VecDeque<Task>,
    building: BTreeMap<usize, PartialBatch>,
    done: BTreeMap<usize, Batch>,
    /// Bytes accounted to each batch between admission and the consumer, their sum, and its peak.
    held: BTreeMap<usize, u64>,
    in_use: u64,
    high_water: u64,
    waiting: bool,
    stop: bool,
    /// Worker that panicked, and the image it worked on.
    panicked: Option<(usize, i64)>,
}

/// A sample to load.
#[derive(Clone, Copy)]
struct Task {
    batch: usize,
    slot: usize,
    index: usize,
}

/// A batch whose samples are not all there.
struct PartialBatch {
    slots: Vec<Option<LoadedSample>>,
    missing: usize,
    bytes: u64,
    replaced: Vec<(usize, BadImage)>,
}

impl State {
    fn hold(&mut self, batch: usize, bytes: u64) {
        let held = self.held.entry(batch).or_default();
        self.in_use = self.in_use - *held + bytes;
        *held = bytes;
        self.high_water = self.high_water.max(self.in_use);
    }

    fn release(&mut self, batch: usize) {
        self.in_use -= self.held.remove(&batch).unwrap_or(0);
    }
}

impl Queue {
    /// Creates a queue that starts at a batch.
    pub(super) fn new(job: Job, from: usize) -> Self {
        let state = State { front: from, admitted: from, ..State::default() };
        Self { job, state: Mutex::new(state), work: Condvar::new(), ready: Condvar::new() }
    }

    /// Ends the work after the samples that are being loaded.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.work.notify_all();
    }

    /// Returns the number of the batch that the consumer takes next.
    pub(super) fn front(&self) -> usize {
        self.lock().front
    }

    /// Returns the most bytes held or reserved at one time.
    pub(super) fn high_water(&self) -> u64 {
        self.lock().high_water
    }

    /// Returns the number of batches that wait for the consumer.
    pub(super) fn ready(&self) -> usize {
        self.lock().done.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No thread panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until the end of the epoch.
    pub(super) fn run(&self, worker: usize) {
        let alarm = PanicGuard { queue: self, worker, image_id: Cell::new(0) };
        while let Some(task) = self.next_task() {
            let (loaded, bad) = self.load(task.index, &alarm);
            if let Some(building) = self.finish_sample(task, loaded, bad) {
                self.finish_batch(task.batch, building);
            }
        }
    }

    fn next_task(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.stop || state.panicked.is_some() {
                return None;
            }
            if state.tasks.is_empty() && self.may_admit(&state) {
                self.admit(&mut state);
            }
            if let Some(task) = state.tasks.pop_front() {
                return Some(task);
            }
            if state.admitted == self.job.plan.len() {
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns whether the next batch may be worked on: always when the consumer needs it next,
    /// otherwise when it fits.
    fn may_admit(&self, state: &State) -> bool {
        let Some(samples) = self.job.plan.get(state.admitted) else { return false };
        let next = state.admitted == state.front;
        if self.job.config.workers == 0 {
            return next && state.waiting;
        }
        let fits = |bytes: u64| state.in_use.saturating_add(bytes) <= self.job.config.budget_bytes;
        let each = self.job.per_sample.load(Ordering::Relaxed);
        next || each > 0 && fits(each * samples.len() as u64)
    }

    fn admit(&self, state: &mut State) {
        let batch = state.admitted;
        let samples = &self.job.plan[batch];
        state.admitted += 1;
        let tasks = samples.iter().enumerate().map(|(slot, &index)| Task { batch, slot, index });
        state.tasks.extend(tasks);
        let building = PartialBatch {
            slots: samples.iter().map(|_| None).collect(),
            missing: samples.len(),
            bytes: 0,
            replaced: Vec::new(),
        };
        state.building.insert(batch, building);
        let reserved = self.job.per_sample.load(Ordering::Relaxed) * samples.len() as u64;
        state.hold(batch, reserved);
        // One thread was woken for the batch; the others can take its further samples.
        self.work.notify_all();
    }

    /// Loads a sample, or the next one of the source that can be used. More failures than the limit
    /// allows give no sample; the consumer stops there.
    fn load(&self, index: usize, alarm: &PanicGuard<'_>) -> (Option<LoadedSample>, Vec<BadImage>) {
        let source = &self.job.source;
        let mut bad = Vec::new();
        for next in 0..=self.job.bad_limit {
            let index = (index + next) % source.len();
            let image_id = source.image_id(index);
            alarm.image_id.set(image_id);
            match self.load_patiently(index) {
                Ok(loaded) => return (Some(loaded), bad),
                Err(reason) => bad.push(BadImage { image_id, reason }),
            }
            if self.lock().stop {
                break;
            }
        }
        (None, bad)
    }

    fn load_patiently(&self, index: usize) -> Result<LoadedSample, String> {
        let config = &self.job.config;
        let mut delay = Duration::from_millis(config.retry_delay_ms);
        let mut left = config.retries;
        loop {
            match self.job.source.load(index, self.job.epoch) {
                Ok(loaded) => return Ok(loaded),
                Err(error) if error.is_transient() && left > 0 && self.sleep(delay) => {
                    left -= 1;
                    delay = delay.saturating_mul(4);
                }
                Err(error) => return Err(error.error.to_string()),
            }
        }
    }

    /// Waits, unless the epoch is to end; then false.
    fn sleep(&self, delay: Duration) -> bool {
        let end = Instant::now() + delay;
        let mut state = self.lock();
        while !state.stop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let woken = self.work.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    /// Puts a sample into its batch; the batch comes back when nothing is missing any more.
    fn finish_sample(
        &self,
        task: Task,
        loaded: Option<LoadedSample>,
        bad: Vec<BadImage>,
    ) -> Option<PartialBatch> {
        let mut state = self.lock();
        let building = state.building.get_mut(&task.batch)?;
        if let Some(loaded) = &loaded {
            building.bytes += loaded.bytes() + loaded.scratch_bytes;
        }
        building.slots[task.slot] = loaded;
        building.replaced.extend(bad.into_iter().map(|bad| (task.slot, bad)));
        building.missing -= 1;
        let (bytes, missing) = (building.bytes, building.missing);
        let reserved = state.held.get(&task.batch).copied().unwrap_or(0);
        state.hold(task.batch, reserved.max(bytes));
        if missing > 0 {
            return None;
        }
        state.building.remove(&task.batch)
    }

    fn finish_batch(&self, index: usize, building: PartialBatch) {
        let PartialBatch { slots, mut replaced, bytes, .. } = building;
        replaced.sort_by_key(|(slot, _)| *slot);
        let count = slots.len() as u64;
        let (mut images, mut targets) = (Vec::new(), Vec::new());
        let mut counts = TargetCounts::default();
        for loaded in slots.into_iter().flatten() {
            images.push(loaded.image);
            targets.push(loaded.target);
            counts += loaded.counts;
        }
        let pad_to = self.job.config.pad_to;
        let sizes: Vec<ImageSize> = targets.iter().map(|target| target.size).collect();
        let peak = bytes + batch_bytes(images.len(), padded_size(&sizes, pad_to));
        {
            let mut state = self.lock();
            let reserved = state.held.get(&index).copied().unwrap_or(0);
            state.hold(index, reserved.max(peak));
            self.job.per_sample.fetch_max(peak.div_ceil(count.max(1)), Ordering::Relaxed);
        }
        let originals = targets.iter().map(|target| target.original_size).collect();
        let images = stack(images, originals, &self.job.spec, pad_to);
        let objects: u64 = targets.iter().map(Target::bytes).sum();
        let mask = images.mask.as_ref().map_or(0, Vec::len);
        let kept = (images.pixels.len() * 4 + mask) as u64 + objects;
        let replaced = replaced.into_iter().map(|(_, bad)| bad).collect();
        let batch = Batch { epoch: self.job.epoch, index, images, targets, counts, replaced };
        let mut state = self.lock();
        state.hold(index, kept);
        state.done.insert(index, batch);
        drop(state);
        self.ready.notify_all();
        self.work.notify_all();
    }

    /// Blocks for the next batch; nothing at the end of the epoch.
    pub(super) fn wait_for_batch(&self) -> Option<Result<Batch, (usize, i64)>> {
        let mut state = self.lock();
        loop {
            if let Some(panicked) = state.panicked {
                return Some(Err(panicked));
            }
            let front = state.front;
            if let Some(batch) = state.done.remove(&front) {
                state.release(front);
                state.front += 1;
                state.waiting = false;
                drop(state);
                self.work.notify_all();
                return Some(Ok(batch));
            }
            if front == self.job.plan.len() {
                return None;
            }
            if !state.waiting {
                state.waiting = true;
                self.work.notify_all();
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Lives as long as a worker runs; when a panic unwinds it, the consumer learns of it.
struct PanicGuard<'a> {
    queue: &'a Queue,
    worker: usize,
    image_id: Cell<i64>,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut state = self.queue.lock();
            // The first one is reported.
            state.panicked.get_or_insert((self.worker, self.image_id.get()));
            drop(state);
            self.queue.ready.notify_all();
            self.queue.work.notify_all();
        }
    }
}
