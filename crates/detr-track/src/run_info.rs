//! The facts of a run that are known before its first step.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The facts of a run that are known before its first step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunInfo {
    /// Name of the run, for trackers that list several.
    pub name: String,
    /// Folder of the run's files.
    pub folder: PathBuf,
    /// Steps of all epochs.
    pub steps: u64,
    /// Number of epochs.
    pub epochs: u64,
    /// Epochs between validations; 0 for none.
    pub validate_every: u64,
    /// Steps between messages on the progress of the run, and between points in TensorBoard.
    pub log_every: u64,
    /// Name of the architecture.
    pub model: String,
    /// Path of the file of settings.
    pub config: String,
    /// Name of the device.
    pub device: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Version of Burn.
    pub burn: String,
    /// All settings by dotted keys such as `train.lr`, with values as TOML writes them.
    pub settings: BTreeMap<String, String>,
}

impl RunInfo {
    /// Returns the folder for the report of the validation after an epoch, which is counted from 1.
    #[must_use]
    pub fn validation_folder(&self, epoch: u64) -> PathBuf {
        self.folder.join("eval").join(format!("epoch-{epoch}"))
    }
}
