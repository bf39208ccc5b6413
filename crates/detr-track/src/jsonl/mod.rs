//! The format of `metrics.jsonl`: one JSON object per line, described in `docs/runs.md`.

mod file;
mod line;

pub(crate) use file::{LONGEST_LINE, for_each_line, truncate};
pub(crate) use line::{MetricsLine, event_line, step_line, validation_line};

/// Name of the file, from which tables and plots can be made again.
pub const METRICS_FILE: &str = "metrics.jsonl";
