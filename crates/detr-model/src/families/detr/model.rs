//! DETR: end-to-end object detection with transformers (Carion et al. 2020,
//! <https://arxiv.org/abs/2005.12872>), `models/detr.py` of the reference. Field names are those
//! of the official checkpoints.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Bool, Device, FloatDType, Tensor};

use super::super::family::Network;
use super::config::DetrConfig;
use super::mask_head::{MHAttentionMap, MaskHead, MaskHeadSmallConv, MaskTrace};
use super::transformer::{Memory, Transformer, TransformerConfig};
use crate::backbone::{BackboneBase, FeatureMap, Features};
use crate::encoding::Encoding;
use crate::nested::{Extent, NestedTensor};
use crate::nn::{Conv2d, ConvShape, Init, Linear, Mlp, fan_in_uniform, to_tokens};
use crate::output::{DetrOutput, MaskFeatures};
use crate::position::PositionEmbedding;

/// The DETR model.
#[derive(Module, Debug)]
pub struct Detr {
    /// Backbone and position encoding, `backbone.0` and `backbone.1` in checkpoints.
    pub backbone: (BackboneBase, PositionEmbedding),
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
    /// Attention of queries over the image; models with masks only.
    pub bbox_attention: Option<MHAttentionMap>,
    /// Convolutions from that attention to masks; models with masks only.
    pub mask_head: Option<MaskHeadSmallConv>,
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

/// The padding of the tokens, `[B, S]`, true = padding; `None` if the images fill the map.
struct TokenMask(Option<Tensor<2, Bool>>);

/// The encoder's input before the map becomes tokens.
struct ProjectedMap {
    /// `[B, D, h, w]`.
    map: Tensor<4>,
    /// `[B or 1, D, h, w]`.
    position: Tensor<4>,
    /// `[B, h, w]`.
    mask: Option<Tensor<3, Bool>>,
    /// The images' part of the map.
    extent: Option<Extent>,
    /// C4, C3 and C2, for the mask head.
    pyramid: [FeatureMap; 3],
}

impl Detr {
    /// Makes a model with the reference's initialisation; parameters are made when first read, so a
    /// checkpoint loaded right away costs no random numbers.
    #[must_use]
    pub fn new(config: &DetrConfig, device: &Device) -> Self {
        let d = config.hidden_dim;
        let transformer = TransformerConfig {
            hidden_dim: d,
            nheads: config.nheads,
            enc_layers: config.enc_layers,
            dec_layers: config.dec_layers,
            enc_feedforward: config.dim_feedforward,
            dec_feedforward: config.dec_dim_feedforward.unwrap_or(config.dim_feedforward),
            dropout: config.dropout,
            pre_norm: config.pre_norm,
            encoder_norm: config.pre_norm,
        };
        Self {
            backbone: (
                BackboneBase { body: config.backbone.init(device) },
                PositionEmbedding::new(config.position_embedding, d, device),
            ),
            input_proj: Conv2d::new(
                ConvShape::one_by_one([config.backbone.out_channels(3), d]),
                &fan_in_uniform(),
                Some(&fan_in_uniform()),
                device,
            ),
            transformer: Transformer::new(&transformer, device),
            query_embed: EmbeddingConfig::new(config.num_queries, d).init(device),
            class_embed: Linear::new(d, config.num_classes + 1, Init::Default, device),
            bbox_embed: Mlp::new(d, d, 4, 3, device),
            bbox_attention: config.masks.then(|| MHAttentionMap::new(config, device)),
            mask_head: config.masks.then(|| MaskHeadSmallConv::new(config, device)),
        }
    }

    /// Turns images into predictions, without any read-back to the host.
    ///
    /// # Shapes
    /// - input `[B, 3, H, W]` with its mask
    /// - outputs `[layers, B, Q, C + 1]` and `[layers, B, Q, 4]`
    #[must_use]
    pub fn forward(&self, input: NestedTensor) -> DetrOutput {
        self.transform(self.extract(input)).output
    }

    /// Runs the backbone.
    #[must_use]
    pub fn extract(&self, input: NestedTensor) -> Features {
        Features { maps: self.backbone.0.body.forward(&input), padding: input.padding }
    }

    /// Runs everything after the backbone.
    #[must_use]
    pub fn transform(&self, features: Features) -> DetrTrace {
        let ProjectedMap { map, position, mask, extent, pyramid } = self.project(features);
        let encoding = encoding(&map, &position, mask.as_ref());
        let TokenMask(token_mask) = encoding.context();
        let (encoder_layers, tokens) = self.transformer.encoder.forward(
            encoding.tokens(),
            token_mask.as_ref(),
            Some(&encoding.position()),
        );
        let (hidden, mut output) = self.decode_memory(tokens.clone(), &encoding);
        output.mask_features = self.head().map(|_| MaskFeatures {
            hidden: last_layer(&hidden),
            earlier_layers: None,
            memory: tokens.clone(),
            projected: FeatureMap { map: map.clone(), extent },
            pyramid,
            mask: mask.clone(),
        });
        DetrTrace { mask, position, projected: map, encoder_layers, memory: tokens, hidden, output }
    }

