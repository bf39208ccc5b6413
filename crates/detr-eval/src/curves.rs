//! Precision over recall: the arrays of the accumulation, and curves made of them.

use serde::{Deserialize, Serialize};

use crate::mean::mean_of_existing;

/// The arrays that pycocotools' `accumulate` returns: T `IoU` thresholds, R recall thresholds, K
/// classes, A areas (all, small, medium, large), M limits of detections per image.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrays {
    /// The twelve numbers.
    pub stats: [f64; 12],
    /// The `IoU` thresholds, 0.50 to 0.95.
    pub iou_thresholds: Vec<f64>,
    /// The recall thresholds, 0.00 to 1.00.
    pub recall_thresholds: Vec<f64>,
    /// Index of each class among those of the ground truth.
    pub classes: Vec<usize>,
    /// A.
    pub areas: usize,
    /// M.
    pub limits: usize,
    /// `[T, R, K, A, M]`, the highest precision at this recall or a higher one.
    pub precision: Vec<f64>,
    /// `[T, R, K, A, M]`, the score at which this recall is reached.
    pub scores: Vec<f64>,
    /// `[T, K, A, M]`, the highest recall.
    pub recall: Vec<f64>,
}

impl Arrays {
    /// Returns the index in [`precision`](Self::precision) and [`scores`](Self::scores).
    #[must_use]
    pub fn at(&self, [t, r, k, a, m]: [usize; 5]) -> usize {
        let (recalls, classes) = (self.recall_thresholds.len(), self.classes.len());
        (((t * recalls + r) * classes + k) * self.areas + a) * self.limits + m
    }

    /// Returns the index in [`recall`](Self::recall).
    #[must_use]
    pub fn recall_at(&self, [t, k, a, m]: [usize; 4]) -> usize {
        ((t * self.classes.len() + k) * self.areas + a) * self.limits + m
    }

    /// Returns the precision of a class at an `IoU` threshold, whatever the area, with all
    /// detections.
    pub(crate) fn precision_of(&self, t: usize, k: usize) -> impl Iterator<Item = f64> {
        let last = self.limits - 1;
        (0..self.recall_thresholds.len()).map(move |r| self.precision[self.at([t, r, k, 0, last])])
    }

    /// Scores of a class at an `IoU` threshold.
    pub(crate) fn scores_of(&self, t: usize, k: usize) -> impl Iterator<Item = f64> {
        let last = self.limits - 1;
        (0..self.recall_thresholds.len()).map(move |r| self.scores[self.at([t, r, k, 0, last])])
    }

    /// Returns the average precision of a class at some `IoU` thresholds, as `np.mean` of them.
    pub(crate) fn average_precision(&self, thresholds: &[usize], k: usize) -> f64 {
        mean_of_existing(thresholds.iter().flat_map(|&t| self.precision_of(t, k)))
    }

    /// Returns the average recall of a class.
    pub(crate) fn average_recall(&self, k: usize) -> f64 {
        let last = self.limits - 1;
        let recall = |t| self.recall[self.recall_at([t, k, 0, last])];
        mean_of_existing((0..self.iou_thresholds.len()).map(recall))
    }

    /// Returns the index of an `IoU` threshold.
    pub(crate) fn threshold(&self, iou: f64) -> Option<usize> {
        self.iou_thresholds.iter().position(|&found| (found - iou).abs() < 1e-9)
    }
}

/// Curves of all classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurveSet {
    /// The `IoU` threshold, or none for the mean over all of them.
    pub iou: Option<f64>,
    /// The 101 recalls that every curve is given at.
    pub recall: Vec<f64>,
    /// Mean precision over the classes with objects.
    pub mean: Vec<f64>,
    /// One curve per class with objects.
    pub classes: Vec<ClassCurve>,
}

/// The curve of a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassCurve {
    /// Id of the class.
    pub category_id: i64,
    /// Its name.
    pub name: String,
    /// Its average precision.
    pub ap: f64,
    /// Precision at each recall; 0 where it is not reached.
    pub precision: Vec<f64>,
}

impl CurveSet {
    /// Curves at these `IoU` thresholds, averaged point by point. `names` are id and name of each
    /// class in the arrays.
    pub(crate) fn new(
        arrays: &Arrays,
        iou: Option<f64>,
        thresholds: &[usize],
        names: &[(i64, String)],
    ) -> Self {
        let mut classes = Vec::new();
        for (k, (category_id, name)) in names.iter().enumerate() {
            let ap = arrays.average_precision(thresholds, k);
            if ap < 0.0 {
                continue;
            }
            let lines: Vec<Vec<f64>> =
                thresholds.iter().map(|&t| arrays.precision_of(t, k).collect()).collect();
            let precision = (0..arrays.recall_thresholds.len())
                .map(|r| mean_of_existing(lines.iter().map(|line| line[r])))
                .collect();
            classes.push(ClassCurve {
                category_id: *category_id,
                name: name.clone(),
                ap,
                precision,
            });
        }
        let mean = (0..arrays.recall_thresholds.len())
            .map(|r| mean_of_existing(classes.iter().map(|class| class.precision[r])))
            .collect();
        Self { iou, recall: arrays.recall_thresholds.clone(), mean, classes }
    }
}
