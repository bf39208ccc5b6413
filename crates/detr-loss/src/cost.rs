//! What it costs to let a query answer for an object (`HungarianMatcher.forward`), for all layers and
//! images at once. Nothing here needs a gradient.

use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{FloatDType, Tensor};
use detr_model::box_ops::{box_cxcywh_to_xyxy, elementwise_giou};
use serde::{Deserialize, Serialize};

use crate::classification::Classification;
use crate::targets::Targets;

/// How much each term counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostWeights {
    /// Of the class.
    pub class: f64,
    /// Of the L1 distance of centres and sizes.
    pub bbox: f64,
    /// Of the generalised `IoU`.
    pub giou: f64,
}

/// The terms, weighted: `[layers, B, Q, n]` each, n being the most objects of an image.
#[derive(Clone, Debug)]
pub(crate) struct CostTerms {
    pub(crate) class: Tensor<4>,
    pub(crate) bbox: Tensor<4>,
    pub(crate) giou: Tensor<4>,
}

impl CostTerms {
    /// # Shapes
    /// - `logits` `[layers, B, Q, C]`, `boxes` `[layers, B, Q, 4]`
    pub(crate) fn new(
        logits: Tensor<4>,
        boxes: Tensor<4>,
        targets: &Targets,
        classification: Classification,
        weights: CostWeights,
    ) -> Self {
        let [layers, b, q, _] = logits.dims();
        let n = targets.most;
        let logits = logits.detach().cast(FloatDType::F32);
        let boxes = boxes.detach().cast(FloatDType::F32);
        // One row per query. What a sigmoid needs is looked up first: objects are fewer than classes.
        let of_objects = |scores: Tensor<4>| {
            let labels = targets.labels.clone().reshape([1, b, 1, n]).expand([layers, b, q, n]);
            let classes = scores.dims()[3];
            let rows = scores.reshape([layers * b * q, classes]);
            rows.gather(1, labels.reshape([layers * b * q, n])).reshape([layers, b, q, n])
        };
        let of_class = match classification {
            Classification::Softmax { .. } => of_objects(softmax(logits, 3)).neg(),
            Classification::Focal { .. } => focal_cost(sigmoid(of_objects(logits))),
        };
        // Broadcasting pairs queries with objects.
        let found: Tensor<5> = boxes.reshape([layers, b, q, 1, 4]);
        let wanted: Tensor<5> = targets.boxes.clone().reshape([1, b, 1, n, 4]);
        let [x, y, w, h] = [0, 1, 2, 3].map(|side| {
            let column = |boxes: &Tensor<5>| boxes.clone().slice_dim(4, side..=side);
            (column(&found) - column(&wanted)).abs()
        });
        let distance = (x + y + w + h).squeeze_dim::<4>(4);
        let giou = elementwise_giou(box_cxcywh_to_xyxy(found), box_cxcywh_to_xyxy(wanted));
        Self {
            class: of_class * weights.class,
            bbox: distance * weights.bbox,
            giou: giou.squeeze_dim::<4>(4) * -weights.giou,
        }
    }

    /// The sum of the terms.
    pub(crate) fn total(&self) -> Tensor<4> {
        self.class.clone() + self.bbox.clone() + self.giou.clone()
    }
}

/// Focal loss of calling a class an object, less that of calling it background. The reference fixes
/// alpha and gamma here, whatever the loss has.
fn focal_cost(p: Tensor<4>) -> Tensor<4> {
    const ALPHA: f64 = 0.25;
    const EPS: f64 = 1e-8;
    let rest = p.clone() * -1.0 + 1.0;
    let positive = rest.clone().square() * (p.clone() + EPS).log() * -ALPHA;
    let negative = p.square() * (rest + EPS).log() * -(1.0 - ALPHA);
    positive - negative
}
