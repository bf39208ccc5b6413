//! Weights in and out: official `.pth` files, torchvision backbones, safetensors, Hugging Face
//! folders, and our own artifact. Everything becomes a [`StateDict`] with official names; nothing
//! in a pickle is ever executed.

mod aliases;
mod architecture;
mod artifact;
mod candidates;
mod checkpoint;
mod error;
mod file;
mod folder;
mod hugging_face;
mod module;
mod parameters;
mod pth;
mod recipe;
mod safetensors;
mod segmentation;
mod state_dict;
mod training_args;

pub(crate) use aliases::SharedHeads;
pub use architecture::Architecture;
pub use artifact::{ModelCard, Provenance, WeightsFile};
pub use checkpoint::{Checkpoint, Format, OpenOptions};
pub use error::{Mismatch, WeightsError};
pub use file::read_state_dict;
pub(crate) use folder::read_json;
pub use folder::{CARD_FILE, WEIGHTS_FILE};
pub use hugging_face::official_names;
use module::cast_to;
pub use module::{expected_tensors, load_into};
pub use parameters::{NamedParameter, named_parameters, official_layout, read_parameters};
pub use recipe::{recipe_image, recipe_value, recipe_weight};
pub use safetensors::to_bytes as tensors_to_bytes;
pub use state_dict::{ElementType, StateDict, StoredTensor, recipe_state_dict};
pub(crate) use training_args::{DEFAULT_HEADS, TrainingArgs};
