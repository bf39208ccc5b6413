//! The demonstration model of the DETR paper (Carion et al. 2020, appendix A.6), whose weights the
//! authors published too: torchvision's ResNet, `torch.nn.Transformer`, two learned position
//! tables and linear heads. It takes unpadded batches and has no auxiliary outputs.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, FloatDType, Tensor};

use super::super::detr::transformer::{Memory, Transformer, TransformerConfig};
use super::super::family::Network;
use super::config::DetrDemoConfig;
use crate::backbone::{Backbone, FeatureMap, Features};
use crate::nested::{NestedTensor, Padding};
use crate::nn::{Conv2d, ConvShape, Init, Linear, fan_in_uniform, table, to_tokens};
use crate::output::DetrOutput;
use crate::position::{LEARNED_CELLS, learned_grid};

/// The demonstration model.
#[derive(Module, Debug)]
pub struct DetrDemo {
    /// Backbone, without a prefix in checkpoints.
    pub backbone: Backbone,
    /// 1x1 convolution from C5 to the transformer's width.
    pub conv: Conv2d,
    /// Encoder and decoder of `torch.nn.Transformer`: positions enter once, at the bottom.
    pub transformer: Transformer,
    /// Class head, the last output being "no object".
    pub linear_class: Linear,
    /// Box head.
    pub linear_bbox: Linear,
    /// `[Q, D]`: the queries.
    pub query_pos: Param<Tensor<2>>,
    /// `[50, D/2]`.
    pub row_embed: Param<Tensor<2>>,
    /// `[50, D/2]`.
    pub col_embed: Param<Tensor<2>>,
}

impl DetrDemo {
    /// Makes a model with PyTorch's initialisation; parameters are made when first read.
    #[must_use]
    pub fn new(config: &DetrDemoConfig, device: &Device) -> Self {
        let d = config.hidden_dim;
        let uniform = Initializer::Uniform { min: 0.0, max: 1.0 };
        let transformer = TransformerConfig {
            hidden_dim: d,
            nheads: config.nheads,
            enc_layers: config.enc_layers,
            dec_layers: config.dec_layers,
            enc_feedforward: config.dim_feedforward,
            dec_feedforward: config.dim_feedforward,
            dropout: config.dropout,
            pre_norm: false,
            encoder_norm: true,
        };
        Self {
            backbone: config.backbone.init(device),
            conv: Conv2d::new(
                ConvShape::one_by_one([config.backbone.out_channels(3), d]),
                &fan_in_uniform(),
                Some(&fan_in_uniform()),
                device,
            ),
            transformer: Transformer::new(&transformer, device),
            linear_class: Linear::new(d, config.num_classes + 1, Init::Default, device),
            linear_bbox: Linear::new(d, 4, Init::Default, device),
            query_pos: table(config.num_queries, d, &uniform, device),
            row_embed: table(LEARNED_CELLS, d / 2, &uniform, device),
            col_embed: table(LEARNED_CELLS, d / 2, &uniform, device),
        }
    }

    /// Runs the backbone. This model cannot tell padding, so images of a batch must be of one size.
    ///
    /// # Shapes
    /// - input `[B, 3, H, W]`, H and W at most 1600
    #[must_use]
    #[allow(clippy::needless_pass_by_value)] // as the other models have it
    pub fn extract(&self, input: NestedTensor) -> Features {
        Features { maps: self.backbone.forward(&input), padding: Padding::None }
    }

    /// Runs everything after the backbone.
    ///
    /// # Shapes
    /// - input: maps of which C5 is at most 50 cells high and wide
    /// - outputs `[1, B, Q, C + 1]` and `[1, B, Q, 4]`
    #[must_use]
    pub fn transform(&self, features: Features) -> DetrOutput {
        let (FeatureMap { map, .. }, _) = features.into_c5();
        let [_, _, h, w] = map.dims();
        let position = learned_grid(self.col_embed.val(), self.row_embed.val(), [h, w]);
        let projected = self.conv.forward(map);
        let [b, d, ..] = projected.dims();
        let tokens = to_tokens(projected) * 0.1 + to_tokens(position);
        let (_, tokens) = self.transformer.encoder.forward(tokens, None, None);
        let memory = Memory { tokens, mask: None, position: None };
        let q = self.query_pos.dims()[0];
        let queries = self.query_pos.val().unsqueeze::<3>().expand([b, q, d]);
        let layers = self.transformer.decoder.forward(queries, &memory, None);
        let last = layers.dims()[0] - 1;
        let hidden = layers.slice_dim(0, last..=last);
        DetrOutput {
            pred_logits: self.linear_class.forward(hidden.clone()),
            pred_boxes: sigmoid(self.linear_bbox.forward(hidden).cast(FloatDType::F32)),
            enc_outputs: None,
            mask_features: None,
        }
    }

    /// Returns the same function for inference, with batch norms folded into the convolutions before them.
    #[must_use]
    pub fn fold(self) -> Self {
        Self { backbone: self.backbone.fold(), ..self }
    }
}

impl Network for DetrDemo {
    fn extract(&self, input: NestedTensor) -> Features {
        Self::extract(self, input)
    }

    fn predict(&self, features: Features) -> DetrOutput {
        self.transform(features)
    }
}
