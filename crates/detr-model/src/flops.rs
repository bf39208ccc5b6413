//! Floating point operations of a forward pass, counted from the configuration. A multiply-add is two
//! operations; papers often count it as one, and so give half.
//!
//! The count includes convolutions, linear layers, the two matrix products of an attention, and the sampling
//! of deformable attention: four corners and a weight, so five multiply-adds per number sampled. It leaves
//! out operations that are few per number: biases, normalisations, activations, softmax, sums with residuals
//! and positions, and post-processing.

use serde::Serialize;

/// The convention of counting, in words for people.
pub const CONVENTION: &str = "a multiply-add is two operations; convolutions, linear layers, attention and \
     sampling; without biases, normalisations, activations and softmax";

/// Operations by part of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flops {
    /// The backbone.
    pub backbone: u64,
    /// From the backbone's maps to the transformer's width, and coarser levels.
    pub projection: u64,
    /// Encoder layers.
    pub encoder: u64,
    /// Decoder layers, with what makes their queries.
    pub decoder: u64,
    /// Class and box heads of all layers.
    pub heads: u64,
}

/// The cost of a backbone on an image, and the sizes of its feature maps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BackboneFlops {
    /// Multiply-adds.
    pub(crate) cost: u64,
    /// Height and width of C2 to C5.
    pub(crate) sizes: [[u64; 2]; 4],
    /// Channels of C2 to C5.
    pub(crate) channels: [u64; 4],
}

impl Flops {
    /// Returns the operations of all parts together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.backbone + self.projection + self.encoder + self.decoder + self.heads
    }

    /// Multiplies every part.
    pub(crate) fn times(self, factor: u64) -> Self {
        let Self { backbone, projection, encoder, decoder, heads } = self;
        let [backbone, projection, encoder, decoder, heads] =
            [backbone, projection, encoder, decoder, heads].map(|n| n * factor);
        Self { backbone, projection, encoder, decoder, heads }
    }
}

/// Queries, keys and values, scores, sums of values, output.
pub(crate) const fn attention(q: u64, s: u64, d: u64) -> u64 {
    (2 * q + 2 * s) * d * d + 2 * q * s * d
}

pub(crate) const fn feed_forward(tokens: u64, d: u64, width: u64) -> u64 {
    2 * tokens * d * width
}

/// Counts the operations of one class head, and a box head of three layers.
pub(crate) const fn heads(tokens: u64, d: u64, classes: u64) -> u64 {
    tokens * d * (classes + 2 * d + 4)
}

/// Returns the size after a stride of 2, padded so that no cell is lost.
pub(crate) const fn halved([height, width]: [u64; 2]) -> [u64; 2] {
    [height.div_ceil(2), width.div_ceil(2)]
}

pub(crate) const fn cells([height, width]: [u64; 2]) -> u64 {
    height * width
}

pub(crate) const fn wide(n: usize) -> u64 {
    n as u64
}
