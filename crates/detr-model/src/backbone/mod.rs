//! Convolutional backbones.

mod frozen_batch_norm;
mod resnet;

pub use frozen_batch_norm::FrozenBatchNorm;
pub use resnet::{Backbone, ResNet, ResidualBlock};
