//! From the host to a device.

use burn::tensor::{DType, Device, Tensor, TensorData};
use detr_data::HostBatch;
use detr_model::NestedTensor;
use detr_model::nested::Padding;
use detr_types::ImageSize;

/// The way in which a model is told about the padding of a batch; see [`Padding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaddingRule {
    /// By a mask, as the reference trains: what the backbone makes of the zeros beside an image leaks in.
    Mask,
    /// By the size of every image: nothing outside an image is looked at.
    Exact,
}

/// Puts a batch on a device.
#[must_use]
pub fn upload(batch: HostBatch, rule: PaddingRule, device: &Device) -> NestedTensor {
    let (b, h, w) = (batch.len(), batch.size.height as usize, batch.size.width as usize);
    let size = |size: &ImageSize| [size.height as usize, size.width as usize];
    let padding = match (batch.mask, rule) {
        (None, _) => Padding::None,
        (Some(mask), PaddingRule::Mask) => {
            Padding::Mask(Tensor::from_data(TensorData::new(mask, [b, h, w]), device))
        }
        (Some(_), PaddingRule::Exact) => {
            Padding::Sizes(batch.image_sizes.iter().map(size).collect())
        }
    };
    let pixels = TensorData::new(batch.pixels, [b, 3, h, w]);
    NestedTensor { pixels: Tensor::from_data(pixels, (device, DType::F32)), padding }
}
