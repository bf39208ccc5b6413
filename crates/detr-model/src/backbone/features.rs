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

impl FeatureMap {
    /// Returns the map of one image, `[1, C, h, w]`, without what lies outside a size in cells.
    pub(crate) fn cut(&self, image: usize, size: Option<[usize; 2]>) -> Tensor<4> {
        let map = self.map.clone().slice_dim(0, image..=image);
        match size {
            Some([h, w]) => map.slice_dim(2, 0..h).slice_dim(3, 0..w),
            None => map,
        }
    }
}

impl Features {
    /// Returns C5, and the padding of the images.
    pub(crate) fn into_c5(self) -> (FeatureMap, Padding) {
        let [.., c5] = self.maps;
        (c5, self.padding)
    }
}
