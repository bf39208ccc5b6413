//! Our own artifact: a folder with `model.safetensors` (official names, so that PyTorch users can
//! load it) and the model card `model.json`, written last: without a card there is no model.

use std::io;
use std::path::Path;

use detr_types::fs::atomic_write;
use detr_types::{ClassTable, PreprocessSpec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::architecture::Architecture;
use super::folder::{CARD_FILE, WEIGHTS_FILE, read_json};
use super::{StateDict, WeightsError, safetensors};

/// Newest card this program writes and reads.
const FORMAT_VERSION: u32 = 1;

/// The content of `model.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// Version of this layout.
    pub format_version: u32,
    /// The architecture that the weights belong to.
    pub architecture: Architecture,
    /// The way in which images become input.
    pub preprocess: PreprocessSpec,
    /// The classes of the labels; `None` for a backbone alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<ClassTable>,
    /// The source of the weights.
    pub provenance: Provenance,
    /// The weights.
    pub weights: WeightsFile,
}

/// The source of weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Name of the file or folder they were converted from.
    pub source: String,
    /// Its format.
    pub source_format: String,
    /// SHA-256 of the file that held the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_sha256: Option<String>,
    /// Program and version that wrote the artifact.
    pub written_by: String,
}

/// The weights file that belongs to a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightsFile {
    /// Its name, in the same folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: String,
}

/// Reads and checks a card.
pub(super) fn read_card(folder: &Path) -> Result<ModelCard, WeightsError> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let path = folder.join(CARD_FILE);
    let Version { format_version: found } = read_json(&path)?;
    if found > FORMAT_VERSION {
        return Err(WeightsError::TooNew { path, found, known: FORMAT_VERSION });
    }
    let card: ModelCard = read_json(&path)?;
    card.preprocess.validate().map_err(|error| WeightsError::config(&path, error))?;
    card.architecture.validate().map_err(|error| WeightsError::config(&path, error))?;
    if let Some(config) = card.architecture.model() {
        let classes = card.classes.as_ref().ok_or_else(|| {
            WeightsError::config(&path, "`classes` is missing, expected the class table")
        })?;
        if classes.len() != config.num_classes() {
            return Err(WeightsError::config(
                &path,
                format_args!(
                    "the class table has {} slots, but the head has {} classes",
                    classes.len(),
                    config.num_classes()
                ),
            ));
        }
    }
    if card.weights.file != WEIGHTS_FILE {
        return Err(WeightsError::config(
            &path,
            format_args!("weights.file is `{}`, expected `{WEIGHTS_FILE}`", card.weights.file),
        ));
    }
    Ok(card)
}

/// A card without the facts about the weights file, which are added on writing.
pub(super) struct Draft {
    pub(super) architecture: Architecture,
    pub(super) preprocess: PreprocessSpec,
    pub(super) classes: Option<ClassTable>,
    pub(super) provenance: Provenance,
}

/// Writes weights, then card. `source` is what the tensors are read from, for messages.
pub(super) fn write(
    folder: &Path,
    state: &StateDict,
    draft: Draft,
    source: &Path,
) -> Result<ModelCard, WeightsError> {
    let weights_path = folder.join(WEIGHTS_FILE);
    let bytes = safetensors::serialize(state, source)?;
    let card = ModelCard {
        format_version: FORMAT_VERSION,
        architecture: draft.architecture,
        preprocess: draft.preprocess,
        classes: draft.classes,
        provenance: draft.provenance,
        weights: WeightsFile {
            file: WEIGHTS_FILE.into(),
            bytes: bytes.len() as u64,
            sha256: sha256(&bytes),
        },
    };
    let card_path = folder.join(CARD_FILE);
    let json = serde_json::to_string_pretty(&card).map_err(io::Error::from);
    let json = json.map_err(|error| WeightsError::write(&card_path, error))?;
    if card_path.exists() {
        // An old card must not describe new weights, should the program be killed in between.
        std::fs::remove_file(&card_path).map_err(|error| WeightsError::write(&card_path, error))?;
    }
    atomic_write(&weights_path, |file| file.write_all(&bytes))
        .map_err(|error| WeightsError::write(&weights_path, error))?;
    atomic_write(&card_path, |file| {
        file.write_all(json.as_bytes())?;
        file.write_all(b"\n")
    })
    .map_err(|error| WeightsError::write(&card_path, error))?;
    Ok(card)
}

/// Computes the SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}
