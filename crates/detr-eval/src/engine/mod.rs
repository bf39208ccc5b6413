//! The bridge to `hotcoco`, which does the matching and the accumulation.
//!
//! Images and classes go by their index in the sorted ground truth, because `hotcoco` knows no
//! negative ids; sorting keeps the order, which decides between equal scores. What would make
//! `hotcoco` warn on the terminal, or count a broken mask as empty, is refused before it gets here.

mod confusion;
mod convert;
pub(crate) mod panoptic;
pub(crate) mod runs;

use hotcoco::{EvalMode, IouType, Params, StreamingEval};

use crate::EvalError;
use crate::curves::Arrays;
use crate::options::{EvalOptions, IouKind};
use crate::truth::GroundTruth;

pub(crate) use confusion::{ClassPair, confused_pairs};
pub(crate) use convert::Pair;
use convert::internal;

/// Matching in progress.
pub(crate) struct Engine {
    streaming: StreamingEval,
    iou: IouKind,
}

impl Engine {
    /// Prepares the matching for these classes, given by their indices.
    pub(crate) fn new(
        truth: &GroundTruth,
        classes: &[usize],
        options: &EvalOptions,
    ) -> Result<Self, EvalError> {
        let mut params = Params::new(iou_type(options.iou));
        params.max_dets = options.max_detections.to_vec();
        params.cat_ids = classes.iter().map(|&rank| rank as u64).collect();
        let categories = convert::categories(truth);
        let streaming = StreamingEval::new(params, EvalMode::Coco, categories).map_err(internal)?;
        Ok(Self { streaming, iou: options.iou })
    }

    /// Matches some images. An image is given once.
    pub(crate) fn update(
        &mut self,
        truth: &GroundTruth,
        pairs: &[Pair<'_>],
    ) -> Result<(), EvalError> {
        // The first detection of a batch decides for all of it where areas come from.
        let (boxed, masked): (Vec<_>, Vec<_>) = pairs
            .iter()
            .partition(|pair| pair.found.first().is_none_or(|first| first.bbox.is_some()));
        for group in [boxed, masked] {
            if group.is_empty() {
                continue;
            }
            let images = group.iter().map(|pair| convert::image(pair)).collect();
            let objects =
                group.iter().flat_map(|pair| convert::objects(truth, pair, self.iou)).collect();
            let mut found = Vec::with_capacity(group.iter().map(|pair| pair.found.len()).sum());
            for pair in &group {
                convert::detections(truth, pair, self.iou, &mut found)?;
            }
            self.streaming.update(images, objects, found).map_err(internal)?;
        }
        Ok(())
    }

    /// Adds the images of another part; for an image in both, the other's result stays.
    pub(crate) fn merge(&mut self, other: Self) -> Result<(), EvalError> {
        self.streaming.merge(other.streaming).map_err(internal)
    }

    /// Writes the state as bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.streaming.to_bytes()
    }

    /// Reads the state that [`to_bytes`](Self::to_bytes) wrote.
    pub(crate) fn from_bytes(bytes: &[u8], iou: IouKind) -> Result<Self, EvalError> {
        let streaming = StreamingEval::from_bytes(bytes)
            .map_err(|error| EvalError::State(error.to_string()))?;
        Ok(Self { streaming, iou })
    }

    /// Accumulates over all images.
    pub(crate) fn finish(self) -> Result<Arrays, EvalError> {
        let mut eval = self.streaming.finalize();
        eval.accumulate();
        eval.summarize_lines();
        let missing = || EvalError::Engine("no result".to_owned());
        let stats = eval.stats().and_then(|stats| stats.try_into().ok()).ok_or_else(missing)?;
        let arrays = eval.accumulated().ok_or_else(missing)?;
        let index = |&rank: &u64| usize::try_from(rank).map_err(|_| missing());
        Ok(Arrays {
            stats,
            iou_thresholds: eval.params.iou_thrs.clone(),
            recall_thresholds: eval.params.rec_thrs.clone(),
            classes: arrays.cat_ids.iter().map(index).collect::<Result<_, _>>()?,
            areas: arrays.shape.a,
            limits: arrays.shape.m,
            precision: arrays.precision.clone(),
            scores: arrays.scores.clone(),
            recall: arrays.recall.clone(),
        })
    }
}

fn iou_type(iou: IouKind) -> IouType {
    match iou {
        IouKind::Bbox => IouType::Bbox,
        IouKind::Segm => IouType::Segm,
    }
}
