//! Heads and input projections of Deformable DETR as the reference initialises them (the constructor
//! of `models/deformable_detr.py`).

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::{GroupNorm, GroupNormConfig, Initializer};
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::config::{DeformableDetrConfig, GROUPS};
use crate::nn::{Conv2d, ConvShape, Init, Linear, Mlp};

/// Creates the class heads, equal to each other at first, that give every class a probability of 1
/// %: focal loss would drown in background otherwise (Lin et al. 2017, section 3.3).
pub(crate) fn class_heads(config: &DeformableDetrConfig, device: &Device) -> Vec<Linear> {
    let prior = -(99f32.ln());
    let first = Linear {
        bias: Some(Param::from_tensor(Tensor::full(
            [config.num_classes],
            prior,
            (device, DType::F32),
        ))),
        ..Linear::new(config.hidden_dim, config.num_classes, Init::Default, device)
    };
    copies(first, config.heads())
}

/// Creates the box heads, equal to each other at first, that move no reference. Where the first layer
/// starts from a point, it gives boxes an eighth of the image wide: a logit of -2.
pub(crate) fn bbox_heads(config: &DeformableDetrConfig, device: &Device) -> Vec<Mlp> {
    let d = config.hidden_dim;
    let mut heads = copies(Mlp::new(d, d, 4, 3, device), config.heads());
    for (i, head) in heads.iter_mut().enumerate() {
        let from_point = i == 0 && !config.two_stage;
        let size = if from_point { -2.0f32 } else { 0.0 };
        let bias = TensorData::new(vec![0.0, 0.0, size, size], [4]);
        head.layers[2] = Linear {
            weight: Initializer::Zeros.init([d, 4], device),
            bias: Some(Param::from_tensor(Tensor::from_data(bias, (device, DType::F32)))),
        };
    }
    heads
}

/// Creates a convolution and a normalisation per level: 1x1 for the maps of the backbone, 3x3 with
/// stride 2 for every coarser level.
pub(crate) fn input_projections(
    config: &DeformableDetrConfig,
    device: &Device,
) -> Vec<(Conv2d, GroupNorm)> {
    let stages = config.num_feature_levels.min(3);
    (0..config.num_feature_levels)
        .map(|level| {
            let d = config.hidden_dim;
            let extra = level >= stages;
            let inputs = match level {
                level if level < stages => config.backbone.out_channels(4 - stages + level),
                level if level == stages => config.backbone.out_channels(3),
                _ => d,
            };
            let (kernel, stride, padding) = if extra { (3, 2, 1) } else { (1, 1, 0) };
            let shape = ConvShape { channels: [inputs, d], kernel, stride, padding, dilation: 1 };
            let xavier = Initializer::XavierUniform { gain: 1.0 };
            let conv = Conv2d::new(shape, &xavier, Some(&Initializer::Zeros), device);
            (conv, GroupNormConfig::new(GROUPS, d).init(device))
        })
        .collect()
}

/// `n` modules with the same numbers, but parameters of their own.
fn copies<M: Module>(module: M, n: usize) -> Vec<M> {
    let first = module.map(&mut Copier);
    let mut all: Vec<M> = (1..n).map(|_| first.clone().map(&mut Copier)).collect();
    all.insert(0, first);
    all
}

/// Makes parameters that are made when first read, and gives each an identity of its own.
struct Copier;

impl ModuleMapper for Copier {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        Param::from_tensor(param.val().detach())
    }
}
