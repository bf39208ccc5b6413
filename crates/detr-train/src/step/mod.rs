//! One step of training: what it computes, what it changes, and what it is set up with.

mod accumulate;
mod activation_checkpointing;
mod clip;
mod config;
mod ema;
mod groups;
mod optimizer;
mod outcome;
mod precision;
mod ranks;
mod schedule;
mod trainer;
mod training_step;

pub use accumulate::{Accumulated, MicroBatch};
pub use clip::{GradientNorm, clip_coefficient};
pub use config::{ConfigError, StepConfig};
pub(crate) use config::{default_clip, not_negative, require};
pub use ema::{Ema, EmaConfig};
pub use groups::{GroupConfig, GroupRow, GroupTable, Groups, GroupsConfig, GroupsError, Slot};
pub use optimizer::{Optimizer, OptimizerConfig, StateError};
pub use outcome::{NonFinite, Outcome, Place, StepError, StepReport};
pub use precision::{LossScale, Precision, PrecisionError};
pub use ranks::{AllReduce, Alone};
pub use schedule::{Schedule, ScheduleConfig, Unit, Warmup};
pub use trainer::Trainer;
pub use training_step::TrainingStep;
