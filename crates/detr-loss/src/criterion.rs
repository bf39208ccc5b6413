//! The set criterion: all losses of all layers, weighted and summed (`SetCriterion.forward`).

use std::fmt;

use burn::tensor::{DType, Tensor, Transaction};
use detr_model::{DetrOutput, traffic};
use serde::{Deserialize, Serialize};

use crate::classification::Classification;
use crate::cost::CostWeights;
use crate::losses::{Group, GroupLosses};
use crate::masks::mask_losses;
use crate::matcher::{MatchError, Matches, match_outputs};
use crate::targets::Targets;

/// How much each loss counts, in every layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossWeights {
    /// Of the classification: 1 in DETR, 2 in Deformable DETR.
    pub ce: f64,
    /// Of the L1 distance of boxes.
    pub bbox: f64,
    /// Of the generalised `IoU`.
    pub giou: f64,
    /// Of the focal loss of masks.
    pub mask: f64,
    /// Of the dice loss of masks.
    pub dice: f64,
}

/// The criterion.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetCriterion {
    /// How classes are told apart.
    pub classification: Classification,
    /// Of the matcher.
    pub cost: CostWeights,
    /// Of the losses.
    pub weights: LossWeights,
    /// Whether the layers before the last, and the encoder's proposals, count too.
    pub aux_loss: bool,
}

/// What is compared with the targets.
#[derive(Clone, Debug)]
pub struct Predictions {
    /// Classes and boxes.
    pub output: DetrOutput,
    /// `[B, Q, h, w]`, logits; of models that predict masks.
    pub masks: Option<Tensor<4>>,
}

/// A loss, or a number that is only logged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LossName {
    /// Such as `loss_ce`.
    pub kind: &'static str,
    /// The layer, or the encoder; none for the last layer.
    pub layer: Option<LossLayer>,
}

/// Where a loss other than the last layer's comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossLayer {
    /// A decoder layer before the last.
    Decoder(usize),
    /// The encoder's proposals.
    Encoder,
}

/// What losses are divided by: facts of a whole batch, of which the predictions at hand may be a part.
#[derive(Clone, Debug, PartialEq)]
pub struct WholeBatch {
    /// Objects of the batch; with several ranks, those of all their batches over the number of ranks.
    /// At least 1 when it divides.
    pub num_boxes: f64,
    /// Objects of every image.
    pub objects: Vec<usize>,
}

/// All losses of a batch, on the device.
#[derive(Clone, Debug)]
pub struct Losses {
    /// `[1]`: the weighted sum, to be differentiated.
    pub total: Tensor<1>,
    names: Vec<LossName>,
    /// `[1]` each.
    values: Vec<Tensor<1>>,
}

impl fmt::Display for LossName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        match self.layer {
            None => Ok(()),
            Some(LossLayer::Decoder(layer)) => write!(f, "_{layer}"),
            Some(LossLayer::Encoder) => f.write_str("_enc"),
        }
    }
}

impl SetCriterion {
    /// DETR's (`main.py` of its reference).
    #[must_use]
    pub const fn detr() -> Self {
        Self {
            classification: Classification::Softmax { eos_coef: 0.1 },
            cost: CostWeights { class: 1.0, bbox: 5.0, giou: 2.0 },
            weights: LossWeights { ce: 1.0, bbox: 5.0, giou: 2.0, mask: 1.0, dice: 1.0 },
            aux_loss: true,
        }
    }

    /// Deformable DETR's (`main.py` of its reference).
    #[must_use]
    pub const fn deformable_detr() -> Self {
        Self {
            classification: Classification::Focal { alpha: 0.25 },
            cost: CostWeights { class: 2.0, bbox: 5.0, giou: 2.0 },
            weights: LossWeights { ce: 2.0, bbox: 5.0, giou: 2.0, mask: 1.0, dice: 1.0 },
            aux_loss: true,
        }
    }

    /// Matches every layer that counts to the targets: the one read-back of a training step that the
    /// losses need.
    ///
    /// # Errors
    /// A cost that is not finite, or a device that fails.
    pub fn matches(
        &self,
        predictions: &Predictions,
        targets: &Targets,
    ) -> Result<Matches, MatchError> {
        match_outputs(&self.counted(&predictions.output), targets, self.classification, self.cost)
    }

    /// The losses. `num_boxes` is what they are divided by: the objects of the batch, or with several
    /// ranks of all their batches over the number of ranks, and at least 1.
    #[must_use]
    pub fn losses(
        &self,
        predictions: &Predictions,
        targets: &Targets,
        matches: &Matches,
        num_boxes: f64,
    ) -> Losses {
        let whole = WholeBatch { num_boxes, ..WholeBatch::new([targets]) };
        self.losses_of_part(predictions, targets, matches, &whole)
    }

