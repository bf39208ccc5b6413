//! One step of training: its settings, its parts and its outcome. A step knows neither epochs nor files.
//!
//! [`Trainer`] puts the parts together, in the order in which they follow each other: `accumulate`, `clip`,
//! `optimizer` with the `groups` of parameters, `ema`.

mod accumulate;
mod activation_checkpointing;
mod clip;
mod config;
mod ema;
mod groups;
mod non_finite;
mod optimizer;
mod outcome;
mod precision;
mod ranks;
mod schedule;
mod trainer;
mod training_step;
mod usual_values;

pub use accumulate::{AccumulatedGradients, MicroBatch};
pub use clip::{GradientNorm, clip_coefficient};
pub use config::StepConfig;
pub(crate) use config::default_clip;
pub use ema::{Ema, EmaConfig};
pub use groups::{
    GroupConfig, GroupRow, GroupTable, Groups, GroupsConfig, GroupsError, ParameterSlot,
};
pub use optimizer::{Optimizer, OptimizerConfig, StateError};
pub use outcome::{NonFinite, NonFiniteInput, Outcome, StepError, StepReport};
pub use precision::{LossScale, PrecisionError, check_precision};
pub use ranks::{AllReduce, SingleRank};
pub use schedule::{Schedule, ScheduleConfig, Unit, Warmup};
pub use trainer::Trainer;
pub use training_step::TrainingStep;
pub(crate) use usual_values::with_usual_values;
