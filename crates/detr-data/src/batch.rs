//! From a decoded image to model input: resize, normalise, and stack with padding.
//!
//! Mirrors the reference's validation transform (`datasets/coco.py`, `datasets/transforms.py`) and
//! `nested_tensor_from_tensor_list` in `util/misc.py`: the mask is true on padding, and sides are
//! padded to the largest of the batch, not to a multiple of 32. Detection stacks only images of one
//! size, so nothing is padded there. Random augmentation is not here.

use detr_types::{ImageSize, PreprocessSpec};
use image::RgbImage;

use crate::decode::ImageError;
use crate::resize::resize_bilinear;

/// One image as the model sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct PreparedImage {
    /// The normalised RGB pixels, `[3, H, W]` row-major.
    pub pixels: Vec<f32>,
    /// H and W of `pixels`.
    pub size: ImageSize,
    /// Size before resizing, to which boxes are scaled back.
    pub original_size: ImageSize,
}

/// Images stacked to one batch; smaller ones are padded.
#[derive(Clone, Debug, PartialEq)]
pub struct HostBatch {
    /// The normalised RGB pixels, `[B, 3, H, W]` row-major, zero on padding.
    pub pixels: Vec<f32>,
    /// `[B, H, W]` row-major, true on padding; none where every image has the batch's size.
    pub mask: Option<Vec<bool>>,
    /// Padded H and W.
    pub size: ImageSize,
    /// Size of each image after resizing, without padding.
    pub image_sizes: Vec<ImageSize>,
    /// Size of each image before resizing.
    pub original_sizes: Vec<ImageSize>,
}

/// Resizes and normalises one image.
///
/// # Errors
/// [`ImageError::NoPixels`] for an image with a side of zero.
pub fn prepare(image: &RgbImage, spec: &PreprocessSpec) -> Result<PreparedImage, ImageError> {
    let original_size = size_of(image);
    let resized = resize_to_spec(image, spec)?;
    Ok(PreparedImage { pixels: normalize(&resized, spec), size: size_of(&resized), original_size })
}

/// Resizes an image as the first half of [`prepare`].
///
/// # Errors
/// [`ImageError::NoPixels`] for an image with a side of zero.
pub fn resize_to_spec(image: &RgbImage, spec: &PreprocessSpec) -> Result<RgbImage, ImageError> {
    let size = size_of(image);
    if size.pixels() == 0 {
        return Err(ImageError::NoPixels { size });
    }
    Ok(resize_bilinear(image, spec.target_size(size)))
}

/// Normalises an image as the second half of [`prepare`]: `(v / 255 - mean) / std` in that order of
/// roundings, as `ToTensor` and `Normalize` of `torchvision`.
///
/// # Shapes
/// `[H, W, 3]` bytes to `[3, H, W]`.
#[must_use]
pub fn normalize(image: &RgbImage, spec: &PreprocessSpec) -> Vec<f32> {
    // A byte has only 256 values, so each channel is a table.
    let bytes = image.as_raw().as_chunks::<3>().0;
    let mut pixels = Vec::with_capacity(3 * bytes.len());
    for (channel, table) in tables(spec).iter().enumerate() {
        pixels.extend(bytes.iter().map(|pixel| table[usize::from(pixel[channel])]));
    }
    pixels
}

/// Returns the normalised values of every level, by channel.
pub(crate) fn tables(spec: &PreprocessSpec) -> [[f32; 256]; 3] {
    let mut tables = [[0.0; 256]; 3];
    for (table, (mean, std)) in tables.iter_mut().zip(spec.mean.into_iter().zip(spec.std)) {
        for (entry, value) in table.iter_mut().zip(0..=u8::MAX) {
            *entry = (f32::from(value) / 255.0 - mean) / std;
        }
    }
    tables
}

fn size_of(image: &RgbImage) -> ImageSize {
    ImageSize::new(image.height(), image.width())
}

