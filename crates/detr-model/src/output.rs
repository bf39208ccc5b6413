//! The output that all architectures share.

use burn::tensor::{Bool, Tensor};

use crate::backbone::FeatureMap;

/// Class logit of a query that stands for nothing: where an image has fewer tokens than the model
/// queries, and its batch mates have more ([`Padding::Sizes`](crate::nested::Padding::Sizes)).
pub const ABSENT: f32 = -6e4;

/// Predictions of all decoder layers, the last one being the model's answer.
#[derive(Clone, Debug)]
pub struct DetrOutput {
    /// `[layers, B, Q, C]`; in DETR one column more, the last one being "no object".
    pub pred_logits: Tensor<4>,
    /// `[layers, B, Q, 4]`: centre and size relative to the unpadded image, in [0, 1].
    pub pred_boxes: Tensor<4>,
    /// The proposals of the encoder; two-stage models only.
    pub enc_outputs: Option<EncoderOutput>,
    /// The features that masks of queries are made of, by [`Model::masks`](crate::Model::masks); models with a mask head only.
    pub mask_features: Option<MaskFeatures>,
}

/// The features of a batch that a mask head needs. Masks are made of it for the queries that are asked for, since those of all
/// queries cost several times as much as the boxes.
#[derive(Clone, Debug)]
pub struct MaskFeatures {
    /// `[B, Q, D]`: the decoder's last normalised output.
    pub hidden: Tensor<3>,
    /// `[B, Q, D]` for each decoder layer before the last, where these have masks, too; `None` in DETR, whose masks come
    /// from the last layer alone.
    pub earlier_layers: Option<Vec<Tensor<3>>>,
    /// `[B, h * w, D]`: the encoder's output, of the finest level where there are several.
    pub memory: Tensor<3>,
    /// `[B, D, h, w]`: the encoder's input of that level, in DETR C5 in the width of the transformer.
    pub projected: FeatureMap,
    /// C4, C3 and C2.
    pub pyramid: [FeatureMap; 3],
    /// `[B, h, w]`, true = padding of that level.
    pub mask: Option<Tensor<3, Bool>>,
}

impl MaskFeatures {
    /// Returns the number of decoder layers that have masks, the last one included.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.earlier_layers.as_ref().map_or(0, Vec::len) + 1
    }
}

/// A class and a box for every token of the encoder: the first of two stages.
#[derive(Clone, Debug)]
pub struct EncoderOutput {
    /// `[B, S, C]`.
    pub pred_logits: Tensor<3>,
    /// `[B, S, 4]`, as in [`DetrOutput`]; all ones where a token proposes nothing.
    pub pred_boxes: Tensor<3>,
}
