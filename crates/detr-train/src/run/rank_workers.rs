//! One run on several devices of this machine. Every device has a rank; ranks 1 and up have a thread and a model of
//! their own. All ranks make the same step of the batches of all, so their models stay the same.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use burn::module::Module;
use burn::tensor::Device;
use detr_data::Batch;
use detr_model::DeviceError;

use super::error::RunError;
use super::exchange::{Exchange, LeaveGuard, PATIENCE, Rank};
use super::micro_batch::micro_batch;
use crate::step::{NonFinite, Optimizer, Outcome, StepConfig, StepError, Trainer, TrainingStep};

/// Worker threads for ranks 1 and up. Rank 0 runs on the caller's thread.
pub(super) struct RankWorkers {
    workers: Vec<Worker>,
    /// Rank 0.
    own: Rank,
    /// Classes of the head.
    classes: usize,
}

struct Worker {
    /// `None` once the thread has been asked to end.
    tasks: Option<Sender<Task>>,
    results: Receiver<Result<Outcome, StepError>>,
    thread: Option<JoinHandle<()>>,
}

/// The part of a step that one rank does.
struct Task {
    batches: Vec<Batch>,
    factor: f64,
    seed: u64,
}

impl RankWorkers {
    /// Starts a thread for every device, each with a copy of rank 0's trainer.
    pub(super) fn start(
        trainer: &Trainer,
        config: &StepConfig,
        devices: &[Device],
        classes: usize,
    ) -> Result<Self, RunError> {
        let exchange = Arc::new(Exchange::new(devices.len() + 1));
        let rank = |number| Rank::new(number, exchange.clone());
        let mut workers = Vec::with_capacity(devices.len());
        for (index, device) in devices.iter().enumerate() {
            let mut trainer = copy_to(trainer, config, device)?;
            let (rank, device) = (rank(index + 1), device.clone());
            let (tasks, to_do) = channel::<Task>();
            let (done, results) = channel();
            let work = move || {
                let leaving = LeaveGuard::new(&rank);
                for Task { batches, factor, seed } in to_do {
                    device.seed(seed);
                    let outcome =
                        step_of_rank(&mut trainer, batches, classes, &device, factor, &rank);
                    let failed = outcome.is_err();
                    if done.send(outcome).is_err() || failed {
                        break;
                    }
                }
                drop(leaving);
            };
            let thread =
                std::thread::Builder::new().name(format!("rank-{}", index + 1)).spawn(work);
            let thread = thread.map_err(|error| DeviceError { message: error.to_string() })?;
            workers.push(Worker { tasks: Some(tasks), results, thread: Some(thread) });
        }
        Ok(Self { workers, own: rank(0), classes })
    }

    /// Returns the number of ranks, including rank 0.
    pub(super) fn ranks(&self) -> usize {
        self.workers.len() + 1
    }

    /// Makes a step of all ranks on these batches, of which there are at least as many as ranks. `trainer` is that of
    /// rank 0, on `device`.
    pub(super) fn step(
        &self,
        trainer: &mut dyn TrainingStep,
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
        let outcome = step_of_rank(trainer, batches, self.classes, device, factor, &self.own);
        if outcome.is_err() {
            self.own.leave();
        }
        let mut outcomes = vec![outcome];
        for (index, (worker, before)) in self.workers.iter().zip(images_before).enumerate() {
            let outcome = worker.results.recv_timeout(PATIENCE).map_err(|_| gone(index + 1));
            outcomes.push(outcome.flatten().map(|outcome| outcome.after(own_images + before)));
        }
        let place = most_telling(&outcomes);
        outcomes.swap_remove(place)
    }
}

/// Returns the position of the outcome that says why a step went as it did: one rank is the cause of the others'
/// failing, and one found the number that was not finite.
fn most_telling(outcomes: &[Result<Outcome, StepError>]) -> usize {
    let is_lost = |outcome: &Result<_, _>| matches!(outcome, Err(StepError::Ranks(_)));
    let is_told = |outcome: &Result<_, _>| match outcome {
        Ok(Outcome::Skipped(reason)) => *reason != NonFinite::OtherRank,
        _ => false,
    };
    let first = |is: &dyn Fn(&Result<Outcome, StepError>) -> bool| outcomes.iter().position(is);
    first(&|outcome| outcome.is_err() && !is_lost(outcome))
        .or_else(|| first(&Result::is_err))
        .or_else(|| first(&is_told))
        .unwrap_or(0)
}

/// Returns the same trainer on another device, without the moving average, which rank 0 keeps.
fn copy_to(trainer: &Trainer, config: &StepConfig, device: &Device) -> Result<Trainer, RunError> {
    let state = trainer.optimizer().state(trainer.groups())?;
    let config = StepConfig { ema: None, ..config.clone() };
    let model = trainer.model().clone().fork(&config.device(device.clone()));
    let mut copy = Trainer::new(model, &config)?;
    let optimizer = Optimizer::resume(config.optimizer, copy.groups(), &state, device)?;
    copy.resume(optimizer, None);
    if let Some(scale) = trainer.loss_scale() {
        copy.set_loss_scale(scale);
    }
    Ok(copy)
}

/// Makes one rank's part of a step.
fn step_of_rank(
    trainer: &mut dyn TrainingStep,
    batches: Vec<Batch>,
    classes: usize,
    device: &Device,
    factor: f64,
    rank: &Rank,
) -> Result<Outcome, StepError> {
    let micro = batches.into_iter().map(|batch| micro_batch(batch, classes, device));
    trainer.step_together(micro.collect::<Result<Vec<_>, _>>()?, factor, rank)
}

impl Drop for RankWorkers {
    fn drop(&mut self) {
        self.own.leave();
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
