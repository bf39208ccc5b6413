//! Batch normalisation whose statistics and affine parameters never change
//! (`FrozenBatchNorm2d` of `models/backbone.py`).

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::nn::Conv2d;

/// The number that is added to the variance inside the square root.
const EPS: f64 = 1e-5;

/// Frozen batch norm: four buffers of `[C]`, none of them trained.
#[derive(Module, Debug)]
pub struct FrozenBatchNorm {
    /// Scale.
    pub weight: Param<Tensor<1>>,
    /// Shift.
    pub bias: Param<Tensor<1>>,
    /// Mean of the data it was trained on.
    pub running_mean: Param<Tensor<1>>,
    /// Variance of the data it was trained on.
    pub running_var: Param<Tensor<1>>,
}

impl FrozenBatchNorm {
    /// Creates the identity on `channels` channels, up to epsilon.
    #[must_use]
    pub fn new(channels: usize, device: &Device) -> Self {
        let filled = |initializer: Initializer| {
            initializer.init::<1, _>([channels], device).set_require_grad(false)
        };
        Self {
            weight: filled(Initializer::Ones),
            bias: filled(Initializer::Zeros),
            running_mean: filled(Initializer::Zeros),
            running_var: filled(Initializer::Ones),
        }
    }

    /// # Shapes
    /// - input and output `[B, C, H, W]`
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let c = x.dims()[1];
        let (scale, shift) = self.scale_and_shift();
        x * scale.reshape([1, c, 1, 1]) + shift.reshape([1, c, 1, 1])
    }

    /// Folds this normalisation into a convolution before it.
    pub(super) fn fold_into(&self, conv: Conv2d) -> Conv2d {
        let (weight, shift) = self.folded(&conv);
        let bias = Some(Param::from_tensor(shift).set_require_grad(false));
        Conv2d { weight: conv.weight.map(|_| weight), bias, options: conv.options }
    }

    /// Computes the weight and bias of the folded convolution, through which gradients go.
    pub(super) fn folded(&self, conv: &Conv2d) -> (Tensor<4>, Tensor<1>) {
        let (scale, shift) = self.scale_and_shift();
        let c = scale.dims()[0];
        (conv.weight.val() * scale.reshape([c, 1, 1, 1]), shift)
    }

    fn scale_and_shift(&self) -> (Tensor<1>, Tensor<1>) {
        let scale = self.weight.val() * (self.running_var.val() + EPS).sqrt().recip();
        let shift = self.bias.val() - self.running_mean.val() * scale.clone();
        (scale, shift)
    }
}
