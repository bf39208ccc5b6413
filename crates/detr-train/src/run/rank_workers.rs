//! One run on several devices of this machine: a thread for each, with a model of its own. All make the
//! same step of the batches of all, so their models stay the same. Sums go through the host's memory, in
//! the order of the ranks, which works between devices of any backend; see [`AllReduce`] for another way.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use burn::tensor::{DType, Device, Tensor, TensorData, Transaction};
use detr_data::Batch;
use detr_model::traffic;

use super::RunError;
use super::micro_batch::micro_batch;
use crate::step::{AllReduce, NonFinite, Outcome, StepConfig, StepError, Trainer};

/// How long a rank waits for the others before it gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// The ranks beside the first, which is the caller's.
pub(crate) struct Others {
    workers: Vec<Worker>,
    own: Rank,
    classes: usize,
}

struct Worker {
    tasks: Option<Sender<Task>>,
    results: Receiver<Result<Outcome, StepError>>,
    thread: Option<JoinHandle<()>>,
}

struct Task {
    batches: Vec<Batch>,
    factor: f64,
    seed: u64,
}

impl Others {
    /// A thread for every device, with a copy of the first rank's trainer.
    pub(crate) fn start(
        trainer: &Trainer,
        config: &StepConfig,
        devices: &[Device],
        classes: usize,
    ) -> Result<Self, RunError> {
        let shared = Arc::new(Shared::new(devices.len() + 1));
        let rank = |number| Rank { number, shared: shared.clone() };
        let mut workers = Vec::with_capacity(devices.len());
        for (index, device) in devices.iter().enumerate() {
            let mut trainer = trainer.on(config, device)?;
            let (rank, device) = (rank(index + 1), device.clone());
            let (tasks, to_do) = channel::<Task>();
            let (done, results) = channel();
            let work = move || {
                let leaves = Leaves(rank.shared.clone());
                for Task { batches, factor, seed } in to_do {
                    device.seed(seed);
                    let outcome = part(&mut trainer, batches, classes, &device, factor, &rank);
                    let failed = outcome.is_err();
                    if done.send(outcome).is_err() || failed {
                        break;
                    }
                }
                drop(leaves);
            };
            let thread =
                std::thread::Builder::new().name(format!("rank-{}", index + 1)).spawn(work);
            let thread = thread.map_err(|error| RunError::Device(error.to_string()))?;
            workers.push(Worker { tasks: Some(tasks), results, thread: Some(thread) });
        }
        Ok(Self { workers, own: rank(0), classes })
    }

    /// The number of ranks, with the first.
    pub(crate) fn ranks(&self) -> usize {
        self.workers.len() + 1
    }

    /// A step of all ranks on these batches, of which there are at least as many as ranks.
    pub(crate) fn step(
        &self,
        trainer: &mut Trainer,
        device: &Device,
        mut batches: Vec<Batch>,
        factor: f64,
        seed: u64,
    ) -> Result<Outcome, StepError> {
        // The first ranks have one more where they do not divide.
        let (each, more) = (batches.len() / self.ranks(), batches.len() % self.ranks());
        let mut images_before = vec![0; self.workers.len()];
        for (index, worker) in self.workers.iter().enumerate().rev() {
            let count = each + usize::from(index + 1 < more);
            let batches = batches.split_off(batches.len() - count);
            for before in &mut images_before[index + 1..] {
                *before += batches.iter().map(|batch| batch.images.len()).sum::<usize>();
            }
            let seed = seed.wrapping_add(index as u64 + 1);
            let task = Task { batches, factor, seed };
            let sent = worker.tasks.as_ref().is_some_and(|tasks| tasks.send(task).is_ok());
            if !sent {
                return Err(gone(index + 1));
            }
        }
        device.seed(seed);
        let own_images: usize = batches.iter().map(|batch| batch.images.len()).sum();
        let outcome = part(trainer, batches, self.classes, device, factor, &self.own);
        if outcome.is_err() {
            self.own.shared.leave();
        }
        let mut outcomes = vec![outcome];
        for (index, (worker, before)) in self.workers.iter().zip(images_before).enumerate() {
            let outcome = worker.results.recv_timeout(PATIENCE).map_err(|_| gone(index + 1));
            outcomes.push(outcome.flatten().map(|outcome| outcome.after(own_images + before)));
        }
        // One rank is the cause of the others' failing, and one found what was not finite.
        let lost = |outcome: &Result<_, _>| matches!(outcome, Err(StepError::Ranks(_)));
        let told = |outcome: &Result<_, _>| match outcome {
            Ok(Outcome::Skipped(reason)) => *reason != NonFinite::OtherRank,
            _ => false,
        };
        let first = |is: &dyn Fn(&Result<Outcome, StepError>) -> bool| outcomes.iter().position(is);
        let place = first(&|outcome| outcome.is_err() && !lost(outcome))
            .or_else(|| first(&Result::is_err))
            .or_else(|| first(&told))
            .unwrap_or(0);
        outcomes.swap_remove(place)
    }
}

/// What one rank does in a step.
fn part(
    trainer: &mut Trainer,
    batches: Vec<Batch>,
    classes: usize,
    device: &Device,
    factor: f64,
    rank: &Rank,
) -> Result<Outcome, StepError> {
    let micro = batches.into_iter().map(|batch| micro_batch(batch, classes, device));
    trainer.step_together(micro.collect::<Result<Vec<_>, _>>()?, factor, rank)
}

