//! Convolutional backbones.

mod frozen_batch_norm;
mod resnet;

use burn::tensor::{Bool, Tensor};

pub use frozen_batch_norm::FrozenBatchNorm;
pub use resnet::{Backbone, ResNet, ResidualBlock};

/// What a backbone hands to the transformer.
#[derive(Clone, Debug)]
pub struct Features {
    /// `[B, C, h, w]` each, from fine to coarse: C5 alone, or the last stages up to it.
    pub maps: Vec<Tensor<4>>,
    /// `[B, H, W]`, the padding of the images, true = padding.
    pub mask: Option<Tensor<3, Bool>>,
}

impl Features {
    /// The coarsest map, and the padding of the images.
    pub(crate) fn into_last(mut self) -> (Tensor<4>, Option<Tensor<3, Bool>>) {
        let map = self.maps.pop().expect("a backbone puts out at least one map");
        (map, self.mask)
    }
}
