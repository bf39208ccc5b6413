//! Sums over the ranks of one process. They go through the host's memory, in the order of the ranks, which works
//! between devices of any backend; see [`AllReduce`] for another way.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use burn::tensor::{DType, Tensor, TensorData, Transaction};
use detr_model::traffic;

use crate::step::{AllReduce, StepError};

/// The time that a rank waits for the others before it gives up.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// The place where ranks hand in numbers and take sums out, round by round.
pub(super) struct Exchange {
    round: Mutex<Round>,
    changed: Condvar,
    ranks: usize,
}

#[derive(Default)]
struct Round {
    /// Rounds that are over.
    number: u64,
    /// The numbers that were handed in, by rank.
    handed: Vec<Option<Vec<f64>>>,
    /// The sums of the last round.
    sums: Arc<Vec<f64>>,
    /// Whether a rank has left.
    left: bool,
}

impl Exchange {
    pub(super) fn new(ranks: usize) -> Self {
        let round = Round { handed: vec![None; ranks], ..Round::default() };
        Self { round: Mutex::new(round), changed: Condvar::new(), ranks }
    }

    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all ranks that one of them does not come again.
    fn leave(&self) {
        self.lock().left = true;
        self.changed.notify_all();
    }

    /// Returns the sums of the numbers that all ranks hand in.
    fn sum(&self, rank: usize, own: Vec<f64>) -> Result<Arc<Vec<f64>>, StepError> {
        let start = Instant::now();
        let mut round = self.lock();
        let number = round.number;
        round.handed[rank] = Some(own);
        if round.handed.iter().all(Option::is_some) {
            let mut handed = round.handed.iter_mut().filter_map(Option::take);
            let mut sums = handed.next().unwrap_or_default();
            for more in handed {
                sums.iter_mut().zip(more).for_each(|(sum, number)| *sum += number);
            }
            round.sums = Arc::new(sums);
            round.number += 1;
            self.changed.notify_all();
            return Ok(round.sums.clone());
        }
        while round.number == number {
            if round.left {
                return Err(StepError::Ranks("another rank is gone".to_owned()));
            }
            let Some(rest) = PATIENCE.checked_sub(start.elapsed()) else {
                let missing = round.handed.iter().position(Option::is_none).unwrap_or(self.ranks);
                return Err(StepError::Ranks(format!(
                    "rank {missing} did not answer within {} seconds",
                    PATIENCE.as_secs()
                )));
            };
            let waited = self.changed.wait_timeout(round, rest);
            round = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(round.sums.clone())
    }
}

/// One rank's end of the exchange.
pub(super) struct Rank {
    number: usize,
    exchange: Arc<Exchange>,
}

impl Rank {
    pub(super) const fn new(number: usize, exchange: Arc<Exchange>) -> Self {
        Self { number, exchange }
    }

    /// Tells the other ranks that this one does not come again.
    pub(super) fn leave(&self) {
        self.exchange.leave();
    }
}

impl AllReduce for Rank {
    fn ranks(&self) -> (usize, usize) {
        (self.exchange.ranks, self.number)
    }

    fn sum_numbers(&self, numbers: &mut [f64]) -> Result<(), StepError> {
        let sums = self.exchange.sum(self.number, numbers.to_vec())?;
        numbers.copy_from_slice(&sums);
        Ok(())
    }

    fn sum_tensors(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, StepError> {
        let Some(first) = tensors.first() else { return Ok(tensors) };
        let device = first.device();
        let lengths: Vec<usize> = tensors.iter().map(|tensor| tensor.dims()[0]).collect();
        let all = traffic::read_f32(Transaction::default().register(Tensor::cat(tensors, 0)))?;
        let own = all.into_iter().flatten().map(f64::from).collect();
        let sums = self.exchange.sum(self.number, own)?;
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

/// Tells the other ranks when a thread ends, even by a panic.
pub(super) struct LeaveGuard(Arc<Exchange>);

impl LeaveGuard {
    pub(super) fn new(rank: &Rank) -> Self {
        Self(rank.exchange.clone())
    }
}

impl Drop for LeaveGuard {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ranks_get_the_same_sums_in_every_round() {
        let exchange = Arc::new(Exchange::new(3));
        std::thread::scope(|scope| {
            for number in 0..3_u8 {
                let rank = Rank { number: number.into(), exchange: exchange.clone() };
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
        let exchange = Arc::new(Exchange::new(2));
        let waiting = Rank { number: 0, exchange: exchange.clone() };
        let waiting = std::thread::spawn(move || waiting.sum_numbers(&mut [1.0]));
        std::thread::spawn(move || drop(LeaveGuard(exchange))).join().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(StepError::Ranks(_))));
    }
}
