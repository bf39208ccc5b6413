//! Axis-aligned boxes, one type per format, and the one host definition of `IoU` and `GIoU`. Numbers are f32,
//! as the models predict them, or f64, as annotations have them.
//!
//! The arithmetic is that of `util/box_ops.py` in the DETR reference: no epsilon in any division,
//! so two boxes without area give NaN against each other.

use serde::{Deserialize, Serialize};

use crate::ImageSize;

/// Centre and size, as the models predict them: relative to the image, in `[0, 1]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cxcywh<T = f32> {
    /// Horizontal centre.
    pub cx: T,
    /// Vertical centre.
    pub cy: T,
    /// Width.
    pub w: T,
    /// Height.
    pub h: T,
}

/// Two corners, the form of every box that leaves the program: pixels unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Xyxy<T = f32> {
    /// Left edge.
    pub x1: T,
    /// Top edge.
    pub y1: T,
    /// Right edge.
    pub x2: T,
    /// Bottom edge.
    pub y2: T,
}

/// Top left corner and size, the form of COCO's JSON files, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Xywh<T = f32> {
    /// Left edge.
    pub x: T,
    /// Top edge.
    pub y: T,
    /// Width.
    pub w: T,
    /// Height.
    pub h: T,
}

impl Cxcywh {
    /// Returns the same box by its corners.
    #[must_use]
    pub fn to_xyxy(self) -> Xyxy {
        Xyxy {
            x1: self.cx - 0.5 * self.w,
            y1: self.cy - 0.5 * self.h,
            x2: self.cx + 0.5 * self.w,
            y2: self.cy + 0.5 * self.h,
        }
    }
}

impl Xyxy {
    /// Returns the same box by its centre and size.
    #[must_use]
    #[allow(clippy::manual_midpoint)] // rounds as the reference does
    pub fn to_cxcywh(self) -> Cxcywh {
        Cxcywh {
            cx: (self.x1 + self.x2) / 2.0,
            cy: (self.y1 + self.y2) / 2.0,
            w: self.x2 - self.x1,
            h: self.y2 - self.y1,
        }
    }

    /// Returns the same box by its top left corner and size.
    #[must_use]
    pub fn to_xywh(self) -> Xywh {
        Xywh { x: self.x1, y: self.y1, w: self.x2 - self.x1, h: self.y2 - self.y1 }
    }

    /// Converts a relative box to pixels of an image of this size.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // image sides are far below 2^24
    pub fn scaled(self, size: ImageSize) -> Self {
        let (w, h) = (size.width as f32, size.height as f32);
        Self { x1: self.x1 * w, y1: self.y1 * h, x2: self.x2 * w, y2: self.y2 * h }
    }

    /// Returns width times height, 0 if an edge is inverted.
    #[must_use]
    pub fn area(self) -> f32 {
        (self.x2 - self.x1).max(0.0) * (self.y2 - self.y1).max(0.0)
    }

    /// Returns the intersection and union areas.
    #[must_use]
    pub fn overlap(self, other: Self) -> (f32, f32) {
        let inter = Self {
            x1: self.x1.max(other.x1),
            y1: self.y1.max(other.y1),
            x2: self.x2.min(other.x2),
            y2: self.y2.min(other.y2),
        }
        .area();
        (inter, self.area() + other.area() - inter)
    }

    /// Returns the intersection over union, in `[0, 1]`; NaN if neither box has an area.
    #[must_use]
    pub fn iou(self, other: Self) -> f32 {
        let (inter, union) = self.overlap(other);
        inter / union
    }

    /// Returns the generalised `IoU` (Rezatofighi et al. 2019), in `[-1, 1]`; NaN if neither box
    /// has an area or the enclosing box has none.
    #[must_use]
    pub fn giou(self, other: Self) -> f32 {
        let (inter, union) = self.overlap(other);
        let hull = Self {
            x1: self.x1.min(other.x1),
            y1: self.y1.min(other.y1),
            x2: self.x2.max(other.x2),
            y2: self.y2.max(other.y2),
        }
        .area();
        inter / union - (hull - union) / hull
    }
}

