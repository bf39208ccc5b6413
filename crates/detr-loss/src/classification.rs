//! The activation of a class head, which decides both a matching cost and a loss.

use serde::{Deserialize, Serialize};

/// The activation of a class head, with the constant of its loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Classification {
    /// A softmax over the classes and "no object", as in DETR.
    Softmax {
        /// The weight of "no object" in the cross-entropy. The paper has 0.1.
        eos_coef: f64,
    },
    /// A sigmoid for each class, trained with the focal loss, as in Deformable DETR.
    Focal {
        /// The balance of objects against background. The paper has 0.25.
        alpha: f64,
    },
}
