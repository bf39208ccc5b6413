//! Antialiased bilinear resizing of 8-bit RGB, equal to Pillow's `Image.resize(.., BILINEAR)` in
//! every byte (`Resample.c`: 22-bit weights, 8-bit pixels between the two passes).
//!
//! Not the bilinear interpolation of GPU samplers or `torch.nn.functional.interpolate`: when an
//! image shrinks, the triangle filter grows with the scale, so every source pixel counts. General
//! resizing crates use 16-bit weights and their own order of passes, which is off by one or two
//! levels here and there.

use std::borrow::Cow;

use detr_types::ImageSize;
use image::RgbImage;

/// Fraction bits of a weight, as in Pillow: 32 less 8 for the pixel and 2 for safety.
const FRACTION: u32 = 32 - 8 - 2;
/// Weights are split here, so that both halves fit 16 bits: processors without 32-bit vector
/// multiplication then still multiply several pixels at once.
const SPLIT: u32 = FRACTION / 2;

/// Resizes to exactly `size`; an image that has that size already is copied. A size of zero gives
/// an image without pixels, and an image without pixels becomes black.
#[must_use]
pub fn resize_bilinear(image: &RgbImage, size: ImageSize) -> RgbImage {
    let ImageSize { height, width } = size;
    if image.is_empty() || size.pixels() == 0 {
        return RgbImage::new(width, height);
    }
    if rows_come_first(image, size) {
        resize_columns(&resize_rows(image, height), width).into_owned()
    } else {
        resize_rows(&resize_columns(image, width), height).into_owned()
    }
}

/// Pillow's order, found by trying sizes on Pillow 13: columns first, except where the number of
/// rows shrinks by more than twice what the number of columns does. It matters for the last bit,
/// because pixels are rounded between the passes.
fn rows_come_first(image: &RgbImage, size: ImageSize) -> bool {
    let fewer_rows = i64::from(image.height()) - i64::from(size.height);
    let fewer_columns = i64::from(image.width()) - i64::from(size.width);
    fewer_rows > 0 && 2 * fewer_columns < fewer_rows
}

/// What one source pixel counts: `(high << SPLIT) + low` in units of `2^-FRACTION`.
#[derive(Clone, Copy)]
struct Weight {
    high: i16,
    low: i16,
}

impl Weight {
    /// Rounds a weight of at most one.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within FRACTION bits
    fn new(value: f64) -> Self {
        let fixed = (value * f64::from(1 << FRACTION) + 0.5) as u32;
        Self { high: (fixed >> SPLIT) as i16, low: (fixed & ((1 << SPLIT) - 1)) as i16 }
    }

    fn is_zero(self) -> bool {
        self.high == 0 && self.low == 0
    }
}

/// A weighted sum of bytes in two halves, like the weights. The weights of a target pixel add up
/// to `2^FRACTION`, so neither half overflows.
#[derive(Clone, Copy)]
struct Sum {
    high: i32,
    low: i32,
}

impl Sum {
    /// Half a level, so that the final shift rounds.
    const START: Self = Self { high: 0, low: 1 << (FRACTION - 1) };

