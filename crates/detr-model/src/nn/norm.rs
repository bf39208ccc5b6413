//! Normalisations and softmax whose statistics stay in f32 when the model runs in half precision.

use burn::module::Param;
use burn::nn::{GroupNorm, LayerNorm, LayerNormConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, FloatDType, Tensor};

use crate::nested::Extent;

/// Makes a layer normalisation with PyTorch's epsilon.
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
