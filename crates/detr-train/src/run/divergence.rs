//! The report on a training that diverged: the steps that were not finite, one after the other.

use std::io;
use std::path::{Path, PathBuf};

use detr_types::fs::atomic_write;
use serde::Serialize;
use serde_json::Value;

use crate::step::NonFinite;

/// The content of `divergence.json` in the folder of a run.
#[derive(Serialize)]
pub(crate) struct DivergenceReport {
    /// The number of the epoch, from 1.
    pub(crate) epoch: u64,
    /// The steps, all of which were skipped.
    pub(crate) steps: Vec<SkippedStep>,
}

/// A step that was not finite.
#[derive(Serialize)]
pub(crate) struct SkippedStep {
    step: u64,
    reason: String,
    /// The first tensor that is not finite, in the order in which a step computes them.
    tensor: String,
    /// The ids of the images of the batch.
    images: Vec<i64>,
    lr: f64,
    /// `None` if there were no gradients yet. Numbers that are not finite are texts, since JSON has no such numbers.
    grad_norm: Option<Value>,
    losses: Vec<(String, Value)>,
}

impl SkippedStep {
    pub(crate) fn new(step: u64, lr: f64, images: Vec<i64>, reason: &NonFinite) -> Self {
        let number = |value: f32| {
            if value.is_finite() { Value::from(value) } else { Value::from(value.to_string()) }
        };
        let (losses, grad_norm) = match reason {
            NonFinite::Cost { .. } | NonFinite::OtherRank => (&[][..], None),
            NonFinite::Loss { losses, .. } => (&losses[..], None),
            NonFinite::Gradient { report, norm, .. } => (&report.losses[..], Some(number(*norm))),
        };
        Self {
            step,
            reason: reason.to_string(),
            tensor: reason.tensor(&images),
            images,
            lr,
            grad_norm,
            losses: losses.iter().map(|(name, value)| (name.to_string(), number(*value))).collect(),
        }
    }
}

impl DivergenceReport {
    /// Writes the report into the folder of the run, and returns its path.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf, (PathBuf, io::Error)> {
        let path = folder.join("divergence.json");
        let written = serde_json::to_vec_pretty(self)
            .map_err(io::Error::from)
            .and_then(|json| atomic_write(&path, |file| file.write_all(&json)));
        match written {
            Ok(()) => Ok(path),
            Err(error) => Err((path, error)),
        }
    }
}
