//! COCO metrics: ground truth and detections in, the twelve numbers, tables and curves out.
//!
//! Mirrors pycocotools' `COCOeval` for boxes and masks, to the last bit. The matching itself is
//! done by the crate `hotcoco`; this crate gives it the project's own types, reads COCO's JSON,
//! streams image by image, merges the parts of several ranks, and presents the result.
//! [`panoptic_quality`] compares panoptic predictions, whole files at once.
//!
//! ```no_run
//! use std::sync::Arc;
//! use detr_eval::{EvalOptions, Evaluator, read_ground_truth, read_results};
//!
//! # fn main() -> Result<(), detr_eval::EvalError> {
//! let options = EvalOptions::default();
//! let truth = Arc::new(read_ground_truth("instances_val2017.json".as_ref(), options.iou)?);
//! let results = read_results("results.json".as_ref(), options.iou)?;
//! let mut evaluator = Evaluator::new(truth, options)?;
//! evaluator.add_results(results)?;
//! let text = evaluator.finish()?.to_string();
//! # Ok(())
//! # }
//! ```
//!
//! Architecture invariant: this crate never depends on Burn, and `engine` is the only module of
//! the whole workspace that names `hotcoco`.

mod box_form;
mod chart;
mod curves;
mod engine;
mod error;
mod evaluator;
mod mask;
mod mean;
mod metrics;
mod options;
mod panoptic;
mod read;
mod report;
mod results;
mod state;
mod table;
mod truth;

pub use box_form::{BoxForm, suspected_form};
pub use chart::{Chart, ChartLine, charts_svg, curves_svg};
pub use curves::{Arrays, ClassCurve, CurveSet};
pub use error::EvalError;
pub use evaluator::Evaluator;
pub use mask::Mask;
pub use metrics::{BestF1, ClassMetrics, Confusion, Counts, Metrics, Summary};
pub use options::{ConfusionOptions, EvalOptions, IouKind};
pub use panoptic::{
    PanopticClass, PanopticFiles, PanopticMean, PanopticMetrics, PanopticQuality, panoptic_quality,
};
pub use read::{read_ground_truth, read_results};
pub use report::{ReportError, write_report};
pub use results::{EvalDetection, Results};
pub use truth::{Category, GroundTruth, ImageTruth, TruthObject};
