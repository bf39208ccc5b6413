//! Any checkpoint, opened: what it is, its settings, and its tensors under official names.

mod open;
mod transfer;

pub use open::OpenOptions;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, FloatDType};
use detr_types::{Category, CategoryId, ClassTable, PreprocessSpec};
use memmap2::Mmap;

use super::architecture::Architecture;
use super::artifact::{self, Draft, ModelCard, Provenance};
use super::folder::CARD_FILE;
use super::{
    Mismatch, StateDict, WeightsError, aliases, cast_to, expected_tensors, load_into, pth,
    recipe_state_dict, segmentation,
};
use crate::backbone::Backbone;
use crate::families::{Model, ModelConfig, Published};

/// The formats of checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A folder made by `detr models convert`.
    Artifact,
    /// A folder of Hugging Face's transformers.
    HuggingFace,
    /// A file of `torch.save`.
    Pth,
    /// A safetensors file with official names.
    Safetensors,
    /// No file: numbers of the weight recipe, untrained.
    Recipe,
    /// No file: a model that was trained by this program.
    Trained,
}

/// An opened checkpoint. The tensors are read when it is loaded.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// File or folder it was opened from.
    pub path: PathBuf,
    /// The format of the file.
    pub format: Format,
    /// The architecture that the weights belong to.
    pub architecture: Architecture,
    /// The way in which images become input.
    pub preprocess: PreprocessSpec,
    /// The classes of the labels; `None` for a backbone alone.
    pub classes: Option<ClassTable>,
    /// Tensors under official names, each once: see [`Checkpoint::listed`].
    pub state: StateDict,
    /// Assumptions a user should know of.
    pub notes: Vec<String>,
    /// The card of an artifact.
    pub card: Option<ModelCard>,
    /// The mapped files of weights: one, several shards, or none for a recipe.
    weights: Vec<(PathBuf, Arc<Mmap>)>,
    /// Names that the file lacks although it has other copies of the same tensor.
    missing_copies: Vec<String>,
    /// The architecture that the tensors resemble, if the user stated another.
    looks_like: Option<String>,
}

impl Format {
    /// Returns its name for users.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Artifact => "detr artifact",
            Self::HuggingFace => "Hugging Face folder",
            Self::Pth => "PyTorch checkpoint",
            Self::Safetensors => "safetensors with official names",
            Self::Recipe => "untrained recipe weights",
            Self::Trained => "detr training",
        }
    }
}

impl Checkpoint {
    /// Makes recipe weights for an architecture: a full-size model without a file, which detects
    /// nothing. Labels are COCO's where the head has their number.
    #[must_use]
    pub fn recipe(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        // The numbers follow from the names in the reference's checkpoints.
        let expected: Vec<_> = expected_tensors(&config.init(device))
            .into_iter()
            .map(|(name, shape)| (segmentation::wrapped_name(&name, config), shape))
            .collect();
        Self {
            path: PathBuf::from("recipe"),
            format: Format::Recipe,
            architecture: config.clone().into(),
            preprocess: default_preprocess(config),
            classes: Some(default_classes(config)),
            state: segmentation::unwrap(recipe_state_dict(&expected, seed)),
            notes: Vec::new(),
            card: None,
            weights: Vec::new(),
            missing_copies: Vec::new(),
            looks_like: None,
        }
    }

    /// Describes a model that was trained, to be saved: its tensors by official name, each once.
    #[must_use]
    pub fn trained(
        config: &ModelConfig,
        state: StateDict,
        preprocess: PreprocessSpec,
        classes: ClassTable,
    ) -> Self {
        Self {
            path: PathBuf::from("training"),
            format: Format::Trained,
            architecture: config.clone().into(),
            preprocess,
            classes: Some(classes),
            state,
            notes: Vec::new(),
            card: None,
            weights: Vec::new(),
            missing_copies: Vec::new(),
            looks_like: None,
        }
    }