impl HostBatch {
    /// Pads with zero at the right and the bottom, after normalisation. No images give a batch of
    /// size 0x0.
    #[must_use]
    pub fn stack(images: Vec<PreparedImage>) -> Self {
        let size = images.iter().fold(ImageSize::new(0, 0), |size, image| {
            ImageSize::new(size.height.max(image.size.height), size.width.max(image.size.width))
        });
        let image_sizes = images.iter().map(|image| image.size).collect();
        let original_sizes = images.iter().map(|image| image.original_size).collect();
        let (height, width) = (size.height as usize, size.width as usize);
        let padded = images.iter().any(|image| image.size != size);
        let mut mask = padded.then(|| vec![true; images.len() * height * width]);
        let pixels = match <[PreparedImage; 1]>::try_from(images) {
            // A single image is the batch.
            Ok([image]) => image.pixels,
            Err(images) => {
                let mut pixels = vec![0.0; images.len() * 3 * height * width];
                for (index, image) in images.iter().enumerate() {
                    let (rows, columns) = (image.size.height as usize, image.size.width as usize);
                    for (row, source) in image.pixels.chunks_exact(columns.max(1)).enumerate() {
                        let (channel, y) = (row / rows, row % rows);
                        let start = ((index * 3 + channel) * height + y) * width;
                        pixels[start..start + columns].copy_from_slice(source);
                    }
                    if let Some(mask) = &mut mask {
                        for y in 0..rows {
                            let start = (index * height + y) * width;
                            mask[start..start + columns].fill(false);
                        }
                    }
                }
                pixels
            }
        };
        Self { pixels, mask, size, image_sizes, original_sizes }
    }

    /// Returns the number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.image_sizes.len()
    }

    /// Returns whether there is no image.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.image_sizes.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // small numbers
mod tests {
    use super::*;

    #[test]
    fn normalisation_has_the_references_order_of_roundings() {
        let spec = PreprocessSpec::default();
        let image = RgbImage::from_fn(256, 1, |x, _| image::Rgb([x as u8, 255 - x as u8, 7]));
        let pixels = normalize(&image, &spec);
        for value in 0..=u8::MAX {
            let at = usize::from(value);
            let unit = f32::from(value) / 255.0;
            assert_eq!(pixels[at].to_bits(), ((unit - spec.mean[0]) / spec.std[0]).to_bits());
            let green = (unit - spec.mean[1]) / spec.std[1];
            assert_eq!(pixels[256 + 255 - at].to_bits(), green.to_bits());
        }
        let blue = (7.0_f32 / 255.0 - spec.mean[2]) / spec.std[2];
        assert!(pixels[512..].iter().all(|pixel| pixel.to_bits() == blue.to_bits()));
    }

    #[test]
    fn preparing_resizes_and_remembers_the_original_size() {
        let spec =
            PreprocessSpec { shortest_edge: 8, longest_edge: 13, ..PreprocessSpec::default() };
        let prepared = prepare(&RgbImage::new(40, 20), &spec).unwrap();
        assert_eq!(prepared.original_size, ImageSize::new(20, 40));
        assert_eq!(prepared.size, spec.target_size(prepared.original_size));
        assert_eq!(prepared.pixels.len() as u64, 3 * prepared.size.pixels());
        for (width, height) in [(0, 5), (5, 0), (0, 0)] {
            let error = prepare(&RgbImage::new(width, height), &spec).unwrap_err();
            assert!(matches!(error, ImageError::NoPixels { .. }), "{error}");
        }
    }

    fn prepared(height: u32, width: u32, first: f32) -> PreparedImage {
        let size = ImageSize::new(height, width);
        let pixels = (0..3 * height * width).map(|i| first + i as f32).collect();
        PreparedImage { pixels, size, original_size: ImageSize::new(2 * height, 2 * width) }
    }

    #[test]
    fn stacking_pads_at_the_right_and_the_bottom() {
        let batch = HostBatch::stack(vec![prepared(2, 3, 1.0), prepared(3, 1, 100.0)]);
        assert_eq!(batch.size, ImageSize::new(3, 3));
        assert_eq!(batch.len(), 2);
        assert_eq!(batch.image_sizes, [ImageSize::new(2, 3), ImageSize::new(3, 1)]);
        assert_eq!(batch.original_sizes, [ImageSize::new(4, 6), ImageSize::new(6, 2)]);
        // Both images, second channel.
        assert_eq!(batch.pixels[9..18], [7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 0.0, 0.0, 0.0]);
        assert_eq!(batch.pixels[36..45], [103.0, 0.0, 0.0, 104.0, 0.0, 0.0, 105.0, 0.0, 0.0]);
        let mask: Vec<u8> = batch.mask.unwrap().iter().map(|&padding| padding.into()).collect();
        assert_eq!(mask, [0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1]);
    }

    #[test]
    fn equal_sizes_need_no_padding() {
        for count in 0..3 {
            let images: Vec<_> = (0..count).map(|_| prepared(2, 3, 1.0)).collect();
            let pixels: Vec<f32> = images.iter().flat_map(|image| image.pixels.clone()).collect();
            let batch = HostBatch::stack(images);
            assert_eq!((batch.pixels, batch.mask), (pixels, None));
        }
    }
}
