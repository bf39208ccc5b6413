//! The last step of a batch: pixels are normalised straight into the padded batch, so that a sample
//! is never held as `f32` beside it.

use detr_types::{ImageSize, PreprocessSpec};
use image::RgbImage;

use crate::batch::{HostBatch, tables};

/// Returns the size that all images of a batch are padded to.
pub(super) fn padded_size(images: &[ImageSize], least: Option<ImageSize>) -> ImageSize {
    let least = least.unwrap_or(ImageSize::new(0, 0));
    images.iter().fold(least, |size, image| {
        ImageSize::new(size.height.max(image.height), size.width.max(image.width))
    })
}

/// Returns the size in bytes of a batch of `count` images of that size: pixels and mask.
pub(super) fn batch_bytes(count: usize, size: ImageSize) -> u64 {
    count as u64 * size.pixels() * (3 * 4 + 1)
}

/// Computes the result of [`HostBatch::stack`] on normalised images from images that are not yet
/// normalised, padded at least to `least`. Each image is freed as soon as it is in the batch.
pub(super) fn stack(
    images: Vec<RgbImage>,
    original_sizes: Vec<ImageSize>,
    spec: &PreprocessSpec,
    least: Option<ImageSize>,
) -> HostBatch {
    let tables = tables(spec);
    let image_sizes: Vec<_> =
        images.iter().map(|image| ImageSize::new(image.height(), image.width())).collect();
    let size = padded_size(&image_sizes, least);
    let (height, width) = (size.height as usize, size.width as usize);
    let padded = image_sizes.iter().any(|image| *image != size);
    let mut mask = padded.then(|| vec![true; images.len() * height * width]);
    let mut pixels = vec![0.0; images.len() * 3 * height * width];
    for (index, image) in images.into_iter().enumerate() {
        let columns = image.width() as usize;
        if columns == 0 {
            continue;
        }
        for (y, row) in image.chunks_exact(3 * columns).enumerate() {
            for (channel, table) in tables.iter().enumerate() {
                let start = ((index * 3 + channel) * height + y) * width;
                let target = &mut pixels[start..start + columns];
                for (value, pixel) in target.iter_mut().zip(row.as_chunks::<3>().0) {
                    *value = table[usize::from(pixel[channel])];
                }
            }
            if let Some(mask) = &mut mask {
                let start = (index * height + y) * width;
                mask[start..start + columns].fill(false);
            }
        }
    }
    HostBatch { pixels, mask, size, image_sizes, original_sizes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{PreparedImage, normalize};

    #[test]
    fn equals_the_stack_of_normalised_images() {
        let spec = PreprocessSpec::default();
        let image = |width, height| {
            #[allow(clippy::cast_possible_truncation)] // wraps on purpose
            let bytes = (0..3 * width * height).map(|i: u32| (i * i * 37 + i) as u8).collect();
            RgbImage::from_raw(width, height, bytes).unwrap()
        };
        let sizes = |images: &[RgbImage]| {
            images.iter().map(|i| ImageSize::new(i.height(), i.width())).collect::<Vec<_>>()
        };
        for images in [vec![], vec![image(5, 4)], vec![image(5, 4), image(3, 7), image(1, 1)]] {
            let prepared = images.iter().zip(sizes(&images)).map(|(image, size)| PreparedImage {
                pixels: normalize(image, &spec),
                size,
                original_size: size,
            });
            let expected = HostBatch::stack(prepared.collect());
            let originals = sizes(&images);
            assert_eq!(stack(images, originals, &spec, None), expected);
        }
        let least = Some(ImageSize::new(6, 2));
        let batch = stack(vec![image(5, 4)], vec![ImageSize::new(9, 9)], &spec, least);
        assert_eq!((batch.size, batch.mask.unwrap().len()), (ImageSize::new(6, 5), 30));
        assert_eq!(batch.pixels[20..30], [0.0; 10]);
    }
}