    /// Returns the tensors as an artifact holds them. The reference's Deformable DETR lists heads that several
    /// layers share once per layer, and its `load_state_dict` asks for all of them. Its models of masks have `detr.`
    /// before the names of the detector.
    #[must_use]
    pub fn listed(&self) -> StateDict {
        let Some(config) = self.architecture.model() else { return self.state.clone() };
        let state = match config.shared_heads() {
            Some(heads) => aliases::spread(&self.state, &heads),
            None => self.state.clone(),
        };
        segmentation::wrap(state, config)
    }

    /// Returns the model's configuration.
    ///
    /// # Errors
    /// The checkpoint is a backbone alone.
    pub fn config(&self) -> Result<ModelConfig, WeightsError> {
        self.architecture.model().cloned().ok_or_else(|| WeightsError::NotAModel {
            path: self.path.clone(),
            reason: "a ResNet backbone alone, without a detector's transformer and heads".into(),
        })
    }

    /// Builds the model and fills it. The hash of an artifact and the check sums of a `.pth` are
    /// checked meanwhile.
    ///
    /// # Errors
    /// Tensors that do not fit, are not finite or cannot be read, or a hash that is wrong.
    pub fn load(&self, device: &Device, dtype: FloatDType) -> Result<Model, WeightsError> {
        let model = self.config()?.init(device);
        self.fill(model, dtype)
    }

    /// Builds the model for inference: loaded in f32, batch norms folded into the convolutions, then
    /// cast. The other way round, variances and scales would be rounded before they are combined,
    /// and in f16 some would overflow.
    ///
    /// # Errors
    /// As [`Checkpoint::load`], or numbers that f16 cannot hold.
    pub fn load_for_inference(
        &self,
        device: &Device,
        dtype: FloatDType,
    ) -> Result<Model, WeightsError> {
        cast_to(self.load(device, FloatDType::F32)?.fold(), dtype, &self.path)
    }

