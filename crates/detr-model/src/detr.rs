//! DETR: end-to-end object detection with transformers (Carion et al. 2020,
//! <https://arxiv.org/abs/2005.12872>), `models/detr.py` of the reference. Field names are those
//! of the official checkpoints.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Embedding, EmbeddingConfig, Linear};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Bool, Device, FloatDType, Tensor};

use crate::backbone::{Backbone, FeatureMap, Features, ResNet};
use crate::config::DetrConfig;
use crate::nested::NestedTensor;
use crate::nn::{Init, Mlp, convolve, fan_in_uniform, linear};
use crate::output::DetrOutput;
use crate::position::PositionEmbedding;
use crate::transformer::{Memory, Transformer, TransformerConfig};

/// The DETR model.
#[derive(Module, Debug)]
pub struct Detr {
    /// Backbone and position encoding, `backbone.0` and `backbone.1` in checkpoints.
    pub backbone: (Backbone, PositionEmbedding),
    /// 1x1 convolution from C5 to the transformer's width.
    pub input_proj: Conv2d,
    /// Encoder and decoder.
    pub transformer: Transformer,
    /// `[Q, D]`: positions of the queries.
    pub query_embed: Embedding,
    /// Class head, the last output being "no object".
    pub class_embed: Linear,
    /// Box head.
    pub bbox_embed: Mlp,
}

/// Intermediate results of the transformer, for inspection and parity tests.
#[derive(Clone, Debug)]
pub struct DetrTrace {
    /// `[B, h, w]`: padding of C5.
    pub mask: Option<Tensor<3, Bool>>,
    /// `[B or 1, D, h, w]`: position encoding.
    pub position: Tensor<4>,
    /// `[B, D, h, w]`: projected features.
    pub projected: Tensor<4>,
    /// `[B, S, D]` per encoder layer.
    pub encoder_layers: Vec<Tensor<3>>,
    /// `[B, S, D]`: the encoder's output.
    pub memory: Tensor<3>,
    /// `[layers, B, Q, D]`: the decoder's normalised outputs.
    pub hidden: Tensor<4>,
    /// The predictions.
    pub output: DetrOutput,
}

/// What the encoder works on, and what else is known of the images.
#[derive(Clone, Debug)]
pub(crate) struct Encoding {
    /// `[B, S, D]`.
    pub(crate) tokens: Tensor<3>,
    /// `[B or 1, S, D]`.
    pub(crate) position: Tensor<3>,
    /// `[B, S]`, true = padding.
    pub(crate) mask: Option<Tensor<2, Bool>>,
}

/// The same before the map became tokens.
struct Projected {
    /// `[B, D, h, w]`.
    map: Tensor<4>,
    /// `[B or 1, D, h, w]`.
    position: Tensor<4>,
    /// `[B, h, w]`.
    mask: Option<Tensor<3, Bool>>,
}

impl DetrConfig {
    /// A model with the reference's initialisation; parameters are made when first read, so a
    /// checkpoint loaded right away costs no random numbers.
    #[must_use]
    pub fn init(&self, device: &Device) -> Detr {
        let d = self.hidden_dim;
        let transformer = TransformerConfig {
            hidden_dim: d,
            nheads: self.nheads,
            enc_layers: self.enc_layers,
            dec_layers: self.dec_layers,
            enc_feedforward: self.dim_feedforward,
            dec_feedforward: self.dec_dim_feedforward.unwrap_or(self.dim_feedforward),
            dropout: self.dropout,
            pre_norm: self.pre_norm,
            encoder_norm: self.pre_norm,
        };
        Detr {
            backbone: (
                Backbone { body: ResNet::new(&self.backbone, device) },
                PositionEmbedding::new(self.position_embedding, d, device),
            ),
            input_proj: Conv2dConfig::new([self.backbone.out_channels(3), d], [1, 1])
                .with_initializer(fan_in_uniform())
                .init(device),
            transformer: Transformer::new(&transformer, device),
            query_embed: EmbeddingConfig::new(self.num_queries, d).init(device),
            class_embed: linear(d, self.num_classes + 1, Init::Default, device),
            bbox_embed: Mlp::new(d, d, 4, 3, device),
        }
    }
}

