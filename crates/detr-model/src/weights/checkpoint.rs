//! Any checkpoint, opened: what it is, its settings, and its tensors under official names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, FloatDType};
use detr_types::{ClassTable, PreprocessSpec};
use memmap2::Mmap;

use super::artifact::{self, Architecture, CARD_FILE, Draft, ModelCard, Provenance, WEIGHTS_FILE};
use super::file::{map_file, read_tensors, without_classifier, without_counters};
use super::infer::{self, Inferred};
use super::{
    StateDict, WeightsError, cast_to, expected_tensors, hugging_face, load_into, pth,
    recipe_state_dict, safetensors,
};
use crate::backbone::ResNet;
use crate::config::{Block, ModelConfig};
use crate::model::Model;

/// Where a checkpoint came from.
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
}

/// An opened checkpoint. The tensors are read when it is loaded.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// File or folder it was opened from.
    pub path: PathBuf,
    /// What it was.
    pub format: Format,
    /// What the weights are.
    pub architecture: Architecture,
    /// How images become input.
    pub preprocess: PreprocessSpec,
    /// What the labels mean; none for a backbone alone.
    pub classes: Option<ClassTable>,
    /// Tensors under official names.
    pub state: StateDict,
    /// Assumptions a user should know of.
    pub notes: Vec<String>,
    /// The card of an artifact.
    pub card: Option<ModelCard>,
    /// The mapped weights file; none for a recipe.
    weights: Option<(PathBuf, Arc<Mmap>)>,
}

impl Format {
    /// Its name for users.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Artifact => "detr artifact",
            Self::HuggingFace => "Hugging Face folder",
            Self::Pth => "PyTorch checkpoint",
            Self::Safetensors => "safetensors with official names",
            Self::Recipe => "untrained recipe weights",
        }
    }
}

impl Checkpoint {
    /// Opens a file or folder of any known layout. `arch` replaces the inferred architecture of
    /// files that do not carry their own.
    ///
    /// # Errors
    /// Anything in [`WeightsError`], before any tensor is read.
    pub fn open(path: &Path, arch: Option<&ModelConfig>) -> Result<Self, WeightsError> {
        let metadata = std::fs::metadata(path).map_err(|error| WeightsError::io(path, error))?;
        if metadata.is_dir() {
            Self::open_folder(path, arch)
        } else if metadata.is_file() {
            Self::open_file(path, arch)
        } else {
            Err(WeightsError::NotAModel {
                path: path.to_owned(),
                reason: "not a regular file".into(),
            })
        }
    }

    /// Recipe weights for an architecture: a full-size model without a file, which detects
    /// nothing. Labels are COCO's where the head has their number.
    #[must_use]
    pub fn recipe(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        let expected = expected_tensors(&config.init(device));
        Self {
            path: PathBuf::from("recipe"),
            format: Format::Recipe,
            architecture: config.clone().into(),
            preprocess: PreprocessSpec::default(),
            classes: Some(default_classes(config.num_classes())),
            state: recipe_state_dict(&expected, seed),
            notes: Vec::new(),
            card: None,
            weights: None,
        }
    }

