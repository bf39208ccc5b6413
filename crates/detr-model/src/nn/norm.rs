//! Normalisations and softmax whose statistics stay in f32 when the model runs in half precision.

use burn::module::Param;
use burn::nn::{GroupNorm, LayerNorm, LayerNormConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, FloatDType, Tensor, module};
use detr_ops::dense::spread;
use detr_ops::reduce::MOST;

use crate::nested::Extent;

/// PyTorch's epsilon of layer normalisation.
const EPSILON: f64 = 1e-5;

/// Makes a layer normalisation with PyTorch's epsilon.
pub(crate) fn layer_norm(width: usize, device: &Device) -> LayerNorm {
    LayerNormConfig::new(width).with_epsilon(EPSILON).init(device)
}

/// Applies layer normalisation with its statistics in f32: a sum of squares overflows f16.
pub(crate) fn normalize<const D: usize>(norm: &LayerNorm, x: Tensor<D>) -> Tensor<D> {
    let dtype = x.dtype();
    if is_f32(&x) {
        return normalize_f32(norm, x);
    }
    let mut wide = norm.clone();
    wide.gamma = wide.gamma.map(|t| t.cast(FloatDType::F32));
    wide.beta = wide.beta.map(|beta| beta.map(|t| t.cast(FloatDType::F32)));
    normalize_f32(&wide, x.cast(FloatDType::F32)).cast(dtype)
}

/// Applies layer normalisation. The gradients of scale and shift are sums over all rows; where those are too many for
/// one step, both are spread over the rows in two steps, so that they are summed in two.
fn normalize_f32<const D: usize>(norm: &LayerNorm, x: Tensor<D>) -> Tensor<D> {
    let shape = x.dims();
    let width = shape[D - 1];
    let rows = shape.iter().product::<usize>() / width.max(1);
    if D < 3 || rows <= MOST || !x.device().is_autodiff() {
        return norm.forward(x);
    }
    let ones = Tensor::<1>::ones([width], (&x.device(), burn::tensor::DType::F32));
    let x = module::layer_norm(x, ones, None, EPSILON);
    let x = x * spread(norm.gamma.val(), shape);
    match &norm.beta {
        Some(beta) => x + spread(beta.val(), shape),
        None => x,
    }
}

/// Applies group normalisation, with its statistics in f32. Where an extent is given, they are those of
/// the images alone.
pub(crate) fn group_norm(norm: &GroupNorm, x: Tensor<4>, extent: Option<&Extent>) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    let (dtype, groups) = (x.dtype(), norm.num_groups);
    // Longer than one step of a reduction may be, see `reduce`.
    let long = c / groups * h * w > MOST;
    if extent.is_none() && !long {
        if is_f32(&x) {
            return norm.forward(x);
        }
        let mut wide = norm.clone();
        wide.gamma = wide.gamma.map(|gamma| gamma.map(|t| t.cast(FloatDType::F32)));
        wide.beta = wide.beta.map(|beta| beta.map(|t| t.cast(FloatDType::F32)));
        return wide.forward(x.cast(FloatDType::F32)).cast(FloatDType::from(dtype));
    }
    // Channels of a group, then cells: two short sums forward and two backward.
    let split = [b, groups, c / groups, h * w];
    let average = |x: Tensor<4>| {
        let inside = match extent {
            Some(extent) => extent.zero_outside(x.reshape([b, c, h, w])).reshape(split),
            None => x,
        };
        let sum = inside.sum_dim(3).sum_dim(2);
        #[allow(clippy::cast_precision_loss)] // cells of a map
        let mean = match extent {
            Some(extent) => {
                let count: Tensor<3> = extent.cells() * (c / groups) as f64;
                sum / count.unsqueeze_dim::<4>(3)
            }
            None => sum / (c / groups * h * w) as f64,
        };
        mean.expand([b, groups, c / groups, 1])
    };
    let x = x.cast(FloatDType::F32).reshape(split);
    let x = x.clone() - average(x);
    let deviation = (average(x.clone().square()) + norm.epsilon).sqrt();
    let x = (x / deviation).reshape([b, c, h, w]);
    let affine = |part: &Option<Param<Tensor<1>>>| {
        part.as_ref().map(|part| part.val().reshape([1, c, 1, 1]))
    };
    let x = x.cast(FloatDType::from(dtype));
    match (affine(&norm.gamma), affine(&norm.beta)) {
        (Some(gamma), Some(beta)) => x * gamma + beta,
        _ => x,
    }
}

/// Computes the softmax over the last axis, in f32.
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