impl Drop for Others {
    fn drop(&mut self) {
        self.own.shared.leave();
        for worker in &mut self.workers {
            worker.tasks = None;
            // Its end of the channel goes when its thread ends; one that hangs is left behind.
            while worker.results.recv_timeout(PATIENCE).is_ok() {}
            match worker.thread.take() {
                // One that panicked has said so.
                Some(thread) if thread.is_finished() => drop(thread.join()),
                _ => {}
            }
        }
    }
}

fn gone(rank: usize) -> StepError {
    StepError::Ranks(format!("rank {rank} is gone"))
}

/// Tells the others when a thread ends, however it ends.
struct Leaves(Arc<Shared>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// What the ranks hand each other.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    ranks: usize,
}

#[derive(Default)]
struct State {
    /// Rounds that are over.
    round: u64,
    /// What was handed in, by rank.
    handed: Vec<Option<Vec<f64>>>,
    /// The sums of the last round.
    sums: Arc<Vec<f64>>,
    left: bool,
}

impl Shared {
    fn new(ranks: usize) -> Self {
        let state = State { handed: vec![None; ranks], ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new(), ranks }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the ranks does not come again.
    fn leave(&self) {
        self.lock().left = true;
        self.changed.notify_all();
    }

    /// The sums of what all ranks hand in.
    fn sum(&self, rank: usize, own: Vec<f64>) -> Result<Arc<Vec<f64>>, StepError> {
        let start = Instant::now();
        let mut state = self.lock();
        let round = state.round;
        state.handed[rank] = Some(own);
        if state.handed.iter().all(Option::is_some) {
            let mut handed = state.handed.iter_mut().filter_map(Option::take);
            let mut sums = handed.next().unwrap_or_default();
            for more in handed {
                sums.iter_mut().zip(more).for_each(|(sum, number)| *sum += number);
            }
            state.sums = Arc::new(sums);
            state.round += 1;
            self.changed.notify_all();
            return Ok(state.sums.clone());
        }
        while state.round == round {
            if state.left {
                return Err(StepError::Ranks("another rank is gone".to_owned()));
            }
            let Some(rest) = PATIENCE.checked_sub(start.elapsed()) else {
                let missing = state.handed.iter().position(Option::is_none).unwrap_or(self.ranks);
                return Err(StepError::Ranks(format!(
                    "rank {missing} did not answer within {} seconds",
                    PATIENCE.as_secs()
                )));
            };
            let waited = self.changed.wait_timeout(state, rest);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state.sums.clone())
    }
}

/// One rank's end of it.
struct Rank {
    number: usize,
    shared: Arc<Shared>,
}

impl AllReduce for Rank {
    fn ranks(&self) -> (usize, usize) {
        (self.shared.ranks, self.number)
    }

    fn sum_numbers(&self, numbers: &mut [f64]) -> Result<(), StepError> {
        let sums = self.shared.sum(self.number, numbers.to_vec())?;
        numbers.copy_from_slice(&sums);
        Ok(())
    }

    fn sum_tensors(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, StepError> {
        let Some(first) = tensors.first() else { return Ok(tensors) };
        let device = first.device();
        let lengths: Vec<usize> = tensors.iter().map(|tensor| tensor.dims()[0]).collect();
        let failed = |error: &dyn std::fmt::Debug| StepError::Device(format!("{error:?}"));
        let all = traffic::read(Transaction::default().register(Tensor::cat(tensors, 0)));
        let all =
            all.map_err(|error| failed(&error))?.pop().ok_or_else(|| failed(&"no numbers"))?;
        let all = all.convert_dtype(DType::F32).try_into_vec::<f32>();
        let own = all.map_err(|error| failed(&error))?.into_iter().map(f64::from).collect();
        let sums = self.shared.sum(self.number, own)?;
        #[allow(clippy::cast_possible_truncation)] // back to what they were
        let sums: Vec<f32> = sums.iter().map(|&sum| sum as f32).collect();
        let mut rest = &sums[..];
        Ok(lengths
            .into_iter()
            .map(|length| {
                let (own, others) = rest.split_at(length);
                rest = others;
                Tensor::from_data(TensorData::new(own.to_vec(), [length]), (&device, DType::F32))
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ranks_get_the_same_sums_in_every_round() {
        let shared = Arc::new(Shared::new(3));
        std::thread::scope(|scope| {
            for number in 0..3_u8 {
                let rank = Rank { number: number.into(), shared: shared.clone() };
                scope.spawn(move || {
                    for round in 0..200 {
                        let mut numbers = [f64::from(round), f64::from(number)];
                        rank.sum_numbers(&mut numbers).unwrap();
                        let sums = [f64::from(3 * round), 3.0].map(f64::to_bits);
                        assert_eq!(numbers.map(f64::to_bits), sums);
                    }
                });
            }
        });
    }

    #[test]
    fn a_rank_that_is_gone_is_not_waited_for() {
        let shared = Arc::new(Shared::new(2));
        let waiting = Rank { number: 0, shared: shared.clone() };
        let waiting = std::thread::spawn(move || waiting.sum_numbers(&mut [1.0]));
        std::thread::spawn(move || drop(Leaves(shared))).join().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(StepError::Ranks(_))));
    }
}
