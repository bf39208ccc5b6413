//! Opening a checkpoint: which layout it has, which architecture, and each tensor once.

use std::path::Path;

use detr_types::PreprocessSpec;

use super::super::aliases::{self, MergeError, MergedState};
use super::super::architecture::Architecture;
use super::super::artifact;
use super::super::file::{
    FileTensors, map_file, read_model, read_tensors, without_classifier, without_counters,
};
use super::super::folder::{CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, read_json};
use super::super::hugging_face::{self, HuggingFace};
use super::super::training_args::TrainingArgs;
use super::super::{StateDict, WeightsError, safetensors, segmentation};
use super::{Checkpoint, Format, default_classes, default_preprocess, unknown};
use crate::backbone::BackboneConfig;
use crate::families::ModelConfig;

/// The facts that the caller knows better than a file or folder.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions<'a> {
    /// The architecture of a file that does not carry its own.
    pub arch: Option<&'a ModelConfig>,
    /// Whether the caller sets the image size; then one that cannot be read in a folder is only noted.
    pub own_size: bool,
}

impl Checkpoint {
    /// Opens a file or folder of any known layout. `arch` replaces the inferred architecture of
    /// files that do not carry their own. A weights file is read with the `model.json` or `config.json` beside it that
    /// describes it, and a note says so. Of the tensors, only heads that are listed several times are read.
    ///
    /// # Errors
    /// Anything in [`WeightsError`].
    pub fn open(path: &Path, arch: Option<&ModelConfig>) -> Result<Self, WeightsError> {
        Self::open_with(path, OpenOptions { arch, own_size: false })
    }

    /// Opens a file or folder like [`Checkpoint::open`], for a caller that knows more.
    ///
    /// # Errors
    /// The errors of [`Checkpoint::open`].
    pub fn open_with(path: &Path, options: OpenOptions<'_>) -> Result<Self, WeightsError> {
        let OpenOptions { arch, own_size } = options;
        let metadata = std::fs::metadata(path).map_err(|error| WeightsError::io(path, error))?;
        if metadata.is_dir() {
            Self::open_folder(path, arch, own_size)
        } else if metadata.is_file() {
            match described(path)? {
                Some(description) => Self::open_described(path, description, options),
                None => Self::open_file(path, arch),
            }
        } else {
            Err(WeightsError::NotAModel {
                path: path.to_owned(),
                reason: "not a regular file".into(),
            })
        }
    }

    fn open_folder(
        path: &Path,
        arch: Option<&ModelConfig>,
        own_size: bool,
    ) -> Result<Self, WeightsError> {
        let weights_path = path.join(WEIGHTS_FILE);
        let is_artifact = path.join(CARD_FILE).is_file();
        if !is_artifact && !path.join(CONFIG_FILE).is_file() {
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
        Self::open_hugging_face(path, hugging_face::read(path, own_size)?)
    }

    /// Makes the checkpoint of what a Hugging Face folder holds.
    fn open_hugging_face(path: &Path, found: HuggingFace) -> Result<Self, WeightsError> {
        let mut checkpoint = Self {
            path: path.to_owned(),
            format: Format::HuggingFace,
            architecture: found.config.into(),
            preprocess: found.preprocess,
            classes: Some(found.classes),
            state: without_counters(found.state),
            notes: found.notes,
            card: None,
            weights: found.files,
            missing_copies: Vec::new(),
            looks_like: None,
        };
        checkpoint.validate()?;
        checkpoint.merge_copies()?;
        checkpoint.note_untold_backbone();
        Ok(checkpoint)
    }

    /// Opens a weights file together with the file beside it that describes it.
    fn open_described(
        path: &Path,
        description: Description,
        OpenOptions { arch, own_size }: OpenOptions<'_>,
    ) -> Result<Self, WeightsError> {
        let folder = folder_of(path);
        let (file, mut checkpoint) = match description {
            Description::Card => (CARD_FILE, Self::open_artifact(folder, path)?),
            Description::HuggingFace => {
                let map = map_file(path)?;
                let theirs = read_tensors(path, &map)?;
                let files = vec![(path.to_owned(), map)];
                let found = hugging_face::read_with(folder, &theirs, files, own_size)?;
                (CONFIG_FILE, Self::open_hugging_face(folder, found)?)
            }
            Description::Itself(file) => (file, Self::open_folder(folder, None, own_size)?),
        };
        if let Some(arch) = arch
            && checkpoint.architecture.model() != Some(arch)
        {
            return Err(WeightsError::config(
                path,
                format_args!(
                    "{file} beside it describes another architecture\nhint: leave out --arch, or copy \
                     the file to a folder of its own"
                ),
            ));
        }
        let note = match description {
            Description::Itself(_) => format!("read as the folder that {file} describes"),
            _ => format!("read with {file} beside it, as the folder would be"),
        };
        checkpoint.notes.insert(0, note);
        Ok(checkpoint)
    }

    /// Returns whether the architecture of the weights at a path is told by a file beside them, as in a folder.
    #[must_use]
    pub fn is_described(path: &Path) -> bool {
        path.is_dir() || described(path).is_ok_and(|description| description.is_some())
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
            weights: vec![(weights_path.to_owned(), map)],
            missing_copies: Vec::new(),
            looks_like: None,
        };
        checkpoint.merge_copies()?;
        Ok(checkpoint)
    }

