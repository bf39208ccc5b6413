//! From a model's last layer to scored boxes in pixels (`PostProcess` of `models/detr.py` and of
//! Deformable DETR's `models/deformable_detr.py`).

mod masks;
mod panoptic;
mod resample;

use burn::tensor::{Tensor, Transaction};
use detr_ops::traffic::{self, DeviceError};
use detr_types::{Cxcywh, ImageSize, Xyxy};

use crate::output::{ABSENT, DetrOutput};
pub use masks::{HostMasks, MaskSizes};
pub use panoptic::{KeptQuery, Segment, Segments};

/// The function that turns the logits of a query into scores, and with it the way of choosing answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScoreActivation {
    /// A softmax over the classes and "no object": every query gives one answer (DETR).
    Softmax,
    /// A sigmoid for every class: the best pairs of query and class are the answers (Deformable DETR).
    Sigmoid,
}

/// An answer before names and thresholds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawDetection {
    /// The query that answers.
    pub query: usize,
    /// Class.
    pub label: usize,
    /// Its probability.
    pub score: f32,
    /// In pixels of the original image, not clipped.
    pub bbox: Xyxy,
}

/// Predictions of the last layer on the host: the one read-back of an inference.
#[derive(Clone, Debug)]
pub struct HostOutput {
    /// Queries per image.
    pub queries: usize,
    /// Columns of the class head; the last of DETR's is "no object".
    pub columns: usize,
    /// `[B, Q, columns]`.
    pub logits: Vec<f32>,
    /// `[B, Q, 4]`, relative centre and size.
    pub boxes: Vec<f32>,
}

impl HostOutput {
    /// Reads the last layer's predictions.
    ///
    /// # Errors
    /// The device failed.
    pub fn read(output: &DetrOutput) -> Result<Self, DeviceError> {
        let [layers, _, queries, columns] = output.pred_logits.dims();
        let last = |t: &Tensor<4>| t.clone().slice_dim(0, layers - 1..layers);
        let last = Transaction::default()
            .register(last(&output.pred_logits))
            .register(last(&output.pred_boxes));
        let [logits, boxes] = <[_; 2]>::try_from(traffic::read_f32(last)?)
            .map_err(|_| DeviceError::new(&"a tensor is missing"))?;
        Ok(Self { queries, columns, logits, boxes })
    }

    /// Returns the first image whose predictions hold NaN or infinite numbers.
    #[must_use]
    pub fn first_non_finite(&self) -> Option<usize> {
        let bad = |values: &[f32]| values.iter().any(|value| !value.is_finite());
        let logits = self.logits.chunks_exact(self.queries * self.columns);
        let boxes = self.boxes.chunks_exact(self.queries * 4);
        logits.zip(boxes).position(|(logits, boxes)| bad(logits) || bad(boxes))
    }

    /// Returns the answers of a model with this activation: those of [`HostOutput::detr`], or the `most`
    /// best of [`HostOutput::deformable`] among the labels that are wanted.
    #[must_use]
    pub fn answers(
        &self,
        activation: ScoreActivation,
        sizes: &[ImageSize],
        most: usize,
        wanted: impl Fn(usize) -> bool,
    ) -> Vec<Vec<RawDetection>> {
        match activation {
            ScoreActivation::Softmax => self.detr(sizes),
            ScoreActivation::Sigmoid => self.deformable(sizes, most, wanted),
        }
    }

    /// Scores every query of every image by softmax, with its best class, "no object" excluded. The
    /// results are in the order of the queries; the first class wins a tie.
    ///
    /// # Shapes
    /// - `sizes`: one original size per image
    /// - output `[B][Q]`
    #[must_use]
    pub fn detr(&self, sizes: &[ImageSize]) -> Vec<Vec<RawDetection>> {
        self.images(sizes)
            .map(|(size, logits, boxes)| {
                logits
                    .chunks_exact(self.columns)
                    .zip(boxes)
                    .enumerate()
                    .map(|(query, (logits, &bbox))| {
                        let (label, score) = softmax_best(logits, logits.len() - 1);
                        RawDetection { query, label, score, bbox: to_pixels(bbox, size) }
                    })
                    .collect()
            })
            .collect()
    }

