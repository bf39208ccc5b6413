//! DETR models on Burn: backbones, position encodings, transformer, heads, post-processing, and
//! the import and export of weights.
//!
//! Architecture invariant: `forward` does no input or output, no read-back to the host (but for the
//! choice of proposals in two-stage models), and draws no random numbers other than dropout's. This crate names no backend: the device of its inputs
//! decides.

pub mod attention;
pub mod backbone;
pub mod box_ops;
pub mod config;
pub mod deformable_detr;
mod deformable_heads;
pub mod deformable_transformer;
pub mod demo;
pub mod detr;
pub mod flops;
mod model;
pub mod ms_deform_attn;
pub mod nested;
mod nn;
pub mod output;
pub mod position;
pub mod postprocess;
mod proposals;
pub mod segments;
pub mod transformer;
pub mod weights;

pub use config::{ConfigError, DeformableDetrConfig, DetrConfig, DetrDemoConfig, ModelConfig};
pub use deformable_detr::DeformableDetr;
pub use demo::DetrDemo;
pub use detr::Detr;
pub use detr_ops::traffic;
pub use model::Model;
pub use nested::NestedTensor;
pub use nn::Mlp;
pub use output::DetrOutput;