impl Detr {
    /// Images to predictions, without any read-back to the host.
    ///
    /// # Shapes
    /// - input `[B, 3, H, W]` with its mask
    /// - outputs `[layers, B, Q, C + 1]` and `[layers, B, Q, 4]`
    #[must_use]
    pub fn forward(&self, input: NestedTensor) -> DetrOutput {
        self.transform(self.extract(input)).output
    }

    /// The backbone.
    ///
    /// # Shapes
    /// - input `[B, 3, H, W]`
    /// - output: C5 alone
    #[must_use]
    pub fn extract(&self, input: NestedTensor) -> Features {
        let [.., c5] = self.backbone.0.body.forward(&input);
        Features { maps: vec![c5], padding: input.padding }
    }

    /// Everything after the backbone.
    ///
    /// # Shapes
    /// - input: the C5 of [`Detr::extract`]
    #[must_use]
    pub fn transform(&self, features: Features) -> DetrTrace {
        let (input, encoding) = self.encoding(features);
        let Encoding { tokens, position, mask } = encoding;
        let (encoder_layers, tokens) =
            self.transformer.encoder.forward(tokens, mask.as_ref(), Some(&position));
        let (hidden, output) = self.decode(Encoding { tokens: tokens.clone(), position, mask });
        DetrTrace {
            mask: input.mask,
            position: input.position,
            projected: input.map,
            encoder_layers,
            memory: tokens,
            hidden,
            output,
        }
    }

    /// The first part of [`Detr::transform`]: what the encoder works on.
    pub(crate) fn tokenize(&self, features: Features) -> Encoding {
        self.encoding(features).1
    }

    /// The last part of [`Detr::transform`], of tokens that went through the encoder's layers.
    pub(crate) fn decode_tokens(&self, encoding: Encoding) -> DetrOutput {
        let tokens = self.transformer.encoder.finish(encoding.tokens);
        self.decode(Encoding { tokens, ..encoding }).1
    }

    fn encoding(&self, features: Features) -> (Projected, Encoding) {
        let (FeatureMap { map, extent }, padding) = features.into_last();
        let [_, _, h, w] = map.dims();
        let mask = padding.of_map(&map, extent.as_ref());
        let position = self.backbone.1.forward(mask.as_ref(), [h, w], &map.device());
        let projected = convolve(&self.input_proj, map);
        let encoding = Encoding {
            tokens: to_tokens(projected.clone()),
            position: to_tokens(position.clone()).cast(projected.dtype()),
            mask: mask.clone().map(|mask| mask.flatten::<2>(1, 2)),
        };
        (Projected { map: projected, position, mask }, encoding)
    }

    /// Decoder and heads.
    fn decode(&self, encoded: Encoding) -> (Tensor<4>, DetrOutput) {
        let Encoding { tokens, position, mask } = encoded;
        let query_pos = self.query_embed.weight.val().unsqueeze::<3>();
        let [_, q, d] = query_pos.dims();
        let b = tokens.dims()[0];
        let target = Tensor::zeros([b, q, d], (&tokens.device(), tokens.dtype()));
        let memory = Memory { tokens, mask, position: Some(position) };
        let hidden = self.transformer.decoder.forward(target, &memory, Some(&query_pos));
        let output = DetrOutput {
            pred_logits: self.class_embed.forward(hidden.clone()),
            // In half precision a coordinate would be off by a third of a pixel.
            pred_boxes: sigmoid(self.bbox_embed.forward(hidden.clone()).cast(FloatDType::F32)),
            enc_outputs: None,
        };
        (hidden, output)
    }

    /// For inference: batch norms folded into the convolutions before them.
    #[must_use]
    pub fn fold(self) -> Self {
        let (backbone, position) = self.backbone;
        Self { backbone: (Backbone { body: backbone.body.fold() }, position), ..self }
    }
}

/// `[B, D, h, w] -> [B, h*w, D]`.
pub(crate) fn to_tokens(map: Tensor<4>) -> Tensor<3> {
    map.flatten::<3>(2, 3).swap_dims(1, 2)
}
