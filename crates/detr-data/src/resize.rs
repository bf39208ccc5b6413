//! Resizes 8-bit RGB with an antialiased bilinear filter, equal to Pillow's `Image.resize(..,
//! BILINEAR)` in every byte (`Resample.c`: 22-bit weights, 8-bit pixels between the two passes).
//!
//! This is not the bilinear interpolation of GPU samplers or `torch.nn.functional.interpolate`:
//! when an image shrinks, the triangle filter grows with the scale, so every source pixel counts.
//! General resizing crates use 16-bit weights and their own order of passes, which is off by one or
//! two levels here and there.

#![allow(clippy::inline_always)] // what runs inside `pulp`'s dispatch has to be

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
    resize_bilinear_region(image, size, Region::whole(size))
}

/// Computes a region of the image that [`resize_bilinear`] returns, pixel for pixel, at the cost of
/// the region: a resize that is followed by a crop. The part of the region outside of `size` is
/// left out.
#[must_use]
pub fn resize_bilinear_region(image: &RgbImage, size: ImageSize, region: Region) -> RgbImage {
    let region = region.within(size);
    let ImageSize { height, width } = region.size;
    if image.is_empty() || region.size.pixels() == 0 {
        return RgbImage::new(width, height);
    }
    let rows = Pass::new(image.height(), size.height, region.top, height);
    let columns = Pass::new(image.width(), size.width, region.left, width);
    // The region of the source that the result is made of.
    let source = Region {
        top: rows.source.start,
        left: columns.source.start,
        size: ImageSize::new(rows.source.len(), columns.source.len()),
    };
    let image = crop(image, source);
    if rows_come_first(&rows, &columns) {
        columns.resize_columns(&rows.resize_rows(&image)).into_owned()
    } else {
        rows.resize_rows(&columns.resize_columns(&image)).into_owned()
    }
}

/// A rectangle of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First row.
    pub top: u32,
    /// First column.
    pub left: u32,
    /// Rows and columns.
    pub size: ImageSize,
}

impl Region {
    /// Returns the region that covers an image.
    #[must_use]
    pub const fn whole(size: ImageSize) -> Self {
        Self { top: 0, left: 0, size }
    }

    /// Returns the part of the region that is inside of an image.
    #[must_use]
    pub fn within(self, image: ImageSize) -> Self {
        let (top, left) = (self.top.min(image.height), self.left.min(image.width));
        let size = ImageSize::new(
            self.size.height.min(image.height - top),
            self.size.width.min(image.width - left),
        );
        Self { top, left, size }
    }
}

/// Returns the pixels of a region, or of its part inside of the image; a region that covers the
/// image is not copied.
#[must_use]
pub fn crop(image: &RgbImage, region: Region) -> Cow<'_, RgbImage> {
    let size = ImageSize::new(image.height(), image.width());
    let region = region.within(size);
    if region == Region::whole(size) {
        return Cow::Borrowed(image);
    }
    let ImageSize { height, width } = region.size;
    let mut cropped = RgbImage::new(width, height);
    if region.size.pixels() == 0 {
        return Cow::Owned(cropped);
    }
    let (stride, length) = (3 * size.width as usize, 3 * width as usize);
    let rows = image.chunks_exact(stride).skip(region.top as usize);
    for (target, row) in cropped.chunks_exact_mut(length).zip(rows) {
        target.copy_from_slice(&row[3 * region.left as usize..][..length]);
    }
    Cow::Owned(cropped)
}

/// Returns whether rows are resized before columns. The order is Pillow's, found by trying sizes on
/// Pillow 13: columns first, except where the number of rows shrinks by more than twice as much as
/// the number of columns. It matters for the last bit, because pixels are rounded between the
/// passes.
fn rows_come_first(rows: &Pass, columns: &Pass) -> bool {
    let fewer_rows = i64::from(rows.from) - i64::from(rows.to);
    let fewer_columns = i64::from(columns.from) - i64::from(columns.to);
    fewer_rows > 0 && 2 * fewer_columns < fewer_rows
}

/// One direction of a resize, or of a region of one.
struct Pass {
    /// The numbers of pixels of the whole source and of the whole target.
    from: u32,
    to: u32,
    /// The pixels of the source that have a weight.
    source: Range,
    /// The filter for these pixels and those of the region; `None` if the source is taken as it is.
    filter: Option<Filter>,
    length: u32,
}

/// Pixels from `start` up to `end`.
struct Range {
    start: u32,
    end: u32,
}

impl Range {
    fn len(&self) -> u32 {
        self.end - self.start
    }
}