    #[inline]
    fn plus(self, value: u8, weight: Weight) -> Self {
        let value = i32::from(value);
        Self {
            high: self.high + value * i32::from(weight.high),
            low: self.low + value * i32::from(weight.low),
        }
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped
    fn byte(self) -> u8 {
        (((self.high << SPLIT) + self.low) >> FRACTION).clamp(0, 255) as u8
    }
}

/// The filter of one pass.
struct Filter {
    /// For each target pixel the first source pixel, and the end of its weights.
    spans: Vec<(usize, usize)>,
    weights: Vec<Weight>,
}

impl Filter {
    /// The triangle filter from `source` to `target` pixels, both at least one.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within the source
    fn triangle(source: u32, target: u32) -> Self {
        let scale = f64::from(source) / f64::from(target);
        let support = scale.max(1.0);
        let mut filter = Self { spans: Vec::with_capacity(target as usize), weights: Vec::new() };
        let mut values = Vec::new();
        for position in 0..target {
            let center = (f64::from(position) + 0.5) * scale;
            let start = (center - support + 0.5).max(0.0) as u32;
            let end = ((center + support + 0.5) as u32).min(source);
            values.clear();
            values.extend((start..end).map(|at| {
                let distance = (f64::from(at) - center + 0.5) * (1.0 / support);
                (1.0 - distance.abs()).max(0.0)
            }));
            let sum: f64 = values.iter().sum();
            // Pixels at the foot of the triangle count nothing; leaving them out leaves two pixels
            // when an image grows.
            let weights = values.iter().map(|value| Weight::new(value / sum));
            let leading = weights.clone().take_while(|weight| weight.is_zero()).count();
            filter.weights.extend(weights.skip(leading));
            while filter.weights.last().is_some_and(|weight| weight.is_zero()) {
                filter.weights.pop();
            }
            filter.spans.push((start as usize + leading, filter.weights.len()));
        }
        filter
    }

    /// Applies the filter to rows of `length` bytes.
    fn convolve(&self, source: &[u8], target: &mut [u8], length: usize) {
        // Two lists, not one of `Sum`, because that is what the compiler vectorises.
        let (mut highs, mut lows) = (vec![0; length], vec![0; length]);
        let mut begin = 0;
        for (target, &(start, end)) in target.chunks_exact_mut(length).zip(&self.spans) {
            let weights = &self.weights[begin..end];
            begin = end;
            let mut rows = source[start * length..].chunks_exact(length).zip(weights);
            if weights.len() == 2
                && let (Some(first), Some(second)) = (rows.next(), rows.next())
            {
                blend(target, first, second);
                continue;
            }
            highs.fill(Sum::START.high);
            lows.fill(Sum::START.low);
            for (row, &weight) in rows {
                for ((high, low), &value) in highs.iter_mut().zip(&mut lows).zip(row) {
                    let sum = Sum { high: *high, low: *low }.plus(value, weight);
                    (*high, *low) = (sum.high, sum.low);
                }
            }
            for ((byte, &high), &low) in target.iter_mut().zip(&highs).zip(&lows) {
                *byte = Sum { high, low }.byte();
            }
        }
    }
}

/// The common case of two source pixels, where the sums need not go through memory.
fn blend(target: &mut [u8], (a, &a_weight): (&[u8], &Weight), (b, &b_weight): (&[u8], &Weight)) {
    for ((byte, &a), &b) in target.iter_mut().zip(a).zip(b) {
        *byte = Sum::START.plus(a, a_weight).plus(b, b_weight).byte();
    }
}

/// Changes the width: strips of rows are turned on their side, resized as rows, and turned back,
/// because neighbouring bytes of a row are summed at once and pixels of a column are not.
fn resize_columns(image: &RgbImage, width: u32) -> Cow<'_, RgbImage> {
    /// Rows in a strip.
    const ROWS: usize = 16;
    if image.width() == width {
        return Cow::Borrowed(image);
    }
    let filter = Filter::triangle(image.width(), width);
    let mut resized = RgbImage::new(width, image.height());
    let (source_width, width) = (image.width() as usize, width as usize);
    let mut upright = vec![[0_u8; 3 * ROWS]; source_width];
    let mut turned = vec![[0_u8; 3 * ROWS]; width];
    let sources = image.as_raw().as_chunks::<3>().0.chunks(ROWS * source_width);
    let targets = resized.as_chunks_mut::<3>().0.chunks_mut(ROWS * width);
    for (sources, targets) in sources.zip(targets) {
        for (row, pixels) in sources.chunks_exact(source_width).enumerate() {
            for (column, pixel) in upright.iter_mut().zip(pixels) {
                column.as_chunks_mut().0[row] = *pixel;
            }
        }
        filter.convolve(upright.as_flattened(), turned.as_flattened_mut(), 3 * ROWS);
        for (row, pixels) in targets.chunks_exact_mut(width).enumerate() {
            for (pixel, column) in pixels.iter_mut().zip(&turned) {
                *pixel = column.as_chunks().0[row];
            }
        }
    }
    Cow::Owned(resized)
}