    /// Projects C5 to the transformer's width.
    fn project(&self, features: Features) -> ProjectedMap {
        let Features { maps: [c2, c3, c4, FeatureMap { map, extent }], padding } = features;
        let [_, _, h, w] = map.dims();
        let mask = padding.of_map(&map, extent.as_ref());
        let position = self.backbone.1.forward(mask.as_ref(), [h, w], &map.device());
        let map = self.input_proj.forward(map);
        ProjectedMap { map, position, mask, extent, pyramid: [c4, c3, c2] }
    }

    /// Runs the decoder and the heads on the encoder's output, `[B, S, D]`; returns the decoder's normalised
    /// outputs, too.
    fn decode_memory(&self, tokens: Tensor<3>, encoding: &Encoding) -> (Tensor<4>, DetrOutput) {
        let TokenMask(mask) = encoding.context();
        let query_pos = self.query_embed.weight.val().unsqueeze::<3>();
        let [_, q, d] = query_pos.dims();
        let b = tokens.dims()[0];
        let target = Tensor::zeros([b, q, d], (&tokens.device(), tokens.dtype()));
        let memory = Memory { tokens, mask: mask.clone(), position: Some(encoding.position()) };
        let hidden = self.transformer.decoder.forward(target, &memory, Some(&query_pos));
        let output = DetrOutput {
            pred_logits: self.class_embed.forward(hidden.clone()),
            // In half precision a coordinate would be off by a third of a pixel.
            pred_boxes: sigmoid(self.bbox_embed.forward(hidden.clone()).cast(FloatDType::F32)),
            enc_outputs: None,
            mask_features: None,
        };
        (hidden, output)
    }

    /// Returns the mask logits of some queries of an image; `None` without a mask head or queries. Under exact padding
    /// the mask is that of the image alone, otherwise that of the padded batch.
    ///
    /// # Shapes
    /// - output `[K, H/4, W/4]`, rounded up
    #[must_use]
    pub fn masks(
        &self,
        features: &MaskFeatures,
        image: usize,
        queries: &[usize],
    ) -> Option<Tensor<3>> {
        self.head()?.masks(features, image, queries)
    }

    /// Returns the masks of some queries with all intermediate results; `None` without a mask head.
    #[must_use]
    pub fn trace_masks(
        &self,
        features: &MaskFeatures,
        image: usize,
        queries: &[usize],
    ) -> Option<MaskTrace> {
        Some(self.head()?.trace(features, image, queries))
    }

    fn head(&self) -> Option<MaskHead<'_>> {
        let (attention, convolutions) =
            self.bbox_attention.as_ref().zip(self.mask_head.as_ref())?;
        Some(MaskHead { attention, convolutions })
    }

    /// Returns the same function for inference, with batch norms folded into the convolutions before them.
    #[must_use]
    pub fn fold(self) -> Self {
        let (backbone, position) = self.backbone;
        Self { backbone: (BackboneBase { body: backbone.body.fold() }, position), ..self }
    }
}

impl Network for Detr {
    fn extract(&self, input: NestedTensor) -> Features {
        Self::extract(self, input)
    }

    fn predict(&self, features: Features) -> DetrOutput {
        self.transform(features).output
    }

    fn tokenize(&self, features: Features) -> Option<Encoding> {
        if self.head().is_some() {
            // The backbone's maps would have to come along, with their gradients.
            return None;
        }
        let ProjectedMap { map, position, mask, .. } = self.project(features);
        Some(encoding(&map, &position, mask.as_ref()))
    }

    fn encoder_layers(&self) -> usize {
        self.transformer.encoder.layers.len()
    }

    fn encoder_drops(&self) -> bool {
        self.transformer.encoder.layers.iter().any(|layer| layer.dropout.prob > 0.0)
    }

    fn encode(&self, layer: usize, encoding: &Encoding) -> Tensor<3> {
        let TokenMask(mask) = encoding.context();
        let layer = &self.transformer.encoder.layers[layer];
        layer.forward(encoding.tokens(), mask.as_ref(), Some(&encoding.position()))
    }

    fn masks(&self, features: &MaskFeatures, image: usize, queries: &[usize]) -> Option<Tensor<3>> {
        Self::masks(self, features, image, queries)
    }

    fn batch_masks(&self, features: &MaskFeatures) -> Option<Tensor<4>> {
        Some(self.head()?.batch_masks(features))
    }

    fn decode(&self, encoding: Encoding) -> Option<DetrOutput> {
        let memory = self.transformer.encoder.finish(encoding.tokens());
        Some(self.decode_memory(memory, &encoding).1)
    }
}

/// Returns the last layer of `[layers, B, Q, D]`.
fn last_layer(hidden: &Tensor<4>) -> Tensor<3> {
    let layers = hidden.dims()[0];
    hidden.clone().slice_dim(0, layers - 1..layers).squeeze_dim::<3>(0)
}

/// Turns a projected map `[B, D, h, w]`, its positions and its padding into the encoder's input.
fn encoding(map: &Tensor<4>, position: &Tensor<4>, mask: Option<&Tensor<3, Bool>>) -> Encoding {
    let mask = mask.map(|mask| mask.clone().flatten::<2>(1, 2));
    Encoding::new(
        to_tokens(map.clone()),
        to_tokens(position.clone()).cast(map.dtype()),
        TokenMask(mask),
    )
}
