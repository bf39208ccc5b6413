//! Records of training runs. A [`Tracker`] takes steps, validations and other events as plain structs, and passes
//! them on to its sinks: the files of the run's folder, a console, or a service.
//!
//! ```no_run
//! use detr_track::{RunEnd, RunInfo, StepRecord, Tracker, folder_sinks};
//!
//! let info = RunInfo { folder: "runs/mine".into(), steps: 2, epochs: 1, ..RunInfo::default() };
//! let sinks = folder_sinks(&info.folder);
//! let mut tracker = Tracker::new(info, sinks);
//! for step in 1..=2 {
//!     tracker.step(&StepRecord { step, epoch: 1, loss: 0.5, ..StepRecord::default() });
//! }
//! tracker.finish(&RunEnd::Finished);
//! ```
//!
//! [`folder_sinks`] has the files of `detr train`: `metrics.jsonl`, tables, TensorBoard's events, plots, reports of
//! validations, `status.json`, `environment.json` and `log.txt`. Another tracker is one more implementation of
//! [`Sink`]. The events of `detr-train`'s loop become records in that crate, and [`RunRecord`] reads a folder back.
//!
//! A record that cannot be written never ends a run.
//!
//! Architecture invariant: this crate knows neither models nor devices; it never depends on Burn. It prints nothing.

mod appender;
pub mod clock;
mod context;
mod history;
mod jsonl;
pub mod machine;
mod messages;
mod read_error;
mod records;
mod run_info;
mod run_record;
mod series;
mod settings;
mod sink;
mod sinks;
mod status;
mod step_times;
mod tracker;

pub use context::RunContext;
pub use history::History;
pub use jsonl::METRICS_FILE;
pub use messages::{Level, Message};
pub use read_error::ReadError;
pub use records::{
    Event, METRIC_NAMES, RunEnd, Sample, StepRecord, ValidationRecord, ValidationSummary,
};
pub use run_info::RunInfo;
pub use run_record::{RunRecord, SETTINGS_FILE};
pub use series::{Series, smooth};
pub use settings::flatten;
pub use sink::{Delivery, Sink, SinkError, SinkResult};
pub use sinks::{
    CsvTables, ENVIRONMENT_FILE, Environment, MetricsFile, Plots, SamplePictures, StatusFile,
    TensorBoard, TextLog, ValidationReports, folder_sinks,
};
pub use status::{BestValidation, ObservedState, ReportedState, RunStatus, STATUS_FILE};
pub use tracker::Tracker;
