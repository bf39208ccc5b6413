//! The weights that a run starts from: drawn anew, with a backbone of torchvision's (as in the references),
//! or those of any checkpoint. This is not resuming: no state of an optimizer is read.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use detr_model::weights::{Architecture, Checkpoint, Format, WeightsError};
use detr_model::{Model, ModelConfig};
use detr_types::ClassTable;

use crate::settings::ModelSettings;

/// A model that is ready to be trained, with notes on its weights.
#[derive(Clone, Debug)]
pub struct InitialModel {
    /// The model.
    pub model: Model,
    /// Sentences for the user: what was loaded, and what was not loaded and why.
    pub notes: Vec<String>,
}

/// Why a model cannot start from a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is no file or folder at the path.
    #[error("{key}: there is no `{}`\nhint: {hint}", path.display())]
    NotFound {
        /// The setting.
        key: &'static str,
        /// The path.
        path: PathBuf,
        /// Advice.
        hint: String,
    },
    /// A backbone stands where a whole model should be.
    #[error(
        "{key}: {} holds a backbone alone\nhint: model.backbone = \"...\" starts from a backbone",
        path.display()
    )]
    BackboneAlone {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A model without a mask head, of which nothing would be trained.
    #[error(
        "model.frozen_weights: only the mask head would be trained, and the architecture has none\n\
         hint: choose one with masks = true, or model.init"
    )]
    NoMaskHead,
    /// The weights cannot be read or do not fit.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// Makes a model by its settings, whose relative paths start at `base`. `classes` are those of the data.
///
/// # Errors
/// A checkpoint does not exist, cannot be read, or has another architecture.
pub fn start(
    settings: &ModelSettings,
    base: &Path,
    model: &ModelConfig,
    classes: &ClassTable,
    device: &Device,
) -> Result<InitialModel, StartError> {
    let whole =
        [("model.init", &settings.init), ("model.frozen_weights", &settings.frozen_weights)];
    let whole = whole.into_iter().find_map(|(key, name)| name.as_ref().map(|name| (key, name)));
    if let Some((key, name)) = whole {
        let frozen = settings.frozen_weights.is_some();
        if frozen && !model.has_masks() {
            return Err(StartError::NoMaskHead);
        }
        let path = find(key, name, base)?;
        let checkpoint = open(key, &path, model)?;
        let load = if frozen { Checkpoint::load_frozen } else { Checkpoint::load_as };
        let (model, mut notes) = load(&checkpoint, model, device)?;
        notes.insert(0, format!("starts from {} ({})", path.display(), checkpoint.format.name()));
        if path.is_file() && matches!(checkpoint.format, Format::Artifact | Format::HuggingFace) {
            notes.extend(checkpoint.notes.iter().map(|note| format!("note: {note}")));
        }
        notes.extend(other_names(&checkpoint, classes));
        return Ok(InitialModel { model, notes });
    }
    if let Some(name) = &settings.backbone {
        let path = find("model.backbone", name, base)?;
        let checkpoint = Checkpoint::open(&path, None)?;
        let (model, mut notes) = checkpoint.load_backbone_of(model, device)?;
        notes.insert(0, format!("starts from the backbone {}", path.display()));
        return Ok(InitialModel { model, notes });
    }
    let notes = vec!["starts from scratch: no weights are loaded".to_owned()];
    Ok(InitialModel { model: model.init(device), notes })
}

/// Opens a checkpoint. A file without a description beside it does not tell everything of its architecture, so that is
/// taken from the settings.
fn open(key: &'static str, path: &Path, model: &ModelConfig) -> Result<Checkpoint, StartError> {
    let arch = (!Checkpoint::is_described(path)).then_some(model);
    let opened =
        Checkpoint::open(path, arch).or_else(|error| match Checkpoint::open(path, None) {
            Ok(other) if matches!(other.architecture, Architecture::Backbone(_)) => Ok(other),
            _ => Err(error),
        })?;
    if matches!(opened.architecture, Architecture::Backbone(_)) {
        return Err(StartError::BackboneAlone { key, path: path.to_owned() });
    }
    Ok(opened)
}

fn find(key: &'static str, name: &str, base: &Path) -> Result<PathBuf, StartError> {
    let path = base.join(name);
    if path.exists() {
        return Ok(path);
    }
    let mut hint = "relative paths start at the folder of the settings' file".to_owned();
    if is_remote(name) {
        hint = format!(
            "`detr models pull {name}` fetches a remote model and prints its folder, to be named here; {hint}"
        );
    }
    Err(StartError::NotFound { key, path, hint })
}

/// Returns whether a text looks like `OWNER/NAME` of the Hugging Face hub.
fn is_remote(name: &str) -> bool {
    let file = [".pth", ".safetensors"].iter().any(|ending| name.ends_with(ending));
    name.split('/').count() == 2 && !name.starts_with(['.', '/']) && !name.ends_with('/') && !file
}

/// Makes a note if a head fits by its number of classes but was trained for other classes.
fn other_names(checkpoint: &Checkpoint, classes: &ClassTable) -> Option<String> {
    let told = matches!(checkpoint.format, Format::Artifact | Format::HuggingFace);
    let theirs =
        checkpoint.classes.as_ref().filter(|theirs| told && theirs.len() == classes.len())?;
    let differs = |label: &usize| {
        let [old, new] = [theirs, classes].map(|table| table.get(*label).map(|class| &class.name));
        old.is_some() && new.is_some() && old != new
    };
    let label = (0..classes.len()).find(differs)?;
    let [old, new] =
        [theirs, classes].map(|table| table.get(label).map_or("", |class| &class.name));
    Some(format!(
        "the class head is loaded, but was trained for other classes: label {label} was `{old}` and is `{new}`"
    ))
}