    /// The model's configuration.
    ///
    /// # Errors
    /// The checkpoint is a backbone alone.
    pub fn config(&self) -> Result<ModelConfig, WeightsError> {
        self.architecture.model().ok_or_else(|| WeightsError::NotAModel {
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
    ) -> Result<ResNet, WeightsError> {
        let (config, prefix) = match &self.architecture {
            Architecture::Resnet(config) => (config, ""),
            Architecture::Detr(config) => (&config.backbone, "backbone.0.body."),
            Architecture::DeformableDetr(config) => (&config.backbone, "backbone.0.body."),
            Architecture::DetrDemo(config) => (&config.backbone, "backbone."),
        };
        let state = self.state.clone().rename(|name| name.strip_prefix(prefix).map(str::to_owned));
        load_into(ResNet::new(config, device), &state, dtype, &self.path)
    }

    /// Writes our artifact: tensors in their stored types, under official names.
    ///
    /// # Errors
    /// Tensors that do not fit or are not finite, or a folder that cannot be written.
    pub fn save(&self, folder: &Path, device: &Device) -> Result<ModelCard, WeightsError> {
        // Nothing is written that could not be loaded again.
        match &self.architecture {
            Architecture::Resnet(_) => drop(self.load_backbone(device, FloatDType::F32)?),
            _ => drop(self.load(device, FloatDType::F32)?),
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
        artifact::write(folder, &self.state, draft, self.weights_file().unwrap_or(&self.path))
    }

    /// The file that holds the tensors; none for a recipe.
    #[must_use]
    pub fn weights_file(&self) -> Option<&Path> {
        self.weights.as_ref().map(|(path, _)| path.as_path())
    }

    /// SHA-256 of the weights file; none for a recipe.
    #[must_use]
    pub fn sha256(&self) -> Option<String> {
        self.weights.as_ref().map(|(_, map)| artifact::sha256(map))
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
        model.map_err(|error| self.explain(error))
    }

    /// Tensors that do not fit: those of another program, or what to try.
    fn explain(&self, error: WeightsError) -> WeightsError {
        let WeightsError::Mismatch { path, mismatch, .. } = error else { return error };
        if mismatch.shapes.is_empty() && mismatch.unexpected.len() == self.state.len() {
            return unknown(&self.path, &self.state);
        }
        let hint = match self.format {
            Format::Artifact => {
                Some("model.json is not the card of these weights; convert the checkpoint again")
            }
            Format::HuggingFace => {
                Some("config.json and model.safetensors disagree; fetch the folder again")
            }
            Format::Pth | Format::Safetensors => {
                Some("give the architecture with --arch if it is not the one that was inferred")
            }
            Format::Recipe => None,
        };
        WeightsError::Mismatch { path, mismatch, hint }
    }

    /// What the file itself says about its content: the card's hash, or a zip's check sums.
    fn check_hash(&self) -> Result<(), WeightsError> {
        let Some((path, map)) = &self.weights else { return Ok(()) };
        if self.format == Format::Pth {
            return pth::check_sums(path, map);
        }
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

    fn open_folder(path: &Path, arch: Option<&ModelConfig>) -> Result<Self, WeightsError> {
        let weights_path = path.join(WEIGHTS_FILE);
        let is_artifact = path.join(CARD_FILE).is_file();
        if !is_artifact && !path.join("config.json").is_file() {
            return Err(WeightsError::NotAModel {
                path: path.to_owned(),
                reason: format!("a folder with neither {CARD_FILE} nor config.json"),
            });
        }
        if arch.is_some() {
            return Err(WeightsError::config(
                path,
                "the folder describes its own architecture\nhint: leave out --arch",
            ));
        }
        if is_artifact {
            return Self::open_artifact(path, &weights_path);
        }
        let map = map_file(&weights_path)?;
        let theirs = safetensors::read(&weights_path, &map)?;
        let found = hugging_face::read(path, &theirs)?;
        let mut checkpoint = Self {
            path: path.to_owned(),
            format: Format::HuggingFace,
            architecture: found.config.into(),
            preprocess: found.preprocess,
            classes: Some(found.classes),
            state: without_counters(found.state),
            notes: Vec::new(),
            card: None,
            weights: Some((weights_path, map)),
        };
        checkpoint.validate()?;
        checkpoint.note_untold_backbone();
        Ok(checkpoint)
    }

    fn open_artifact(path: &Path, weights_path: &Path) -> Result<Self, WeightsError> {
        let card = artifact::read_card(path)?;
        let map = map_file(weights_path)?;
        if map.len() as u64 != card.weights.bytes {
            return Err(WeightsError::corrupt(
                weights_path,
                format_args!("{} bytes, but {CARD_FILE} says {}", map.len(), card.weights.bytes),
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            format: Format::Artifact,
            architecture: card.architecture.clone(),
            preprocess: card.preprocess,
            classes: card.classes.clone(),
            state: safetensors::read(weights_path, &map)?,
            notes: Vec::new(),
            card: Some(card),
            weights: Some((weights_path.to_owned(), map)),
        })
    }

    fn open_file(path: &Path, arch: Option<&ModelConfig>) -> Result<Self, WeightsError> {
        let map = map_file(path)?;
        let mut notes = Vec::new();
        let (format, state, args) = read_tensors(path, &map)?;
        let state = without_counters(state);
        let architecture = match (arch, infer::infer(&state, args)) {
            // Whatever is in the file: what is missing is listed when the weights are loaded.
            (Some(arch), Inferred::Model(_) | Inferred::Unknown) => arch.clone().into(),
            (Some(_), Inferred::Backbone(_)) => {
                return Err(WeightsError::config(
                    path,
                    "a ResNet backbone alone, which is none of the architectures that --arch \
                     names\nhint: leave out --arch",
                ));
            }
            (None, Inferred::Model(mut config)) => {
                if args.nheads.is_none() {
                    notes.push("8 attention heads assumed (no tensor shows their number)".into());
                }
                if args.dilation.is_none() && names_dc5(path) && dilate(&mut config) {
                    let note = "dilated C5 assumed from the file's name (no tensor shows it)";
                    notes.push(note.into());
                }
                config.into()
            }
            (None, Inferred::Backbone(config)) => Architecture::Resnet(config),
            (None, Inferred::Unknown) => return Err(unknown(path, &state)),
        };
        let is_backbone = matches!(architecture, Architecture::Resnet(_));
        let state = if is_backbone { without_classifier(state) } else { state };
        let classes = architecture.model().map(|config| default_classes(config.num_classes()));
        let checkpoint = Self {
            path: path.to_owned(),
            format,
            architecture,
            preprocess: PreprocessSpec::default(),
            classes,
            state,
            notes,
            card: None,
            weights: Some((path.to_owned(), map)),
        };
        checkpoint.validate()?;
        Ok(checkpoint)
    }

    fn validate(&self) -> Result<(), WeightsError> {
        let hint = match (&self.architecture, self.format) {
            (
                Architecture::Detr(_) | Architecture::DetrDemo(_),
                Format::Pth | Format::Safetensors,
            ) => "\nhint: the file may be of another architecture; --arch names it",
            _ => "",
        };
        self.architecture
            .validate()
            .map_err(|error| WeightsError::config(&self.path, format_args!("{error}{hint}")))
    }

    fn note_untold_backbone(&mut self) {
        let stem = self.path.to_string_lossy().to_lowercase();
        if let Architecture::Detr(config) = &self.architecture
            && stem.contains("dc5")
            && !config.backbone.dilation
        {
            self.notes.push(
                "the folder's name says dc5, but its config.json does not ask for dilation".into(),
            );
        }
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

/// Dilates the last stage of a model that can have it so.
fn dilate(config: &mut ModelConfig) -> bool {
    match config {
        ModelConfig::Detr(detr) if detr.backbone.block == Block::Bottleneck => {
            detr.backbone.dilation = true;
            true
        }
        _ => false,
    }
}

/// The class table of a head whose file has no names: 91 slots are COCO's.
pub(super) fn default_classes(slots: usize) -> ClassTable {
    if slots == 91 { ClassTable::coco() } else { ClassTable::numbered(slots) }
}

fn names_dc5(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().to_lowercase().contains("dc5"))
}
