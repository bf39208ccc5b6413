//! Two ranks in one process make the step that one makes of all images.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use burn::tensor::Tensor;
use detr_train::{AllReduce, NonFinite, Outcome, StepConfig, StepError, Trainer};

use super::steps::{largest_difference, parts};
use super::{deformable, detr, model, parameters, trainer, updated};

/// A message from one rank to the other.
enum RankMessage {
    Numbers(Vec<f64>),
    Tensors(Vec<Tensor<1>>),
}

/// A rank in a thread of this process. One that is gone, or hangs, is an error of the other.
struct Rank {
    number: usize,
    to_other: Sender<RankMessage>,
    from_other: Receiver<RankMessage>,
}

impl Rank {
    fn pair() -> [Self; 2] {
        let ((to_first, from_second), (to_second, from_first)) = (channel(), channel());
        [
            Self { number: 0, to_other: to_second, from_other: from_second },
            Self { number: 1, to_other: to_first, from_other: from_first },
        ]
    }

    /// Hands over the own message and returns that of the other rank at the same place.
    fn exchange(&self, own: RankMessage) -> Result<RankMessage, StepError> {
        let lost = |reason: &dyn ToString| StepError::Ranks(reason.to_string());
        self.to_other.send(own).map_err(|error| lost(&error))?;
        self.from_other.recv_timeout(Duration::from_mins(2)).map_err(|error| lost(&error))
    }
}

impl AllReduce for Rank {
    fn ranks(&self) -> (usize, usize) {
        (2, self.number)
    }

    fn sum_numbers(&self, numbers: &mut [f64]) -> Result<(), StepError> {
        let RankMessage::Numbers(others) = self.exchange(RankMessage::Numbers(numbers.to_vec()))?
        else {
            panic!("the other rank is elsewhere");
        };
        assert_eq!(numbers.len(), others.len());
        numbers.iter_mut().zip(others).for_each(|(number, other)| *number += other);
        Ok(())
    }

    fn sum_tensors(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, StepError> {
        let RankMessage::Tensors(others) = self.exchange(RankMessage::Tensors(tensors.clone()))?
        else {
            panic!("the other rank is elsewhere");
        };
        assert_eq!(tensors.len(), others.len());
        Ok(tensors.into_iter().zip(others).map(|(own, other)| own + other).collect())
    }
}

#[test]
fn two_ranks_make_the_step_of_one() {
    for config in [detr(), deformable()] {
        let mut one = trainer(&config, |_| {});
        let expected: Vec<_> =
            (0..3).map(|i| updated(one.step(parts(10 * i, 4), 1.0).unwrap())).collect();
        let ranks = Rank::pair().map(|rank| {
            let config = config.clone();
            thread::spawn(move || {
                let settings = StepConfig::for_model(&config);
                let mut trainer = Trainer::new(model(&config), &settings).unwrap();
                let reports = (0..3).map(|i| {
                    let own = parts(10 * i, 2).swap_remove(rank.number);
                    updated(trainer.step_together(vec![own], 1.0, &rank).unwrap())
                });
                let reports: Vec<_> = reports.collect();
                (parameters(&trainer), reports)
            })
        });
        for rank in ranks {
            let (found, reports) = rank.join().unwrap();
            let (difference, place) = largest_difference(&parameters(&one), &found);
            assert!(difference <= 1e-5, "{place} differs by {difference}");
            for (found, expected) in reports.iter().zip(&expected) {
                for ((name, a), (_, b)) in found.losses.iter().zip(&expected.losses) {
                    assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{name}: {a} is not {b}");
                }
            }
        }
    }
}

#[test]
fn a_rank_with_numbers_that_are_not_finite_stops_all() {
    let config = deformable();
    let outcomes = Rank::pair().map(|rank| {
        let config = config.clone();
        thread::spawn(move || {
            let settings = StepConfig::for_model(&config);
            let mut trainer = Trainer::new(model(&config), &settings).unwrap();
            let mut own = parts(1, 2).swap_remove(rank.number);
            if rank.number == 1 {
                own.images.pixels = own.images.pixels * f32::NAN;
            }
            trainer.step_together(vec![own], 1.0, &rank).unwrap()
        })
    });
    let [first, second] = outcomes.map(|outcome| outcome.join().unwrap());
    assert_eq!(first, Outcome::Skipped(NonFinite::OtherRank));
    assert!(matches!(second, Outcome::Skipped(NonFinite::Cost { origin: Some(_), .. })));
}
