//! Table Transformer (Smock et al. 2022, <https://arxiv.org/abs/2110.00061>): a pre-norm DETR with ResNet-18, once
//! for tables on a page and once for the rows, columns and cells of a table. Its code
//! (`microsoft/table-transformer`) and Hugging Face's `TableTransformerForObjectDetection` compute what DETR does;
//! here is what is published with the weights and stands in no tensor.

use std::path::Path;

use detr_types::PreprocessSpec;
use serde::Deserialize;

use super::super::family::Published;
use super::DetrConfig;
use crate::config::keyed;
use crate::weights::{WeightsError, read_json};

/// The `model_type` of the folders.
pub(super) const MODEL_TYPE: &str = "table-transformer";
/// Hugging Face's class.
pub(super) const CLASS: &str = "TableTransformerForObjectDetection";

/// Names and texts of the presets.
pub(super) const PRESETS: [(&str, &str); 2] = [
    (
        "table-transformer-detection",
        include_str!("../../../../../configs/models/table-transformer-detection.toml"),
    ),
    (
        "table-transformer-structure",
        include_str!("../../../../../configs/models/table-transformer-structure.toml"),
    ),
];

/// `get_class_map` of the reference's `src/inference.py`.
const CLASSES: [&[&str]; 2] = [
    &["table", "table rotated"],
    &[
        "table",
        "table column",
        "table row",
        "table column header",
        "table projected row header",
        "table spanning cell",
    ],
];

/// The long side that images are resized to, up and down: `detection_transform` and `structure_transform` there.
const LONG_SIDES: [u32; 2] = [800, 1000];

/// Returns what was published with the model of exactly these sizes.
pub(super) fn published(config: &DetrConfig) -> Option<Published> {
    let is_preset = |text: &str| {
        let table: Result<toml::Table, _> = text.parse();
        table.is_ok_and(|mut table| {
            table.remove("kind");
            keyed::<DetrConfig>(table).is_ok_and(|preset| preset == *config)
        })
    };
    let index = PRESETS.iter().position(|(_, text)| is_preset(text))?;
    Some(Published {
        name: PRESETS[index].0,
        classes: CLASSES[index],
        preprocess: PreprocessSpec::default().with_longest_edge(LONG_SIDES[index]),
    })
}

/// Compares where a folder normalises with what its weights show: transformers' DETR always does so after each
/// sub-layer, Table Transformer before it, and then the encoder ends in one more normalisation.
pub(super) fn check_norms(config: &mut DetrConfig, folder: &Path) -> Result<(), WeightsError> {
    #[derive(Deserialize)]
    struct Kind {
        model_type: String,
    }
    let path = folder.join("config.json");
    let Kind { model_type } = read_json(&path)?;
    if model_type == MODEL_TYPE {
        // A missing normalisation is then named with the other tensors that do not fit.
        config.pre_norm = true;
    } else if config.pre_norm {
        return Err(WeightsError::config(
            &path,
            format_args!(
                "model_type is `{model_type}`, but the weights have the encoder.layernorm of \
                 `{MODEL_TYPE}`\nhint: the files are not of one model; fetch the folder again"
            ),
        ));
    }
    Ok(())
}
