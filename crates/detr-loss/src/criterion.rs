//! The set criterion (`SetCriterion` in `models/detr.py` of the references): it matches predictions to targets
//! and computes the losses of every layer, weighted and summed.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::assignment::Assignment;
use crate::classification::Classification;
use crate::cost::CostWeights;
use crate::group::{GroupCriterion, LayerLosses};
use crate::losses::{LossName, Losses};
use crate::mask_points::point_losses;
use crate::masks::mask_losses;
use crate::matcher::{HungarianMatcher, MatchError};
use crate::predictions::{MaskPredictions, PredictionGroup, Predictions, Source};
use crate::targets::{Targets, WholeBatch};

/// The weights of the losses, which are the same in every layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossWeights {
    /// The weight of the classification: 1 in DETR, 2 in Deformable DETR.
    pub ce: f64,
    /// The weight of the L1 distance of boxes.
    pub bbox: f64,
    /// The weight of the generalised `IoU`.
    pub giou: f64,
    /// The weight of the focal loss of masks.
    pub mask: f64,
    /// The weight of the dice loss of masks.
    pub dice: f64,
}

/// The set criterion.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetCriterion {
    /// The activation of the class head, which decides a matching cost and a loss.
    pub classification: Classification,
    /// The weights of the matching cost.
    pub cost: CostWeights,
    /// The weights of the losses.
    pub weights: LossWeights,
    /// Whether the layers before the last one, and the encoder's proposals, have losses too.
    pub aux_loss: bool,
}

impl SetCriterion {
    /// Returns the criterion of DETR (`main.py` of its reference).
    #[must_use]
    pub const fn detr() -> Self {
        Self {
            classification: Classification::Softmax { eos_coef: 0.1 },
            cost: CostWeights { class: 1.0, bbox: 5.0, giou: 2.0 },
            weights: LossWeights { ce: 1.0, bbox: 5.0, giou: 2.0, mask: 1.0, dice: 1.0 },
            aux_loss: true,
        }
    }

    /// Returns the criterion of Deformable DETR (`main.py` of its reference).
    #[must_use]
    pub const fn deformable_detr() -> Self {
        Self {
            classification: Classification::Focal { alpha: 0.25 },
            cost: CostWeights { class: 2.0, bbox: 5.0, giou: 2.0 },
            weights: LossWeights { ce: 2.0, bbox: 5.0, giou: 2.0, mask: 1.0, dice: 1.0 },
            aux_loss: true,
        }
    }

    /// Returns the criterion of Deformable DETR with masks. Its reference has no masks that run; the weights of their
    /// losses are those of `Mask2Former` (Cheng et al. 2022, <https://arxiv.org/abs/2112.01527>, section 4.1).
    #[must_use]
    pub const fn deformable_detr_with_masks() -> Self {
        let Self { classification, cost, weights, aux_loss } = Self::deformable_detr();
        Self {
            classification,
            cost,
            weights: LossWeights { mask: 5.0, dice: 5.0, ..weights },
            aux_loss,
        }
    }

    /// Returns the matcher of this criterion.
    #[must_use]
    pub const fn matcher(&self) -> HungarianMatcher {
        HungarianMatcher { classification: self.classification, cost: self.cost }
    }

    /// Returns the assignment of every group that counts, in the order of the groups. This is the one
    /// read-back that the losses of a training step need.
    ///
    /// # Errors
    /// A cost is not finite, or the device fails.
    pub fn matches(
        &self,
        predictions: &Predictions,
        targets: &Targets,
    ) -> Result<Vec<Assignment>, MatchError> {
        self.matcher().forward(&self.counted(predictions), targets)
    }

    /// Returns the losses, for the assignments that [`SetCriterion::matches`] returned. They are divided by
    /// `num_boxes`, but at least by 1: the number of objects of the batch or, with several ranks, of all their
    /// batches over the number of ranks.
    #[must_use]
    pub fn losses(
        &self,
        predictions: &Predictions,
        targets: &Targets,
        assignments: &[Assignment],
        num_boxes: f64,
    ) -> Losses {
        let whole = WholeBatch { num_boxes, ..WholeBatch::new([targets]) };
        self.losses_of_part(predictions, targets, assignments, &whole)
    }

    /// Returns the losses of a part of a batch. Over all parts each loss sums up to that of the batch.
    /// (`class_error` and `cardinality_error`, which are only logged, do not: they are means of the part.)
    #[must_use]
    pub fn losses_of_part(
        &self,
        predictions: &Predictions,
        targets: &Targets,
        assignments: &[Assignment],
        whole: &WholeBatch,
    ) -> Losses {
        let groups = self.counted(predictions).groups;
        assert_eq!(groups.len(), assignments.len(), "every group that counts has an assignment");
        let first = groups.first().map(|group| group.logits.device());
        let mut losses = Losses::new(&first.unwrap_or_else(|| targets.boxes.device()));
        for (group, assignment) in groups.iter().zip(assignments) {
            self.add_group(&mut losses, group, assignment, targets, whole);
        }
        losses
    }

    fn counted(&self, predictions: &Predictions) -> Predictions {
        if self.aux_loss { predictions.clone() } else { predictions.without_auxiliary() }
    }

    /// Adds the losses of a group: those of every layer, then those of the last one alone.
    fn add_group(
        &self,
        losses: &mut Losses,
        group: &PredictionGroup,
        assignment: &Assignment,
        targets: &Targets,
        whole: &WholeBatch,
    ) {
        let (targets, source) = (group.targets(targets), group.source);
        #[allow(clippy::cast_precision_loss)] // a small number
        let num_boxes = whole.num_boxes.max(1.0) * group.matching.queries_per_object() as f64;
        let criterion = GroupCriterion::new(group, assignment, &targets);
        let found = criterion.losses(self.classification, num_boxes, &whole.objects);
        let LayerLosses { ce, bbox, giou, cardinality } = found;
        let layers = group.logits.dims()[0];
        for i in 0..layers {
            let layer = (i + 1 < layers).then_some(i);
            let name = |kind| LossName { kind, source, layer };
            let one = |t: &Tensor<1>| t.clone().slice_dim(0, i..=i);
            losses.add(name("loss_ce"), one(&ce), self.weights.ce);
            losses.add(name("loss_bbox"), one(&bbox), self.weights.bbox);
            losses.add(name("loss_giou"), one(&giou), self.weights.giou);
            losses.log(name("cardinality_error"), one(&cardinality));
        }
        let name = |kind| LossName { kind, source, layer: None };
        if source == Source::Decoder {
            losses.log(name("class_error"), criterion.class_error());
        }
        if let Some(MaskPredictions::Layers(images)) = &group.masks {
            let layers = point_losses(images, assignment, &targets, num_boxes);
            for (i, (mask, dice)) in layers.into_iter().enumerate() {
                let layer = (i + 1 < assignment.layers.len()).then_some(i);
                let name = |kind| LossName { kind, source, layer };
                losses.add(name("loss_mask"), mask, self.weights.mask);
                losses.add(name("loss_dice"), dice, self.weights.dice);
            }
        } else if let Some(masks) = &group.masks {
            let (mask, dice) = mask_losses(masks, assignment, &targets, num_boxes);
            losses.add(name("loss_mask"), mask, self.weights.mask);
            losses.add(name("loss_dice"), dice, self.weights.dice);
        }
    }
}
