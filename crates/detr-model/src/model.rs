//! One type for every architecture, so that a predictor or a benchmark takes any of them.

use burn::module::Module;
use burn::tensor::Device;

use crate::backbone::Features;
use crate::config::ModelConfig;
use crate::deformable_detr::DeformableDetr;
use crate::demo::DetrDemo;
use crate::detr::Detr;
use crate::nested::NestedTensor;
use crate::output::DetrOutput;

/// A model of any architecture.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // one model per process, moved once
pub enum Model {
    /// DETR.
    Detr(Detr),
    /// Deformable DETR.
    DeformableDetr(DeformableDetr),
    /// The paper's demonstration model.
    DetrDemo(DetrDemo),
}

impl ModelConfig {
    /// A freshly initialised model.
    #[must_use]
    pub fn init(&self, device: &Device) -> Model {
        match self {
            Self::Detr(config) => Model::Detr(config.init(device)),
            Self::DeformableDetr(config) => Model::DeformableDetr(config.init(device)),
            Self::DetrDemo(config) => Model::DetrDemo(config.init(device)),
        }
    }
}

impl Model {
    /// Images to predictions. Only two-stage models read anything back to the host on the way.
    ///
    /// # Shapes
    /// - input `[B, 3, H, W]` with its mask
    /// - outputs `[layers, B, Q, C]` (DETR: C + 1) and `[layers, B, Q, 4]`
    #[must_use]
    pub fn forward(&self, input: NestedTensor) -> DetrOutput {
        self.transform(self.extract(input))
    }

    /// The backbone: the first half of [`Model::forward`], for those who time it.
    #[must_use]
    pub fn extract(&self, input: NestedTensor) -> Features {
        match self {
            Self::Detr(model) => model.extract(input),
            Self::DeformableDetr(model) => model.extract(input),
            Self::DetrDemo(model) => model.extract(input),
        }
    }

    /// The transformer and the heads: the second half of [`Model::forward`].
    #[must_use]
    pub fn transform(&self, features: Features) -> DetrOutput {
        match self {
            Self::Detr(model) => model.transform(features).output,
            Self::DeformableDetr(model) => model.transform(features).output,
            Self::DetrDemo(model) => model.transform(features),
        }
    }

    /// For inference: batch norms folded into the convolutions before them.
    #[must_use]
    pub fn fold(self) -> Self {
        match self {
            Self::Detr(model) => Self::Detr(model.fold()),
            Self::DeformableDetr(model) => Self::DeformableDetr(model.fold()),
            Self::DetrDemo(model) => Self::DetrDemo(model.fold()),
        }
    }
}
