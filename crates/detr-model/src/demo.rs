//! The demonstration model of the DETR paper (Carion et al. 2020, appendix A.6), whose weights the
//! authors published too: torchvision's ResNet, `torch.nn.Transformer`, two learned position
//! tables and linear heads. It takes unpadded batches and has no auxiliary outputs.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, Linear};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, FloatDType, Tensor};

use crate::backbone::{FeatureMap, Features, ResNet};
use crate::config::DetrDemoConfig;
use crate::detr::to_tokens;
use crate::nested::{NestedTensor, Padding};
use crate::nn::{Init, convolve, fan_in_uniform, linear, table};
use crate::output::DetrOutput;
use crate::position::{LEARNED_CELLS, learned_grid};
use crate::transformer::{Memory, Transformer, TransformerConfig};

/// The demonstration model.
#[derive(Module, Debug)]
pub struct DetrDemo {
    /// Backbone, without a prefix in checkpoints.
    pub backbone: ResNet,
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

impl DetrDemoConfig {
    /// A model with PyTorch's initialisation; parameters are made when first read.
    #[must_use]
    pub fn init(&self, device: &Device) -> DetrDemo {
        let d = self.hidden_dim;
        let uniform = Initializer::Uniform { min: 0.0, max: 1.0 };
        let transformer = TransformerConfig {
            hidden_dim: d,
            nheads: self.nheads,
            enc_layers: self.enc_layers,
            dec_layers: self.dec_layers,
            enc_feedforward: self.dim_feedforward,
            dec_feedforward: self.dim_feedforward,
            dropout: self.dropout,
            pre_norm: false,
            encoder_norm: true,
        };
        DetrDemo {
            backbone: ResNet::new(&self.backbone, device),
            conv: Conv2dConfig::new([self.backbone.out_channels(3), d], [1, 1])
                .with_initializer(fan_in_uniform())
                .init(device),
            transformer: Transformer::new(&transformer, device),
            linear_class: linear(d, self.num_classes + 1, Init::Default, device),
            linear_bbox: linear(d, 4, Init::Default, device),
            query_pos: table(self.num_queries, d, &uniform, device),
            row_embed: table(LEARNED_CELLS, d / 2, &uniform, device),
            col_embed: table(LEARNED_CELLS, d / 2, &uniform, device),
        }
    }
}

impl DetrDemo {
    /// The backbone. This model cannot tell padding, so images of a batch must be of one size.
    ///
    /// # Shapes
    /// - input `[B, 3, H, W]`, H and W at most 1600
    /// - output: C5 alone
    #[must_use]
    #[allow(clippy::needless_pass_by_value)] // as the other models have it
    pub fn extract(&self, input: NestedTensor) -> Features {
        let [.., c5] = self.backbone.forward(&input);
        Features { maps: vec![c5], padding: Padding::None }
    }

    /// Everything after the backbone.
    ///
    /// # Shapes
    /// - input: C5, at most 50 cells high and wide
    /// - outputs `[1, B, Q, C + 1]` and `[1, B, Q, 4]`
    #[must_use]
    pub fn transform(&self, features: Features) -> DetrOutput {
        let (FeatureMap { map, .. }, _) = features.into_last();
        let [_, _, h, w] = map.dims();
        let position = learned_grid(self.col_embed.val(), self.row_embed.val(), [h, w]);
        let projected = convolve(&self.conv, map);
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
        }
    }

    /// For inference: batch norms folded into the convolutions before them.
    #[must_use]
    pub fn fold(self) -> Self {
        Self { backbone: self.backbone.fold(), ..self }
    }
}
