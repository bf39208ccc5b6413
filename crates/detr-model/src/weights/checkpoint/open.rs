//! Opening a checkpoint: which layout it has, which architecture, and each tensor once.

use std::path::Path;

use detr_types::PreprocessSpec;

use super::super::aliases::{self, MergeError, Merged};
use super::super::architecture::Architecture;
use super::super::artifact;
use super::super::file::{map_file, read_tensors, without_classifier, without_counters};
use super::super::folder::{CARD_FILE, WEIGHTS_FILE};
use super::super::training_args::TrainingArgs;
use super::super::{StateDict, WeightsError, hugging_face, safetensors, segmentation};
use super::{Checkpoint, Format, default_classes, unknown};
use crate::backbone::BackboneConfig;
use crate::families::ModelConfig;

impl Checkpoint {
    /// Opens a file or folder of any known layout. `arch` replaces the inferred architecture of
    /// files that do not carry their own. Of the tensors, only heads that are listed several times
    /// are read.
    ///
    /// # Errors
    /// Anything in [`WeightsError`].
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
            missing_copies: Vec::new(),
            looks_like: None,
        };
        checkpoint.validate()?;
        checkpoint.merge_copies()?;
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
        let mut checkpoint = Self {
            path: path.to_owned(),
            format: Format::Artifact,
            architecture: card.architecture.clone(),
            preprocess: card.preprocess,
            classes: card.classes.clone(),
            state: segmentation::unwrap(safetensors::read(weights_path, &map)?),
            notes: Vec::new(),
            card: Some(card),
            weights: Some((weights_path.to_owned(), map)),
            missing_copies: Vec::new(),
            looks_like: None,
        };
        checkpoint.merge_copies()?;
        Ok(checkpoint)
    }

    fn open_file(path: &Path, arch: Option<&ModelConfig>) -> Result<Self, WeightsError> {
        let map = map_file(path)?;
        let mut notes = Vec::new();
        let (format, state, args) = read_tensors(path, &map)?;
        let state = segmentation::unwrap(without_counters(state));
        let mut looks_like = None;
        let architecture = match (arch, Inferred::new(&state, args)) {
            // Whatever is in the file: what is missing is listed when the weights are loaded.
            (Some(arch), Inferred::Model(found)) => {
                looks_like = Some(found.describe());
                arch.clone().into()
            }
            (Some(arch), Inferred::Broken(_) | Inferred::Unknown) => arch.clone().into(),
            (Some(_), Inferred::Backbone(_)) => {
                return Err(WeightsError::config(
                    path,
                    "a ResNet backbone alone, which is none of the architectures that --arch \
                     names\nhint: leave out --arch",
                ));
            }
            (None, Inferred::Model(mut config)) => {
                notes = config.assumptions(args);
                if args.dilation.is_none() && names_dc5(path) && config.dilate() {
                    let note = "dilated C5 assumed from the file's name (no tensor shows it)";
                    notes.push(note.into());
                }
                config.into()
            }
            (None, Inferred::Backbone(config)) => Architecture::Backbone(config),
            (None, Inferred::Broken(reason)) => {
                return Err(WeightsError::config(
                    path,
                    format_args!("{reason}\nhint: --arch names the architecture"),
                ));
            }
            (None, Inferred::Unknown) => return Err(unknown(path, &state)),
        };
        let is_backbone = matches!(architecture, Architecture::Backbone(_));
        let state = if is_backbone { without_classifier(state) } else { state };
        let classes = architecture.model().map(|config| default_classes(config.num_classes()));
        let mut checkpoint = Self {
            path: path.to_owned(),
            format,
            architecture,
            preprocess: PreprocessSpec::default(),
            classes,
            state,
            notes,
            card: None,
            weights: Some((path.to_owned(), map)),
            missing_copies: Vec::new(),
            looks_like,
        };
        checkpoint.validate()?;
        checkpoint.merge_copies()?;
        Ok(checkpoint)
    }

    fn validate(&self) -> Result<(), WeightsError> {
        let hint = match (&self.architecture, self.format) {
            (Architecture::Backbone(_), _) => "",
            (_, Format::Pth | Format::Safetensors) => {
                "\nhint: the file may be of another architecture; --arch names it"
            }
            _ => "",
        };
        self.architecture
            .validate()
            .map_err(|error| WeightsError::config(&self.path, format_args!("{error}{hint}")))
    }

    /// Leaves every tensor once, if its copies are equal.
    fn merge_copies(&mut self) -> Result<(), WeightsError> {
        let Some(heads) = self.architecture.model().and_then(ModelConfig::shared_heads) else {
            return Ok(());
        };
        match aliases::merge(&self.state, &heads) {
            Ok(Merged { state, missing }) => {
                self.state = state;
                self.missing_copies = missing;
                Ok(())
            }
            Err(MergeError::Unreadable(name, error)) => {
                Err(WeightsError::corrupt(&self.path, format_args!("{name}: {error}")))
            }
            Err(MergeError::Differ(first, second)) => {
                // A damaged file is worth another message.
                self.check_hash()?;
                let hint = match self.format {
                    Format::Pth | Format::Safetensors if heads.with_box_refine => {
                        Some("the file was changed after training wrote it; fetch it again".into())
                    }
                    Format::Pth | Format::Safetensors if self.looks_like.is_none() => {
                        let hint = "layers have heads of their own only with box refinement; \
                                    --arch names such a model";
                        Some(hint.into())
                    }
                    _ => self.hint(),
                };
                Err(WeightsError::UnequalCopies { path: self.path.clone(), first, second, hint })
            }
        }
    }

    fn note_untold_backbone(&mut self) {
        let stem = self.path.to_string_lossy().to_lowercase();
        let is_dilated = self.architecture.model().is_some_and(|m| m.backbone().is_dilated());
        if stem.contains("dc5") && !is_dilated {
            self.notes.push(
                "the folder's name says dc5, but its config.json does not ask for dilation".into(),
            );
        }
    }
}

/// The owner of some tensors, as far as they tell it.
enum Inferred {
    /// A model with its heads.
    Model(ModelConfig),
    /// A torchvision ResNet: a backbone alone.
    Backbone(BackboneConfig),
    /// Part of a known kind of model, and what is wrong with it.
    Broken(String),
    /// Nothing known.
    Unknown,
}

impl Inferred {
    /// Looks at names and shapes. They tell everything but the number of heads, whether the last stage is
    /// dilated, and how many proposals of a two-stage model become queries.
    fn new(state: &StateDict, args: TrainingArgs) -> Self {
        match ModelConfig::infer(state, args) {
            Some(Ok(config)) => Self::Model(config),
            Some(Err(reason)) => Self::Broken(reason),
            None => BackboneConfig::infer(state, "", false).map_or(Self::Unknown, Self::Backbone),
        }
    }
}

fn names_dc5(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().to_lowercase().contains("dc5"))
}
