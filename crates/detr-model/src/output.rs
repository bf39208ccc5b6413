//! What every architecture puts out.

use burn::tensor::Tensor;

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
    /// What the encoder proposes; two-stage models only.
    pub enc_outputs: Option<EncoderOutput>,
}

/// A class and a box for every token of the encoder: the first of two stages.
#[derive(Clone, Debug)]
pub struct EncoderOutput {
    /// `[B, S, C]`.
    pub pred_logits: Tensor<3>,
    /// `[B, S, 4]`, as in [`DetrOutput`]; all ones where a token proposes nothing.
    pub pred_boxes: Tensor<3>,
}