impl Xywh {
    /// Returns the same box by its corners.
    #[must_use]
    pub fn to_xyxy(self) -> Xyxy {
        Xyxy { x1: self.x, y1: self.y, x2: self.x + self.w, y2: self.y + self.h }
    }
}

impl Xywh<f64> {
    /// Returns the same box by its corners.
    #[must_use]
    pub fn to_xyxy(self) -> Xyxy<f64> {
        Xyxy { x1: self.x, y1: self.y, x2: self.x + self.w, y2: self.y + self.h }
    }

    /// Returns width times height, which is negative if one of them is.
    #[must_use]
    pub fn area(self) -> f64 {
        self.w * self.h
    }

    /// Returns whether all four numbers are finite.
    #[must_use]
    pub fn is_finite(self) -> bool {
        self.to_array().iter().all(|side| side.is_finite())
    }

    /// Returns whether the box has an inside: width and height are positive.
    #[must_use]
    pub fn has_inside(self) -> bool {
        self.w > 0.0 && self.h > 0.0
    }

    /// Returns the box with its numbers rounded to f32.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // that is the purpose
    pub fn to_f32(self) -> Xywh {
        self.to_array().map(|side| side as f32).into()
    }
}

impl From<Xywh> for Xywh<f64> {
    fn from(bbox: Xywh) -> Self {
        bbox.to_array().map(f64::from).into()
    }
}

impl<T> From<[T; 4]> for Cxcywh<T> {
    fn from([cx, cy, w, h]: [T; 4]) -> Self {
        Self { cx, cy, w, h }
    }
}

impl<T> Cxcywh<T> {
    /// Returns the numbers in the order of the fields.
    #[must_use]
    pub fn to_array(self) -> [T; 4] {
        [self.cx, self.cy, self.w, self.h]
    }
}

impl<T> From<[T; 4]> for Xyxy<T> {
    fn from([x1, y1, x2, y2]: [T; 4]) -> Self {
        Self { x1, y1, x2, y2 }
    }
}

impl<T> Xyxy<T> {
    /// Returns the numbers in the order of the fields.
    #[must_use]
    pub fn to_array(self) -> [T; 4] {
        [self.x1, self.y1, self.x2, self.y2]
    }
}

impl<T> From<[T; 4]> for Xywh<T> {
    fn from([x, y, w, h]: [T; 4]) -> Self {
        Self { x, y, w, h }
    }
}

impl<T> Xywh<T> {
    /// Returns the numbers in the order of the fields.
    #[must_use]
    pub fn to_array(self) -> [T; 4] {
        [self.x, self.y, self.w, self.h]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_box() -> impl Strategy<Value = Xyxy> {
        (0.0f32..1.0, 0.0f32..1.0, 0.01f32..1.0, 0.01f32..1.0)
            .prop_map(|(x, y, w, h)| Xywh { x, y, w, h }.to_xyxy())
    }

    proptest! {
        #[test]
        fn iou_and_giou_are_symmetric_and_bounded(a in any_box(), b in any_box()) {
            prop_assert!((a.iou(b) - b.iou(a)).abs() < 1e-6);
            prop_assert!((a.giou(b) - b.giou(a)).abs() < 1e-6);
            prop_assert!((0.0..=1.0001).contains(&a.iou(b)));
            prop_assert!((-1.0..=1.0001).contains(&a.giou(b)));
            prop_assert!(a.giou(b) <= a.iou(b) + 1e-6);
        }

        #[test]
        fn formats_round_trip(a in any_box()) {
            let c = a.to_cxcywh().to_xyxy();
            let w = a.to_xywh().to_xyxy();
            for (x, y) in [(a.x1, c.x1), (a.y2, c.y2), (a.x2, w.x2), (a.y1, w.y1)] {
                prop_assert!((x - y).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn boxes_without_area_give_nan_like_the_reference() {
        let point = Xyxy { x1: 0.5, y1: 0.5, x2: 0.5, y2: 0.5 };
        assert!(point.iou(point).is_nan());
        assert!(point.giou(point).is_nan());
    }
}
