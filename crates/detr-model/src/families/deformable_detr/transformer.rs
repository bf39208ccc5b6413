//! The encoder-decoder transformer of Deformable DETR (`models/deformable_transformer.py`; Zhu et
//! al. 2021, <https://arxiv.org/abs/2010.04159>). The heads, which refine boxes between the layers of
//! the decoder, belong to the model.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Initializer, LayerNorm};
use burn::tensor::{Bool, Device, Tensor};

use super::config::DeformableDetrConfig;
use super::ms_deform_attn::{MSDeformAttn, Tokens};
use crate::attention::MultiheadAttention;
use crate::nn::{Init, Linear, feed_forward, layer_norm, normalize};

/// Encoder, decoder, and what makes queries and their references.
#[derive(Module, Debug)]
pub struct DeformableTransformer {
    /// Encoder.
    pub encoder: DeformableTransformerEncoder,
    /// Decoder.
    pub decoder: DeformableTransformerDecoder,
    /// `[L, D]`: added to the positions of a level.
    pub level_embed: Param<Tensor<2>>,
    /// One-stage: position of a query to its reference point.
    pub reference_points: Option<Linear>,
    /// Two-stage: tokens to proposals.
    pub enc_output: Option<Linear>,
    /// Two-stage: normalisation after `enc_output`.
    pub enc_output_norm: Option<LayerNorm>,
    /// Two-stage: coordinates of a proposal to position and content of its query.
    pub pos_trans: Option<Linear>,
    /// Two-stage: normalisation after `pos_trans`.
    pub pos_trans_norm: Option<LayerNorm>,
}

/// A stack of encoder layers.
#[derive(Module, Debug)]
pub struct DeformableTransformerEncoder {
    /// The layers in order.
    pub layers: Vec<DeformableTransformerEncoderLayer>,
}

/// A stack of decoder layers, without a normalisation at the end.
#[derive(Module, Debug)]
pub struct DeformableTransformerDecoder {
    /// The layers in order.
    pub layers: Vec<DeformableTransformerDecoderLayer>,
}

/// Deformable self-attention and feed-forward network.
#[derive(Module, Debug)]
pub struct DeformableTransformerEncoderLayer {
    /// Deformable self-attention.
    pub self_attn: MSDeformAttn,
    /// Belongs to the self-attention.
    pub norm1: LayerNorm,
    /// First feed-forward layer.
    pub linear1: Linear,
    /// Second feed-forward layer.
    pub linear2: Linear,
    /// Belongs to the feed-forward network.
    pub norm2: LayerNorm,
    /// After the attention, inside and after the feed-forward network.
    pub dropout: Dropout,
}

/// Self-attention, deformable cross-attention and feed-forward network, in this order, although the
/// names of the normalisations suggest another.
#[derive(Module, Debug)]
pub struct DeformableTransformerDecoderLayer {
    /// Deformable cross-attention to the memory.
    pub cross_attn: MSDeformAttn,
    /// Belongs to the cross-attention.
    pub norm1: LayerNorm,
    /// Self-attention of the queries.
    pub self_attn: MultiheadAttention,
    /// Belongs to the self-attention.
    pub norm2: LayerNorm,
    /// First feed-forward layer.
    pub linear1: Linear,
    /// Second feed-forward layer.
    pub linear2: Linear,
    /// Belongs to the feed-forward network.
    pub norm3: LayerNorm,
    /// After the attentions, inside and after the feed-forward network.
    pub dropout: Dropout,
}

impl DeformableTransformer {
    /// Creates a transformer with the reference's initialisation.
    #[must_use]
    pub fn new(config: &DeformableDetrConfig, device: &Device) -> Self {
        let d = config.hidden_dim;
        let two_stage =
            |inputs| config.two_stage.then(|| Linear::new(inputs, inputs, Init::Xavier, device));
        let two_stage_norm = |width| config.two_stage.then(|| layer_norm(width, device));
        Self {
            encoder: DeformableTransformerEncoder {
                layers: (0..config.enc_layers)
                    .map(|_| DeformableTransformerEncoderLayer::new(config, device))
                    .collect(),
            },
            decoder: DeformableTransformerDecoder {
                layers: (0..config.dec_layers)
                    .map(|_| DeformableTransformerDecoderLayer::new(config, device))
                    .collect(),
            },
            level_embed: Initializer::Normal { mean: 0.0, std: 1.0 }
                .init([config.num_feature_levels, d], device),
            reference_points: (!config.two_stage)
                .then(|| Linear::new(d, 2, Init::XavierZeroBias, device)),
            enc_output: two_stage(d),
            enc_output_norm: two_stage_norm(d),
            pos_trans: two_stage(2 * d),
            pos_trans_norm: two_stage_norm(2 * d),
        }
    }
}

