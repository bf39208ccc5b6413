//! Detections, as a model or a results file gives them.

use std::collections::BTreeMap;

use detr_types::Xywh;

use crate::error::MaskError;
use crate::options::IouKind;
use crate::truth::ImageTruth;
use crate::{EvalError, Mask};

/// One detected object.
#[derive(Clone, Debug, PartialEq)]
pub struct EvalDetection {
    /// Class, by the id of the ground truth.
    pub category_id: i64,
    /// Confidence; only its order matters.
    pub score: f64,
    /// The box in pixels. Its area decides whether the object is small,
    /// medium or large; without a box the mask's does, as in pycocotools.
    pub bbox: Option<Xywh<f64>>,
    /// The pixels; of use for masks only.
    pub mask: Option<Mask>,
}

/// Detections of many images, by image id; those of an image in the order of their source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    /// Detections by image id.
    pub images: BTreeMap<i64, Vec<EvalDetection>>,
}

impl Results {
    /// Returns the number of detections.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.values().map(Vec::len).sum()
    }

    /// Returns whether there is no detection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Refuses detections that would silently count as misses, or whose order is undefined.
pub(crate) fn check_detections(
    image: &ImageTruth,
    detections: &[EvalDetection],
    iou: IouKind,
) -> Result<(), EvalError> {
    let has_box = detections.first().is_some_and(|first| first.bbox.is_some());
    for (index, detection) in detections.iter().enumerate() {
        let wrong = |field, message, hint| EvalError::Detection {
            image_id: image.id,
            index,
            field,
            message,
            hint,
        };
        if !detection.score.is_finite() {
            let message = format!("{}, expected a finite number", detection.score);
            return Err(wrong("score", message, "scores order the detections"));
        }
        match detection.bbox {
            Some(bbox) if !bbox.is_finite() => {
                let hint = "a box is left, top, width and height in pixels";
                return Err(wrong(
                    "bbox",
                    format!("{:?}, expected finite numbers", bbox.to_array()),
                    hint,
                ));
            }
            None if detection.mask.is_none() => {
                let hint = "a detection has a box, a mask or both";
                return Err(wrong("bbox", "neither box nor mask".into(), hint));
            }
            bbox if bbox.is_some() != has_box => {
                let hint = "give all detections of an image a box, or none; the area of the one \
                            or of the mask decides the size class";
                return Err(wrong(
                    "bbox",
                    "some detections have a box, some have none".into(),
                    hint,
                ));
            }
            _ => {}
        }
        let needed = iou == IouKind::Segm || detection.bbox.is_none();
        match &detection.mask {
            Some(mask) if needed => mask
                .check(image.size)
                .map_err(|error| wrong("segmentation", error.to_string(), error.hint()))?,
            // Like pycocotools, compare a box without a mask as a rectangle.
            None if iou == IouKind::Segm && image.size.is_none() => {
                let error = MaskError::NoSize;
                return Err(wrong("segmentation", error.to_string(), error.hint()));
            }
            _ => {}
        }
    }
    Ok(())
}
