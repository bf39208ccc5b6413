//! Training of DETR and Deformable DETR, up to one step of the optimizer: parameter groups, schedules,
//! `AdamW` and SGD, clipping, gradient accumulation, moving averages, and the [`Trainer`] that puts them
//! together as `engine.py` of the references does. It is not the loop: batches come from outside, and
//! nothing is written to disk here.
//!
//! Architecture invariant: a step reads from the device twice, the matching costs of every micro-batch and
//! then all numbers that are logged (and a seed, where dropout has to be repeated). Parameters change only
//! after the latter were found to be finite, and are f32.

mod accumulate;
mod checkpoint;
mod clip;
mod config;
mod ema;
mod groups;
mod optimizer;
mod outcome;
mod precision;
mod ranks;
mod run;
mod schedule;
mod segments;
mod settings;
mod step;
mod truth;
mod validate;

pub use accumulate::{Accumulated, MicroBatch};
pub use checkpoint::{Checkpoints, Found, Passed};
pub use clip::{GradientNorm, clip_coefficient};
pub use config::{ConfigError, StepConfig};
pub use ema::{Ema, EmaConfig};
pub use groups::{GroupConfig, GroupRow, GroupTable, Groups, GroupsConfig, GroupsError, Slot};
pub use optimizer::{Optimizer, OptimizerConfig, StateError};
pub use outcome::{NonFinite, Outcome, Place, StepError, StepReport};
pub use precision::{LossScale, Precision, PrecisionError};
pub use ranks::{AllReduce, Alone};
pub use run::{End, Event, Parts, Progress, RunError, named, run};
pub use schedule::{Schedule, ScheduleConfig, Unit, Warmup};
pub use settings::{DataSettings, ModelSettings, RunSettings, TrainConfig, TrainSettings};
pub use step::Trainer;
pub use truth::ground_truth;
pub use validate::{ValidateError, in_order, upload, validate};
