//! The output of a backbone.

use burn::tensor::Tensor;

use crate::nested::{Extent, Padding};

/// The feature maps of a batch, and its padding.
#[derive(Clone, Debug)]
pub struct Features {
    /// C2 to C5.
    pub maps: [FeatureMap; 4],
    /// The padding of the images.
    pub padding: Padding,
}

/// The output of a stage.
#[derive(Clone, Debug)]
pub struct FeatureMap {
    /// `[B, C, h, w]`.
    pub map: Tensor<4>,
    /// The images' part of it, under [`Padding::Sizes`].
    pub extent: Option<Extent>,
}

impl Features {
    /// Returns C5, and the padding of the images.
    pub(crate) fn into_c5(self) -> (FeatureMap, Padding) {
        let [.., c5] = self.maps;
        (c5, self.padding)
    }
}
