//! DETR models on Burn: backbones, position encodings, transformer, heads, post-processing, and
//! the import and export of weights.
//!
//! Architecture invariant: `forward` does no input or output, no read-back to the host, and draws
//! no random numbers other than dropout's. This crate names no backend: the device of its inputs
//! decides.

pub mod attention;
pub mod backbone;
pub mod box_ops;
pub mod config;
pub mod demo;
pub mod detr;
mod model;
pub mod nested;
mod nn;
pub mod position;
pub mod postprocess;
pub mod transformer;
pub mod weights;

pub use config::{ConfigError, DetrConfig, DetrDemoConfig, ModelConfig};
pub use demo::DetrDemo;
pub use detr::{Detr, DetrOutput};
pub use model::Model;
pub use nested::NestedTensor;
pub use nn::Mlp;
