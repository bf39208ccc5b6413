//! What a run tells, and the lines of `metrics.jsonl`. Writing is exact; reading takes what it knows of
//! a line and leaves the rest, because the line may be of another version, or torn.

use detr_eval::{Metrics, Summary};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clock::{rfc3339, unix_now};

/// A step of the optimizer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepRow {
    /// Steps done, this one included.
    pub step: u64,
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// Weighted sum of the losses.
    pub loss: f64,
    /// Learning rate of what is in no group.
    pub lr: f64,
    /// L2 norm of all gradients, before clipping.
    pub grad_norm: f64,
    /// How long the step took.
    pub seconds: f64,
    /// How much of that was waiting for data.
    pub waited: f64,
    /// Losses by name, before their weights.
    pub losses: Vec<(String, f64)>,
    /// Ids of the images of the batch.
    pub images: Vec<i64>,
    /// Images that were replaced since the start, because they cannot be read.
    pub bad_images: usize,
}

/// A validation.
#[derive(Clone, Debug)]
pub struct ValidationRow {
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u64,
    /// The result: of the moving average, where there is one.
    pub metrics: Metrics,
    /// The result of the model itself, where there is an average.
    pub without_ema: Option<Metrics>,
    /// Whether it is the best so far.
    pub best: bool,
}

/// A validation as it is remembered and read back.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Validation {
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u64,
    /// The twelve numbers: of the moving average, where there is one.
    pub metrics: Summary,
    /// Those of the model itself, where there is an average.
    pub without_ema: Option<Summary>,
    /// Whether it was the best when it was made.
    pub best: bool,
}

impl StepRow {
    /// The line, without its end.
    pub fn line(&self) -> String {
        let losses: Map<String, Value> =
            self.losses.iter().map(|(name, value)| (name.clone(), json!(short(*value)))).collect();
        json!({
            "event": "step", "step": self.step, "epoch": self.epoch, "loss": short(self.loss),
            "lr": self.lr, "grad_norm": short(self.grad_norm), "seconds": milli(self.seconds),
            "waited": milli(self.waited), "images": self.images, "bad_images": self.bad_images,
            "losses": losses, "time": rfc3339(unix_now()),
        })
        .to_string()
    }
}

impl ValidationRow {
    /// What is remembered of it.
    pub fn summary(&self) -> Validation {
        let Self { step, epoch, best, .. } = *self;
        let without_ema = self.without_ema.as_ref().map(|metrics| metrics.summary);
        Validation { step, epoch, metrics: self.metrics.summary, without_ema, best }
    }
}

impl Validation {
    /// The line, without its end.
    pub fn line(&self) -> String {
        json!({
            "event": "validated", "step": self.step, "epoch": self.epoch, "metrics": self.metrics,
            "without_ema": self.without_ema, "best": self.best, "time": rfc3339(unix_now()),
        })
        .to_string()
    }
}

/// A line of something that happened beside the steps: `fields` is an object.
pub fn event(name: &str, step: u64, fields: Value) -> String {
    let mut line = json!({ "event": name, "step": step });
    if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
        line.extend(fields);
        line.insert("time".to_owned(), rfc3339(unix_now()).into());
    }
    line.to_string()
}

/// The numbers come from f32: as few digits as tell them apart.
fn short(value: f64) -> Value {
    #[allow(clippy::cast_possible_truncation)]
    let narrow = value as f32;
    serde_json::from_str(&narrow.to_string()).unwrap_or(Value::Null)
}

fn milli(seconds: f64) -> f64 {
    (seconds * 1e4).round() / 1e4
}

/// A line that was read.
#[derive(Clone, Debug)]
pub enum Line {
    /// A step.
    Step(StepRow),
    /// A validation.
    Validated(Validation),
    /// A step that changed nothing.
    Skipped(u64),
    /// Anything else, with its step if it has one.
    Other(Option<u64>),
}

#[derive(Deserialize)]
struct Loose {
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
    without_ema: Option<Summary>,
    #[serde(default)]
    best: bool,
}

impl Line {
    /// Reads a line; `None` if it is none of ours.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let line: Loose = serde_json::from_slice(text).ok()?;
        let event = line.event.as_deref();
        let of_step = |number: Option<f64>| number.unwrap_or(f64::NAN);
        Some(match (event, line.step, line.metrics) {
            (Some("validated"), Some(step), Some(metrics)) => Self::Validated(Validation {
                step,
                epoch: line.epoch,
                metrics,
                without_ema: line.without_ema,
                best: line.best,
            }),
            (Some("step"), Some(step), _) => Self::Step(StepRow {
                step,
                epoch: line.epoch,
                loss: of_step(line.loss),
                lr: of_step(line.lr),
                grad_norm: of_step(line.grad_norm),
                seconds: line.seconds.unwrap_or(0.0),
                waited: line.waited.unwrap_or(0.0),
                losses: line
                    .losses
                    .into_iter()
                    .map(|(name, value)| (name, value.as_f64().unwrap_or(f64::NAN)))
                    .collect(),
                images: line
                    .images
                    .as_array()
                    .map_or_else(Vec::new, |ids| ids.iter().filter_map(Value::as_i64).collect()),
                bad_images: line.bad_images,
            }),
            (Some("skipped"), Some(step), _) => Self::Skipped(step),
            (_, step, _) => Self::Other(step),
        })
    }

    /// Steps done when it was written.
    pub fn step(&self) -> Option<u64> {
        match self {
            Self::Step(row) => Some(row.step),
            Self::Validated(row) => Some(row.step),
            Self::Skipped(step) => Some(*step),
            Self::Other(step) => *step,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_read_as_it_was_written() {
        let row = StepRow {
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
        let text = row.line();
        assert!(text.contains("\"loss\":0.1,"), "{text}");
        let Some(Line::Step(read)) = Line::parse(text.as_bytes()) else { panic!("{text}") };
        assert!((read.loss - 0.1).abs() < 1e-12 && read.losses[1].1.is_nan());
        assert_eq!((read.step, read.epoch, read.seconds), (7, 2, 0.25));
        assert_eq!((read.images, read.bad_images), (row.images, 1));
        let number = event("skipped", 9, json!({ "reason": "NaN", "images": [1, 2] }));
        assert!(matches!(Line::parse(number.as_bytes()), Some(Line::Skipped(9))));
        for torn in [&text[..text.len() - 1], "", "null", "{\"step\": -1}", "[1]"] {
            assert!(Line::parse(torn.as_bytes()).is_none(), "{torn}");
        }
    }
}
