//! The encoder-decoder transformer of DETR (`models/transformer.py`), batch first. Not the
//! transformer of `torch.nn`: positions are added in every layer, to queries and keys only.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, LayerNorm};
use burn::tensor::{Bool, Device, Tensor};

use crate::attention::MultiheadAttention;
use crate::nn::{Init, Linear, feed_forward, layer_norm, normalize};

/// Sizes of a transformer.
#[derive(Clone, Copy, Debug)]
pub struct TransformerConfig {
    /// Width D.
    pub hidden_dim: usize,
    /// Heads M.
    pub nheads: usize,
    /// Encoder layers.
    pub enc_layers: usize,
    /// Decoder layers.
    pub dec_layers: usize,
    /// Hidden width of the encoder's feed-forward networks.
    pub enc_feedforward: usize,
    /// Hidden width of the decoder's feed-forward networks.
    pub dec_feedforward: usize,
    /// Dropout probability.
    pub dropout: f64,
    /// Normalise before each sub-layer instead of after it.
    pub pre_norm: bool,
    /// Whether the encoder ends in a normalisation.
    pub encoder_norm: bool,
}

/// Encoder and decoder.
#[derive(Module, Debug)]
pub struct Transformer {
    /// Encoder.
    pub encoder: TransformerEncoder,
    /// Decoder.
    pub decoder: TransformerDecoder,
}

/// A stack of encoder layers.
#[derive(Module, Debug)]
pub struct TransformerEncoder {
    /// The layers in order.
    pub layers: Vec<TransformerEncoderLayer>,
    /// Normalisation of the result; pre-norm models and the demonstration model only.
    pub norm: Option<LayerNorm>,
}

/// A stack of decoder layers.
#[derive(Module, Debug)]
pub struct TransformerDecoder {
    /// The layers in order.
    pub layers: Vec<TransformerDecoderLayer>,
    /// Normalisation applied to every layer's output.
    pub norm: LayerNorm,
}

/// Self-attention and feed-forward network.
#[derive(Module, Debug)]
pub struct TransformerEncoderLayer {
    /// Self-attention.
    pub self_attn: MultiheadAttention,
    /// First feed-forward layer.
    pub linear1: Linear,
    /// Second feed-forward layer.
    pub linear2: Linear,
    /// Belongs to the self-attention.
    pub norm1: LayerNorm,
    /// Belongs to the feed-forward network.
    pub norm2: LayerNorm,
    /// After the attention, inside and after the feed-forward network.
    pub dropout: Dropout,
    pre_norm: bool,
}

/// Self-attention, cross-attention to the encoder's memory, and feed-forward network.
#[derive(Module, Debug)]
pub struct TransformerDecoderLayer {
    /// Self-attention of the queries.
    pub self_attn: MultiheadAttention,
    /// Cross-attention to the memory.
    pub multihead_attn: MultiheadAttention,
    /// First feed-forward layer.
    pub linear1: Linear,
    /// Second feed-forward layer.
    pub linear2: Linear,
    /// Belongs to the self-attention.
    pub norm1: LayerNorm,
    /// Belongs to the cross-attention.
    pub norm2: LayerNorm,
    /// Belongs to the feed-forward network.
    pub norm3: LayerNorm,
    /// After the attentions, inside and after the feed-forward network.
    pub dropout: Dropout,
    pre_norm: bool,
}

/// The encoded image that the decoder attends to.
#[derive(Clone, Debug)]
pub struct Memory {
    /// `[B, S, D]`: the encoder's output.
    pub tokens: Tensor<3>,
    /// `[B, S]`, true = padding.
    pub mask: Option<Tensor<2, Bool>>,
    /// `[B, S, D]` or `[1, S, D]`, added to the keys; none in the demonstration model.
    pub position: Option<Tensor<3>>,
}

impl Transformer {
    /// Creates a transformer with the reference's initialisation.
    #[must_use]
    pub fn new(config: &TransformerConfig, device: &Device) -> Self {
        Self {
            encoder: TransformerEncoder {
                layers: (0..config.enc_layers)
                    .map(|_| TransformerEncoderLayer::new(config, device))
                    .collect(),
                norm: config.encoder_norm.then(|| layer_norm(config.hidden_dim, device)),
            },
            decoder: TransformerDecoder {
                layers: (0..config.dec_layers)
                    .map(|_| TransformerDecoderLayer::new(config, device))
                    .collect(),
                norm: layer_norm(config.hidden_dim, device),
            },
        }
    }
}

impl TransformerEncoder {
    /// Outputs of all layers; the last one is the memory (the input itself without layers).
    ///
    /// # Shapes
    /// - `tokens` `[B, S, D]`, `mask` `[B, S]`, `position` `[B or 1, S, D]`
    /// - outputs `[B, S, D]`
    #[must_use]
    pub fn forward(
        &self,
        tokens: Tensor<3>,
        mask: Option<&Tensor<2, Bool>>,
        position: Option<&Tensor<3>>,
    ) -> (Vec<Tensor<3>>, Tensor<3>) {
        let mut x = tokens;
        let mut layers = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            x = layer.forward(x, mask, position);
            layers.push(x.clone());
        }
        (layers, self.finish(x))
    }

    /// Applies the last operations to the last layer's output.
    pub(crate) fn finish(&self, x: Tensor<3>) -> Tensor<3> {
        match &self.norm {
            Some(norm) => normalize(norm, x),
            None => x,
        }
    }
}

