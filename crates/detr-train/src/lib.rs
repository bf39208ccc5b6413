//! Training of DETR and Deformable DETR. [`Trainer`] makes one step as `engine.py` of the references does:
//! parameter groups, schedules, `AdamW` and SGD, clipping, gradient accumulation, moving averages. [`run()`]
//! is the loop around it: epochs, validation, checkpoints from which a run goes on as if it had not been
//! stopped. Listeners ([`Watch`]) hear what happens; nothing is printed here.
//!
//! There are four rooms: `step` computes one step, `run` is the loop around it, `settings` reads what both are
//! set up with, and `burn` is the adapter to burn-train, which shows a run on Burn's dashboard.
//!
//! Architecture invariant: a step reads from the device twice, the matching costs of every micro-batch and
//! then all numbers that are logged (and a seed, where dropout has to be repeated). Parameters change only
//! after the latter were found to be finite, and are f32. Two places beside it read, too: several devices
//! exchange their gradients through memory (`run/exchange.rs`), and Burn's own loop, where it trains a
//! [`ModelWithLoss`], is told the loss (`burn/metrics.rs`).

mod burn;
mod records;
mod run;
mod settings;
mod step;

pub use self::burn::{
    Dashboard, MicroBatchLoader, ModelWithLoss, ScalarMetric, Scalars, SilentRenderer,
};
pub use records::{BURN_VERSION, Recorder, SampleSource, run_info};
pub use run::{
    Checkpoints, End, Event, InitialModel, Phase, Progress, RejectedCheckpoint, RunError,
    StartError, Step, StopFlag, TrainInputs, TrainLoop, UsableCheckpoint, ValidateError,
    Validation, ValidationOutcome, ValidationSet, Watch, WatchedImages, begin, check_checkpoint,
    micro_batch, named, run, start, validate, validation_detector,
};
pub use settings::{
    DataSettings, EarlyStopping, ModelSettings, RunSettings, SettingKey, SettingPlace,
    SettingsError, TrainConfig, TrainSettings,
};
pub use step::{
    AccumulatedGradients, AllReduce, Ema, EmaConfig, GradientNorm, GroupConfig, GroupRow,
    GroupTable, Groups, GroupsConfig, GroupsError, LossScale, MicroBatch, NonFinite,
    NonFiniteInput, Optimizer, OptimizerConfig, Outcome, ParameterSlot, PrecisionError, Schedule,
    ScheduleConfig, SingleRank, StateError, StepConfig, StepError, StepReport, Trainer,
    TrainingStep, Unit, Warmup, check_precision, clip_coefficient,
};
