//! The mask head of Deformable DETR. The reference has none that runs, so this is the one of `MaskFormer` (Cheng et al.
//! 2021, <https://arxiv.org/abs/2107.06278>, section 3.2): a mask is the product of a query's vector with the vector of
//! every pixel of a map of stride 4. The map is the last stage of `Mask2Former`'s pixel decoder (Cheng et al. 2022,
//! <https://arxiv.org/abs/2112.01527>, section 3.2.1): C2 and the finest level of the encoder's output, added and
//! convolved. Coarser cells are repeated, not interpolated, so that padding has no influence.

use burn::module::Module;
use burn::nn::{GroupNorm, GroupNormConfig, Initializer};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::config::{DeformableDetrConfig, GROUPS};
use crate::backbone::FeatureMap;
use crate::nn::{Conv2d, ConvShape, Mlp, group_norm, repeat_cells};
use crate::output::MaskFeatures;

/// The vectors of pixels and of queries whose products are masks.
#[derive(Module, Debug)]
pub struct DotProductMaskHead {
    /// 1x1 convolution of C2 to the width of the transformer, and its normalisation.
    pub lateral: (Conv2d, GroupNorm),
    /// 3x3 convolution of C2 and the encoder's output together, and its normalisation.
    pub output: (Conv2d, GroupNorm),
    /// 1x1 convolution to the vectors of pixels.
    pub pixels: Conv2d,
    /// Three layers from a query to its vector.
    pub query: Mlp,
}

impl DotProductMaskHead {
    pub(super) fn new(config: &DeformableDetrConfig, device: &Device) -> Self {
        let d = config.hidden_dim;
        // `kaiming_uniform_(a=1)`.
        let weight = Initializer::KaimingUniform { gain: 1.0, fan_out_only: false };
        let normed = |channels, kernel| {
            let shape = ConvShape { channels, kernel, stride: 1, padding: kernel / 2, dilation: 1 };
            let conv = Conv2d::new(shape, &weight, None, device);
            (conv, GroupNormConfig::new(GROUPS, d).init(device))
        };
        Self {
            lateral: normed([config.backbone.out_channels(0), d], 1),
            output: normed([d, d], 3),
            pixels: Conv2d::new(
                ConvShape::one_by_one([d, d]),
                &weight,
                Some(&Initializer::Zeros),
                device,
            ),
            query: Mlp::new(d, d, d, 3, device),
        }
    }

    /// Returns the mask logits of the queries of an image in the last layers of the decoder, one list of queries for
    /// each. The map of pixels is computed once, and only where there is a query.
    ///
    /// # Shapes
    /// - output `[K, H/4, W/4]` for each layer, or `None` where its list is empty
    pub(super) fn masks(
        &self,
        features: &MaskFeatures,
        image: usize,
        queries: &[Vec<usize>],
    ) -> Vec<Option<Tensor<3>>> {
        if queries.iter().all(Vec::is_empty) {
            return vec![None; queries.len()];
        }
        let pixels = self.image_pixel_vectors(features, image);
        let [_, d, h, w] = pixels.dims();
        let pixels = pixels.reshape([d, h * w]);
        let hidden = features.earlier_layers.iter().flatten().chain([&features.hidden]);
        let skipped = features.layers().saturating_sub(queries.len());
        let of_layer = |(hidden, queries): (&Tensor<3>, &Vec<usize>)| {
            let k = queries.len();
            if k == 0 {
                return None;
            }
            let at = queries.iter().map(|&query| i32::try_from(query).unwrap_or(i32::MAX));
            let at = TensorData::new(at.collect::<Vec<i32>>(), [k]);
            let at = Tensor::<1, Int>::from_data(at, &hidden.device());
            let hidden = hidden.clone().slice_dim(0, image..=image).squeeze_dim::<2>(0);
            let vectors = self.query.forward(hidden.select(0, at));
            Some(vectors.matmul(pixels.clone()).reshape([k, h, w]))
        };
        hidden.skip(skipped).zip(queries).map(of_layer).collect()
    }

    /// Returns the mask logits of all queries of all images, which fill the batch.
    ///
    /// # Shapes
    /// - output `[B, Q, H/4, W/4]`
    pub(super) fn batch_masks(&self, features: &MaskFeatures) -> Tensor<4> {
        let [b, d, h, w] = features.projected.map.dims();
        let memory = features.memory.clone().swap_dims(1, 2).reshape([b, d, h, w]);
        let [.., c2] = &features.pyramid;
        let pixels = self.pixel_vectors(memory, c2.map.clone());
        let [.., rows, columns] = pixels.dims();
        let vectors = self.query.forward(features.hidden.clone());
        let [_, q, _] = vectors.dims();
        vectors.matmul(pixels.reshape([b, d, rows * columns])).reshape([b, q, rows, columns])
    }

    /// Returns the vectors of the pixels of an image, `[1, D, H/4, W/4]`.
    fn image_pixel_vectors(&self, features: &MaskFeatures, image: usize) -> Tensor<4> {
        let size = |map: &FeatureMap| map.extent.as_ref().map(|extent| extent.size(image));
        let [_, d, h, w] = features.projected.map.dims();
        let memory = features.memory.clone().slice_dim(0, image..=image);
        let memory = memory.swap_dims(1, 2).reshape([1, d, h, w]);
        let memory = FeatureMap { map: memory, extent: None }.cut(0, size(&features.projected));
        let [.., c2] = &features.pyramid;
        self.pixel_vectors(memory, c2.cut(image, size(c2)))
    }

    /// Returns the vectors of pixels of the encoder's output, `[B, D, h, w]`, and C2, `[B, C, H/4, W/4]`.
    fn pixel_vectors(&self, memory: Tensor<4>, c2: Tensor<4>) -> Tensor<4> {
        let (conv, norm) = &self.lateral;
        let lateral = group_norm(norm, conv.forward(c2), None);
        let [.., rows, columns] = lateral.dims();
        let (conv, norm) = &self.output;
        let sum = lateral + repeat_cells(memory, [rows, columns]);
        let sum = relu(group_norm(norm, conv.forward(sum), None));
        self.pixels.forward(sum)
    }
}
