//! The files of a model.

/// The architecture, which every model has.
pub(super) const CONFIG: &str = "config.json";
/// The preprocessing of images, which older models lack.
pub(super) const PREPROCESSOR: &str = "preprocessor_config.json";
/// The weights, in the only form that is taken from the network, since it cannot hold code.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// The files without which a model is not complete.
pub(super) const REQUIRED: [&str; 2] = [CONFIG, WEIGHTS];
