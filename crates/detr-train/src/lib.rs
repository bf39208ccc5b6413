//! Training of DETR and Deformable DETR, up to one step of the optimizer: parameter groups, schedules,
//! `AdamW` and SGD, clipping, gradient accumulation, moving averages, and the [`Trainer`] that puts them
//! together as `engine.py` of the references does. It is not the loop: batches come from outside, and
//! nothing is written to disk here.
//!
//! Architecture invariant: a step reads from the device twice, the matching costs of every micro-batch and
//! then all numbers that are logged. Parameters change only after the latter were found to be finite.

mod accumulate;
mod clip;
mod config;
mod ema;
mod groups;
mod optimizer;
mod outcome;
mod schedule;
mod step;

pub use accumulate::{Accumulated, MicroBatch};
pub use clip::{GradientNorm, clip_coefficient};
pub use config::{ConfigError, StepConfig};
pub use ema::{Ema, EmaConfig};
pub use groups::{GroupConfig, GroupRow, GroupTable, Groups, GroupsConfig, GroupsError, Slot};
pub use optimizer::{Optimizer, OptimizerConfig, StateError};
pub use outcome::{NonFinite, Outcome, Place, StepError, StepReport};
pub use schedule::{Schedule, ScheduleConfig, Unit, Warmup};
pub use step::Trainer;
