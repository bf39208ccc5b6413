//! What a training run leaves behind: `metrics.jsonl` and what is made of it (tables, TensorBoard's events,
//! plots), `status.json` and `environment.json`.
//!
//! Architecture invariant: this crate knows neither models nor devices; it never depends on Burn.

pub mod appender;
pub mod clock;
pub mod history;
pub mod machine;
pub mod pace;
pub mod records;
mod run_info;
pub mod series;
pub mod sinks;
pub mod status;

pub use run_info::RunInfo;

/// The file that all others are made of.
pub const METRICS_FILE: &str = "metrics.jsonl";
