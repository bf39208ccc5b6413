//! A batch of images of different sizes (`NestedTensor` of `util/misc.py`).

use burn::tensor::{Bool, DType, Device, FloatDType, Int, Tensor, TensorData};

/// Images padded with zeros at right and bottom to a common size.
#[derive(Clone, Debug)]
pub struct NestedTensor {
    /// `[B, 3, H, W]`, normalised.
    pub pixels: Tensor<4>,
    /// The part of the batch that is padding.
    pub padding: Padding,
}

/// The ways to treat the padding of a batch.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one per batch
pub enum Padding {
    /// All images fill the batch.
    None,
    /// A mask `[B, H, W]`, true on padding, as in the reference and as the published models were
    /// trained. The backbone does not look at it, so what it makes of the zeros beside an image
    /// leaks in, and answers depend a little on how large the other images are.
    Mask(Tensor<3, Bool>),
    /// Exact: (height, width) of every image. Every answer is, up to rounding, that of the image
    /// alone, because nothing outside an image is ever read.
    Sizes(Vec<[usize; 2]>),
}

/// The part of a padded map that belongs to each image, under [`Padding::Sizes`].
#[derive(Clone, Debug)]
pub struct Extent {
    /// (height, width) in cells.
    sizes: Vec<[usize; 2]>,
    /// `[B, 1, h, w]`, true = not of the image.
    outside: Tensor<4, Bool>,
}

impl Padding {
    /// Returns the mask of the images, if that is how they are padded.
    #[must_use]
    pub const fn mask(&self) -> Option<&Tensor<3, Bool>> {
        match self {
            Self::Mask(mask) => Some(mask),
            Self::None | Self::Sizes(_) => None,
        }
    }

    /// Returns the images' part of the batch, under [`Padding::Sizes`].
    pub(crate) fn extent(&self, pixels: &Tensor<4>) -> Option<Extent> {
        match self {
            Self::Sizes(sizes) => Some(Extent::new(sizes.clone(), pixels)),
            Self::None | Self::Mask(_) => None,
        }
    }

    /// `[B, h, w]`, true = padding: that of a feature map, whose extent is given where there is one.
    pub(crate) fn of_map(
        &self,
        map: &Tensor<4>,
        extent: Option<&Extent>,
    ) -> Option<Tensor<3, Bool>> {
        let [_, _, h, w] = map.dims();
        match self {
            Self::None => None,
            Self::Mask(mask) => Some(resize_mask(mask, [h, w])),
            Self::Sizes(_) => extent.map(|extent| extent.outside.clone().squeeze_dim(1)),
        }
    }
}

impl Extent {
    fn new(sizes: Vec<[usize; 2]>, map: &Tensor<4>) -> Self {
        let [_, _, h, w] = map.dims();
        let mut outside = vec![true; sizes.len() * h * w];
        for (map, &[rows, columns]) in outside.chunks_exact_mut(h * w).zip(&sizes) {
            for row in map.chunks_exact_mut(w).take(rows) {
                row[..columns].fill(false);
            }
        }
        let data = TensorData::new(outside, [sizes.len(), 1, h, w]);
        Self { outside: Tensor::from_data(data, &map.device()), sizes }
    }

    /// Returns the height and width of an image's part, in cells.
    pub(crate) fn size(&self, image: usize) -> [usize; 2] {
        self.sizes[image]
    }

    /// Returns the extent after a layer of stride 2: half as many cells, rounded up, whatever the
    /// kernel.
    pub(crate) fn halved(&self, map: &Tensor<4>) -> Self {
        let half = |&[h, w]: &[usize; 2]| [h.div_ceil(2), w.div_ceil(2)];
        Self::new(self.sizes.iter().map(half).collect(), map)
    }

    /// Sets a map to zero outside the images, as a convolution would find it beside the image
    /// alone.
    pub(crate) fn zero_outside(&self, map: Tensor<4>) -> Tensor<4> {
        let shape = map.dims();
        map.mask_fill(self.outside.clone().expand(shape), 0.0)
    }

    /// Returns the cells of every image, `[B, 1, 1]`.
    #[allow(clippy::cast_precision_loss)] // cells of feature maps are countable in f32
    pub(crate) fn cells(&self) -> Tensor<3> {
        let cells: Vec<f32> = self.sizes.iter().map(|[h, w]| (h * w) as f32).collect();
        let data = TensorData::new(cells, [self.sizes.len(), 1, 1]);
        Tensor::from_data(data, (&self.outside.device(), DType::F32))
    }
}

/// [`Extent::zero_outside`] where there is an extent.
pub(crate) fn within(map: Tensor<4>, extent: Option<&Extent>) -> Tensor<4> {
    match extent {
        Some(extent) => extent.zero_outside(map),
        None => map,
    }
}

/// Resizes the padding of the images to a feature map made of them: true = padding.
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
