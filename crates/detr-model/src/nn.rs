//! The few layers that the models need and Burn lacks or defines differently: initialisation with
//! separate rules for weight and bias, an MLP, and statistics that stay in f32 when the model runs
//! in half precision.

use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{GroupNorm, Initializer, LayerNorm, LayerNormConfig, Linear, PaddingConfig2d};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, FloatDType, Tensor};
use detr_ops::dense::{self, ConvOptions};

use crate::nested::Extent;

/// How a [`Linear`] starts, by PyTorch's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Init {
    /// `nn.Linear`'s own: weight and bias uniform within 1/sqrt(inputs).
    Default,
    /// Weight Xavier uniform, bias as in `Default`: a feed-forward layer of the transformer.
    Xavier,
    /// Weight Xavier uniform, bias 0: an attention's output projection.
    XavierZeroBias,
}

/// A uniform distribution within 1/sqrt(fan in): PyTorch's `kaiming_uniform_(a=sqrt(5))`.
pub(crate) fn fan_in_uniform() -> Initializer {
    Initializer::KaimingUniform { gain: 1.0 / 3f64.sqrt(), fan_out_only: false }
}

/// A fully connected layer `[.., inputs] -> [.., outputs]`.
pub(crate) fn linear(inputs: usize, outputs: usize, init: Init, device: &Device) -> Linear {
    let weight = match init {
        Init::Default => fan_in_uniform(),
        Init::Xavier | Init::XavierZeroBias => Initializer::XavierUniform { gain: 1.0 },
    };
    let bias = match init {
        Init::Default | Init::Xavier => fan_in_uniform(),
        Init::XavierZeroBias => Initializer::Zeros,
    };
    Linear {
        weight: weight.init_with([inputs, outputs], Some(inputs), Some(outputs), device),
        bias: Some(bias.init_with([outputs], Some(inputs), Some(outputs), device)),
    }
}

/// A fully connected layer.
pub(crate) fn affine<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    dense::linear(x, layer.weight.val(), layer.bias.as_ref().map(Param::val), false)
}

/// A fully connected layer with a `ReLU`.
pub(crate) fn affine_relu<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    dense::linear(x, layer.weight.val(), layer.bias.as_ref().map(Param::val), true)
}

/// A convolution.
pub(crate) fn convolve(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    dense::conv2d(x, conv.weight.val(), conv.bias.as_ref().map(Param::val), None, options(conv))
}

/// How a convolution moves. All of these models have explicit padding, the same at both ends, or none.
pub(crate) fn options(conv: &Conv2d) -> ConvOptions {
    let padding = match conv.padding {
        PaddingConfig2d::Explicit(top, left, ..) => [top, left],
        _ => [0, 0],
    };
    ConvOptions { stride: conv.stride, padding, dilation: conv.dilation, relu: false }
}

/// Layer normalisation with PyTorch's epsilon.
pub(crate) fn layer_norm(width: usize, device: &Device) -> LayerNorm {
    LayerNormConfig::new(width).with_epsilon(1e-5).init(device)
}

/// Applies layer normalisation with its statistics in f32: a sum of squares overflows f16.
pub(crate) fn normalize<const D: usize>(norm: &LayerNorm, x: Tensor<D>) -> Tensor<D> {
    let dtype = x.dtype();
    if is_f32(&x) {
        return norm.forward(x);
    }
    let mut wide = norm.clone();
    wide.gamma = wide.gamma.map(|t| t.cast(FloatDType::F32));
    wide.beta = wide.beta.map(|beta| beta.map(|t| t.cast(FloatDType::F32)));
    wide.forward(x.cast(FloatDType::F32)).cast(dtype)
}

/// Applies group normalisation, with its statistics in f32. Where an extent is given, they are those of
/// the images alone.
pub(crate) fn group_norm(norm: &GroupNorm, x: Tensor<4>, extent: Option<&Extent>) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    let (dtype, groups) = (x.dtype(), norm.num_groups);
    let Some(extent) = extent else {
        if is_f32(&x) {
            return norm.forward(x);
        }
        let mut wide = norm.clone();
        wide.gamma = wide.gamma.map(|gamma| gamma.map(|t| t.cast(FloatDType::F32)));
        wide.beta = wide.beta.map(|beta| beta.map(|t| t.cast(FloatDType::F32)));
        return wide.forward(x.cast(FloatDType::F32)).cast(FloatDType::from(dtype));
    };
    let grouped = |x: Tensor<4>| extent.zero_outside(x).reshape([b, groups, c / groups * h * w]);
    #[allow(clippy::cast_precision_loss)] // channels of a group
    let count = extent.cells() * (c / groups) as f64;
    let x = x.cast(FloatDType::F32);
    let mean = grouped(x.clone()).sum_dim(2) / count.clone();
    let x = (x.reshape([b, groups, c / groups * h * w]) - mean).reshape([b, c, h, w]);
    let variance = grouped(x.clone()).square().sum_dim(2) / count;
    let deviation = (variance + norm.epsilon).sqrt();
    let x = (x.reshape([b, groups, c / groups * h * w]) / deviation).reshape([b, c, h, w]);
    let affine = |part: &Option<Param<Tensor<1>>>| {
        part.as_ref().map(|part| part.val().reshape([1, c, 1, 1]))
    };
    let x = x.cast(FloatDType::from(dtype));
    match (affine(&norm.gamma), affine(&norm.beta)) {
        (Some(gamma), Some(beta)) => x * gamma + beta,
        _ => x,
    }
}

/// Softmax over the last axis, in f32.
pub(crate) fn softmax_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let dtype = x.dtype();
    if is_f32(&x) {
        return softmax(x, D - 1);
    }
    softmax(x.cast(FloatDType::F32), D - 1).cast(dtype)
}

fn is_f32<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == burn::tensor::DType::F32
}

/// Multi-layer perceptron with `ReLU` between the layers (`MLP` of `models/detr.py`).
#[derive(Module, Debug)]
pub struct Mlp {
    /// The layers in order.
    pub layers: Vec<Linear>,
}

impl Mlp {
    /// `num_layers` layers, all but the last of width `hidden`.
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
                linear(from, to, Init::Default, device)
            })
            .collect();
        Self { layers }
    }

    /// # Shapes
    /// - input `[.., input]`
    /// - output `[.., output]`
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let last = self.layers.len() - 1;
        self.layers.iter().enumerate().fold(x, |x, (i, layer)| {
            if i < last { affine_relu(layer, x) } else { affine(layer, x) }
        })
    }
}

/// A table of `rows` learned vectors of width `width`, drawn from `initializer`.
pub(crate) fn table(
    rows: usize,
    width: usize,
    initializer: &Initializer,
    device: &Device,
) -> Param<Tensor<2>> {
    initializer.init([rows, width], device)
}
