//! Activation checkpointing across the largest seam of the model (Chen et al. 2016,
//! <https://arxiv.org/abs/1604.06174>): the backbone runs without keeping anything, and once more after
//! the backward pass of all that comes after it. So the activations of the backbone and those of the
//! transformer are never there together. Within each, Burn recomputes what is cheap.

use burn::module::Module;
use burn::tensor::{Gradients, Tensor};
use detr_model::{DetrOutput, Model, NestedTensor};

/// What the backward pass of the first segment ends at.
pub(crate) struct Seam {
    images: NestedTensor,
    /// The backbone's feature maps, as leaves.
    leaves: Vec<Tensor<4>>,
}

impl Seam {
    /// The model's output, differentiable down to the backbone's feature maps.
    pub(crate) fn forward(model: &Model, images: NestedTensor) -> (DetrOutput, Self) {
        let mut features = model.valid().extract(images.clone());
        let strategy = images.pixels.gradient_checkpointing_strategy();
        for map in &mut features.maps {
            let leaf = map.map.clone().inner().autodiff();
            let leaf = match strategy {
                Some(strategy) => leaf.with_gradient_checkpointing_strategy(strategy),
                None => leaf,
            };
            map.map = leaf.require_grad();
        }
        let leaves = features.maps.iter().map(|map| map.map.clone()).collect();
        (model.transform(features), Self { images, leaves })
    }

    /// The backbone's gradients, of those of everything after it.
    pub(crate) fn backward(self, model: &Model, after: &mut Gradients) -> Option<Gradients> {
        let maps = model.extract(self.images).maps;
        let parts = maps.into_iter().zip(self.leaves).filter_map(|(map, leaf)| {
            // The derivative of this by the map is the gradient, to the bit.
            Some((map.map * leaf.grad_remove(after)?).sum())
        });
        Some(parts.reduce(|sum, part| sum + part)?.backward())
    }
}
