//! The scores of a model on a data set: the place where the detector, the data and COCO's metrics meet.
//! Validation in training and `detr eval` are the same code, so that they give the same numbers.
//!
//! Nothing here prints or exits.

mod categories;
mod evaluate;
mod ground_truth;

pub use categories::CategoryMap;
pub use evaluate::{EvaluatedImage, evaluate, max_answers, to_score};
pub use ground_truth::ground_truth;