    /// Builds the backbone alone: of a torchvision file, or that of a detector.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn load_backbone(
        &self,
        device: &Device,
        dtype: FloatDType,
    ) -> Result<Backbone, WeightsError> {
        let config = self.architecture.backbone();
        let prefix = self.architecture.backbone_prefix();
        let state = self.state.clone().rename(|name| name.strip_prefix(prefix).map(str::to_owned));
        load_into(config.init(device), &state, dtype, &self.path)
    }

    /// Writes our artifact: the [listed](Checkpoint::listed) tensors in their stored types.
    ///
    /// # Errors
    /// Tensors that do not fit or are not finite, or a folder that cannot be written.
    pub fn save(&self, folder: &Path, device: &Device) -> Result<ModelCard, WeightsError> {
        // Nothing is written that could not be loaded again.
        match &self.architecture {
            Architecture::Backbone(_) => drop(self.load_backbone(device, FloatDType::F32)?),
            Architecture::Model(_) => drop(self.load(device, FloatDType::F32)?),
        }
        let provenance = match &self.card {
            Some(card) => card.provenance.clone(),
            None => self.provenance(),
        };
        let draft = Draft {
            architecture: self.architecture.clone(),
            preprocess: self.preprocess,
            classes: self.classes.clone(),
            provenance,
        };
        artifact::write(folder, &self.listed(), draft, self.weights_file().unwrap_or(&self.path))
    }

    /// Returns the file that holds the tensors; `None` for a recipe, or if there are several.
    #[must_use]
    pub fn weights_file(&self) -> Option<&Path> {
        match self.weights.as_slice() {
            [(path, _)] => Some(path),
            _ => None,
        }
    }

    /// Returns the SHA-256 of the weights file; `None` for a recipe, or if there are several.
    #[must_use]
    pub fn sha256(&self) -> Option<String> {
        match self.weights.as_slice() {
            [(_, map)] => Some(artifact::sha256(map)),
            _ => None,
        }
    }

    /// Replaces the class table.
    ///
    /// # Errors
    /// The table does not fit the head.
    pub fn set_classes(&mut self, classes: ClassTable) -> Result<(), WeightsError> {
        let expected = self.config()?.num_classes();
        if classes.len() != expected {
            return Err(WeightsError::config(
                &self.path,
                format_args!(
                    "the head has {expected} classes, but the class table {} slots",
                    classes.len()
                ),
            ));
        }
        self.classes = Some(classes);
        Ok(())
    }

    fn provenance(&self) -> Provenance {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        Provenance {
            source: name.to_string_lossy().into_owned(),
            source_format: self.format.name().into(),
            source_sha256: self.sha256(),
            written_by: concat!("detr ", env!("CARGO_PKG_VERSION")).into(),
        }
    }

    fn fill<M: Module>(&self, model: M, dtype: FloatDType) -> Result<M, WeightsError> {
        let (hash, model) =
            rayon::join(|| self.check_hash(), || load_into(model, &self.state, dtype, &self.path));
        hash?;
        match model {
            Ok(model) if self.missing_copies.is_empty() => Ok(model),
            Ok(_) => Err(self.explain(Mismatch::default())),
            Err(WeightsError::Mismatch { mismatch, .. }) => Err(self.explain(mismatch)),
            Err(error) => Err(error),
        }
    }

    /// Tensors that do not fit: those of another program, or what to try.
    fn explain(&self, mut mismatch: Mismatch) -> WeightsError {
        if mismatch.shapes.is_empty() && mismatch.unexpected.len() == self.state.len() {
            return unknown(&self.path, &self.state);
        }
        mismatch.missing.extend(self.missing_copies.iter().cloned());
        WeightsError::Mismatch { path: self.path.clone(), mismatch, hint: self.hint() }
    }

    /// Returns a remedy for tensors that disagree with the architecture.
    fn hint(&self) -> Option<Box<str>> {
        let hint = match (self.format, &self.looks_like) {
            (Format::Artifact, _) => {
                "model.json is not the card of these weights; convert the checkpoint again"
            }
            (Format::HuggingFace, _) => {
                "config.json and model.safetensors disagree; fetch the folder again"
            }
            (Format::Pth | Format::Safetensors, Some(kind)) => {
                return Some(format!("the tensors look like {kind}; leave out --arch").into());
            }
            (Format::Pth | Format::Safetensors, None) => {
                "give the architecture with --arch if it is not the one that was inferred"
            }
            (Format::Recipe | Format::Trained, _) => return None,
        };
        Some(hint.into())
    }

    /// Checks the content against the file's own statement: the card's hash, or a zip's check sums.
    fn check_hash(&self) -> Result<(), WeightsError> {
        if self.card.is_none() {
            return self.weights.iter().try_for_each(|(path, map)| pth::check_sums(path, map));
        }
        let [(path, map)] = self.weights.as_slice() else { return Ok(()) };
        let Some(card) = &self.card else { return Ok(()) };
        let found = artifact::sha256(map);
        if found == card.weights.sha256 {
            return Ok(());
        }
        Err(WeightsError::corrupt(
            path,
            format_args!("its SHA-256 is {found}, but {CARD_FILE} says {}", card.weights.sha256),
        ))
    }
}

fn unknown(path: &Path, state: &StateDict) -> WeightsError {
    let first = state.iter().next();
    let first = first.map_or(String::new(), |(name, _)| format!(" (the first is `{name}`)"));
    WeightsError::NotAModel {
        path: path.to_owned(),
        reason: format!("none of its {} tensors belongs to a known model{first}", state.len()),
    }
}

/// Returns the class table of a model whose file has no names: 91 slots are COCO's, 250 COCO's things
/// and stuff.
pub(super) fn default_classes(config: &ModelConfig) -> ClassTable {
    let slots = config.num_classes();
    if let Some(Published { classes, .. }) = config.published() {
        let category = |(label, name): (usize, &&str)| Category {
            label,
            id: CategoryId::try_from(label).unwrap_or(CategoryId::MAX),
            name: (*name).to_owned(),
            is_thing: true,
        };
        let table = ClassTable::new(slots, classes.iter().enumerate().map(category).collect());
        return table.unwrap_or_else(|_| ClassTable::numbered(slots));
    }
    match slots {
        91 => ClassTable::coco(),
        250 => ClassTable::coco_panoptic(),
        _ => ClassTable::numbered(slots),
    }
}

/// Returns the preprocessing of a model whose file does not tell it.
pub(super) fn default_preprocess(config: &ModelConfig) -> PreprocessSpec {
    config.published().map_or_else(PreprocessSpec::default, |published| published.preprocess)
}
