//! A step as the loop asks for it.

use super::accumulate::MicroBatch;
use super::outcome::{Outcome, StepError};
use super::ranks::AllReduce;
use super::trainer::Trainer;

/// A maker of steps: a [`Trainer`], or a wrapper around one that looks at what goes in and comes out.
pub trait TrainingStep {
    /// Returns the trainer with everything that a checkpoint holds.
    fn trainer(&self) -> &Trainer;

    /// Makes a step of the micro-batches of all ranks; see [`Trainer::step_together`].
    ///
    /// # Errors
    /// The same as those of [`Trainer::step_together`].
    fn step_together(
        &mut self,
        micro_batches: Vec<MicroBatch>,
        factor: f64,
        all: &dyn AllReduce,
    ) -> Result<Outcome, StepError>;
}

impl TrainingStep for Trainer {
    fn trainer(&self) -> &Trainer {
        self
    }

    fn step_together(
        &mut self,
        micro_batches: Vec<MicroBatch>,
        factor: f64,
        all: &dyn AllReduce,
    ) -> Result<Outcome, StepError> {
        // The method of `Trainer` itself, which has the same name.
        Self::step_together(self, micro_batches, factor, all)
    }
}
