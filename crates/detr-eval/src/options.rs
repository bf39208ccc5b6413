//! The options of an evaluation.

use serde::{Deserialize, Serialize};

use crate::EvalError;

/// The shapes whose overlap is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IouKind {
    /// Boxes.
    #[default]
    Bbox,
    /// Masks.
    Segm,
}

/// Settings of an evaluation; the defaults are COCO's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalOptions {
    /// The shapes that are compared.
    pub iou: IouKind,
    /// Detections per image and class that count for the three average recalls, increasing; the
    /// last also bounds every other number.
    pub max_detections: [usize; 3],
    /// Detections with a lower score are dropped, if set.
    pub score_threshold: Option<f64>,
    /// Ids of the classes to evaluate; all of them if not set.
    pub categories: Option<Vec<i64>>,
    /// Ids of the images to evaluate; all of them if not set.
    pub images: Option<Vec<i64>>,
    /// The operating point at which the confusion of classes is counted; `None` switches it off.
    pub confusion: Option<ConfusionOptions>,
}

/// The operating point of a confusion matrix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfusionOptions {
    /// Detections with a lower score are left out.
    pub score: f64,
    /// Overlap from which a detection is taken to mean an object.
    pub iou: f64,
}

impl Default for ConfusionOptions {
    fn default() -> Self {
        Self { score: 0.5, iou: 0.5 }
    }
}

impl Default for EvalOptions {
    fn default() -> Self {
        Self {
            iou: IouKind::Bbox,
            max_detections: [1, 10, 100],
            score_threshold: None,
            categories: None,
            images: None,
            confusion: None,
        }
    }
}

impl EvalOptions {
    /// Refuses settings that no evaluation can follow.
    ///
    /// # Errors
    /// [`EvalError::Option`] names the field.
    pub fn check(&self) -> Result<(), EvalError> {
        let wrong = |field: &'static str, message: String| EvalError::Option { field, message };
        let [few, some, all] = self.max_detections;
        if few == 0 || few >= some || some >= all {
            let found = format!("{:?}, expected three increasing numbers", self.max_detections);
            return Err(wrong("max_detections", found));
        }
        let finite = |field, value: Option<f64>| match value {
            Some(value) if !value.is_finite() => {
                Err(wrong(field, format!("{value}, expected a number")))
            }
            _ => Ok(()),
        };
        finite("score_threshold", self.score_threshold)?;
        finite("confusion.score", self.confusion.map(|at| at.score))?;
        match self.confusion {
            Some(at) if !(at.iou > 0.0 && at.iou <= 1.0) => {
                Err(wrong("confusion.iou", format!("{}, expected 0 < iou <= 1", at.iou)))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_options_name_the_field() {
        let base = EvalOptions::default;
        let at = |score, iou| Some(ConfusionOptions { score, iou });
        for (options, field) in [
            (EvalOptions { max_detections: [1, 10, 10], ..base() }, "max_detections"),
            (EvalOptions { max_detections: [0, 1, 2], ..base() }, "max_detections"),
            (EvalOptions { score_threshold: Some(f64::NAN), ..base() }, "score_threshold"),
            (EvalOptions { confusion: at(f64::INFINITY, 0.5), ..base() }, "confusion.score"),
            (EvalOptions { confusion: at(0.5, 0.0), ..base() }, "confusion.iou"),
        ] {
            assert!(options.check().unwrap_err().to_string().contains(field));
        }
        base().check().unwrap();
    }
}
