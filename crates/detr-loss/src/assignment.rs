//! The assignment of queries to objects, in every layer and image of a group of predictions.

use rayon::prelude::*;

use crate::hungarian::{AssignmentError, assign_part};

/// Pairs (query, object) of an image, each by its position. The matcher lists them in the order of the queries.
pub type Pairs = Vec<(usize, usize)>;

/// An assignment of queries to objects. The matcher gives no query two objects and no object two queries, and
/// an image has `min(queries, objects)` pairs: if there are more objects than queries, some objects go without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The pairs of every image in every layer: `layers[layer][image]`.
    pub layers: Vec<Vec<Pairs>>,
}

/// A matching cost of a batch that is NaN or infinite. Rows are queries and columns are objects.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("layer {layer}, image {image}: {error}")]
pub struct BatchError {
    /// The layer.
    pub layer: usize,
    /// The position of the image in the batch.
    pub image: usize,
    /// The place among the costs of the image.
    pub error: AssignmentError,
}

/// A pair of an [`Assignment`], with its layer and image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairAt {
    pub(crate) layer: usize,
    pub(crate) image: usize,
    pub(crate) query: usize,
    pub(crate) object: usize,
}

impl Assignment {
    /// Finds the cheapest assignment of every layer and image, in parallel.
    ///
    /// # Shapes
    /// - `costs` `[layers, B, Q, n]`, row-major; `shape` has these four numbers
    /// - `objects` `[B]`: the number of objects of every image, at most n; further columns are not read
    ///
    /// # Errors
    /// A cost is NaN or infinite. The error names the first one by layer and image.
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
        let mut solved = solved.into_iter();
        let layers = (0..layers).map(|_| solved.by_ref().take(b).collect());
        Ok(Self { layers: layers.collect::<Result<_, _>>()? })
    }

    /// Returns the pairs layer by layer and, within a layer, image by image.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = PairAt> + '_ {
        self.layers.iter().enumerate().flat_map(|(layer, images)| {
            images.iter().enumerate().flat_map(move |(image, pairs)| {
                pairs.iter().map(move |&(query, object)| PairAt { layer, image, query, object })
            })
        })
    }

    /// Returns the assignment of the last layer alone.
    pub(crate) fn last_layer(&self) -> Self {
        Self { layers: self.layers.last().cloned().into_iter().collect() }
    }
}