    /// The losses of a part of a batch: over all parts, each loss sums up to that of the batch. (What is
    /// only logged does not: `class_error` and `cardinality_error` are those of the part.)
    #[must_use]
    pub fn losses_of_part(
        &self,
        predictions: &Predictions,
        targets: &Targets,
        matches: &Matches,
        whole: &WholeBatch,
    ) -> Losses {
        let num_boxes = whole.num_boxes.max(1.0);
        let output = self.counted(&predictions.output);
        let layers = output.pred_logits.dims()[0];
        let group = Group::new(output.pred_logits, output.pred_boxes, &matches.layers, targets);
        let found = group.losses(self.classification, num_boxes, &whole.objects);
        let device = found.ce.device();
        let mut losses = Losses {
            total: Tensor::zeros([1], (&device, DType::F32)),
            names: Vec::new(),
            values: Vec::new(),
        };
        self.add(&mut losses, found, layers, |layer| {
            (layer + 1 < layers).then_some(LossLayer::Decoder(layer))
        });
        losses.log("class_error", None, group.class_error());
        if let Some(masks) = &predictions.masks {
            let (mask, dice) = mask_losses(masks.clone(), &matches.layers, targets, num_boxes);
            losses.count("loss_mask", None, mask, self.weights.mask);
            losses.count("loss_dice", None, dice, self.weights.dice);
        }
        if let (Some(encoder), Some(matched)) = (output.enc_outputs, &matches.encoder) {
            let targets = targets.class_agnostic();
            let logits = encoder.pred_logits.unsqueeze::<4>();
            let boxes = encoder.pred_boxes.unsqueeze::<4>();
            let group = Group::new(logits, boxes, matched, &targets);
            let found = group.losses(self.classification, num_boxes, &whole.objects);
            self.add(&mut losses, found, 1, |_| Some(LossLayer::Encoder));
        }
        losses
    }

    /// What counts of an output.
    fn counted(&self, output: &DetrOutput) -> DetrOutput {
        if self.aux_loss {
            return output.clone();
        }
        let layers = output.pred_logits.dims()[0];
        let last = |t: &Tensor<4>| t.clone().slice_dim(0, layers - 1..layers);
        DetrOutput {
            pred_logits: last(&output.pred_logits),
            pred_boxes: last(&output.pred_boxes),
            enc_outputs: None,
        }
    }

    fn add(
        &self,
        losses: &mut Losses,
        found: GroupLosses,
        layers: usize,
        name: impl Fn(usize) -> Option<LossLayer>,
    ) {
        let GroupLosses { ce, bbox, giou, cardinality } = found;
        for layer in 0..layers {
            let one = |t: &Tensor<1>| t.clone().slice_dim(0, layer..=layer);
            losses.count("loss_ce", name(layer), one(&ce), self.weights.ce);
            losses.count("loss_bbox", name(layer), one(&bbox), self.weights.bbox);
            losses.count("loss_giou", name(layer), one(&giou), self.weights.giou);
            losses.log("cardinality_error", name(layer), one(&cardinality));
        }
    }
}

impl WholeBatch {
    /// Of a batch in parts, on one rank.
    #[must_use]
    pub fn new<'a>(parts: impl IntoIterator<Item = &'a Targets>) -> Self {
        let parts = parts.into_iter().flat_map(Targets::images);
        let objects: Vec<usize> = parts.map(|target| target.labels.len()).collect();
        #[allow(clippy::cast_precision_loss)] // objects of a batch
        let num_boxes = objects.iter().sum::<usize>() as f64;
        Self { num_boxes, objects }
    }
}

impl Losses {
    /// The weighted sum, and every loss and logged number by name: one read-back.
    ///
    /// # Errors
    /// The device failed; the message is Burn's.
    pub fn read(&self) -> Result<(f32, Vec<(LossName, f32)>), String> {
        let data = traffic::read(Transaction::default().register(self.stacked()));
        let data = data.map_err(|error| format!("{error:?}"))?;
        let mut numbers = data.iter().flat_map(|data| data.iter::<f32>().collect::<Vec<_>>());
        let total = numbers.next().ok_or("the device gave no numbers")?;
        Ok((total, self.names.iter().cloned().zip(numbers).collect()))
    }

    /// Names of the losses and logged numbers, in the order of [`Losses::stacked`].
    #[must_use]
    pub fn names(&self) -> &[LossName] {
        &self.names
    }

    /// The weighted sum, then every number of [`Losses::names`], for those who read them together with
    /// something else.
    #[must_use]
    pub fn stacked(&self) -> Tensor<1> {
        Tensor::cat([vec![self.total.clone()], self.values.clone()].concat(), 0).detach()
    }

    /// A loss that counts.
    fn count(
        &mut self,
        kind: &'static str,
        layer: Option<LossLayer>,
        value: Tensor<1>,
        weight: f64,
    ) {
        self.total = self.total.clone() + value.clone() * weight;
        self.log(kind, layer, value);
    }

    /// A number that is only logged.
    fn log(&mut self, kind: &'static str, layer: Option<LossLayer>, value: Tensor<1>) {
        self.names.push(LossName { kind, layer });
        self.values.push(value.detach());
    }
}
