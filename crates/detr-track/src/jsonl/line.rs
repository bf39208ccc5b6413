//! A line of `metrics.jsonl`. Writing is exact. Reading takes the keys that it knows and ignores the others,
//! because a line may come from another version or be torn.

use detr_eval::Summary;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::clock::{rfc3339, unix_now};
use crate::records::{StepRecord, ValidationSummary};

/// Returns the line of a step, without a line end.
pub(crate) fn step_line(record: &StepRecord) -> String {
    let losses: Map<String, Value> =
        record.losses.iter().map(|(name, value)| (name.clone(), shortest_f32(*value))).collect();
    json!({
        "event": "step", "step": record.step, "epoch": record.epoch,
        "loss": shortest_f32(record.loss), "lr": record.lr,
        "grad_norm": shortest_f32(record.grad_norm), "seconds": four_decimals(record.seconds),
        "waited": four_decimals(record.waited), "images": record.images,
        "bad_images": record.bad_images, "losses": losses, "time": rfc3339(unix_now()),
    })
    .to_string()
}

/// Returns the line of a validation, without a line end.
pub(crate) fn validation_line(summary: &ValidationSummary) -> String {
    let mut line = json!({
        "event": "validated", "step": summary.step, "epoch": summary.epoch,
        "metrics": summary.metrics, "without_ema": summary.without_ema, "best": summary.best,
        "time": rfc3339(unix_now()),
    });
    if let Some(masks) = summary.masks {
        line["masks"] = json!(masks);
    }
    line.to_string()
}

/// Returns the line of another event, without a line end; `fields` is an object.
pub(crate) fn event_line(name: &str, step: u64, fields: Value) -> String {
    let mut line = json!({ "event": name, "step": step });
    if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
        line.extend(fields);
        line.insert("time".to_owned(), rfc3339(unix_now()).into());
    }
    line.to_string()
}

/// Returns a number that comes from an f32 with as few digits as tell it from its neighbours; null if it is not
/// finite.
fn shortest_f32(value: f64) -> Value {
    #[allow(clippy::cast_possible_truncation)]
    let narrow = value as f32;
    serde_json::from_str(&narrow.to_string()).unwrap_or(Value::Null)
}

fn four_decimals(seconds: f64) -> f64 {
    (seconds * 1e4).round() / 1e4
}

/// A line that was read.
#[derive(Clone, Debug)]
pub(crate) enum MetricsLine {
    /// A step.
    Step(StepRecord),
    /// A validation.
    Validation(Box<ValidationSummary>),
    /// A skipped step, by its number.
    Skipped(u64),
    /// Any other event, with its step if it has one.
    Other(Option<u64>),
}

/// The keys of all kinds of lines.
#[derive(Deserialize)]
struct RawLine {
    event: Option<String>,
    step: Option<u64>,
    #[serde(default)]
    epoch: u64,
    loss: Option<f64>,
    lr: Option<f64>,
    grad_norm: Option<f64>,
    seconds: Option<f64>,
    waited: Option<f64>,
    #[serde(default)]
    images: Value,
    #[serde(default)]
    bad_images: usize,
    #[serde(default)]
    losses: Map<String, Value>,
    metrics: Option<Summary>,
    masks: Option<Summary>,
    without_ema: Option<Summary>,
    #[serde(default)]
    best: bool,
}

impl MetricsLine {
    /// Parses a line; `None` if it is not a JSON object of this format.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let line: RawLine = serde_json::from_slice(text).ok()?;
        Some(match (line.event.as_deref(), line.step, line.metrics) {
            (Some("validated"), Some(step), Some(metrics)) => {
                Self::Validation(Box::new(ValidationSummary {
                    step,
                    epoch: line.epoch,
                    metrics,
                    masks: line.masks,
                    without_ema: line.without_ema,
                    best: line.best,
                }))
            }
            (Some("step"), Some(step), _) => Self::Step(line.into_step(step)),
            (Some("skipped"), Some(step), _) => Self::Skipped(step),
            (_, step, _) => Self::Other(step),
        })
    }

    /// Returns the number of steps done when the line was written.
    pub(crate) fn step(&self) -> Option<u64> {
        match self {
            Self::Step(record) => Some(record.step),
            Self::Validation(summary) => Some(summary.step),
            Self::Skipped(step) => Some(*step),
            Self::Other(step) => *step,
        }
    }
}

impl RawLine {
    fn into_step(self, step: u64) -> StepRecord {
        let or_nan = |number: Option<f64>| number.unwrap_or(f64::NAN);
        StepRecord {
            step,
            epoch: self.epoch,
            loss: or_nan(self.loss),
            lr: or_nan(self.lr),
            grad_norm: or_nan(self.grad_norm),
            seconds: self.seconds.unwrap_or(0.0),
            waited: self.waited.unwrap_or(0.0),
            losses: self
                .losses
                .into_iter()
                .map(|(name, value)| (name, or_nan(value.as_f64())))
                .collect(),
            images: self
                .images
                .as_array()
                .map_or_else(Vec::new, |ids| ids.iter().filter_map(Value::as_i64).collect()),
            bad_images: self.bad_images,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_read_as_it_was_written() {
        let record = StepRecord {
            step: 7,
            epoch: 2,
            loss: f64::from(0.1_f32),
            lr: 1e-4,
            grad_norm: f64::from(3.7e-9_f32),
            seconds: 0.25,
            waited: 0.001,
            losses: vec![("loss_ce".to_owned(), 0.5), ("loss_bbox_0".to_owned(), f64::NAN)],
            images: vec![7, -1],
            bad_images: 1,
        };
        let text = step_line(&record);
        assert!(text.contains("\"loss\":0.1,"), "{text}");
        let Some(MetricsLine::Step(read)) = MetricsLine::parse(text.as_bytes()) else {
            panic!("{text}")
        };
        assert!((read.loss - 0.1).abs() < 1e-12 && read.losses[1].1.is_nan());
        assert_eq!((read.step, read.epoch, read.seconds), (7, 2, 0.25));
        assert_eq!((read.images, read.bad_images), (record.images, 1));
        let skipped = event_line("skipped", 9, json!({ "reason": "NaN", "images": [1, 2] }));
        assert!(matches!(MetricsLine::parse(skipped.as_bytes()), Some(MetricsLine::Skipped(9))));
        for torn in [&text[..text.len() - 1], "", "null", "{\"step\": -1}", "[1]"] {
            assert!(MetricsLine::parse(torn.as_bytes()).is_none(), "{torn}");
        }
    }
}
