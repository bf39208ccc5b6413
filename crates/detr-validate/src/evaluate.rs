//! Runs a detector over the images of a data set and scores it as the reference's evaluation does.

use std::ops::ControlFlow;

use detr_data::RgbImage;
use detr_detect::{
    Detect, DetectionStream, ImageFault, PredictError, StageTimes, StreamItem, StreamOptions,
};
use detr_eval::{EvalDetection, EvalError, Evaluator, IouKind, Mask};
use detr_model::postprocess::ScoreActivation;
use detr_types::Detection;

use crate::categories::CategoryMap;

/// Returns the largest number of answers of an image that an evaluation counts: one of every query where
/// classes exclude each other, and otherwise the `most` best pairs of query and class. The published
/// numbers take 100.
#[must_use]
pub const fn max_answers(activation: ScoreActivation, most: usize) -> usize {
    match activation {
        ScoreActivation::Softmax => usize::MAX,
        ScoreActivation::Sigmoid => most,
    }
}

/// An image of an evaluation, as it is handed to the caller before it counts.
pub struct EvaluatedImage<'a> {
    /// Its id in the data set.
    pub image_id: i64,
    /// The detections, or the reason why there are none: such an image counts as one without
    /// detections.
    pub found: Result<&'a [Detection], &'a ImageFault>,
    /// The detections that count: those of categories of the data, best first.
    pub scored: &'a [EvalDetection],
}

/// Detects in all images and adds what was found to an evaluator. `on_image` sees every image in its order,
/// and may end the evaluation. Returns the number of images that went through the model and the time they
/// took.
///
/// # Errors
/// A device that fails, an image that the evaluator does not know, or an error of `on_image`.
pub fn evaluate<E: From<PredictError> + From<EvalError>>(
    detect: &impl Detect,
    images: impl Iterator<Item = (i64, Result<RgbImage, ImageFault>)>,
    options: StreamOptions,
    categories: &CategoryMap,
    evaluator: &mut Evaluator,
    mut on_image: impl FnMut(EvaluatedImage<'_>) -> Result<ControlFlow<()>, E>,
) -> Result<(usize, StageTimes), E> {
    let iou = evaluator.iou();
    let mut stream = DetectionStream::new(detect, images, options);
    for item in stream.by_ref() {
        let StreamItem { key: image_id, found } = item?;
        let found = found.as_ref().map(|(_, detections)| detections.as_slice());
        let scored: Vec<EvalDetection> = found
            .iter()
            .flat_map(|detections| detections.iter())
            .filter_map(|detection| to_score(detection, categories, iou))
            .collect();
        let flow = on_image(EvaluatedImage { image_id, found, scored: &scored })?;
        if flow.is_break() {
            break;
        }
        evaluator.add(image_id, scored)?;
    }
    Ok((stream.images_done(), stream.times()))
}

/// Returns a detection by the ids of the data, with what is compared: its box or its mask. `None` if the data lack its
/// class.
#[must_use]
pub fn to_score(
    detection: &Detection,
    categories: &CategoryMap,
    iou: IouKind,
) -> Option<EvalDetection> {
    let mask = detection
        .mask
        .as_ref()
        .filter(|_| iou == IouKind::Segm)
        .map(|rle| Mask::Runs { size: rle.size, counts: rle.counts.clone() });
    Some(EvalDetection {
        category_id: categories.category(detection.label)?,
        score: detection.score.into(),
        // The area of a mask decides about its size class only where there is no box, as in the reference's results.
        bbox: mask.is_none().then(|| detection.bbox.to_xywh().into()),
        mask,
    })
}
