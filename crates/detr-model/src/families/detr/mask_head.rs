//! DETR's mask head (`models/segmentation.py` of the reference; section 5 of the paper): attention of a query over
//! the image, refined to a quarter of the image's resolution by convolutions that look at the backbone's maps. Field
//! names are those of the official checkpoints.

use burn::module::Module;
use burn::nn::{GroupNorm, GroupNormConfig, Initializer};
use burn::tensor::activation::relu;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::config::DetrConfig;
use crate::backbone::FeatureMap;
use crate::nn::{
    Conv2d, ConvShape, Init, Linear, group_norm, repeat_cells, softmax_f32, to_tokens,
};
use crate::output::MaskFeatures;

/// Groups of every normalisation; fewer where there are fewer channels.
const GROUPS: usize = 8;
/// Largest map held at once, in elements: queries are taken in blocks below it, which bounds memory and changes no
/// result.
const MAX_ELEMENTS: usize = 16 << 20;

/// The attention of queries over the image, one map for each head.
#[derive(Module, Debug)]
pub struct MHAttentionMap {
    /// Projection of the queries.
    pub q_linear: Linear,
    /// Projection of the encoder's output.
    pub k_linear: Linear,
    nheads: usize,
}

/// The convolutions that turn attention into a mask, `MaskHeadSmallConv` of the reference.
#[derive(Module, Debug)]
#[allow(missing_docs)] // the names of the reference
pub struct MaskHeadSmallConv {
    pub lay1: Conv2d,
    pub gn1: GroupNorm,
    pub lay2: Conv2d,
    pub gn2: GroupNorm,
    pub lay3: Conv2d,
    pub gn3: GroupNorm,
    pub lay4: Conv2d,
    pub gn4: GroupNorm,
    pub lay5: Conv2d,
    pub gn5: GroupNorm,
    pub out_lay: Conv2d,
    pub adapter1: Conv2d,
    pub adapter2: Conv2d,
    pub adapter3: Conv2d,
}

/// Intermediate results of a mask head, for parity tests.
#[derive(Clone, Debug)]
pub struct MaskTrace {
    /// `[K, M, h, w]`: attention over C5.
    pub attention: Tensor<4>,
    /// Outputs of the five normalisations, `[K, _, h, w]` to `[K, _, H/4, W/4]`.
    pub norms: [Tensor<4>; 5],
    /// `[K, H/4, W/4]`: logits.
    pub masks: Tensor<3>,
}

/// The maps that the convolutions look at, of one image or of all images of a batch.
struct HeadMaps {
    /// `[1 or B, D, h, w]`: projected C5.
    projected: Tensor<4>,
    /// C4, C3 and C2 with the channels of the head, `[1 or B, _, h, w]`.
    pyramid: [Tensor<4>; 3],
}

/// The features of one image in the mask head, the same for all of its queries.
struct ImageContext {
    maps: HeadMaps,
    /// `[M, D/M, h * w]`: keys of the attention.
    keys: Tensor<3>,
    /// `[h * w]`, true = padding.
    mask: Option<Tensor<1, Bool>>,
}

impl DetrConfig {
    /// Channels after the five layers of the mask head.
    pub(super) const fn mask_channels(&self) -> [usize; 5] {
        let d = self.hidden_dim;
        [d + self.nheads, d / 2, d / 4, d / 8, d / 16]
    }
}

/// Returns whether this number of channels can be normalised in groups.
pub(super) const fn groupable(channels: usize) -> bool {
    channels > 0 && channels.is_multiple_of(groups(channels))
}

const fn groups(channels: usize) -> usize {
    if channels < GROUPS { channels } else { GROUPS }
}

impl MHAttentionMap {
    pub(super) fn new(config: &DetrConfig, device: &Device) -> Self {
        let d = config.hidden_dim;
        Self {
            q_linear: Linear::new(d, d, Init::XavierZeroBias, device),
            k_linear: Linear::new(d, d, Init::XavierZeroBias, device),
            nheads: config.nheads,
        }
    }

    /// Projects the encoder's output to keys.
    ///
    /// # Shapes
    /// - `memory` `[1, S, D]`
    /// - output `[M, D/M, S]`
    fn keys(&self, memory: Tensor<3>) -> Tensor<3> {
        let [_, s, d] = memory.dims();
        let keys = self.k_linear.forward(memory).reshape([s, self.nheads, d / self.nheads]);
        keys.permute([1, 2, 0])
    }

