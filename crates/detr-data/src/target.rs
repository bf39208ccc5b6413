//! The objects that a model shall find on an image, in the form that the losses take.
//!
//! Mirrors `ConvertCocoPolysToMask` of the reference's `datasets/coco.py`: crowds are left out,
//! boxes are clamped to the image, boxes without area are left out. The same arithmetic in `f32`.
//! What is left out is counted, never silently lost.

use std::collections::HashMap;
use std::ops::AddAssign;

use detr_types::{ClassTable, Cxcywh, ImageSize, Xywh, Xyxy};
use image::RgbImage;

use crate::dataset::{ImageRecord, ObjectRecord};
use crate::segmentation::{Mask, Segmentation};
use crate::transforms::{Object, Sample};

/// The objects of one image as model input has them; all lists have one entry per object.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Id of the image.
    pub image_id: i64,
    /// Size of the image file.
    pub original_size: ImageSize,
    /// Size after augmentation, before a batch is padded.
    pub size: ImageSize,
    /// Boxes relative to `size`.
    pub boxes: Vec<Cxcywh>,
    /// Labels: indices into the class table.
    pub labels: Vec<usize>,
    /// Areas in pixels of `size`.
    pub areas: Vec<f32>,
    /// Always false in training, where crowds are left out.
    pub iscrowd: Vec<bool>,
    /// Masks of `size`, where they were asked for.
    pub masks: Option<Vec<Mask>>,
}

impl Target {
    /// Returns the number of objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.boxes.len()
    }

    /// Returns whether there is no object; such images are used too.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.boxes.is_empty()
    }

    /// Returns the boxes' corners in pixels of `size`.
    pub fn corners(&self) -> impl Iterator<Item = Xyxy> + '_ {
        self.boxes.iter().map(|bbox| bbox.to_xyxy().scaled(self.size))
    }

    /// Returns the size in memory in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let masks: usize = self.masks.iter().flatten().map(|mask| mask.bits.len()).sum();
        // Box, label, area and flag.
        (masks + self.boxes.len() * 29 + size_of::<Self>()) as u64
    }

    /// Ends the augmentation (`Normalize` of the reference's `datasets/transforms.py`): only here
    /// boxes become relative centres and sizes. The pixels are normalised when a batch is stacked.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // sides are far below 2^24
    pub fn finish(sample: Sample) -> (RgbImage, Self) {
        let size = sample.size();
        let (w, h) = (size.width as f32, size.height as f32);
        let count = sample.objects.len();
        let mut target = Self {
            image_id: sample.image_id,
            original_size: sample.original_size,
            size,
            boxes: Vec::with_capacity(count),
            labels: Vec::with_capacity(count),
            areas: Vec::with_capacity(count),
            iscrowd: Vec::with_capacity(count),
            masks: sample.has_masks.then(Vec::new),
        };
        for object in sample.objects {
            let Cxcywh { cx, cy, w: width, h: height } = object.bbox.to_cxcywh();
            target.boxes.push(Cxcywh { cx: cx / w, cy: cy / h, w: width / w, h: height / h });
            target.labels.push(object.label);
            target.areas.push(object.area);
            target.iscrowd.push(object.iscrowd);
            if let (Some(masks), Some(mask)) = (&mut target.masks, object.mask) {
                masks.push(mask);
            }
        }
        (sample.image, target)
    }
}

/// The rules by which annotations become targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRules {
    labels: HashMap<i64, usize>,
    /// Rasterise the outlines too.
    pub masks: bool,
}

/// Objects that were left out or changed, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetCounts {
    /// Objects used.
    pub kept: u64,
    /// Crowds, left out.
    pub crowd: u64,
    /// Boxes without area after clamping, left out.
    pub degenerate: u64,
    /// Objects of a category without a label, left out.
    pub unknown_class: u64,
    /// Objects kept with an empty mask, because their outline is missing or wrong.
    pub without_mask: u64,
}

impl AddAssign for TargetCounts {
    fn add_assign(&mut self, other: Self) {
        self.kept += other.kept;
        self.crowd += other.crowd;
        self.degenerate += other.degenerate;
        self.unknown_class += other.unknown_class;
        self.without_mask += other.without_mask;
    }
}

impl TargetRules {
    /// Labels of a class table, by the category ids in it; boxes only.
    #[must_use]
    pub fn new(classes: &ClassTable) -> Self {
        let labels = classes.categories().map(|class| (class.id, class.label));
        Self { labels: labels.collect(), masks: false }
    }

    /// Sets whether targets have masks.
    #[must_use]
    pub fn with_masks(self, masks: bool) -> Self {
        Self { masks, ..self }
    }

