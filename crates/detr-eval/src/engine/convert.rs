//! Converts our types to those of `hotcoco`, and its errors to ours.

use detr_types::Xywh;
use hotcoco::mask::{fr_polys, rle_to_string};
use hotcoco::{Annotation, Category, Image, Rle, Segmentation};

use crate::options::IouKind;
use crate::results::EvalDetection;
use crate::truth::{GroundTruth, ImageTruth, TruthObject};
use crate::{EvalError, Mask};

/// One image with what was found in it.
pub(crate) struct Pair<'a> {
    /// Index of the image.
    pub(crate) rank: usize,
    /// The true objects.
    pub(crate) truth: &'a ImageTruth,
    /// The detections, all of known classes.
    pub(crate) found: &'a [EvalDetection],
}

/// Converts all classes, by index.
pub(super) fn categories(truth: &GroundTruth) -> Vec<Category> {
    let category = |(rank, class): (usize, &crate::Category)| Category {
        id: rank as u64,
        // An empty name would cause a warning.
        name: if class.name.is_empty() { class.id.to_string() } else { class.name.clone() },
        ..Category::default()
    };
    truth.categories().iter().enumerate().map(category).collect()
}

pub(super) fn image(pair: &Pair<'_>) -> Image {
    let (height, width) = pair.truth.size.map_or((0, 0), |size| (size.height, size.width));
    Image { id: pair.rank as u64, height, width, ..Image::default() }
}

/// Converts the objects of an image.
pub(super) fn objects<'a>(
    truth: &'a GroundTruth,
    pair: &Pair<'a>,
    iou: IouKind,
) -> impl Iterator<Item = Annotation> + use<'a> {
    let image_id = pair.rank as u64;
    let annotation = move |object: &TruthObject| {
        let category_id = truth.category_rank(object.category_id)? as u64;
        let mask = object.mask.as_ref().filter(|_| iou == IouKind::Segm);
        Some(Annotation {
            image_id,
            category_id,
            bbox: Some(object.bbox.to_array()),
            area: object.area,
            iscrowd: object.iscrowd,
            segmentation: mask.cloned().map(segmentation),
            ..Annotation::default()
        })
    };
    pair.truth.objects.iter().filter_map(annotation)
}

/// Converts the detections of an image.
pub(super) fn detections(
    truth: &GroundTruth,
    pair: &Pair<'_>,
    iou: IouKind,
    out: &mut Vec<Annotation>,
) -> Result<(), EvalError> {
    for detected in pair.found {
        let Some(category) = truth.category_rank(detected.category_id) else { continue };
        out.push(Annotation {
            image_id: pair.rank as u64,
            category_id: category as u64,
            bbox: detected.bbox.map(Xywh::to_array),
            segmentation: region(detected, pair.truth, iou)?,
            score: Some(detected.score),
            ..Annotation::default()
        });
    }
    Ok(())
}

/// Returns the mask that a detection is compared by, or that its box and area come from.
fn region(
    detected: &EvalDetection,
    image: &ImageTruth,
    iou: IouKind,
) -> Result<Option<Segmentation>, EvalError> {
    let Some(mask) = &detected.mask else { return Ok(None) };
    match (detected.bbox.is_some(), iou) {
        (true, IouKind::Bbox) => Ok(None),
        (true, IouKind::Segm) => Ok(Some(segmentation(mask.clone()))),
        // Box and area are taken from the text form only.
        (false, _) => Ok(Some(text(mask, image)?)),
    }
}

fn segmentation(mask: Mask) -> Segmentation {
    match mask {
        Mask::Polygons(polygons) => Segmentation::Polygon(polygons),
        Mask::Runs { size, counts } => {
            Segmentation::UncompressedRle { size: [size.height, size.width], counts }
        }
        Mask::Text { size, counts } => {
            Segmentation::CompressedRle { size: [size.height, size.width], counts }
        }
    }
}

fn text(mask: &Mask, image: &ImageTruth) -> Result<Segmentation, EvalError> {
    let rle = match mask {
        Mask::Text { .. } => return Ok(segmentation(mask.clone())),
        Mask::Runs { size, counts } => {
            Rle { h: size.height, w: size.width, counts: counts.clone() }
        }
        Mask::Polygons(polygons) => {
            let (height, width) = image.size.map_or((0, 0), |size| (size.height, size.width));
            fr_polys(polygons, height, width).map_err(internal)?
        }
    };
    Ok(Segmentation::CompressedRle { size: [rle.h, rle.w], counts: rle_to_string(&rle) })
}

#[allow(clippy::needless_pass_by_value)] // for map_err
pub(super) fn internal(error: hotcoco::Error) -> EvalError {
    EvalError::Engine(error.to_string())
}
