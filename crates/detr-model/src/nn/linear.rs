//! Fully connected layers, whose products are the kernels of `detr-ops` where there are some.

use burn::module::{Module, Param};
use burn::nn::{Dropout, Initializer};
use burn::tensor::{Device, Tensor};
use detr_ops::dense;

/// The initialisations of a [`Linear`], by PyTorch's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Init {
    /// `nn.Linear`'s own: weight and bias uniform within 1/sqrt(inputs).
    Default,
    /// Weight Xavier uniform, bias as in `Default`: a feed-forward layer of the transformer.
    Xavier,
    /// Weight Xavier uniform, bias 0: an attention's output projection.
    XavierZeroBias,
}

/// Returns a uniform distribution within 1/sqrt(fan in): PyTorch's `kaiming_uniform_(a=sqrt(5))`.
pub(crate) fn fan_in_uniform() -> Initializer {
    Initializer::KaimingUniform { gain: 1.0 / 3f64.sqrt(), fan_out_only: false }
}

/// A fully connected layer `[.., inputs] -> [.., outputs]`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[inputs, outputs]`: transposed in checkpoints, which have PyTorch's layout.
    pub weight: Param<Tensor<2>>,
    /// `[outputs]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// Makes a layer; its parameters are drawn when first read.
    pub(crate) fn new(inputs: usize, outputs: usize, init: Init, device: &Device) -> Self {
        let weight = match init {
            Init::Default => fan_in_uniform(),
            Init::Xavier | Init::XavierZeroBias => Initializer::XavierUniform { gain: 1.0 },
        };
        let bias = match init {
            Init::Default | Init::Xavier => fan_in_uniform(),
            Init::XavierZeroBias => Initializer::Zeros,
        };
        Self {
            weight: weight.init_with([inputs, outputs], Some(inputs), Some(outputs), device),
            bias: Some(bias.init_with([outputs], Some(inputs), Some(outputs), device)),
        }
    }

    /// Applies the layer.
    ///
    /// # Shapes
    /// - input `[.., inputs]`
    /// - output `[.., outputs]`
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        dense::linear(x, self.weight.val(), self.bias.as_ref().map(Param::val), false)
    }

    /// Applies the layer, then a `ReLU`; shapes are those of [`Linear::forward`].
    #[must_use]
    pub fn forward_relu<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        dense::linear(x, self.weight.val(), self.bias.as_ref().map(Param::val), true)
    }
}

/// A multi-layer perceptron with `ReLU` between the layers (`MLP` of `models/detr.py`).
#[derive(Module, Debug)]
pub struct Mlp {
    /// The layers in order.
    pub layers: Vec<Linear>,
}

impl Mlp {
    /// Makes `num_layers` layers, all but the last of width `hidden`.
    #[must_use]
    pub fn new(
        input: usize,
        hidden: usize,
        output: usize,
        num_layers: usize,
        device: &Device,
    ) -> Self {
        let layers = (0..num_layers)
            .map(|i| {
                let from = if i == 0 { input } else { hidden };
                let to = if i + 1 == num_layers { output } else { hidden };
                Linear::new(from, to, Init::Default, device)
            })
            .collect();
        Self { layers }
    }

    /// Applies the layers in order.
    ///
    /// # Shapes
    /// - input `[.., input]`
    /// - output `[.., output]`
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let last = self.layers.len() - 1;
        self.layers.iter().enumerate().fold(x, |x, (i, layer)| {
            if i < last { layer.forward_relu(x) } else { layer.forward(x) }
        })
    }
}

/// Applies a feed-forward network: two layers with a `ReLU` between them, and their dropouts.
pub(crate) fn feed_forward(
    x: Tensor<3>,
    linear1: &Linear,
    linear2: &Linear,
    dropout: &Dropout,
) -> Tensor<3> {
    let hidden = dropout.forward(linear1.forward_relu(x));
    dropout.forward(linear2.forward(hidden))
}
