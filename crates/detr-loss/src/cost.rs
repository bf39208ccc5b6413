//! The matching cost of every query with every object of its image (`HungarianMatcher.forward` of the
//! references), for all layers and images at once. No gradient flows through it.

use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{FloatDType, Tensor};
use detr_model::box_ops::{box_cxcywh_to_xyxy, elementwise_giou};
use serde::{Deserialize, Serialize};

use crate::classification::Classification;
use crate::focal::focal_cost;
use crate::predictions::PredictionGroup;
use crate::targets::Targets;

/// The weights of the terms of the matching cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostWeights {
    /// The weight of the class.
    pub class: f64,
    /// The weight of the L1 distance of centres and sizes.
    pub bbox: f64,
    /// The weight of the generalised `IoU`.
    pub giou: f64,
}

/// The weighted terms of the cost, `[layers, B, Q, n]` each, n being the most objects of an image.
#[derive(Clone, Debug)]
pub(crate) struct CostTerms {
    pub(crate) class: Tensor<4>,
    pub(crate) bbox: Tensor<4>,
    pub(crate) giou: Tensor<4>,
}

impl CostTerms {
    /// Computes the terms. With a softmax the cost of a class is `-p`, p being its probability, and not its
    /// negative log-likelihood as in the loss. The reference takes `1 - p` in its place and leaves the 1 out,
    /// since a constant does not change the matching.
    pub(crate) fn new(
        group: &PredictionGroup,
        targets: &Targets,
        classification: Classification,
        weights: CostWeights,
    ) -> Self {
        let [layers, b, q, _] = group.logits.dims();
        let n = targets.most;
        let logits = group.logits.clone().detach().cast(FloatDType::F32);
        let boxes = group.boxes.clone().detach().cast(FloatDType::F32);
        // Looks up the classes of the objects. Objects are fewer than classes, so a sigmoid comes after it.
        let of_objects = |scores: Tensor<4>| {
            let labels = targets.labels.clone().reshape([1, b, 1, n]).expand([layers, b, q, n]);
            let classes = scores.dims()[3];
            let rows = scores.reshape([layers * b * q, classes]);
            rows.gather(1, labels.reshape([layers * b * q, n])).reshape([layers, b, q, n])
        };
        let class = match classification {
            Classification::Softmax { .. } => of_objects(softmax(logits, 3)).neg(),
            Classification::Focal { .. } => focal_cost(sigmoid(of_objects(logits))),
        };
        // Broadcasting pairs queries with objects.
        let predicted: Tensor<5> = boxes.reshape([layers, b, q, 1, 4]);
        let target: Tensor<5> = targets.boxes.clone().reshape([1, b, 1, n, 4]);
        let [x, y, w, h] = [0, 1, 2, 3].map(|side| {
            let column = |boxes: &Tensor<5>| boxes.clone().slice_dim(4, side..=side);
            (column(&predicted) - column(&target)).abs()
        });
        let distance = (x + y + w + h).squeeze_dim::<4>(4);
        let giou = elementwise_giou(box_cxcywh_to_xyxy(predicted), box_cxcywh_to_xyxy(target));
        Self {
            class: class * weights.class,
            bbox: distance * weights.bbox,
            giou: giou.squeeze_dim::<4>(4) * -weights.giou,
        }
    }

    /// Returns the sum of the terms.
    pub(crate) fn total(&self) -> Tensor<4> {
        self.class.clone() + self.bbox.clone() + self.giou.clone()
    }
}
