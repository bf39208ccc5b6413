//! Training of DETR and Deformable DETR. [`Trainer`] does one step as `engine.py` of the references does:
//! parameter groups, schedules, `AdamW` and SGD, clipping, gradient accumulation, moving averages. [`run`]
//! is the loop around it, on Burn's `SupervisedTraining`: epochs, validation, checkpoints from which a run
//! goes on as if it had not been stopped. Nothing is printed here.
//!
//! Architecture invariant: a step reads from the device twice, the matching costs of every micro-batch and
//! then all numbers that are logged (and a seed, where dropout has to be repeated). Parameters change only
//! after the latter were found to be finite, and are f32. Two places beside it read, too: several devices
//! exchange their gradients through memory (`run/rank_workers.rs`), and Burn's own loop, where [`Learned`] trains in it,
//! is told the loss (`burn/metrics.rs`).

mod burn;
mod fault;
mod run;
mod settings;
mod step;

pub use self::burn::{Batches, Learned, Number, Numbers, Silent, dashboard};
/// Burn's handle that stops a run.
pub use burn_train::Interrupter;
pub use run::{
    Checkpoints, End, Event, Found, Hooks, Parts, Passed, Progress, RunError, StartError, Started,
    Step, ValidateError, Validation, Watched, check_checkpoint, ground_truth, in_order,
    micro_batch, named, run, start, upload, validate,
};
pub use settings::{
    DataSettings, EarlyStopping, ModelSettings, RunSettings, SettingKey, SettingPlace,
    SettingsError, TrainConfig, TrainSettings,
};
pub use step::{
    Accumulated, AllReduce, Alone, ConfigError, Ema, EmaConfig, GradientNorm, GroupConfig,
    GroupRow, GroupTable, Groups, GroupsConfig, GroupsError, LossScale, MicroBatch, NonFinite,
    Optimizer, OptimizerConfig, Outcome, Place, Precision, PrecisionError, Schedule,
    ScheduleConfig, Slot, StateError, StepConfig, StepError, StepReport, Trainer, Unit, Warmup,
    clip_coefficient,
};
