//! DETR models on Burn: backbones, position encodings, transformer, heads, post-processing, and
//! the import and export of weights.
//!
//! Architecture invariant: `forward` does no input or output, no read-back to the host (but for the
//! choice of proposals in two-stage models), and draws no random numbers other than dropout's. This crate
//! names no backend: the device of its inputs decides.

pub mod attention;
pub mod backbone;
pub mod box_ops;
pub mod config;
pub mod encoding;
pub mod families;
pub mod flops;
pub mod nested;
pub mod nn;
pub mod output;
pub mod position;
pub mod postprocess;
mod precision;
pub mod weights;

pub use config::ConfigError;
pub use detr_ops::reduce;
pub use detr_ops::traffic::{self, DeviceError};
pub use families::deformable_detr::{DeformableDetr, DeformableDetrConfig};
pub use families::detr::{Detr, DetrConfig};
pub use families::detr_demo::{DetrDemo, DetrDemoConfig};
pub use families::{Model, ModelConfig};
pub use nested::NestedTensor;
pub use output::DetrOutput;
pub use precision::float_dtype;