/// Changes the height.
fn resize_rows(image: &RgbImage, height: u32) -> Cow<'_, RgbImage> {
    if image.height() == height {
        return Cow::Borrowed(image);
    }
    let mut resized = RgbImage::new(image.width(), height);
    let length = 3 * image.width() as usize;
    Filter::triangle(image.height(), height).convolve(image.as_raw(), &mut resized, length);
    Cow::Owned(resized)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::cast_possible_truncation)] // wraps on purpose
    fn sample(width: u32, height: u32) -> RgbImage {
        let bytes = (0..3 * width * height).map(|i| (i * i * 37 + i * 11) as u8).collect();
        RgbImage::from_raw(width, height, bytes).unwrap()
    }

    #[track_caller]
    fn check_resize(from: (u32, u32), to: (u32, u32), expected: &[u8]) {
        let resized = resize_bilinear(&sample(from.0, from.1), ImageSize::new(to.1, to.0));
        assert_eq!(resized.dimensions(), to);
        assert_eq!(resized.as_raw(), expected);
    }

    /// The expected bytes were made with Pillow 13.
    #[test]
    fn equals_pillow_when_shrinking() {
        #[rustfmt::skip]
        check_resize((7, 5), (4, 3), &[
            83, 121, 175, 99, 125, 184, 110, 179, 175, 133, 205, 149, 142, 134, 129, 64, 77, 124,
            122, 101, 126, 151, 140, 112, 120, 152, 132, 90, 102, 120, 73, 51, 105, 134, 137, 137,
        ]);
    }

    #[test]
    fn equals_pillow_where_rows_come_first() {
        #[rustfmt::skip]
        check_resize((4, 9), (5, 3), &[
            77, 147, 195, 88, 157, 181, 114, 149, 162, 136, 157, 149, 139, 203, 149,
            123, 82, 115, 93, 108, 117, 121, 115, 125, 139, 120, 131, 86, 142, 130,
            99, 125, 129, 130, 87, 135, 130, 121, 122, 117, 142, 106, 117, 73, 103,
        ]);
    }

    #[test]
    fn equals_pillow_when_growing() {
        let resized = resize_bilinear(&sample(5, 4), ImageSize::new(6, 7));
        #[rustfmt::skip]
        let first_row = [
            0, 48, 170, 63, 91, 194, 112, 117, 195, 118, 98, 152, 51, 189, 219, 50, 237, 243, 84,
            252, 238,
        ];
        assert_eq!(resized.as_raw()[..21], first_row);
        assert_eq!(resized.as_raw()[123..], [8, 178, 166]);
    }

    #[test]
    fn a_flat_image_stays_flat_at_any_scale() {
        let flat = RgbImage::from_pixel(3, 2000, image::Rgb([255, 128, 1]));
        for size in [ImageSize::new(1, 1), ImageSize::new(7, 300), ImageSize::new(2001, 1)] {
            let resized = resize_bilinear(&flat, size);
            assert!(resized.pixels().all(|pixel| pixel.0 == [255, 128, 1]), "{size}");
        }
    }

    #[test]
    fn the_same_size_is_a_copy_and_nothing_stays_nothing() {
        let image = sample(6, 5);
        assert_eq!(resize_bilinear(&image, ImageSize::new(5, 6)), image);
        assert_eq!(resize_bilinear(&image, ImageSize::new(0, 6)).dimensions(), (6, 0));
        let black = resize_bilinear(&RgbImage::new(0, 4), ImageSize::new(2, 2));
        assert_eq!(black, RgbImage::new(2, 2));
    }
}
