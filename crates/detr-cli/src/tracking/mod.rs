//! What a run leaves behind: `metrics.jsonl` and what is made of it (tables, TensorBoard's events,
//! pictures), `status.json`, `environment.json`, `log.txt` and the reports of its validations; and what
//! it says to the one who waits. It knows nothing of models and devices.
//!
//! Nothing here ends a run: what cannot be written is said once and tried again.

mod records;
mod samples;
mod tracker;
mod troubles;

pub(crate) use detr_track::clock::span;
pub(crate) use detr_track::history::History;
pub(crate) use detr_track::records::{StepRow, Validation, ValidationRow};
pub(crate) use detr_track::series::smoothed;
pub(crate) use detr_track::sinks::environment::ENVIRONMENT;
pub(crate) use detr_track::sinks::plots::course;
pub(crate) use detr_track::status::{Best, STATUS, Seen, Status};
pub(crate) use detr_track::{METRICS_FILE, RunInfo};
pub(crate) use samples::Sample;
pub(crate) use tracker::{Outcome, Tracker};
