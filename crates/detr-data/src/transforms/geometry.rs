//! The moves that every geometric transform is made of: flip, crop, resize and pad, of an image with
//! its boxes, areas and masks.
//!
//! Mirrors the functions of the reference's `datasets/transforms.py`, in `f32` and with its order of
//! roundings. They draw nothing; see [`super`] for the random transforms.

use std::borrow::Cow;

use detr_types::{ImageSize, Xyxy};
use image::RgbImage;

use super::Sample;
use crate::resize::{Region, crop, resize_bilinear_region};
use crate::segmentation::Mask;

#[allow(clippy::cast_precision_loss)] // sides are far below 2^24
impl Sample {
    /// Returns the size of the image as it is now.
    #[must_use]
    pub fn size(&self) -> ImageSize {
        ImageSize::new(self.image.height(), self.image.width())
    }

    /// Flips the image: left becomes right.
    pub fn flip_horizontally(&mut self) {
        let width = self.image.width();
        if width == 0 {
            return;
        }
        for row in self.image.chunks_exact_mut(3 * width as usize) {
            row.as_chunks_mut::<3>().0.reverse();
        }
        let w = width as f32;
        for object in &mut self.objects {
            let Xyxy { x1, y1, x2, y2 } = object.bbox;
            object.bbox = Xyxy { x1: w - x2, y1, x2: w - x1, y2 };
            if let Some(mask) = &mut object.mask {
                mask.bits.chunks_exact_mut(width as usize).for_each(<[u8]>::reverse);
            }
        }
    }

    /// Keeps a region. Boxes are clipped to it, objects without area left out (perhaps all), and
    /// areas become those of the boxes.
    pub fn crop(&mut self, region: Region) {
        let region = region.within(self.size());
        if let Cow::Owned(image) = crop(&self.image, region) {
            self.image = image;
        }
        self.crop_boxes(region);
        for mask in self.masks() {
            *mask = crop_mask(mask, region);
        }
    }

    fn crop_boxes(&mut self, region: Region) {
        let (left, top) = (region.left as f32, region.top as f32);
        let (w, h) = (region.size.width as f32, region.size.height as f32);
        self.objects.retain_mut(|object| {
            let Xyxy { x1, y1, x2, y2 } = object.bbox;
            object.bbox = Xyxy {
                x1: (x1 - left).min(w).max(0.0),
                y1: (y1 - top).min(h).max(0.0),
                x2: (x2 - left).min(w).max(0.0),
                y2: (y2 - top).min(h).max(0.0),
            };
            object.area = object.bbox.area();
            object.bbox.x2 > object.bbox.x1 && object.bbox.y2 > object.bbox.y1
        });
    }

    /// Resizes: pixels as Pillow does, masks by the nearest pixel.
    pub fn resize(&mut self, size: ImageSize) {
        self.resize_and_crop(size, None);
    }

    /// Resizes and keeps a region of the result, which is what the two steps give one by one, but
    /// pixels outside of the region are never made. Without a region objects are only resized;
    /// with one the rules of [`crop`](Self::crop) apply.
    pub fn resize_and_crop(&mut self, size: ImageSize, region: Option<Region>) {
        let from = self.size();
        let kept = region.map_or(Region::whole(size), |region| region.within(size));
        if from != size || kept != Region::whole(size) {
            self.image = resize_bilinear_region(&self.image, size, kept);
        }
        if from != size {
            self.resize_boxes(from, size);
        }
        if region.is_some() {
            self.crop_boxes(kept);
        }
        for mask in self.masks() {
            *mask = resize_mask(mask, size, kept);
        }
    }

    #[allow(clippy::cast_possible_truncation)] // f32 as in the reference
    fn resize_boxes(&mut self, from: ImageSize, to: ImageSize) {
        let x = f64::from(to.width) / f64::from(from.width);
        let y = f64::from(to.height) / f64::from(from.height);
        let (area, x, y) = ((x * y) as f32, x as f32, y as f32);
        for object in &mut self.objects {
            let Xyxy { x1, y1, x2, y2 } = object.bbox;
            object.bbox = Xyxy { x1: x1 * x, y1: y1 * y, x2: x2 * x, y2: y2 * y };
            object.area *= area;
        }
    }

    /// Adds black at the right and the bottom.
    pub fn pad(&mut self, right: u32, bottom: u32) {
        let from = self.size();
        let to =
            ImageSize::new(from.height.saturating_add(bottom), from.width.saturating_add(right));
        if to == from {
            return;
        }
        let mut padded = RgbImage::new(to.width, to.height);
        copy_rows(&self.image, 3 * from.width, &mut padded, 3 * to.width);
        self.image = padded;
        for mask in self.masks() {
            let mut padded = Mask { size: to, bits: vec![0; area(to)] };
            copy_rows(&mask.bits, from.width, &mut padded.bits, to.width);
            *mask = padded;
        }
    }

    fn masks(&mut self) -> impl Iterator<Item = &mut Mask> {
        self.objects.iter_mut().filter_map(|object| object.mask.as_mut())
    }
}

/// Copies rows of `from` bytes to the start of rows of `to` bytes.
fn copy_rows(source: &[u8], from: u32, target: &mut [u8], to: u32) {
    let (from, to) = (from as usize, to as usize);
    if from == 0 || to == 0 {
        return;
    }
    for (target, row) in target.chunks_exact_mut(to).zip(source.chunks_exact(from)) {
        target[..from].copy_from_slice(row);
    }
}

/// Pixels of an image that is in memory.
fn area(size: ImageSize) -> usize {
    size.height as usize * size.width as usize
}

fn crop_mask(mask: &Mask, region: Region) -> Mask {
    let (stride, length) = (mask.size.width as usize, region.size.width as usize);
    let mut bits = Vec::with_capacity(area(region.size));
    let rows = mask.bits.chunks_exact(stride.max(1));
    for row in rows.skip(region.top as usize).take(region.size.height as usize) {
        bits.extend_from_slice(&row[region.left as usize..][..length]);
    }
    Mask { size: region.size, bits }
}

/// Returns a region of a resized mask. Nearest pixel as `torch.nn.functional.interpolate` finds it:
/// `floor(target * (from / to))` in `f32`.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn resize_mask(mask: &Mask, to: ImageSize, region: Region) -> Mask {
    let source = |from: u32, to: u32, first: u32, count: u32| {
        let scale = from as f32 / to as f32;
        let last = from.saturating_sub(1);
        (first..first + count).map(move |at| ((at as f32 * scale) as u32).min(last) as usize)
    };
    let ImageSize { height, width } = region.size;
    let columns: Vec<usize> = source(mask.size.width, to.width, region.left, width).collect();
    let mut bits = Vec::with_capacity(area(region.size));
    for y in source(mask.size.height, to.height, region.top, height) {
        let row = &mask.bits[y * mask.size.width as usize..][..mask.size.width as usize];
        bits.extend(columns.iter().map(|&x| row[x]));
    }
    Mask { size: region.size, bits }
}
