//! A batch of images of different sizes (`NestedTensor` of `util/misc.py`).

use burn::tensor::{Bool, Device, FloatDType, Int, Tensor, TensorData};

/// Images padded with zeros at right and bottom to a common size.
#[derive(Clone, Debug)]
pub struct NestedTensor {
    /// `[B, 3, H, W]`, normalised.
    pub pixels: Tensor<4>,
    /// `[B, H, W]`, true = padding; none if all images fill the batch.
    pub mask: Option<Tensor<3, Bool>>,
}

/// The padding of a feature map, from that of the images it was made of: true = padding.
///
/// # Shapes
/// - `mask` `[B, H, W]`
/// - output `[B, h, w]`
///
/// Cell i is padding if pixel `floor(i * H / h)` is, in f32 arithmetic: what
/// `F.interpolate(mask, mode="nearest")` does.
#[must_use]
pub fn resize_mask(mask: &Tensor<3, Bool>, [h, w]: [usize; 2]) -> Tensor<3, Bool> {
    let [_, height, width] = mask.dims();
    let device = mask.device();
    mask.clone()
        .float()
        .cast(FloatDType::F32)
        .select(1, nearest(height, h, &device))
        .select(2, nearest(width, w, &device))
        .greater_elem(0.5)
}

/// Source index of every cell under nearest resizing from `from` to `to` cells.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap
)] // image sides are far below 2^24
fn nearest(from: usize, to: usize, device: &Device) -> Tensor<1, Int> {
    let scale = from as f32 / to as f32;
    let indices: Vec<i32> =
        (0..to).map(|i| ((i as f32 * scale).floor() as usize).min(from - 1) as i32).collect();
    Tensor::from_data(TensorData::new(indices, [to]), device)
}
