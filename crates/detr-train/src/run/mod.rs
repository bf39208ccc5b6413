//! A run: the loop around the step, its inputs and events, and what it leaves on disk. It prints nothing, and writes
//! nothing but checkpoints, the model and a report of a divergence.

mod checkpointing;
mod checkpoints;
mod divergence;
mod early_stopping;
mod error;
mod events;
mod exchange;
mod inputs;
mod micro_batch;
mod progress;
mod rank_workers;
mod resume;
mod retention;
mod start;
mod stop;
mod train_loop;
mod validate;
mod validation;

use detr_model::Model;

use crate::settings::TrainConfig;
pub use checkpoints::{
    Checkpoints, RejectedCheckpoint, UsableCheckpoint, check as check_checkpoint,
};
pub use error::RunError;
pub use events::{End, Event, Phase, Step, Watch, named};
pub use inputs::TrainInputs;
pub use micro_batch::micro_batch;
pub use progress::{Progress, Validation};
pub use resume::begin;
pub use start::{InitialModel, StartError, start};
pub use stop::StopFlag;
pub use train_loop::TrainLoop;
pub use validate::{
    ValidateError, ValidationOutcome, ValidationSet, WatchedImages, validate, validation_detector,
};

/// Trains a model of the weights `start`, which are on the device with autodiff. With `resume` it goes on after the
/// newest checkpoint that counts, if there is one. [`TrainLoop::fit`] says when it ends.
///
/// # Errors
/// See [`RunError`]; checkpoints that were written stay.
pub fn run(
    config: TrainConfig,
    inputs: TrainInputs,
    start: Model,
    resume: bool,
    stop: &StopFlag,
    watch: &mut dyn Watch,
) -> Result<End, RunError> {
    let (trainer, progress) = begin(&config, &inputs, start, resume, watch)?;
    TrainLoop::new(config, inputs, Box::new(trainer), progress).fit(stop, watch)
}
