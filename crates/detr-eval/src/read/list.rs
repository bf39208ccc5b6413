//! A results file, sorted into images while it is read, so that detections are held once.

use std::fmt;

use detr_types::Xywh;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::fields::{Id, RawBox, RawMask};
use crate::Mask;
use crate::results::{EvalDetection, Results};

/// Results to be compared by their boxes. Masks are kept only if there are no boxes.
pub(super) struct BoxResults(pub(super) Results);

/// Results to be compared by their masks.
pub(super) struct MaskResults(pub(super) Results);

impl<'de> Deserialize<'de> for BoxResults {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List(false)).map(Self)
    }
}

impl<'de> Deserialize<'de> for MaskResults {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List(true)).map(Self)
    }
}

#[derive(Deserialize)]
struct RawResult {
    image_id: Id,
    category_id: Id,
    score: f64,
    bbox: Option<RawBox>,
    segmentation: Option<RawMask>,
}

/// Whether masks are wanted beside boxes.
struct List(bool);

impl<'de> Visitor<'de> for List {
    type Value = Results;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of detections")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Results, A::Error> {
        let mut results = Results::default();
        let mut boxed = None;
        let mut index = 0_usize;
        while let Some(raw) = list.next_element::<RawResult>()? {
            let found = raw.bbox.and_then(|bbox| bbox.0);
            let boxed = *boxed.get_or_insert(found.is_some());
            let mask: Option<Mask> = raw.segmentation.and_then(|mask| mask.0);
            if boxed && found.is_none() {
                let message = format!("[{index}].bbox: missing, but the first detection has one");
                return Err(A::Error::custom(message));
            }
            if !boxed && mask.is_none() {
                let message = format!("[{index}].bbox, segmentation: both missing");
                return Err(A::Error::custom(message));
            }
            results.images.entry(raw.image_id.0).or_default().push(EvalDetection {
                category_id: raw.category_id.0,
                score: raw.score,
                bbox: found.filter(|_| boxed).map(Xywh::from),
                mask: mask.filter(|_| self.0 || !boxed),
            });
            index += 1;
        }
        Ok(results)
    }
}