    /// Selects the best pairs of query and class of every image by sigmoid, best first; a query can
    /// answer with several classes. The published numbers take 100 pairs, of all classes.
    ///
    /// # Shapes
    /// - `sizes`: one original size per image
    /// - output `[B][most]`, or fewer if there are no more pairs
    #[must_use]
    pub fn deformable(
        &self,
        sizes: &[ImageSize],
        most: usize,
        wanted: impl Fn(usize) -> bool,
    ) -> Vec<Vec<RawDetection>> {
        let columns: Vec<bool> = (0..self.columns).map(wanted).collect();
        self.images(sizes)
            .map(|(size, logits, boxes)| {
                best_pairs(logits, &columns, most)
                    .into_iter()
                    .map(|pair| RawDetection {
                        query: pair / self.columns,
                        label: pair % self.columns,
                        score: 1.0 / (1.0 + (-logits[pair]).exp()),
                        bbox: to_pixels(boxes[pair / self.columns], size),
                    })
                    .collect()
            })
            .collect()
    }

    /// Returns the queries of every image that become segments: those of which a class is the best answer, "no object"
    /// included, with a probability above `threshold`.
    #[must_use]
    pub fn kept(&self, threshold: f32) -> Vec<Vec<KeptQuery>> {
        self.logits
            .chunks_exact(self.queries * self.columns)
            .map(|logits| panoptic::kept(logits, self.columns, threshold))
            .collect()
    }

    /// Returns the size, logits and boxes of every image.
    fn images<'a>(
        &'a self,
        sizes: &'a [ImageSize],
    ) -> impl Iterator<Item = (ImageSize, &'a [f32], &'a [[f32; 4]])> {
        let logits = self.logits.chunks_exact(self.queries * self.columns);
        let boxes = self.boxes.chunks_exact(self.queries * 4).map(|boxes| boxes.as_chunks().0);
        sizes.iter().zip(logits.zip(boxes)).map(|(&size, (logits, boxes))| (size, logits, boxes))
    }
}

/// Finds the places of the largest logits in the columns that are wanted, largest first; the first
/// ones on a tie. Logits have the order of their sigmoids, and keep it where those round to 1.
/// Queries that stand for nothing are left out.
fn best_pairs(logits: &[f32], wanted: &[bool], most: usize) -> Vec<usize> {
    let better = |&i: &usize, &j: &usize| logits[j].total_cmp(&logits[i]).then(i.cmp(&j));
    let there = |&i: &usize| wanted[i % wanted.len()] && logits[i] > ABSENT;
    let mut order: Vec<usize> = (0..logits.len()).filter(there).collect();
    if most < order.len() {
        order.select_nth_unstable_by(most, better);
        order.truncate(most);
    }
    order.sort_unstable_by(better);
    order
}

/// Computes the softmax over all columns, and returns the best of the first `columns`; the first
/// one on a tie.
fn softmax_best(logits: &[f32], columns: usize) -> (usize, f32) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - max).exp()).sum();
    let (label, logit) = logits[..columns].iter().enumerate().fold(
        (0, f32::NEG_INFINITY),
        |best, (label, &logit)| {
            if logit > best.1 { (label, logit) } else { best }
        },
    );
    (label, (logit - max).exp() / sum)
}

fn to_pixels([cx, cy, w, h]: [f32; 4], size: ImageSize) -> Xyxy {
    Cxcywh { cx, cy, w, h }.to_xyxy().scaled(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(logits: Vec<f32>) -> HostOutput {
        HostOutput { queries: 3, columns: 2, logits, boxes: vec![0.5; 12] }
    }

    fn found(host: &HostOutput, most: usize, wanted: impl Fn(usize) -> bool) -> Vec<(usize, f32)> {
        let answers = host.deformable(&[ImageSize::new(10, 10)], most, wanted);
        answers[0].iter().map(|answer| (answer.label, answer.score)).collect()
    }

    #[test]
    fn the_best_pairs_are_taken_among_the_labels_that_are_wanted() {
        let host = host(vec![3.0, 1.0, 2.0, 5.0, ABSENT, ABSENT]);
        let labels = |pairs: &[(usize, f32)]| pairs.iter().map(|pair| pair.0).collect::<Vec<_>>();
        assert_eq!(labels(&found(&host, 2, |_| true)), [1, 0]);
        assert_eq!(labels(&found(&host, 2, |label| label == 0)), [0, 0]);
        // More than there are, and queries that stand for nothing.
        let all = found(&host, 300, |_| true);
        assert_eq!(labels(&all), [1, 0, 0, 1]);
        assert!(all.is_sorted_by(|a, b| a.1 >= b.1));
        assert!(found(&host, 0, |_| true).is_empty());
    }
}
