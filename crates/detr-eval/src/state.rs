//! Part of an evaluation as bytes, to be carried from one rank to another.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::evaluator::ImageSummary;
use crate::options::EvalOptions;
use crate::truth::GroundTruth;
use crate::{EvalError, Evaluator};

const MAGIC: &[u8; 8] = b"detreval";
/// The version of the format, raised whenever the header changes.
const VERSION: u32 = 1;

/// The JSON that stands before the bytes of the engine.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    fingerprint: u64,
    options: EvalOptions,
    duplicate_images: usize,
    other_images: usize,
    seen: BTreeMap<usize, ImageSummary>,
}

impl Evaluator {
    /// Writes everything added so far, for [`from_bytes`](Self::from_bytes) on another rank that
    /// runs the same program.
    ///
    /// # Errors
    /// None that more input could cause; see [`EvalError::Engine`].
    pub fn to_bytes(&mut self) -> Result<Vec<u8>, EvalError> {
        self.flush()?;
        let header = Header {
            version: VERSION,
            fingerprint: self.truth.fingerprint(),
            options: self.options.clone(),
            duplicate_images: self.duplicate_images,
            other_images: self.other_images,
            seen: self.seen.clone(),
        };
        let header = serde_json::to_vec(&header)
            .map_err(|error| EvalError::State(detr_types::in_plain_words(&error.to_string())))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header);
        bytes.extend(self.engine.to_bytes());
        Ok(bytes)
    }

    /// Reads the bytes that [`to_bytes`](Self::to_bytes) returned, to merge them or to add to them.
    ///
    /// # Errors
    /// [`EvalError::State`] for other or damaged bytes, [`EvalError::Merge`] for those of an
    /// evaluation with other ground truth.
    pub fn from_bytes(truth: Arc<GroundTruth>, bytes: &[u8]) -> Result<Self, EvalError> {
        let cut = || EvalError::State("it is cut off".to_owned());
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| EvalError::State("it starts with something else".to_owned()))?;
        let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| cut())?;
        let (header, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        let header: Header =
            serde_json::from_slice(header).map_err(|error| EvalError::State(error.to_string()))?;
        if header.version != VERSION {
            return Err(EvalError::State(format!("it has version {}", header.version)));
        }
        if header.fingerprint != truth.fingerprint() {
            return Err(EvalError::Merge { what: "the ground truth" });
        }
        if header.seen.keys().any(|&rank| rank >= truth.images().len()) {
            return Err(EvalError::State("it has images that do not exist".to_owned()));
        }
        let mut evaluator = Self::new(truth, header.options)?;
        // Merging makes sure that classes and settings are those of the options.
        evaluator.engine.merge(Engine::from_bytes(rest, evaluator.options.iou)?)?;
        evaluator.seen = header.seen;
        evaluator.duplicate_images = header.duplicate_images;
        evaluator.other_images = header.other_images;
        Ok(evaluator)
    }
}
