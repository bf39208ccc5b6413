//! The predictions that the criterion compares with the targets, as a list of groups: the decoder's layers, the
//! encoder's proposals of a two-stage model, the denoising queries of DN-DETR and DINO.

use std::borrow::Cow;

use burn::tensor::Tensor;
use detr_model::output::MaskFeatures;
use detr_model::{DetrOutput, Model};

use crate::assignment::Assignment;
use crate::targets::Targets;

/// The predictions of a batch.
#[derive(Clone, Debug)]
pub struct Predictions {
    /// The groups. Losses are listed in their order.
    pub groups: Vec<PredictionGroup>,
}

/// The predictions of one set of queries by one or more layers.
#[derive(Clone, Debug)]
pub struct PredictionGroup {
    /// The part of the model that makes the predictions.
    pub source: Source,
    /// `[layers, B, Q, C]`: class logits. A softmax has one column more, the last one being "no object".
    pub logits: Tensor<4>,
    /// `[layers, B, Q, 4]`: centre and size of the boxes, relative to the image without padding.
    pub boxes: Tensor<4>,
    /// Mask logits of the last layer, or `None` if the model predicts no masks.
    pub masks: Option<MaskPredictions>,
    /// The way in which queries get their objects.
    pub matching: Matching,
}

/// The masks of a group of queries. A loss looks only at those that got an object.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one per batch
pub enum MaskPredictions {
    /// `[B, Q, h, w]`: the masks of all queries.
    All(Tensor<4>),
    /// `[pairs, h, w]` for every image: the masks of the queries with an object, in the order of the assignment of the
    /// last layer; `None` for an image without pairs. Without any pair there may be the mask of some query.
    Matched(Vec<Option<Tensor<3>>>),
    /// The same for every layer of the assignment: `[pairs, h, w]` for every image and, within it, for every layer. Their
    /// losses are computed at points, which bounds memory.
    Layers(Vec<Vec<Option<Tensor<3>>>>),
}

/// The part of a model that makes predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The layers of the decoder.
    Decoder,
    /// The encoder of a two-stage model. It proposes boxes for objects of any class: all objects have the
    /// first class here.
    Encoder,
    /// Queries that are made from objects by adding noise, and go through the decoder beside the others
    /// (DN-DETR, DINO).
    Denoising,
}

/// The way in which queries get their objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matching {
    /// The [`HungarianMatcher`](crate::HungarianMatcher) finds the cheapest assignment.
    Hungarian,
    /// The assignment is known beforehand, because queries are made from objects.
    Given {
        /// The assignment, with the same number of pairs in every layer.
        assignment: Assignment,
        /// Queries of each object (DINO's number of denoising groups). The losses are divided by it, so
        /// that more queries do not weigh more.
        queries_per_object: usize,
    },
}

impl From<DetrOutput> for Predictions {
    /// Makes a group of the decoder's layers, and one of the encoder's proposals if there are any. Both are
    /// to be matched, and neither has masks.
    fn from(output: DetrOutput) -> Self {
        let decoder = PredictionGroup::new(Source::Decoder, output.pred_logits, output.pred_boxes);
        let encoder = output.enc_outputs.map(|encoder| {
            let (logits, boxes) = (encoder.pred_logits, encoder.pred_boxes);
            PredictionGroup::new(Source::Encoder, logits.unsqueeze(), boxes.unsqueeze())
        });
        Self { groups: [Some(decoder), encoder].into_iter().flatten().collect() }
    }
}

impl Predictions {
    /// Makes the masks of the decoder's queries that got an object, if there are masks to compare them with. Those of
    /// all queries would cost ten times as much.
    pub fn add_masks(
        &mut self,
        model: &Model,
        features: &MaskFeatures,
        assignments: &[Assignment],
        targets: &Targets,
    ) {
        let (Some(group), Some(assignment)) = (self.groups.first_mut(), assignments.first()) else {
            return;
        };
        let layers = &assignment.layers;
        let first = layers.len().saturating_sub(features.layers());
        let queries = |image: usize| -> Vec<Vec<usize>> {
            let pairs = layers[first..].iter().map(|images| &images[image]);
            pairs.map(|pairs| pairs.iter().map(|&(query, _)| query).collect()).collect()
        };
        let made = targets.images().iter().enumerate().map(|(image, target)| {
            let queries = queries(image);
            if target.masks.is_some() {
                model.masks_of_layers(features, image, &queries)
            } else {
                vec![None; queries.len()]
            }
        });
        let mut masks: Vec<Vec<Option<Tensor<3>>>> = made.collect();
        let none = masks.iter().flatten().all(Option::is_none);
        if let Some(first_image) = masks.first_mut().filter(|_| none) {
            // No object makes the losses zero, but they still depend on the mask head, which may be all that learns.
            let queries = vec![vec![0]; first_image.len()];
            *first_image = model.masks_of_layers(features, 0, &queries);
        }
        group.masks = Some(if features.earlier_layers.is_some() {
            MaskPredictions::Layers(masks)
        } else {
            let last = |mut layers: Vec<_>| layers.pop().flatten();
            MaskPredictions::Matched(masks.into_iter().map(last).collect())
        });
    }

    /// Returns what counts without auxiliary losses: the last layer of every group but the encoder's.
    pub(crate) fn without_auxiliary(&self) -> Self {
        let groups = self.groups.iter().filter(|group| group.source != Source::Encoder);
        Self { groups: groups.map(PredictionGroup::last_layer).collect() }
    }
}

impl PredictionGroup {
    /// Makes a group without masks that is to be matched.
    ///
    /// # Shapes
    /// - `logits` `[layers, B, Q, C]`, `boxes` `[layers, B, Q, 4]`
    #[must_use]
    pub const fn new(source: Source, logits: Tensor<4>, boxes: Tensor<4>) -> Self {
        Self { source, logits, boxes, masks: None, matching: Matching::Hungarian }
    }

    /// Returns what the group should predict.
    pub(crate) fn targets<'a>(&self, targets: &'a Targets) -> Cow<'a, Targets> {
        match self.source {
            Source::Encoder => Cow::Owned(targets.class_agnostic()),
            Source::Decoder | Source::Denoising => Cow::Borrowed(targets),
        }
    }

    fn last_layer(&self) -> Self {
        let layers = self.logits.dims()[0];
        let last = |t: &Tensor<4>| t.clone().slice_dim(0, layers - 1..layers);
        Self {
            logits: last(&self.logits),
            boxes: last(&self.boxes),
            masks: self.masks.as_ref().map(MaskPredictions::last_layer),
            matching: self.matching.last_layer(),
            source: self.source,
        }
    }
}

impl MaskPredictions {
    /// Returns the masks of the last layer alone.
    fn last_layer(&self) -> Self {
        let last = |layers: &Vec<_>| layers.last().cloned().into_iter().collect();
        match self {
            Self::Layers(images) => Self::Layers(images.iter().map(last).collect()),
            other => other.clone(),
        }
    }
}

impl Matching {
    /// Returns how many queries an object gets.
    pub(crate) const fn queries_per_object(&self) -> usize {
        match self {
            Self::Hungarian => 1,
            Self::Given { queries_per_object, .. } => *queries_per_object,
        }
    }

    fn last_layer(&self) -> Self {
        match self {
            Self::Hungarian => Self::Hungarian,
            Self::Given { assignment, queries_per_object } => Self::Given {
                assignment: assignment.last_layer(),
                queries_per_object: *queries_per_object,
            },
        }
    }
}
