//! What DETR and Deformable DETR are trained with: the Hungarian matcher and the set criterion
//! (`models/matcher.py`, `models/detr.py` and `models/deformable_detr.py` of the references).
//!
//! [`match_outputs`] decides which query answers for which object, on the host, with one read-back
//! for all decoder layers and the encoder's proposals together; [`SetCriterion`] turns predictions,
//! targets and that assignment into losses, without any.

mod assignment;
mod classification;
mod cost;
mod criterion;
mod losses;
mod masks;
mod matcher;
mod targets;

pub use assignment::{AssignmentError, assign};
pub use classification::Classification;
pub use cost::CostWeights;
pub use criterion::{
    LossLayer, LossName, LossWeights, Losses, Predictions, SetCriterion, WholeBatch,
};
pub use matcher::{BatchError, MatchError, Matched, Matches, Term, match_outputs, matching_costs};
pub use targets::{Target, TargetError, TargetMasks, Targets};
