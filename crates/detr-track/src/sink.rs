//! The trait that every tracker implements: a file of the run, the console, or a service such as MLflow.

use std::error::Error;

use crate::{Event, Message, RunContext, RunEnd, Sample, StepRecord, ValidationRecord};

/// A destination for the records of a run.
///
/// [`Tracker`](crate::Tracker) calls the sinks in the order in which it was given them, so a sink that uploads
/// files belongs behind those that write them. Every method has an empty body, and a sink implements those that it
/// cares about. `run` already counts the record that a method is given.
///
/// The calls of a run are:
///
/// 1. [`begin`](Self::begin), when the run is set up and nothing has been trained yet;
/// 2. [`start`](Self::start), before the first record;
/// 3. [`step`](Self::step), [`validation`](Self::validation) and [`event`](Self::event), as they happen;
/// 4. [`finish`](Self::finish), unless the process is killed.
///
/// [`message`](Self::message) may come at any time.
///
/// A sink that fails returns an error and keeps what it could not write, within bounds, to try again at its next
/// call. The tracker tells the user once, and the run and the other sinks go on.
///
/// # Trackers of other tools
///
/// The trait covers the needs of MLflow and of Weights & Biases: [`RunInfo`](crate::RunInfo) has the run's name and
/// its settings as key-value pairs, records have the number of their step, [`Event::Saved`] names checkpoints, the folder of the
/// run has all other artifacts, and [`RunEnd`] is the state at the end. A sink that speaks to a server should do so
/// on a thread of its own, since training waits for every call.
#[allow(unused_variables)] // the bodies here are empty
pub trait Sink {
    /// Takes notice of a run that is set up but has not trained yet. It may still be refused, for example because
    /// its checkpoint does not fit, so records of an earlier process stay as they are.
    ///
    /// # Errors
    /// The sink cannot write now.
    fn begin(&mut self, run: &RunContext) -> SinkResult {
        Ok(Delivery::Idle)
    }

    /// Prepares for the first record. Records of steps after [`RunContext::step`] come from a process that was
    /// stopped after its last checkpoint, and no longer count.
    ///
    /// # Errors
    /// The sink cannot write now.
    fn start(&mut self, run: &RunContext) -> SinkResult {
        Ok(Delivery::Idle)
    }

    /// Records a step of the optimizer.
    ///
    /// # Errors
    /// The sink cannot write now.
    fn step(&mut self, step: &StepRecord, run: &RunContext) -> SinkResult {
        Ok(Delivery::Idle)
    }

    /// Records a validation and the detections on some of its images.
    ///
    /// # Errors
    /// The sink cannot write now.
    fn validation(
        &mut self,
        validation: &ValidationRecord,
        samples: &[Sample],
        run: &RunContext,
    ) -> SinkResult {
        Ok(Delivery::Idle)
    }

    /// Records something that happened beside the steps and validations.
    ///
    /// # Errors
    /// The sink cannot write now.
    fn event(&mut self, event: &Event, run: &RunContext) -> SinkResult {
        Ok(Delivery::Idle)
    }

    /// Takes a message for the user.
    ///
    /// # Errors
    /// The sink cannot write now.
    fn message(&mut self, message: &Message, run: &RunContext) -> SinkResult {
        Ok(Delivery::Idle)
    }

    /// Closes the records of the run; what could not be written before gets a last chance.
    ///
    /// # Errors
    /// The sink cannot write now.
    fn finish(&mut self, end: &RunEnd, run: &RunContext) -> SinkResult {
        Ok(Delivery::Idle)
    }
}

/// The result of a call of a sink.
pub type SinkResult = Result<Delivery, SinkError>;

/// The effect of a call of a sink. The tracker tells the user that a sink works again after its next
/// [`Written`](Self::Written).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Nothing was written, because there was nothing to write or it was not time to.
    Idle,
    /// Everything that the sink was given until now is where it belongs.
    Written,
}

/// A sink that cannot write now.
#[derive(Debug, thiserror::Error)]
#[error("{target} cannot be written: {source}")]
pub struct SinkError {
    /// The thing that cannot be written, in the user's words: a file such as `metrics.jsonl`, or a
    /// service.
    pub target: String,
    /// The reason.
    pub source: Box<dyn Error + Send + Sync>,
}

impl SinkError {
    /// Creates the error of a file or service.
    pub fn new(target: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { target: target.into(), source: source.into() }
    }
}
