//! The two ways of scoring classes, which decide both a matching cost and a loss.

use serde::{Deserialize, Serialize};

/// The activation of a class head, with the constant of the loss that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Classification {
    /// DETR: a softmax over the classes and one for "no object".
    Softmax {
        /// The weight of "no object" in the cross-entropy; 0.1 as published.
        eos_coef: f64,
    },
    /// Deformable DETR: a sigmoid for each class, trained with the focal loss.
    Focal {
        /// The balance of objects against background; 0.25 as published.
        alpha: f64,
    },
}
