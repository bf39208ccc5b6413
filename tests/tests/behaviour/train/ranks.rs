//! Two ranks in one process make the step that one makes of all images.

use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use burn::tensor::Tensor;
use detr_train::{AllReduce, NonFinite, Outcome, StepConfig, StepError, Trainer};

use super::steps::{largest_difference, parts};
use super::{deformable, detr, model, parameters, trainer, updated};

/// What ranks hand in, until all did.
type Handed<T> = Arc<Mutex<Vec<Option<T>>>>;

/// A rank in a thread of this process.
#[derive(Clone)]
struct Rank {
    number: usize,
    all: Arc<Barrier>,
    numbers: Handed<Vec<f64>>,
    tensors: Handed<Vec<Tensor<1>>>,
}

impl Rank {
    fn pair() -> [Self; 2] {
        let first = Self {
            number: 0,
            all: Arc::new(Barrier::new(2)),
            numbers: Arc::new(Mutex::new(vec![None, None])),
            tensors: Arc::new(Mutex::new(vec![None, None])),
        };
        [first.clone(), Self { number: 1, ..first }]
    }

    /// What all handed in, by rank.
    fn gather<T: Clone>(&self, place: &Handed<T>, own: T) -> Vec<T> {
        place.lock().unwrap()[self.number] = Some(own);
        self.all.wait();
        let handed = place.lock().unwrap().iter().flatten().cloned().collect();
        self.all.wait();
        handed
    }
}

impl AllReduce for Rank {
    fn ranks(&self) -> (usize, usize) {
        (2, self.number)
    }

    fn sum_numbers(&self, numbers: &mut [f64]) -> Result<(), StepError> {
        let handed = self.gather(&self.numbers, numbers.to_vec());
        for (i, number) in numbers.iter_mut().enumerate() {
            *number = handed.iter().map(|numbers| numbers[i]).sum();
        }
        Ok(())
    }

    fn sum_tensors(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, StepError> {
        let mut handed = self.gather(&self.tensors, tensors).into_iter();
        let first = handed.next().unwrap();
        Ok(handed
            .fold(first, |sums, more| sums.into_iter().zip(more).map(|(a, b)| a + b).collect()))
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
