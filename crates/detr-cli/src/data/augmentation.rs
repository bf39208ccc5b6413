//! The flags that choose an augmentation, which several commands share.

use std::path::PathBuf;

use clap::Args;
use detr_data::Augmentation;
use detr_infer::cli::{CliError, read_text};
use detr_types::{PreprocessSpec, in_plain_words};

/// The flags that choose what is done with the images.
#[derive(Args, Clone, Debug, Default)]
pub struct AugmentationArgs {
    /// Augmentation: a TOML file with `transforms` [default: the reference's for training]
    #[arg(long, value_name = "FILE.toml")]
    augmentation: Option<PathBuf>,

    /// Only resize, as for validation
    #[arg(long, conflicts_with = "augmentation")]
    validation: bool,
}

impl AugmentationArgs {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// [`CliError::Usage`] with the file, line and key.
    pub fn load(&self) -> Result<Augmentation, CliError> {
        let Some(path) = &self.augmentation else {
            return Ok(if self.validation {
                Augmentation::validation(&PreprocessSpec::default())
            } else {
                Augmentation::training()
            });
        };
        toml::from_str(&read_text(path)?).map_err(|error: toml::de::Error| {
            let message = in_plain_words(error.to_string().trim_end());
            CliError::Usage(format!("{}: {message}", path.display()))
        })
    }
}
