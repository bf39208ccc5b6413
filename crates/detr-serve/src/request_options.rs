//! The options of a request.

use serde_json::Value;

use crate::error::RequestError;
use crate::models::Model;

/// The options of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RequestOptions {
    pub(crate) threshold: Option<f32>,
    pub(crate) max_detections: Option<usize>,
    pub(crate) masks: bool,
    /// Whether the predictions of the model's last layer are wanted, too. The Open Inference Protocol asks by the names
    /// of outputs.
    pub(crate) output: bool,
}

impl RequestOptions {
    /// Reads an object of options; other keys are refused. `what` names the object in errors.
    pub(crate) fn from_json(value: &Value, what: &str) -> Result<Self, RequestError> {
        let Value::Object(object) = value else {
            return Err(RequestError::bad(format!("{what}: expected an object")));
        };
        let mut choice = Self::default();
        for (key, value) in object {
            let wrong =
                |expected: &str| RequestError::bad(format!("{what}.{key}: expected {expected}"));
            match key.as_str() {
                "threshold" => {
                    let threshold = value.as_f64().ok_or_else(|| wrong("a number from 0 to 1"))?;
                    #[allow(clippy::cast_possible_truncation)] // a score is a f32
                    let threshold = threshold as f32;
                    choice.threshold = Some(threshold);
                }
                "max_detections" => {
                    let most = value.as_u64().ok_or_else(|| wrong("a whole number"))?;
                    choice.max_detections = Some(usize::try_from(most).unwrap_or(usize::MAX));
                }
                "masks" => choice.masks = value.as_bool().ok_or_else(|| wrong("true or false"))?,
                _ => {
                    let shown: String = key.chars().take(40).collect();
                    return Err(RequestError::bad(format!(
                        "{what}: there is no option `{shown}`\nhint: the options are threshold, max_detections and masks"
                    )));
                }
            }
        }
        Ok(choice)
    }

    /// Returns these options, with those of `other` where there are none.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            threshold: self.threshold.or(other.threshold),
            max_detections: self.max_detections.or(other.max_detections),
            masks: self.masks || other.masks,
            output: self.output || other.output,
        }
    }

    /// Refuses options that are out of their range, or that the model cannot fulfil.
    pub(crate) fn check(&self, model: &Model) -> Result<(), RequestError> {
        if let Some(threshold) = self.threshold
            && !(0.0..=1.0).contains(&threshold)
        {
            return Err(RequestError::bad(format!(
                "threshold {threshold}: expected a number from 0 to 1"
            )));
        }
        if self.masks && !model.engine.has_masks() {
            return Err(RequestError::bad(format!(
                "the model `{}` makes no masks\nhint: leave out `masks`",
                model.name
            )));
        }
        Ok(())
    }
}
