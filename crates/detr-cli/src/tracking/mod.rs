//! What a run leaves behind: `metrics.jsonl` and what is made of it (tables, TensorBoard's events,
//! pictures), `status.json`, `environment.json`, `log.txt` and the reports of its validations; and what
//! it says to the one who waits. It knows nothing of models and devices.
//!
//! Nothing here ends a run: what cannot be written is said once and tried again.

mod appender;
mod clock;
mod environment;
mod history;
mod pace;
mod plots;
mod records;
mod rows;
mod samples;
mod scalars;
mod status;
mod tables;
mod tensorboard;
mod thinned;
mod tracker;
mod troubles;

pub(crate) use clock::span;
pub(crate) use environment::ENVIRONMENT;
pub(crate) use history::History;
pub(crate) use plots::course;
pub(crate) use rows::{StepRow, Validation, ValidationRow};
pub(crate) use samples::Sample;
pub(crate) use status::{Best, STATUS, Seen, Status};
pub(crate) use thinned::smoothed;
pub(crate) use tracker::{Outcome, RunInfo, Tracker};

/// The file that all others are made of.
pub(crate) const METRICS_FILE: &str = "metrics.jsonl";
