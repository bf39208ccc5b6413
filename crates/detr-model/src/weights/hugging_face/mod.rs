//! Folders of Hugging Face's `DetrForObjectDetection`, `DetrForSegmentation`, `TableTransformerForObjectDetection` and
//! `DeformableDetrForObjectDetection`: `config.json`, the weights and perhaps `preprocessor_config.json`. Names become the official ones; query, key and value
//! projections are joined again. Both backbone schemes are known, timm's and transformers' own.

mod files;
mod names;
mod preprocess;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use detr_types::{Category, CategoryId, ClassTable, PreprocessSpec};
use memmap2::Mmap;
use serde::Deserialize;

use super::checkpoint::{default_classes, default_preprocess};
use super::folder::read_json;
use super::training_args::{DEFAULT_HEADS, TrainingArgs};
use super::{StateDict, WeightsError};
use crate::families::{HuggingFaceNames, ModelConfig};
pub use names::official_names;
use preprocess::preprocessing;

/// The part of `config.json` that shapes do not tell.
#[derive(Deserialize)]
#[allow(clippy::struct_field_names)] // the file's names
struct Config {
    model_type: String,
    #[serde(default)]
    activation_function: Option<String>,
    #[serde(default)]
    encoder_attention_heads: Option<usize>,
    #[serde(default)]
    decoder_attention_heads: Option<usize>,
    #[serde(default)]
    dilation: Option<bool>,
    #[serde(default)]
    use_timm_backbone: Option<bool>,
    #[serde(default)]
    backbone_config: Option<BackboneSettings>,
    #[serde(default)]
    backbone_kwargs: Option<BackboneSettings>,
    #[serde(default)]
    id2label: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct BackboneSettings {
    #[serde(default)]
    output_stride: Option<usize>,
    #[serde(default)]
    downsample_in_bottleneck: Option<bool>,
    #[serde(default)]
    downsample_in_first_stage: Option<bool>,
}

/// The content of a folder.
pub(super) struct HuggingFace {
    pub(super) config: ModelConfig,
    pub(super) classes: ClassTable,
    pub(super) preprocess: PreprocessSpec,
    pub(super) state: StateDict,
    /// The mapped files of weights.
    pub(super) files: Vec<(PathBuf, Arc<Mmap>)>,
    /// The notes for the user.
    pub(super) notes: Vec<String>,
}

/// Reads a folder. With `own_size` the user sets the image size, so that of the folder need not be readable.
pub(super) fn read(folder: &Path, own_size: bool) -> Result<HuggingFace, WeightsError> {
    let files::Weights { state, files } = files::read(folder)?;
    read_with(folder, &state, files, own_size)
}

/// Reads a folder, but its weights, which have transformers' names and are mapped already.
pub(super) fn read_with(
    folder: &Path,
    state: &StateDict,
    files: Vec<(PathBuf, Arc<Mmap>)>,
    own_size: bool,
) -> Result<HuggingFace, WeightsError> {
    let path = folder.join("config.json");
    let config: Config = read_json(&path)?;
    check(&config, &path)?;
    let place = files.first().map_or(folder, |(path, _)| path.as_path());
    let state = official_names(state).map_err(|reason| WeightsError::corrupt(place, reason))?;
    let args = TrainingArgs {
        nheads: Some(config.encoder_attention_heads.unwrap_or(DEFAULT_HEADS)),
        dilation: Some(is_dilated(&config, &path)?),
        num_queries: None,
    };
    let read = ModelConfig::read_hugging_face(&config.model_type, folder, state, args);
    let (model, state) = read.ok_or_else(|| unknown_type(&config, &path))??;
    let classes = class_table(&config, &model, &path)?;
    let images = preprocessing(folder, default_preprocess(&model), own_size)?;
    Ok(HuggingFace {
        config: model,
        classes,
        preprocess: images.spec,
        state,
        files,
        notes: images.note.into_iter().collect(),
    })
}

/// Joins names with commas, and the last two with a word.
fn listed(names: &[String], word: &str) -> String {
    match names {
        [all @ .., last] if !all.is_empty() => format!("{} {word} {last}", all.join(", ")),
        _ => names.concat(),
    }
}

fn unknown_type(config: &Config, path: &Path) -> WeightsError {
    let families = ModelConfig::hugging_face();
    let (types, classes): (Vec<_>, Vec<_>) = families
        .iter()
        .flat_map(HuggingFaceNames::models)
        .map(|(model_type, class)| (format!("`{model_type}`"), class.to_owned()))
        .unzip();
    WeightsError::config(
        path,
        format_args!(
            "model_type is `{}`, expected {}\nhint: folders of {} are read",
            config.model_type,
            listed(&types, "or"),
            listed(&classes, "and")
        ),
    )
}

/// Returns whether the last stage is dilated.
fn is_dilated(config: &Config, path: &Path) -> Result<bool, WeightsError> {
    let refused = |what: &dyn std::fmt::Display| Err(WeightsError::config(path, what));
    if config.dilation == Some(true) && config.use_timm_backbone == Some(false) {
        return refused(&"dilation is true, but only the backbones of timm can be dilated");
    }
    let settings = [
        ("backbone_config", &config.backbone_config),
        ("backbone_kwargs", &config.backbone_kwargs),
    ];
    let mut dilated = config.dilation == Some(true);
    for (field, settings) in settings {
        match settings.as_ref().and_then(|settings| settings.output_stride) {
            None | Some(32) => {}
            Some(16) => dilated = true,
            Some(stride) => {
                return refused(&format_args!(
                    "{field}.output_stride is {stride}, expected 16 or 32"
                ));
            }
        }
    }
    Ok(dilated)
}

fn check(config: &Config, path: &Path) -> Result<(), WeightsError> {
    let known = |family: &HuggingFaceNames| family.has(&config.model_type);
    if !ModelConfig::hugging_face().iter().any(known) {
        return Err(unknown_type(config, path));
    }
    if let Some(activation) = &config.activation_function
        && activation != "relu"
    {
        return Err(WeightsError::config(
            path,
            format_args!("activation_function is `{activation}`, expected `relu`"),
        ));
    }
    let [encoder, decoder] = [config.encoder_attention_heads, config.decoder_attention_heads]
        .map(|heads| heads.unwrap_or(DEFAULT_HEADS));
    if encoder != decoder {
        return Err(WeightsError::config(
            path,
            format_args!(
                "encoder_attention_heads is {encoder} and decoder_attention_heads {decoder}, expected the same"
            ),
        ));
    }
    if let Some(backbone) = &config.backbone_config {
        let moved = [
            ("downsample_in_bottleneck", backbone.downsample_in_bottleneck),
            ("downsample_in_first_stage", backbone.downsample_in_first_stage),
        ];
        for (field, value) in moved {
            if value == Some(true) {
                return Err(WeightsError::config(
                    path,
                    format_args!("backbone_config.{field} is true, expected false"),
                ));
            }
        }
    }
    Ok(())
}

/// Returns whether a label of a head is COCO's stuff. The file does not say which classes have instances; the
/// published panoptic models have 250 slots, in which stuff starts at 92.
const fn is_stuff(label: usize, slots: usize) -> bool {
    slots == 250 && label > 90
}

/// Reads the classes; ids are both label and category id, as in the published checkpoints, and
/// `N/A` marks a hole.
fn class_table(
    config: &Config,
    model: &ModelConfig,
    path: &Path,
) -> Result<ClassTable, WeightsError> {
    if config.id2label.is_empty() {
        return Ok(default_classes(model));
    }
    let slots = model.num_classes();
    let mut categories = Vec::new();
    for (id, name) in &config.id2label {
        let label: usize = id.parse().map_err(|_| {
            WeightsError::config(path, format_args!("id2label: `{id}` is not a number"))
        })?;
        if name != "N/A" {
            categories.push(Category {
                label,
                id: CategoryId::try_from(label).unwrap_or(CategoryId::MAX),
                name: name.clone(),
                is_thing: !is_stuff(label, slots),
            });
        }
    }
    if config.id2label.len() != slots {
        return Err(WeightsError::config(
            path,
            format_args!(
                "id2label does not fit a head of {slots} classes: it has {} entries",
                config.id2label.len()
            ),
        ));
    }
    categories.sort_by_key(|category| category.label);
    ClassTable::new(slots, categories).map_err(|error| {
        WeightsError::config(
            path,
            format_args!("id2label does not fit a head of {slots} classes: {error}"),
        )
    })
}
