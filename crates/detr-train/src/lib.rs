//! Training of DETR and Deformable DETR. [`Trainer`] does one step as `engine.py` of the references does:
//! parameter groups, schedules, `AdamW` and SGD, clipping, gradient accumulation, moving averages. [`run`]
//! is the loop around it, on Burn's `SupervisedTraining`: epochs, validation, checkpoints from which a run
//! goes on as if it had not been stopped. Nothing is printed here.
//!
//! Architecture invariant: a step reads from the device twice, the matching costs of every micro-batch and
//! then all numbers that are logged (and a seed, where dropout has to be repeated). Parameters change only
//! after the latter were found to be finite, and are f32. Two places beside it read, too: several devices
//! exchange their gradients through memory (`devices`), and Burn's own loop, where [`Learned`] trains in it,
//! is told the loss (`numbers`).

mod accumulate;
mod batches;
mod checkpoint;
mod clip;
mod config;
mod course;
mod devices;
mod dump;
mod ema;
mod fault;
mod groups;
mod learner;
mod numbers;
mod optimizer;
mod outcome;
mod precision;
mod ranks;
mod records;
mod renderer;
mod run;
mod schedule;
mod segments;
mod settings;
mod start;
mod state;
mod step;
mod validate;

pub use accumulate::{Accumulated, MicroBatch};
pub use batches::{Batches, micro_batch};
/// Burn's handle that stops a run.
pub use burn_train::Interrupter;
pub use checkpoint::{Checkpoints, Found, Passed, check as check_checkpoint};
pub use clip::{GradientNorm, clip_coefficient};
pub use config::{ConfigError, StepConfig};
pub use ema::{Ema, EmaConfig};
pub use groups::{GroupConfig, GroupRow, GroupTable, Groups, GroupsConfig, GroupsError, Slot};
pub use learner::Learned;
pub use numbers::{Number, Numbers};
pub use optimizer::{Optimizer, OptimizerConfig, StateError};
pub use outcome::{NonFinite, Outcome, Place, StepError, StepReport};
pub use precision::{LossScale, Precision, PrecisionError};
pub use ranks::{AllReduce, Alone};
pub use records::{BURN_VERSION, Recorder, SampleSource, run_info};
pub use renderer::{Silent, dashboard};
pub use run::{End, Event, Hooks, Parts, Progress, RunError, Step, Validation, named, run};
pub use schedule::{Schedule, ScheduleConfig, Unit, Warmup};
pub use settings::{
    DataSettings, EarlyStopping, ModelSettings, RunSettings, SettingKey, SettingPlace,
    SettingsError, TrainConfig, TrainSettings,
};
pub use start::{StartError, Started, start};
pub use step::Trainer;
pub use validate::{ValidateError, Watched, in_order, validate};
