//! The Hungarian matcher: costs of all layers on the device, one read-back, then one assignment per
//! layer and image on the host, in parallel.

use std::fmt;

use burn::tensor::{DType, Tensor, Transaction};
use detr_model::{DetrOutput, traffic};
use rayon::prelude::*;

use crate::assignment::{AssignmentError, assign_part};
use crate::classification::Classification;
use crate::cost::{CostTerms, CostWeights};
use crate::targets::Targets;

/// Which query answers for which object, in every decoder layer and among the encoder's proposals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matches {
    /// Of the decoder's layers.
    pub layers: Matched,
    /// Of the proposals of a two-stage model.
    pub encoder: Option<Matched>,
}

/// Pairs of query and object, `[layer][image]`, in the order of the queries. An image with more
/// objects than queries keeps as many as there are queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched(pub Vec<Vec<Vec<(usize, usize)>>>);

impl Matched {
    /// Solves the problems of all layers and images, in parallel; `objects` says how many columns of
    /// an image's costs are real.
    ///
    /// # Shapes
    /// - `costs` `[layers, B, Q, n]`, row-major, `shape` says so; `objects` `[B]`, n at most
    ///
    /// # Errors
    /// A cost that is not finite; the first one, by layer and image.
    pub fn from_costs(
        costs: &[f32],
        shape: [usize; 4],
        objects: &[usize],
    ) -> Result<Self, BatchError> {
        let [layers, b, q, n] = shape;
        let solved: Vec<_> = (0..layers * b)
            .into_par_iter()
            .map(|problem| {
                let (layer, image) = (problem / b, problem % b);
                let rows = &costs[problem * q * n..(problem + 1) * q * n];
                let pairs = assign_part(rows, n, q, objects[image]);
                pairs.map_err(|error| BatchError { layer, image, error })
            })
            .collect();
        let mut matched = Vec::with_capacity(layers);
        let mut solved = solved.into_iter();
        for _ in 0..layers {
            matched.push(solved.by_ref().take(b).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(Self(matched))
    }
}

/// A cost that is not a number, or infinite, among those of a batch; rows are queries and columns
/// objects.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("layer {layer}, image {image}: {error}")]
pub struct BatchError {
    /// Layer.
    pub layer: usize,
    /// Position in the batch.
    pub image: usize,
    /// Where in its problem.
    pub error: AssignmentError,
}

/// A term of the cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// Of the class.
    Class,
    /// L1 distance of the boxes.
    Bbox,
    /// Generalised `IoU` of the boxes.
    Giou,
}

/// Why nothing can be matched.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MatchError {
    /// A cost is not a number or infinite.
    #[error(
        "image {image}, query {query}, object {object}: the {term} cost of {place} is {value}\nhint: the model diverged, or a box of the data has no size"
    )]
    NonFinite {
        /// Which layer, or the encoder.
        place: String,
        /// Position in the batch.
        image: usize,
        /// The query.
        query: usize,
        /// The object, by its position among those of the image.
        object: usize,
        /// The first term that is not finite; their sum if each is.
        term: String,
        /// The value.
        value: f32,
    },
    /// The device failed; the message is Burn's.
    #[error("the device failed: {0}")]
    Device(String),
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Class => "class",
            Self::Bbox => "box distance",
            Self::Giou => "generalised IoU",
        })
    }
}

/// Costs of a group of layers, and what they were made of.
struct Group {
    terms: CostTerms,
    total: Tensor<4>,
    encoder: bool,
}

/// Matches every decoder layer, and the encoder's proposals, to the targets.
///
/// # Errors
/// A cost that is not finite, or a device that fails.
pub fn match_outputs(
    output: &DetrOutput,
    targets: &Targets,
    classification: Classification,
    weights: CostWeights,
) -> Result<Matches, MatchError> {
    let group = |logits, boxes, targets: &Targets, encoder| {
        let terms = CostTerms::new(logits, boxes, targets, classification, weights);
        Group { total: terms.total(), terms, encoder }
    };
    let mut groups =
        vec![group(output.pred_logits.clone(), output.pred_boxes.clone(), targets, false)];
    if let Some(encoder) = &output.enc_outputs {
        let logits = encoder.pred_logits.clone().unsqueeze::<4>();
        let boxes = encoder.pred_boxes.clone().unsqueeze::<4>();
        groups.push(group(logits, boxes, &targets.class_agnostic(), true));
    }
    let mut transaction = Transaction::default();
    for group in &groups {
        transaction = transaction.register(group.total.clone());
    }
    let read =
        traffic::read(transaction).map_err(|error| MatchError::Device(format!("{error:?}")))?;
    let mut matched = Vec::with_capacity(groups.len());
    for (group, data) in groups.iter().zip(read) {
        let costs = data.convert_dtype(DType::F32).try_into_vec::<f32>();
        let costs = costs.map_err(|error| MatchError::Device(format!("{error:?}")))?;
        matched.push(solve(group, &costs, targets)?);
    }
    let encoder = if matched.len() > 1 { matched.pop() } else { None };
    let layers = matched.pop().unwrap_or(Matched(Vec::new()));
    Ok(Matches { layers, encoder })
}

/// What the decoder's layers are matched by, for those who inspect a matching.
///
/// # Shapes
/// - output `[layers, B, Q, n]`, n being the most objects of an image; columns past the objects of an
///   image mean nothing
#[must_use]
pub fn matching_costs(
    output: &DetrOutput,
    targets: &Targets,
    classification: Classification,
    weights: CostWeights,
) -> Tensor<4> {
    let (logits, boxes) = (output.pred_logits.clone(), output.pred_boxes.clone());
    CostTerms::new(logits, boxes, targets, classification, weights).total()
}

/// One assignment per layer and image.
fn solve(group: &Group, costs: &[f32], targets: &Targets) -> Result<Matched, MatchError> {
    let objects: Vec<usize> = targets.images().iter().map(|image| image.labels.len()).collect();
    Matched::from_costs(costs, group.total.dims(), &objects).map_err(|refused| {
        let BatchError { layer, image, error } = refused;
        blame(group, [layer, image, error.row, error.column], error.value)
    })
}

/// Finds the term that is not finite.
fn blame(group: &Group, at: [usize; 4], value: f32) -> MatchError {
    let [layer, image, query, object] = at;
    let terms = &group.terms;
    let mut found = ("sum of the terms of the".to_owned(), value);
    for (term, tensor) in
        [(Term::Class, &terms.class), (Term::Bbox, &terms.bbox), (Term::Giou, &terms.giou)]
    {
        let one = at
            .iter()
            .enumerate()
            .fold(tensor.clone(), |tensor, (axis, &index)| tensor.slice_dim(axis, index..=index));
        let read = one.into_data().iter::<f32>().next();
        if let Some(value) = read.filter(|value| !value.is_finite()) {
            found = (term.to_string(), value);
            break;
        }
    }
    let place =
        if group.encoder { "the encoder".to_owned() } else { format!("decoder layer {layer}") };
    MatchError::NonFinite { place, image, query, object, term: found.0, value: found.1 }
}
