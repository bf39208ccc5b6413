//! Weights in and out: official `.pth` files, torchvision backbones, safetensors, Hugging Face
//! folders, and our own artifact. Everything becomes a [`StateDict`] with official names; nothing
//! in a pickle is ever executed.

mod aliases;
mod artifact;
mod checkpoint;
mod error;
mod file;
mod hugging_face;
mod infer;
mod module;
mod parameters;
mod pth;
mod recipe;
mod safetensors;
mod state_dict;

pub use artifact::{Architecture, CARD_FILE, ModelCard, Provenance, WEIGHTS_FILE, WeightsFile};
pub use checkpoint::{Checkpoint, Format};
pub use error::{Mismatch, WeightsError};
pub use file::read_state_dict;
pub use hugging_face::official_names;
use module::cast_to;
pub use module::{expected_tensors, load_into};
pub use parameters::{NamedParameter, named_parameters, official_layout, read_parameters};
pub use recipe::{recipe_image, recipe_state_dict, recipe_value, recipe_weight};
pub use safetensors::to_bytes as tensors_to_bytes;
pub use state_dict::{ElementType, StateDict, StoredTensor};
