//! The result of an evaluation, for people, files and training loops.

use serde::{Deserialize, Serialize};

use crate::curves::{Arrays, CurveSet};
use crate::options::{EvalOptions, IouKind};
use crate::truth::GroundTruth;

/// Everything that was measured. Averages are in `[0, 1]`, or -1 where there is nothing to average,
/// as in pycocotools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// The shapes that were compared: boxes or masks.
    pub iou: IouKind,
    /// Detections per image and class that counted.
    pub max_detections: [usize; 3],
    /// The numbers of objects and detections that were counted and left out.
    pub counts: Counts,
    /// The twelve numbers.
    pub summary: Summary,
    /// Each class that was evaluated, by id.
    pub classes: Vec<ClassMetrics>,
    /// The confusion of classes, if asked for.
    pub confusion: Option<Confusion>,
    /// Precision over recall: the mean over `IoU` 0.50 to 0.95, at 0.50 and at 0.75.
    pub curves: Vec<CurveSet>,
}

/// The amount of data in an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Images evaluated, those without detections included.
    pub images: usize,
    /// The number of these images that have no detection.
    pub images_without_detections: usize,
    /// Objects of the classes evaluated, crowds included.
    pub objects: usize,
    /// The number of these objects that are crowds.
    pub crowds: usize,
    /// Detections that counted.
    pub detections: usize,
    /// Detections left out because of their score.
    pub below_threshold: usize,
    /// Detections left out because the ground truth does not have their class.
    pub unknown_category: usize,
    /// Images given more than once; the first result counts.
    pub duplicate_images: usize,
    /// Images given although they are not to be evaluated.
    pub other_images: usize,
}

/// The twelve numbers of COCO, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Average precision, mean over `IoU` 0.50 to 0.95.
    pub ap: f64,
    /// At `IoU` 0.50.
    pub ap50: f64,
    /// At `IoU` 0.75.
    pub ap75: f64,
    /// The average precision of objects below 32 x 32 pixels.
    pub ap_small: f64,
    /// The average precision of objects from there to 96 x 96.
    pub ap_medium: f64,
    /// The average precision of larger objects.
    pub ap_large: f64,
    /// Average recall with the fewest detections per image and class (1).
    pub ar_few: f64,
    /// The average recall with 10 detections per image.
    pub ar_some: f64,
    /// The average recall with 100 detections per image.
    pub ar: f64,
    /// The average recall of objects below 32 x 32 pixels.
    pub ar_small: f64,
    /// The average recall of objects from there to 96 x 96.
    pub ar_medium: f64,
    /// The average recall of larger objects.
    pub ar_large: f64,
}

/// One class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// Its id.
    pub category_id: i64,
    /// Its name.
    pub name: String,
    /// Objects that are no crowd.
    pub objects: usize,
    /// Average precision, mean over `IoU` 0.50 to 0.95.
    pub ap: f64,
    /// At `IoU` 0.50.
    pub ap50: f64,
    /// At `IoU` 0.75.
    pub ap75: f64,
    /// Average recall with all detections.
    pub ar: f64,
    /// The point where precision and recall balance best, if anything was found.
    pub best_f1: Option<BestF1>,
}

/// The best balance of precision and recall at `IoU` 0.50, of the 101 points of the curve: an
/// estimate, because the curve has the highest precision at each recall or beyond.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestF1 {
    /// The score to cut at.
    pub score: f64,
    /// Harmonic mean of the other two.
    pub f1: f64,
    /// Precision there.
    pub precision: f64,
    /// Recall there.
    pub recall: f64,
}

/// A table of which class was taken for which. Crowds are no objects here; a detection in a crowd
/// of its class that means no single object is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    /// Detections below this score are left out.
    pub score: f64,
    /// Overlap from which a detection means an object.
    pub iou: f64,
    /// The names of the classes by row and column. There is one row and one column more: the last
    /// row counts detections of nothing, the last column objects that were not found.
    pub classes: Vec<String>,
    /// `[K + 1, K + 1]`: true class by row, found class by column.
    pub counts: Vec<Vec<u64>>,
}

impl Summary {
    /// Returns the twelve numbers in COCO's order.
    #[must_use]
    pub fn values(&self) -> [f64; 12] {
        let precision = [self.ap, self.ap50, self.ap75];
        let precision_by_area = [self.ap_small, self.ap_medium, self.ap_large];
        let recall = [self.ar_few, self.ar_some, self.ar];
        let recall_by_area = [self.ar_small, self.ar_medium, self.ar_large];
        let mut values = [0.0; 12];
        let groups = [precision, precision_by_area, recall, recall_by_area];
        for (slot, value) in values.iter_mut().zip(groups.as_flattened()) {
            *slot = *value;
        }
        values
    }
}

impl From<[f64; 12]> for Summary {
    #[rustfmt::skip]
    fn from(values: [f64; 12]) -> Self {
        let [
            ap, ap50, ap75, ap_small, ap_medium, ap_large,
            ar_few, ar_some, ar, ar_small, ar_medium, ar_large,
        ] = values;
        Self {
            ap, ap50, ap75, ap_small, ap_medium, ap_large,
            ar_few, ar_some, ar, ar_small, ar_medium, ar_large,
        }
    }
}

impl Metrics {
    /// Computes the result from the arrays.
    pub(crate) fn new(
        truth: &GroundTruth,
        arrays: &Arrays,
        options: &EvalOptions,
        counts: Counts,
        objects: &[usize],
        confusion: Option<Confusion>,
    ) -> Self {
        let all: Vec<usize> = (0..arrays.iou_thresholds.len()).collect();
        let at = |iou| arrays.threshold(iou).into_iter().collect::<Vec<_>>();
        let (half, three_quarters) = (at(0.5), at(0.75));
        let categories = truth.categories();
        let names: Vec<(i64, String)> = arrays
            .classes
            .iter()
            .map(|&rank| (categories[rank].id, categories[rank].name.clone()))
            .collect();
        let classes = names
            .iter()
            .enumerate()
            .map(|(k, (category_id, name))| ClassMetrics {
                category_id: *category_id,
                name: name.clone(),
                objects: objects[arrays.classes[k]],
                ap: arrays.average_precision(&all, k),
                ap50: arrays.average_precision(&half, k),
                ap75: arrays.average_precision(&three_quarters, k),
                ar: arrays.average_recall(k),
                best_f1: half.first().and_then(|&t| best_f1(arrays, t, k)),
            })
            .collect();
        let curves = [(None, &all), (Some(0.5), &half), (Some(0.75), &three_quarters)]
            .map(|(iou, thresholds)| CurveSet::new(arrays, iou, thresholds, &names));
        Self {
            iou: options.iou,
            max_detections: options.max_detections,
            counts,
            summary: arrays.stats.into(),
            classes,
            confusion,
            curves: curves.into(),
        }
    }
}

fn best_f1(arrays: &Arrays, t: usize, k: usize) -> Option<BestF1> {
    arrays
        .precision_of(t, k)
        .zip(arrays.scores_of(t, k))
        .zip(&arrays.recall_thresholds)
        .filter(|((precision, _), recall)| *precision > 0.0 && **recall > 0.0)
        .map(|((precision, score), &recall)| BestF1 {
            score,
            f1: 2.0 * precision * recall / (precision + recall),
            precision,
            recall,
        })
        .max_by(|a, b| a.f1.total_cmp(&b.f1))
}