    /// Returns the attention of every query: a softmax over the cells of all heads together.
    ///
    /// # Shapes
    /// - `queries` `[K, D]`, `keys` `[M, D/M, S]`, `mask` `[S]`, true = padding
    /// - output `[K, M, S]`
    fn forward(
        &self,
        queries: Tensor<2>,
        keys: &Tensor<3>,
        mask: Option<&Tensor<1, Bool>>,
    ) -> Tensor<3> {
        let [k, d] = queries.dims();
        let [m, c, s] = keys.dims();
        #[allow(clippy::cast_precision_loss)] // head widths are small
        let scale = 1.0 / ((d / m) as f64).sqrt();
        let q = (self.q_linear.forward(queries) * scale).reshape([k, m, c]).swap_dims(0, 1);
        let mut scores = q.matmul(keys.clone()).swap_dims(0, 1);
        if let Some(mask) = mask {
            let mask = mask.clone().reshape([1, 1, s]).expand([k, m, s]);
            scores = scores.mask_fill(mask, f32::NEG_INFINITY);
        }
        softmax_f32(scores.reshape([k, m * s])).reshape([k, m, s])
    }
}

impl MaskHeadSmallConv {
    pub(super) fn new(config: &DetrConfig, device: &Device) -> Self {
        let [c1, c2, c3, c4, c5] = config.mask_channels();
        // `kaiming_uniform_(a=1)`.
        let weight = Initializer::KaimingUniform { gain: 1.0, fan_out_only: false };
        let conv = |channels, kernel| {
            let shape = ConvShape { channels, kernel, stride: 1, padding: kernel / 2, dilation: 1 };
            Conv2d::new(shape, &weight, Some(&Initializer::Zeros), device)
        };
        let norm = |channels| GroupNormConfig::new(groups(channels), channels).init(device);
        let adapter = |stage, to| conv([config.backbone.out_channels(stage), to], 1);
        Self {
            lay1: conv([c1, c1], 3),
            gn1: norm(c1),
            lay2: conv([c1, c2], 3),
            gn2: norm(c2),
            lay3: conv([c2, c3], 3),
            gn3: norm(c3),
            lay4: conv([c3, c4], 3),
            gn4: norm(c4),
            lay5: conv([c4, c5], 3),
            gn5: norm(c5),
            out_lay: conv([c5, 1], 3),
            adapter1: adapter(2, c2),
            adapter2: adapter(1, c3),
            adapter3: adapter(0, c4),
        }
    }

    /// Turns attention into masks.
    ///
    /// # Shapes
    /// - `attention` `[K, M, h, w]`
    fn forward(&self, attention: Tensor<4>, maps: &HeadMaps) -> MaskTrace {
        let projected = of_queries(&maps.projected, attention.dims()[0]);
        let x = Tensor::cat(vec![projected, attention.clone()], 1);
        let [c4, c3, c2] = &maps.pyramid;
        let normed = |x: Tensor<4>, layer: &Conv2d, norm: &GroupNorm| {
            group_norm(norm, layer.forward(x), None)
        };
        let n1 = normed(x, &self.lay1, &self.gn1);
        let n2 = normed(relu(n1.clone()), &self.lay2, &self.gn2);
        let n3 = normed(finer(relu(n2.clone()), c4), &self.lay3, &self.gn3);
        let n4 = normed(finer(relu(n3.clone()), c3), &self.lay4, &self.gn4);
        let n5 = normed(finer(relu(n4.clone()), c2), &self.lay5, &self.gn5);
        let masks = self.out_lay.forward(relu(n5.clone())).squeeze_dim::<3>(1);
        MaskTrace { attention, norms: [n1, n2, n3, n4, n5], masks }
    }

    /// Returns the number of elements of the largest map of one query.
    fn elements(&self, maps: &HeadMaps) -> usize {
        let [.., h, w] = maps.projected.dims();
        let channels = self.lay1.weight.dims()[0];
        let pyramid = maps.pyramid.iter().map(|map| map.dims().iter().product());
        pyramid.fold(channels * h * w, usize::max).max(1)
    }
}

/// Both modules of the head, borrowed.
#[derive(Clone, Copy)]
pub(super) struct MaskHead<'a> {
    pub(super) attention: &'a MHAttentionMap,
    pub(super) convolutions: &'a MaskHeadSmallConv,
}

