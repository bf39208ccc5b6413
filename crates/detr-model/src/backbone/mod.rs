//! Convolutional backbones.

mod frozen_batch_norm;
mod resnet;

use burn::tensor::Tensor;

use crate::nested::{Extent, Padding};
pub use frozen_batch_norm::FrozenBatchNorm;
pub use resnet::{Backbone, ResNet, ResidualBlock};

/// What a backbone hands to the transformer.
#[derive(Clone, Debug)]
pub struct Features {
    /// From fine to coarse: C5 alone, or the last stages up to it.
    pub maps: Vec<FeatureMap>,
    /// The padding of the images.
    pub padding: Padding,
}

/// A stage's output.
#[derive(Clone, Debug)]
pub struct FeatureMap {
    /// `[B, C, h, w]`.
    pub map: Tensor<4>,
    /// The images' part of it, under [`Padding::Sizes`].
    pub extent: Option<Extent>,
}

impl Features {
    /// The coarsest map, and the padding of the images.
    pub(crate) fn into_last(mut self) -> (FeatureMap, Padding) {
        let map = self.maps.pop().expect("a backbone puts out at least one map");
        (map, self.padding)
    }
}
