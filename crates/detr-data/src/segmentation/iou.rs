//! Overlap of masks and boxes as COCO's evaluation counts it: against a crowd, the part of the
//! detection that lies inside the crowd.

use detr_types::Xywh;
use detr_types::masks::overlay;

use super::Rle;

/// Returns the intersection over union of masks, or over the first one's area when the second is a
/// crowd; `None` for masks of different sizes.
#[must_use]
#[allow(clippy::cast_precision_loss)] // pixels
pub fn mask_iou(detection: &Rle, truth: &Rle, crowd: bool) -> Option<f64> {
    if detection.size != truth.size {
        return None;
    }
    let (mut inter, mut union) = (0_u64, 0_u64);
    for (length, a, b) in overlay(detection, truth) {
        inter += if a && b { u64::from(length) } else { 0 };
        union += if a || b { u64::from(length) } else { 0 };
    }
    if inter == 0 {
        return Some(0.0);
    }
    let whole = if crowd { detection.area() } else { union };
    Some(inter as f64 / whole as f64)
}

/// Computes the overlap of two boxes as [`mask_iou`] does for masks.
#[must_use]
pub fn box_iou(detection: Xywh<f64>, truth: Xywh<f64>, crowd: bool) -> f64 {
    let ([dx, dy, dw, dh], [gx, gy, gw, gh]) = (detection.to_array(), truth.to_array());
    let w = (dx + dw).min(gx + gw) - dx.max(gx);
    let h = (dy + dh).min(gy + gh) - dy.max(gy);
    if w <= 0.0 || h <= 0.0 {
        return 0.0;
    }
    let inter = w * h;
    let whole = if crowd { dw * dh } else { dw * dh + gw * gh - inter };
    inter / whole
}