impl TransformerDecoder {
    /// Returns the normalised outputs of all layers.
    ///
    /// # Shapes
    /// - `target` `[B, Q, D]`: content of the queries
    /// - `query_pos` `[1, Q, D]`: added to queries and keys of the self-attention and to the
    ///   queries of the cross-attention; none in the demonstration model
    /// - output `[layers, B, Q, D]`
    #[must_use]
    pub fn forward(
        &self,
        target: Tensor<3>,
        memory: &Memory,
        query_pos: Option<&Tensor<3>>,
    ) -> Tensor<4> {
        let mut x = target;
        let outputs = self
            .layers
            .iter()
            .map(|layer| {
                x = layer.forward(x.clone(), memory, query_pos);
                normalize(&self.norm, x.clone())
            })
            .collect();
        Tensor::stack(outputs, 0)
    }
}

impl TransformerEncoderLayer {
    fn new(config: &TransformerConfig, device: &Device) -> Self {
        let &TransformerConfig { hidden_dim: d, nheads, enc_feedforward: f, dropout, .. } = config;
        Self {
            self_attn: MultiheadAttention::new(d, nheads, dropout, device),
            linear1: Linear::new(d, f, Init::Xavier, device),
            linear2: Linear::new(f, d, Init::Xavier, device),
            norm1: layer_norm(d, device),
            norm2: layer_norm(d, device),
            dropout: DropoutConfig::new(dropout).init(),
            pre_norm: config.pre_norm,
        }
    }

    /// # Shapes
    /// As [`TransformerEncoder::forward`].
    #[must_use]
    pub fn forward(
        &self,
        x: Tensor<3>,
        mask: Option<&Tensor<2, Bool>>,
        position: Option<&Tensor<3>>,
    ) -> Tensor<3> {
        let x = residual(x, &self.norm1, self.pre_norm, |x| {
            let qk = with_position(x.clone(), position);
            self.dropout.forward(self.self_attn.forward(qk.clone(), qk, x, mask))
        });
        residual(x, &self.norm2, self.pre_norm, |x| {
            feed_forward(x, &self.linear1, &self.linear2, &self.dropout)
        })
    }
}

impl TransformerDecoderLayer {
    fn new(config: &TransformerConfig, device: &Device) -> Self {
        let &TransformerConfig { hidden_dim: d, nheads, dec_feedforward: f, dropout, .. } = config;
        Self {
            self_attn: MultiheadAttention::new(d, nheads, dropout, device),
            multihead_attn: MultiheadAttention::new(d, nheads, dropout, device),
            linear1: Linear::new(d, f, Init::Xavier, device),
            linear2: Linear::new(f, d, Init::Xavier, device),
            norm1: layer_norm(d, device),
            norm2: layer_norm(d, device),
            norm3: layer_norm(d, device),
            dropout: DropoutConfig::new(dropout).init(),
            pre_norm: config.pre_norm,
        }
    }

    /// # Shapes
    /// As [`TransformerDecoder::forward`], one layer: `[B, Q, D]`.
    #[must_use]
    pub fn forward(
        &self,
        x: Tensor<3>,
        memory: &Memory,
        query_pos: Option<&Tensor<3>>,
    ) -> Tensor<3> {
        let x = residual(x, &self.norm1, self.pre_norm, |x| {
            let qk = with_position(x.clone(), query_pos);
            self.dropout.forward(self.self_attn.forward(qk.clone(), qk, x, None))
        });
        let x = residual(x, &self.norm2, self.pre_norm, |x| {
            let attended = self.multihead_attn.forward(
                with_position(x, query_pos),
                with_position(memory.tokens.clone(), memory.position.as_ref()),
                memory.tokens.clone(),
                memory.mask.as_ref(),
            );
            self.dropout.forward(attended)
        });
        residual(x, &self.norm3, self.pre_norm, |x| {
            feed_forward(x, &self.linear1, &self.linear2, &self.dropout)
        })
    }
}

/// `norm(x + f(x))`, or `x + f(norm(x))` with pre-norm.
fn residual(
    x: Tensor<3>,
    norm: &LayerNorm,
    pre_norm: bool,
    f: impl FnOnce(Tensor<3>) -> Tensor<3>,
) -> Tensor<3> {
    if pre_norm {
        let y = f(normalize(norm, x.clone()));
        x + y
    } else {
        let y = f(x.clone());
        normalize(norm, x + y)
    }
}

fn with_position(x: Tensor<3>, position: Option<&Tensor<3>>) -> Tensor<3> {
    match position {
        Some(position) => x + position.clone(),
        None => x,
    }
}
