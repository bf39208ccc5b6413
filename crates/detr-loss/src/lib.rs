//! The Hungarian matcher and the set criterion, with which DETR and Deformable DETR are trained
//! (`models/matcher.py`, `models/detr.py` and `models/deformable_detr.py` of the references).
//!
//! [`Predictions`] are groups of queries. [`HungarianMatcher`] decides on the host which query answers for which
//! object, with one read-back for all groups together. [`SetCriterion`] computes the losses from predictions,
//! targets and that [`Assignment`], and reads nothing back.

mod assignment;
mod classification;
mod cost;
mod criterion;
mod focal;
mod group;
mod hungarian;
mod losses;
mod mask_points;
mod masks;
mod matcher;
mod predictions;
mod targets;

pub use assignment::{Assignment, BatchError, Pairs};
pub use classification::Classification;
pub use cost::CostWeights;
pub use criterion::{LossWeights, SetCriterion};
pub use hungarian::{AssignmentError, assign};
pub use losses::{LossName, Losses};
pub use matcher::{HungarianMatcher, MatchError};
pub use predictions::{MaskPredictions, Matching, PredictionGroup, Predictions, Source};
pub use targets::{Target, TargetError, TargetMasks, Targets, WholeBatch};
