//! The Hungarian matcher (`HungarianMatcher` in `models/matcher.py` of the references): the costs of all groups
//! on the device, one read-back, then one assignment per layer and image on the host.

use burn::tensor::{Tensor, Transaction};
use detr_model::traffic::{self, DeviceError};

use crate::assignment::{Assignment, BatchError};
use crate::classification::Classification;
use crate::cost::{CostTerms, CostWeights};
use crate::predictions::{Matching, PredictionGroup, Predictions, Source};
use crate::targets::Targets;

/// The Hungarian matcher. It gives every object of an image a query of its own, such that the sum of the costs
/// of all pairs is the least possible; the other queries are to predict "no object".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HungarianMatcher {
    /// The activation of the class head, which decides the cost of a class.
    pub classification: Classification,
    /// The weights of the terms of the cost.
    pub cost: CostWeights,
}

/// An error of the matcher.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MatchError {
    /// A cost is NaN or infinite.
    #[error(
        "image {image}, query {query}, object {object}: the {term} cost of {place} is {value}\nhint: the model diverged, or a box of the data has no size"
    )]
    NonFinite {
        /// The name of the layer, or of the encoder.
        place: String,
        /// The position of the image in the batch.
        image: usize,
        /// The query.
        query: usize,
        /// The position of the object among those of the image.
        object: usize,
        /// The name of the first term that is not finite, or of the sum if every term is finite.
        term: String,
        /// The value of that term.
        value: f32,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl HungarianMatcher {
    /// Returns the assignment of every group, in the order of the groups: the cheapest one, or the given one if
    /// the group has one. The costs of all groups are read from the device at once; if all assignments are
    /// given, nothing is read.
    ///
    /// # Errors
    /// A cost is not finite, or the device fails.
    pub fn forward(
        &self,
        predictions: &Predictions,
        targets: &Targets,
    ) -> Result<Vec<Assignment>, MatchError> {
        let groups = predictions.groups.iter();
        let unmatched = groups.clone().filter(|group| group.matching == Matching::Hungarian);
        let costs: Vec<_> = unmatched.map(|group| self.group_costs(group, targets)).collect();
        let values = if costs.is_empty() { Vec::new() } else { read(&costs)? };
        let mut solved =
            costs.iter().zip(values).map(|(costs, values)| costs.solve(&values, targets));
        let assignments = groups.filter_map(|group| match &group.matching {
            Matching::Hungarian => solved.next(),
            Matching::Given { assignment, .. } => Some(Ok(assignment.clone())),
        });
        assignments.collect()
    }

    /// Returns the costs by which a group is matched, for those who inspect a matching.
    ///
    /// # Shapes
    /// - output `[layers, B, Q, n]`, n being the most objects of an image; columns past the objects of an
    ///   image mean nothing
    #[must_use]
    pub fn costs(&self, group: &PredictionGroup, targets: &Targets) -> Tensor<4> {
        self.group_costs(group, targets).total
    }

    fn group_costs(&self, group: &PredictionGroup, targets: &Targets) -> GroupCosts {
        let targets = group.targets(targets);
        let terms = CostTerms::new(group, &targets, self.classification, self.cost);
        GroupCosts { source: group.source, total: terms.total(), terms }
    }
}

/// The costs of all layers of a group.
struct GroupCosts {
    source: Source,
    terms: CostTerms,
    total: Tensor<4>,
}

impl GroupCosts {
    fn solve(&self, values: &[f32], targets: &Targets) -> Result<Assignment, MatchError> {
        let objects: Vec<usize> = targets.images().iter().map(|image| image.labels.len()).collect();
        Assignment::from_costs(values, self.total.dims(), &objects)
            .map_err(|error| self.non_finite(error))
    }

    /// Finds the term of the cost that is not finite. This reads from the device again, which does not matter
    /// to a step that fails.
    fn non_finite(&self, BatchError { layer, image, error }: BatchError) -> MatchError {
        let at = [layer, image, error.row, error.column];
        let terms = [
            ("class", &self.terms.class),
            ("box distance", &self.terms.bbox),
            ("generalised IoU", &self.terms.giou),
        ];
        let read = terms.map(|(term, costs)| (term, element(costs, at)));
        let bad = read.into_iter().find(|(_, value)| !value.is_finite());
        let (term, value) = bad.unwrap_or(("sum of the terms of the", error.value));
        MatchError::NonFinite {
            place: self.place(layer),
            image,
            query: error.row,
            object: error.column,
            term: term.to_owned(),
            value,
        }
    }

    fn place(&self, layer: usize) -> String {
        match self.source {
            Source::Decoder => format!("decoder layer {layer}"),
            Source::Encoder => "the encoder".to_owned(),
            Source::Denoising => format!("denoising layer {layer}"),
        }
    }
}

/// Reads the costs of all groups at once.
fn read(costs: &[GroupCosts]) -> Result<Vec<Vec<f32>>, DeviceError> {
    let totals = costs.iter().map(|costs| costs.total.clone());
    let transaction = totals.fold(Transaction::default(), Transaction::register);
    traffic::read_f32(transaction)
}

/// Reads one element of a tensor.
fn element(tensor: &Tensor<4>, at: [usize; 4]) -> f32 {
    let axes = at.into_iter().enumerate();
    let one = axes.fold(tensor.clone(), |tensor, (axis, i)| tensor.slice_dim(axis, i..=i));
    one.into_data().iter::<f32>().sum()
}
