//! What is known of a run before its first step.

use std::path::PathBuf;

/// What is known of a run before its first step.
#[derive(Clone, Debug)]
pub struct RunInfo {
    /// Its folder.
    pub folder: PathBuf,
    /// Steps of all epochs.
    pub steps: u64,
    /// Epochs.
    pub epochs: u64,
    /// Epochs between validations; 0 for none.
    pub validate_every: u64,
    /// Steps between lines on the console.
    pub log_every: u64,
    /// The architecture.
    pub model: String,
    /// The file of settings.
    pub config: String,
    /// The device, as it is shown.
    pub device: String,
    /// The seed.
    pub seed: u64,
    /// The version of Burn.
    pub burn: String,
}
