//! From a model's last layer to scored boxes in pixels (`PostProcess` of `models/detr.py`).

use burn::tensor::{DType, Tensor, Transaction};
use detr_types::{Cxcywh, ImageSize, Xyxy};

use crate::detr::DetrOutput;

/// A query's answer before names and thresholds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Best class, "no object" excluded; the first one on a tie.
    pub label: usize,
    /// Its softmax probability.
    pub score: f32,
    /// In pixels of the original image, not clipped.
    pub bbox: Xyxy,
}

/// Predictions of the last layer on the host: the one read-back of an inference.
#[derive(Clone, Debug)]
pub struct HostOutput {
    /// Queries per image.
    pub queries: usize,
    /// Columns of the class head, "no object" included.
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
    /// The device failed; the message is Burn's.
    pub fn read(output: &DetrOutput) -> Result<Self, String> {
        let [layers, _, queries, columns] = output.pred_logits.dims();
        let last = |t: &Tensor<4>| t.clone().slice_dim(0, layers - 1..layers);
        let data = Transaction::default()
            .register(last(&output.pred_logits))
            .register(last(&output.pred_boxes))
            .try_execute()
            .map_err(|error| format!("{error:?}"))?;
        let mut vectors = data.into_iter().map(|data| {
            data.convert_dtype(DType::F32)
                .try_into_vec::<f32>()
                .map_err(|error| format!("{error:?}"))
        });
        let mut next = || vectors.next().unwrap_or_else(|| Err("a tensor is missing".to_owned()));
        Ok(Self { queries, columns, logits: next()?, boxes: next()? })
    }

    /// The first image whose predictions hold NaN or infinite numbers.
    #[must_use]
    pub fn first_non_finite(&self) -> Option<usize> {
        let bad = |values: &[f32]| values.iter().any(|value| !value.is_finite());
        let logits = self.logits.chunks_exact(self.queries * self.columns);
        let boxes = self.boxes.chunks_exact(self.queries * 4);
        logits.zip(boxes).position(|(logits, boxes)| bad(logits) || bad(boxes))
    }

    /// Every query of every image, in the order of the queries.
    ///
    /// # Shapes
    /// - `sizes`: one original size per image
    /// - output `[B][Q]`
    #[must_use]
    pub fn detr(&self, sizes: &[ImageSize]) -> Vec<Vec<Scored>> {
        let per_image = self.logits.chunks_exact(self.queries * self.columns);
        let boxes = self.boxes.chunks_exact(self.queries * 4);
        sizes
            .iter()
            .zip(per_image.zip(boxes))
            .map(|(&size, (logits, boxes))| {
                logits
                    .chunks_exact(self.columns)
                    .zip(boxes.as_chunks::<4>().0)
                    .map(|(logits, &bbox)| {
                        let (label, score) = best_class(logits);
                        Scored { label, score, bbox: to_pixels(bbox, size) }
                    })
                    .collect()
            })
            .collect()
    }
}

/// Softmax over all columns, then the best of all but the last.
fn best_class(logits: &[f32]) -> (usize, f32) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - max).exp()).sum();
    let (label, logit) = logits[..logits.len() - 1].iter().enumerate().fold(
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