/// The weight of one source pixel: `(high << SPLIT) + low` in units of `2^-FRACTION`.
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
    /// The sum starts with half a level, so that the final shift rounds.
    const START: Self = Self { high: 0, low: 1 << (FRACTION - 1) };

    #[inline(always)]
    fn plus(self, value: u8, weight: Weight) -> Self {
        let value = i32::from(value);
        Self {
            high: self.high + value * i32::from(weight.high),
            low: self.low + value * i32::from(weight.low),
        }
    }

    #[inline(always)]
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
    /// Computes the triangle filter from `source` to `target` pixels, both at least one, for some
    /// of the target pixels.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within the source
    fn triangle(source: u32, target: u32, positions: std::ops::Range<u32>) -> Self {
        let scale = f64::from(source) / f64::from(target);
        let support = scale.max(1.0);
        let mut filter = Self { spans: Vec::with_capacity(positions.len()), weights: Vec::new() };
        let mut values = Vec::new();
        for position in positions {
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

    /// Counts source pixels from the first that has a weight; all that have one are returned.
    fn rebase(&mut self) -> std::ops::Range<usize> {
        let (mut first, mut last, mut begin) = (usize::MAX, 0, 0);
        for &(start, end) in &self.spans {
            first = first.min(start);
            last = last.max(start + end - begin);
            begin = end;
        }
        for (start, _) in &mut self.spans {
            *start -= first;
        }
        first..last
    }

    /// Applies the filter to rows of `length` bytes, with the widest vectors that the processor has.
    /// Whole numbers are added, so the result is the same on all.
    fn convolve(&self, source: &[u8], target: &mut [u8], length: usize) {
        pulp::Arch::new().dispatch(Convolution { filter: self, source, target, length });
    }

    #[inline(always)] // compiled once per kind of vectors
    fn convolve_here(&self, source: &[u8], target: &mut [u8], length: usize) {
        // The sums are two lists and not one of `Sum`, because the compiler vectorises these.
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

/// [`Filter::convolve`] as work for `pulp`: a closure would not be inlined, and so would be compiled
/// for the oldest processors only.
struct Convolution<'a> {
    filter: &'a Filter,
    source: &'a [u8],
    target: &'a mut [u8],
    length: usize,
}

impl pulp::WithSimd for Convolution<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        self.filter.convolve_here(self.source, self.target, self.length);
    }
}

/// Computes the common case of two source pixels, where the sums need not go through memory.
#[inline(always)] // as `convolve_here`
fn blend(target: &mut [u8], (a, &a_weight): (&[u8], &Weight), (b, &b_weight): (&[u8], &Weight)) {
    for ((byte, &a), &b) in target.iter_mut().zip(a).zip(b) {
        *byte = Sum::START.plus(a, a_weight).plus(b, b_weight).byte();
    }
}

impl Pass {
    /// `length` pixels from `first` on of the resize of `from` pixels to `to`; none may be zero.
    #[allow(clippy::cast_possible_truncation)] // pixels of a side
    fn new(from: u32, to: u32, first: u32, length: u32) -> Self {
        if from == to {
            let source = Range { start: first, end: first + length };
            return Self { from, to, source, filter: None, length };
        }
        let mut filter = Filter::triangle(from, to, first..first + length);
        let source = filter.rebase();
        let source = Range { start: source.start as u32, end: source.end as u32 };
        Self { from, to, source, filter: Some(filter), length }
    }

    /// Changes the width: strips of rows are turned on their side, resized as rows, and turned
    /// back, because neighbouring bytes of a row are summed at once and pixels of a column are not.
    fn resize_columns<'a>(&self, image: &'a RgbImage) -> Cow<'a, RgbImage> {
        /// Rows in a strip.
        const ROWS: usize = 16;
        let Some(filter) = &self.filter else { return Cow::Borrowed(image) };
        let mut resized = RgbImage::new(self.length, image.height());
        let (source_width, width) = (image.width() as usize, self.length as usize);
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
    fn resize_rows<'a>(&self, image: &'a RgbImage) -> Cow<'a, RgbImage> {
        let Some(filter) = &self.filter else { return Cow::Borrowed(image) };
        let mut resized = RgbImage::new(image.width(), self.length);
        filter.convolve(image.as_raw(), &mut resized, 3 * image.width() as usize);
        Cow::Owned(resized)
    }
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
    fn a_region_equals_the_crop_of_the_whole() {
        let image = sample(37, 23);
        for (size, region) in [
            ((50, 90), (0, 0, 50, 90)),
            ((50, 90), (49, 89, 1, 1)),
            ((11, 17), (3, 5, 7, 9)),
            ((23, 60), (4, 40, 10, 30)),
            ((9, 37), (2, 30, 4, 7)),
            ((23, 37), (1, 2, 3, 4)),
        ] {
            let size = ImageSize::new(size.0, size.1);
            let (top, left, height, width) = region;
            let region = Region { top, left, size: ImageSize::new(height, width) };
            let whole = resize_bilinear(&image, size);
            let expected = crop(&whole, region);
            assert_eq!(resize_bilinear_region(&image, size, region), *expected, "{region:?}");
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