    /// Counts what becomes of the objects of an image without decoding it. If the annotations do not state its size, a
    /// box counts as lying on it unless it is to the left or above.
    #[must_use]
    pub fn counts(&self, record: &ImageRecord) -> TargetCounts {
        let size = record.size.unwrap_or(ImageSize::new(u32::MAX, u32::MAX));
        let mut counts = TargetCounts::default();
        for object in &record.objects {
            if object.iscrowd {
                counts.crowd += 1;
            } else if !self.labels.contains_key(&object.category_id) {
                counts.unknown_class += 1;
            } else if clamped(bbox_of(object), size).is_none() {
                counts.degenerate += 1;
            } else {
                counts.kept += 1;
            }
        }
        counts
    }

    /// Decodes an image and returns it with its objects, ready for augmentation. The size that
    /// counts is that of the decoded image, whatever the annotations state.
    #[must_use]
    pub fn sample(&self, record: &ImageRecord, image: RgbImage) -> (Sample, TargetCounts) {
        let size = ImageSize::new(image.height(), image.width());
        let mut counts = TargetCounts::default();
        let mut objects = Vec::with_capacity(record.objects.len());
        for object in &record.objects {
            if object.iscrowd {
                counts.crowd += 1;
                continue;
            }
            let Some(&label) = self.labels.get(&object.category_id) else {
                counts.unknown_class += 1;
                continue;
            };
            let Some(bbox) = clamped(bbox_of(object), size) else {
                counts.degenerate += 1;
                continue;
            };
            let mask = self.masks.then(|| {
                let outline = object.segmentation.as_ref();
                outline.and_then(|outline| outline.to_mask(size).ok()).unwrap_or_else(|| {
                    counts.without_mask += 1;
                    Mask { size, bits: vec![0; image.len() / 3] }
                })
            });
            counts.kept += 1;
            #[allow(clippy::cast_possible_truncation)] // f32 as in the reference
            let area = object.area as f32;
            objects.push(Object { bbox, label, area, iscrowd: false, mask });
        }
        let sample = Sample {
            image_id: record.id,
            original_size: size,
            has_masks: self.masks,
            image,
            objects,
        };
        (sample, counts)
    }
}

/// Returns the box of an object. That of a panoptic segment reaches from its first to its last pixel and ends before
/// that one, as in the reference (`masks_to_boxes` of `util/box_ops.py`), so a segment one pixel wide has none.
fn bbox_of(object: &ObjectRecord) -> Xywh<f64> {
    match &object.segmentation {
        Some(Segmentation::Segment(code)) => {
            let Xywh { x, y, w, h } = code.bbox();
            Xywh { x, y, w: (w - 1.0).max(0.0), h: (h - 1.0).max(0.0) }
        }
        _ => object.bbox,
    }
}

/// Corners inside of the image; nothing for a box without area, or with NaN.
#[allow(clippy::cast_precision_loss)] // f32 as in the reference
fn clamped(bbox: Xywh<f64>, size: ImageSize) -> Option<Xyxy> {
    let Xywh { x, y, w, h } = bbox.to_f32();
    let (width, height) = (size.width as f32, size.height as f32);
    let corners = Xyxy {
        x1: x.clamp(0.0, width),
        y1: y.clamp(0.0, height),
        x2: (x + w).clamp(0.0, width),
        y2: (y + h).clamp(0.0, height),
    };
    (corners.x2 > corners.x1 && corners.y2 > corners.y1).then_some(corners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted() {
        let object = |category_id, bbox: [f64; 4], iscrowd| ObjectRecord {
            id: 1,
            category_id,
            bbox: bbox.into(),
            area: 1.0,
            iscrowd,
            segmentation: None,
        };
        let record = ImageRecord {
            id: 7,
            path: "a.png".into(),
            file_name: "a.png".to_owned(),
            size: None,
            objects: vec![
                object(90, [-5.0, 2.0, 10.0, 100.0], false),
                object(1, [0.0, 0.0, 9.0, 9.0], true),
                object(12, [0.0, 0.0, 9.0, 9.0], false),
                object(1, [3.0, 3.0, 0.0, 2.0], false),
                object(1, [f64::NAN, 3.0, 4.0, 2.0], false),
                object(1, [1e308, 3.0, 4.0, 2.0], false),
            ],
        };
        let rules = TargetRules::new(&ClassTable::coco()).with_masks(true);
        let (sample, counts) = rules.sample(&record, RgbImage::new(20, 10));
        let expected =
            TargetCounts { kept: 1, crowd: 1, degenerate: 3, unknown_class: 1, without_mask: 1 };
        assert_eq!(counts, expected);
        let (_, target) = Target::finish(sample);
        assert_eq!((target.image_id, target.labels.as_slice()), (7, [90].as_slice()));
        assert_eq!(target.boxes, [Cxcywh { cx: 0.125, cy: 0.6, w: 0.25, h: 0.8 }]);
        assert_eq!(target.masks.unwrap()[0].area(), 0);
    }
}