    fn open_file(path: &Path, arch: Option<&ModelConfig>) -> Result<Self, WeightsError> {
        let map = map_file(path)?;
        let FileTensors { format, state, args, mut notes } = read_model(path, &map)?;
        let state = segmentation::unwrap(without_counters(state));
        let mut looks_like = None;
        let architecture = match (arch, InferredModel::new(&state, args)) {
            // The stated architecture counts; tensors that the file lacks are listed when the
            // weights are loaded.
            (Some(arch), InferredModel::Model(found)) => {
                looks_like = Some(found.describe());
                arch.clone().into()
            }
            (Some(arch), InferredModel::Broken(_) | InferredModel::Unknown) => arch.clone().into(),
            (Some(_), InferredModel::Backbone(_)) => {
                return Err(WeightsError::config(
                    path,
                    "a ResNet backbone alone, which is none of the architectures that --arch \
                     names\nhint: leave out --arch",
                ));
            }
            (None, InferredModel::Model(mut config)) => {
                notes.extend(config.assumptions(args));
                if args.dilation.is_none() && names_dc5(path) && config.dilate() {
                    let note = "dilated C5 assumed from the file's name (no tensor shows it)";
                    notes.push(note.into());
                }
                config.into()
            }
            (None, InferredModel::Backbone(config)) => Architecture::Backbone(config),
            (None, InferredModel::Broken(reason)) => {
                return Err(WeightsError::config(
                    path,
                    format_args!("{reason}\nhint: --arch names the architecture"),
                ));
            }
            (None, InferredModel::Unknown) => return Err(unknown(path, &state)),
        };
        let is_backbone = matches!(architecture, Architecture::Backbone(_));
        let state = if is_backbone { without_classifier(state) } else { state };
        if let Some(published) = architecture.model().and_then(ModelConfig::published) {
            notes.push(format!(
                "the sizes are those of {}: its classes ({}) and its image size are assumed",
                published.name,
                published.classes.join(", ")
            ));
        }
        let classes = architecture.model().map(default_classes);
        let preprocess =
            architecture.model().map_or_else(PreprocessSpec::default, default_preprocess);
        let mut checkpoint = Self {
            path: path.to_owned(),
            format,
            architecture,
            preprocess,
            classes,
            state,
            notes,
            card: None,
            weights: vec![(path.to_owned(), map)],
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
            Ok(MergedState { state, missing }) => {
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

/// The file that describes a weights file.
#[derive(Clone, Copy)]
enum Description {
    /// A model card of ours, beside it.
    Card,
    /// A `config.json` of Hugging Face's, beside it.
    HuggingFace,
    /// The file itself, which is such a description or an index of shards, and stands for its folder.
    Itself(&'static str),
}

/// Returns what describes a weights file. A file of other weights that happens to be in the same folder is not
/// described, nor is one whose neighbour only has the name of a description.
fn described(path: &Path) -> Result<Option<Description>, WeightsError> {
    let folder = folder_of(path);
    let name = path.file_name().unwrap_or_default();
    let (card, config) = (folder.join(CARD_FILE), folder.join(CONFIG_FILE));
    if name == CARD_FILE && has_keys(path, &["format_version", "weights"]) {
        return Ok(Some(Description::Itself(CARD_FILE)));
    }
    if name == CONFIG_FILE && has_keys(path, &["model_type"]) {
        return Ok(Some(Description::Itself(CONFIG_FILE)));
    }
    if card.is_file() && has_keys(&card, &["format_version", "weights"]) {
        if name == WEIGHTS_FILE {
            return Ok(Some(Description::Card));
        }
        // The same file under another name; only one of equal length is worth hashing.
        let stated = artifact::read_card(folder).map(|card| card.weights);
        let length = path.metadata().map_or(0, |data| data.len());
        if let Ok(stated) = stated.as_ref()
            && stated.bytes == length
            && artifact::sha256(&map_file(path)?) == stated.sha256
        {
            return Ok(Some(Description::Card));
        }
    }
    if config.is_file() && has_keys(&config, &["model_type"]) {
        let stem = name.to_str().unwrap_or_default();
        if stem.ends_with(".index.json") || stem.contains("-of-") {
            return Ok(Some(Description::Itself(CONFIG_FILE)));
        }
        let theirs = without_counters(read_tensors(path, &map_file(path)?)?);
        let is_known = |state: &StateDict| {
            !matches!(InferredModel::new(state, TrainingArgs::default()), InferredModel::Unknown)
        };
        if !is_known(&theirs)
            && hugging_face::official_names(&theirs).is_ok_and(|ours| is_known(&ours))
        {
            return Ok(Some(Description::HuggingFace));
        }
    }
    Ok(None)
}

/// Returns the folder of a file.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Returns whether a file is a JSON object with these keys.
fn has_keys(path: &Path, keys: &[&str]) -> bool {
    let object: Result<serde_json::Map<String, serde_json::Value>, _> = read_json(path);
    object.is_ok_and(|object| keys.iter().all(|key| object.contains_key(*key)))
}

/// The owner of some tensors, as far as they tell it.
enum InferredModel {
    /// A model with its heads.
    Model(ModelConfig),
    /// A torchvision ResNet: a backbone alone.
    Backbone(BackboneConfig),
    /// Part of a known kind of model, and what is wrong with it.
    Broken(String),
    /// Nothing known.
    Unknown,
}

impl InferredModel {
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