impl DeformableTransformerEncoder {
    /// Outputs of all layers; the last one is the memory (the input itself without layers).
    ///
    /// # Shapes
    /// - `tokens` with values `[B, S, D]`
    /// - `position` `[B or 1, S, D]`, added to the queries
    /// - `reference_points` `[B or 1, S, L, 2]`
    /// - outputs `[B, S, D]`
    #[must_use]
    pub fn forward(
        &self,
        mut tokens: Tokens,
        position: &Tensor<3>,
        reference_points: &Tensor<4>,
    ) -> (Vec<Tensor<3>>, Tokens) {
        let mut layers = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            tokens.values = layer.forward(&tokens, position, reference_points.clone());
            layers.push(tokens.values.clone());
        }
        (layers, tokens)
    }
}

impl DeformableTransformerEncoderLayer {
    fn new(config: &DeformableDetrConfig, device: &Device) -> Self {
        let (d, f) = (config.hidden_dim, config.dim_feedforward);
        let levels = config.num_feature_levels;
        Self {
            self_attn: MSDeformAttn::new(d, config.nheads, levels, config.enc_n_points, device),
            norm1: layer_norm(d, device),
            linear1: Linear::new(d, f, Init::Xavier, device),
            linear2: Linear::new(f, d, Init::Xavier, device),
            norm2: layer_norm(d, device),
            dropout: DropoutConfig::new(config.dropout).init(),
        }
    }

    /// # Shapes
    /// As [`DeformableTransformerEncoder::forward`].
    #[must_use]
    pub fn forward(
        &self,
        tokens: &Tokens,
        position: &Tensor<3>,
        reference_points: Tensor<4>,
    ) -> Tensor<3> {
        let x = tokens.values.clone();
        let y = self.self_attn.forward(x.clone() + position.clone(), reference_points, tokens);
        let x = normalize(&self.norm1, x + self.dropout.forward(y));
        let y = feed_forward(x.clone(), &self.linear1, &self.linear2, &self.dropout);
        normalize(&self.norm2, x + y)
    }
}

impl DeformableTransformerDecoderLayer {
    fn new(config: &DeformableDetrConfig, device: &Device) -> Self {
        let d = config.hidden_dim;
        let f = config.dec_dim_feedforward.unwrap_or(config.dim_feedforward);
        let &DeformableDetrConfig { nheads, num_feature_levels, dec_n_points, dropout, .. } =
            config;
        Self {
            cross_attn: MSDeformAttn::new(d, nheads, num_feature_levels, dec_n_points, device),
            norm1: layer_norm(d, device),
            self_attn: MultiheadAttention::new(d, nheads, dropout, device),
            norm2: layer_norm(d, device),
            linear1: Linear::new(d, f, Init::Xavier, device),
            linear2: Linear::new(f, d, Init::Xavier, device),
            norm3: layer_norm(d, device),
            dropout: DropoutConfig::new(dropout).init(),
        }
    }

    /// # Shapes
    /// - `x` `[B, Q, D]`, `query_pos` `[B or 1, Q, D]`
    /// - `absent` `[B, Q]`, true = a query that no other looks at; not all of an image's
    /// - `reference_points` `[B or 1, Q, L, 2 or 4]`
    /// - output `[B, Q, D]`
    #[must_use]
    pub fn forward(
        &self,
        x: Tensor<3>,
        query_pos: &Tensor<3>,
        absent: Option<&Tensor<2, Bool>>,
        reference_points: Tensor<4>,
        memory: &Tokens,
    ) -> Tensor<3> {
        let qk = x.clone() + query_pos.clone();
        let y = self.self_attn.forward(qk.clone(), qk, x.clone(), absent);
        let x = normalize(&self.norm2, x + self.dropout.forward(y));
        let query = x.clone() + query_pos.clone();
        let y = self.cross_attn.forward(query, reference_points, memory);
        let x = normalize(&self.norm1, x + self.dropout.forward(y));
        let y = feed_forward(x.clone(), &self.linear1, &self.linear2, &self.dropout);
        normalize(&self.norm3, x + y)
    }
}
