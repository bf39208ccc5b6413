//! Counts which class is taken for which, image by image.

use std::collections::BTreeSet;

use hotcoco::primitives::sim::{bbox_iou_pair, mask_iou_flat};
use hotcoco::{Annotation, COCO, COCOeval, Dataset};

use super::{Pair, convert, internal, iou_type};
use crate::EvalError;
use crate::options::{ConfusionOptions, EvalOptions, IouKind};
use crate::truth::GroundTruth;

/// The index of the true class and of the detected one; `None` stands for nothing there. Every object that
/// is no crowd and every detection from the score on occurs once, but for detections in a crowd.
pub(crate) type ClassPair = (Option<u32>, Option<u32>);

/// Matches one image across classes, best scores first: an object is taken by the detection that
/// overlaps it most. `classes` are the indices of those that count, sorted.
pub(crate) fn confused_pairs(
    truth: &GroundTruth,
    classes: &[usize],
    pair: &Pair<'_>,
    options: &EvalOptions,
    at: ConfusionOptions,
) -> Result<Vec<ClassPair>, EvalError> {
    let mut objects: Vec<_> = convert::objects(truth, pair, options.iou).collect();
    for (object, id) in objects.iter_mut().zip(1..) {
        object.id = id;
    }
    let mut found = Vec::new();
    convert::detections(truth, pair, options.iou, &mut found)?;
    // Only what occurs in the image, because the matrix is square in the number of classes.
    let present: BTreeSet<u64> = objects
        .iter()
        .chain(&found)
        .map(|annotation| annotation.category_id)
        .filter(|&id| usize::try_from(id).is_ok_and(|id| classes.binary_search(&id).is_ok()))
        .collect();
    if present.is_empty() {
        return Ok(Vec::new());
    }
    let objects = COCO::from_dataset(Dataset {
        images: vec![convert::image(pair)],
        annotations: objects,
        ..Dataset::default()
    });
    let mut found = objects.load_res_anns(found).map_err(internal)?;
    drop_those_in_crowds(&objects, &mut found, options.iou, at);
    let mut eval = COCOeval::new(objects, found, iou_type(options.iou));
    eval.params.cat_ids = present.into_iter().collect();
    let [.., limit] = options.max_detections;
    let matrix = eval.confusion_matrix(at.iou, Some(limit), Some(at.score));
    let side = matrix.num_cats + 1;
    let class = |index: usize| matrix.cat_ids.get(index).and_then(|&id| u32::try_from(id).ok());
    let mut pairs = Vec::new();
    for row in 0..side {
        for column in 0..side {
            for _ in 0..matrix.get(row, column) {
                pairs.push((class(row), class(column)));
            }
        }
    }
    Ok(pairs)
}

/// Takes out the detections that lie in a crowd of their class and mean no single object: they are
/// neither right nor wrong, as in the averages.
fn drop_those_in_crowds(objects: &COCO, found: &mut COCO, iou: IouKind, at: ConfusionOptions) {
    if !objects.dataset.annotations.iter().any(|object| object.iscrowd) {
        return;
    }
    let overlaps = |detection: &Annotation, object: &Annotation| {
        let overlap = match iou {
            IouKind::Bbox => {
                detection.bbox.zip(object.bbox).map(|(a, b)| bbox_iou_pair(a, b, object.iscrowd))
            }
            IouKind::Segm => objects
                .ann_to_rle(detection)
                .zip(objects.ann_to_rle(object))
                .and_then(|(a, b)| mask_iou_flat(&[a], &[b], &[object.iscrowd]).first().copied()),
        };
        overlap.is_some_and(|overlap| overlap >= at.iou)
    };
    let objects = &objects.dataset.annotations;
    let in_crowd = |detection: &Annotation| {
        let of_class =
            |object: &&Annotation| object.iscrowd && object.category_id == detection.category_id;
        objects.iter().filter(of_class).any(|crowd| overlaps(detection, crowd))
            && !objects.iter().any(|object| !object.iscrowd && overlaps(detection, object))
    };
    let low = |detection: &Annotation| detection.score.is_none_or(|score| score < at.score);
    found.dataset.annotations.retain(|detection| low(detection) || !in_crowd(detection));
    found.create_index();
}