impl MaskHead<'_> {
    /// Returns the mask logits of some queries of an image, `[K, H/4, W/4]`; `None` without queries.
    pub(super) fn masks(
        &self,
        features: &MaskFeatures,
        image: usize,
        queries: &[usize],
    ) -> Option<Tensor<3>> {
        if queries.is_empty() {
            return None;
        }
        let context = self.context(features, image);
        let block = (MAX_ELEMENTS / self.convolutions.elements(&context.maps)).max(1);
        let blocks = queries
            .chunks(block)
            .map(|queries| self.trace_block(features, &context, image, queries).masks)
            .collect();
        Some(Tensor::cat(blocks, 0))
    }

    /// Returns the mask logits of all queries of all images, `[B, Q, H/4, W/4]`. The images fill the batch.
    pub(super) fn batch_masks(&self, features: &MaskFeatures) -> Tensor<4> {
        let [b, q, d] = features.hidden.dims();
        let map = &features.projected.map;
        let [_, _, h, w] = map.dims();
        let MHAttentionMap { q_linear, k_linear, nheads: m } = self.attention;
        let m = *m;
        #[allow(clippy::cast_precision_loss)] // head widths are small
        let scale = 1.0 / ((d / m) as f64).sqrt();
        let keys = k_linear.forward(features.memory.clone()).reshape([b, h * w, m, d / m]);
        let queries = q_linear.forward(features.hidden.clone()) * scale;
        let queries = queries.reshape([b, q, m, d / m]).swap_dims(1, 2);
        let scores = queries.matmul(keys.permute([0, 2, 3, 1])).swap_dims(1, 2);
        let attention = softmax_f32(scores.reshape([b, q, m * h * w])).reshape([b * q, m, h, w]);
        let head = self.convolutions;
        let [c4, c3, c2] = &features.pyramid;
        let maps = self.maps([map, &c4.map, &c3.map, &c2.map].map(Tensor::clone));
        let masks = head.forward(attention, &maps).masks;
        let [_, height, width] = masks.dims();
        masks.reshape([b, q, height, width])
    }

    /// Returns all intermediate results for some queries, at once.
    pub(super) fn trace(
        &self,
        features: &MaskFeatures,
        image: usize,
        queries: &[usize],
    ) -> MaskTrace {
        self.trace_block(features, &self.context(features, image), image, queries)
    }

    fn trace_block(
        &self,
        features: &MaskFeatures,
        context: &ImageContext,
        image: usize,
        queries: &[usize],
    ) -> MaskTrace {
        let indices: Vec<i32> =
            queries.iter().map(|&query| i32::try_from(query).unwrap_or(i32::MAX)).collect();
        let k = indices.len();
        let indices =
            Tensor::<1, Int>::from_data(TensorData::new(indices, [k]), &features.hidden.device());
        let hidden = features.hidden.clone().slice_dim(0, image..=image).squeeze_dim::<2>(0);
        let attention =
            self.attention.forward(hidden.select(0, indices), &context.keys, context.mask.as_ref());
        let [_, m, _] = attention.dims();
        let [.., h, w] = context.maps.projected.dims();
        self.convolutions.forward(attention.reshape([k, m, h, w]), &context.maps)
    }

    /// Cuts one image out of a batch and computes what all of its queries share.
    fn context(&self, features: &MaskFeatures, image: usize) -> ImageContext {
        let FeatureMap { map: projected, extent } = &features.projected;
        let [_, d, h, w] = projected.dims();
        let memory = features.memory.clone().slice_dim(0, image..=image);
        let memory = memory.swap_dims(1, 2).reshape([1, d, h, w]);
        // Under exact padding the image is looked at alone, and nothing of its part of the map is padding.
        let mask = match extent {
            Some(_) => None,
            None => features
                .mask
                .as_ref()
                .map(|mask| mask.clone().slice_dim(0, image..=image).reshape([h * w])),
        };
        let memory =
            FeatureMap { map: memory, extent: None }.cut(0, extent.as_ref().map(|e| e.size(image)));
        let of_image =
            |map: &FeatureMap| map.cut(image, map.extent.as_ref().map(|e| e.size(image)));
        let [c4, c3, c2] = &features.pyramid;
        ImageContext {
            maps: self.maps([&features.projected, c4, c3, c2].map(of_image)),
            keys: self.attention.keys(to_tokens(memory)),
            mask,
        }
    }

    /// Brings projected C5, C4, C3 and C2 to the channels of the head.
    fn maps(&self, [projected, c4, c3, c2]: [Tensor<4>; 4]) -> HeadMaps {
        let head = self.convolutions;
        let pyramid =
            [head.adapter1.forward(c4), head.adapter2.forward(c3), head.adapter3.forward(c2)];
        HeadMaps { projected, pyramid }
    }
}

/// Adds maps `[K, C, h, w]` to finer maps of their images, `[1 or B, C, H, W]`. The coarser cells are repeated, which is what
/// the reference's nearest interpolation does where sides are halved and rounded up.
fn finer(x: Tensor<4>, map: &Tensor<4>) -> Tensor<4> {
    let [k, ..] = x.dims();
    let [_, _, height, width] = map.dims();
    repeat_cells(x, [height, width]) + of_queries(map, k)
}

/// Repeats maps `[1 or B, C, h, w]` for the queries of their images, `[K, C, h, w]`.
fn of_queries(map: &Tensor<4>, k: usize) -> Tensor<4> {
    let [images, c, h, w] = map.dims();
    match images {
        1 => map.clone().expand([k, c, h, w]),
        _ => map
            .clone()
            .reshape([images, 1, c, h, w])
            .expand([images, k / images, c, h, w])
            .reshape([k, c, h, w]),
    }
}
