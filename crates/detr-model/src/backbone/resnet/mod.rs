//! ResNet (He et al. 2016) as torchvision's version 1.5 with frozen batch norm
//! (`models/backbone.py` of the reference). The path
//! `backbone.0.body.layer1.0.conv1.weight` of a checkpoint is a path of these fields.

mod config;
pub(crate) mod hugging_face;

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, s};

use detr_ops::dense::{ConvOptions, conv2d, has_kernel, max_pool};

use super::features::FeatureMap;
use super::frozen_batch_norm::FrozenBatchNorm;
use crate::nested::{Extent, NestedTensor, within};
use crate::nn::{Conv2d, ConvShape};
pub use config::{Block, ResNetConfig};

/// A ResNet without its classifier.
#[derive(Module, Debug)]
pub struct ResNet {
    /// 7x7 convolution, stride 2.
    pub conv1: Conv2d,
    /// Its normalisation; none once folded.
    pub bn1: Option<FrozenBatchNorm>,
    /// Stride 4.
    pub layer1: Vec<ResidualBlock>,
    /// Stride 8.
    pub layer2: Vec<ResidualBlock>,
    /// Stride 16.
    pub layer3: Vec<ResidualBlock>,
    /// Stride 32, or 16 if dilated.
    pub layer4: Vec<ResidualBlock>,
}

/// A residual block, basic (no `conv3`) or bottleneck. Once folded it has no normalisations.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// 3x3 (basic) or 1x1 (bottleneck).
    pub conv1: Conv2d,
    /// Normalisation after `conv1`.
    pub bn1: Option<FrozenBatchNorm>,
    /// 3x3.
    pub conv2: Conv2d,
    /// Normalisation after `conv2`.
    pub bn2: Option<FrozenBatchNorm>,
    /// 1x1, bottleneck only.
    pub conv3: Option<Conv2d>,
    /// Normalisation after `conv3`.
    pub bn3: Option<FrozenBatchNorm>,
    /// 1x1 convolution and normalisation of the shortcut, where the shape changes.
    pub downsample: Option<(Conv2d, Option<FrozenBatchNorm>)>,
    /// Every how many rows and columns the shortcut keeps.
    stride: usize,
}

impl ResNet {
    /// Creates a network initialised as torchvision does: Kaiming normal by fan out, identity
    /// norms.
    #[must_use]
    pub fn new(config: &ResNetConfig, device: &Device) -> Self {
        let mut inputs = config.stem;
        let mut stage = |index: usize| -> Vec<ResidualBlock> {
            let dilated = config.dilation && index == 3;
            (0..config.depths[index])
                .map(|i| {
                    let strides = i == 0 && index > 0 && !dilated;
                    let shape = BlockShape {
                        block: config.block,
                        inputs,
                        width: config.widths[index],
                        stride: if strides { 2 } else { 1 },
                        // The first block of a dilated stage keeps dilation 1, as in torchvision.
                        dilation: if dilated && i > 0 { 2 } else { 1 },
                    };
                    inputs = shape.outputs();
                    shape.init(device)
                })
                .collect()
        };
        Self {
            layer1: stage(0),
            layer2: stage(1),
            layer3: stage(2),
            layer4: stage(3),
            conv1: conv([3, config.stem], 7, 2, 1, device),
            bn1: Some(FrozenBatchNorm::new(config.stem, device)),
        }
    }

    /// Computes all four feature maps, C2 to C5.
    ///
    /// # Shapes
    /// - input `[B, 3, H, W]`
    /// - outputs `[B, C, H/4, W/4]` to `[B, C, H/32, W/32]`, rounded up; C5 is as large as C4 if
    ///   dilated
    #[must_use]
    pub fn forward(&self, input: &NestedTensor) -> [FeatureMap; 4] {
        let mut x = self.stem(input);
        self.stages().map(|stage| {
            x = stage.iter().fold(x.clone(), |x, block| block.forward(x));
            x.clone()
        })
    }

    /// Folds every frozen batch norm into the convolution before it: the same function with half
    /// as many passes over memory, for inference. A folded network has no official names any more.
    #[must_use]
    pub fn fold(self) -> Self {
        let stage = |blocks: Vec<ResidualBlock>| -> Vec<ResidualBlock> {
            blocks.into_iter().map(ResidualBlock::fold).collect()
        };
        Self {
            conv1: fold_conv(self.conv1, self.bn1),
            bn1: None,
            layer1: stage(self.layer1),
            layer2: stage(self.layer2),
            layer3: stage(self.layer3),
            layer4: stage(self.layer4),
        }
    }

    fn stem(&self, input: &NestedTensor) -> FeatureMap {
        let dtype = self.conv1.weight.val().dtype();
        let extent = input.padding.extent(&input.pixels);
        let pixels = within(input.pixels.clone().cast(dtype), extent.as_ref());
        let map = layer(&self.conv1, self.bn1.as_ref(), pixels, None, true);
        let extent = extent.map(|extent| extent.halved(&map));
        // Nothing is below zero here, so zeros beside the image are what the pooling's own padding is.
        let map = max_pool(within(map, extent.as_ref()));
        let extent = extent.map(|extent| extent.halved(&map));
        FeatureMap { map, extent }
    }

    fn stages(&self) -> [&[ResidualBlock]; 4] {
        [&self.layer1, &self.layer2, &self.layer3, &self.layer4]
    }
}

impl ResidualBlock {
    /// # Shapes
    /// - input `[B, C, H, W]`
    /// - output `[B, C', H/stride, W/stride]`, rounded up
    #[must_use]
    pub fn forward(&self, input: FeatureMap) -> FeatureMap {
        let FeatureMap { map: x, extent } = input;
        // The last convolution waits for the shortcut, which it adds.
        let (y, extent, last, bn) = match &self.conv3 {
            None => {
                let input = within(x.clone(), extent.as_ref());
                let y = layer(&self.conv1, self.bn1.as_ref(), input, None, true);
                let extent = self.extent_after(extent, &y);
                (within(y, extent.as_ref()), extent, &self.conv2, self.bn2.as_ref())
            }
            Some(conv3) => {
                let y = layer(&self.conv1, self.bn1.as_ref(), x.clone(), None, true);
                let y = within(y, extent.as_ref());
                let y = layer(&self.conv2, self.bn2.as_ref(), y, None, true);
                let extent = self.extent_after(extent, &y);
                (y, extent, conv3, self.bn3.as_ref())
            }
        };
        let shortcut = match &self.downsample {
            Some((conv, bn)) => layer(conv, bn.as_ref(), self.subsample(x), None, false),
            None => x,
        };
        FeatureMap { map: layer(last, bn, y, Some(shortcut), true), extent }
    }

    /// Returns the images' part of the output of the block's 3x3 convolution of its stride.
    fn extent_after(&self, extent: Option<Extent>, map: &Tensor<4>) -> Option<Extent> {
        match self.stride {
            1 => extent,
            _ => extent.map(|extent| extent.halved(map)),
        }
    }

    /// Selects the cells that a 1x1 convolution of this stride looks at. Selecting first leaves a
    /// convolution of stride 1, which is a matrix product, and is several times faster on the CPU.
    fn subsample(&self, x: Tensor<4>) -> Tensor<4> {
        if self.stride == 1 {
            return x;
        }
        let step = isize::try_from(self.stride).unwrap_or(1);
        x.slice(s![.., .., ..;step, ..;step])
    }

    fn fold(self) -> Self {
        Self {
            conv1: fold_conv(self.conv1, self.bn1),
            bn1: None,
            conv2: fold_conv(self.conv2, self.bn2),
            bn2: None,
            conv3: self.conv3.map(|conv| fold_conv(conv, self.bn3)),
            bn3: None,
            downsample: self.downsample.map(|(conv, bn)| (fold_conv(conv, bn), None)),
            stride: self.stride,
        }
    }
}

/// Applies a convolution with its normalisation, a residual, and a `ReLU` if wanted.
///
/// A frozen norm that is not folded, as in training, scales the weights where the operation has a kernel of
/// ours: that is cheaper than scaling all that they make. Elsewhere it comes after, as in the reference.
fn layer(
    conv: &Conv2d,
    bn: Option<&FrozenBatchNorm>,
    x: Tensor<4>,
    residual: Option<Tensor<4>>,
    rectify: bool,
) -> Tensor<4> {
    let (weight, bias) = match bn {
        None => (conv.weight.val(), conv.bias.as_ref().map(Param::val)),
        Some(bn) if has_kernel(&x) => {
            let (weight, shift) = bn.folded(conv);
            (weight, Some(shift))
        }
        Some(bn) => {
            let y = bn.forward(conv.forward(x));
            let y = match residual {
                Some(residual) => y + residual,
                None => y,
            };
            return if rectify { relu(y) } else { y };
        }
    };
    conv2d(x, weight, bias, residual, ConvOptions { relu: rectify, ..conv.options })
}

fn fold_conv(conv: Conv2d, bn: Option<FrozenBatchNorm>) -> Conv2d {
    match bn {
        Some(bn) => bn.fold_into(conv),
        None => conv,
    }
}

/// The sizes that distinguish one residual block from another.
struct BlockShape {
    block: Block,
    inputs: usize,
    width: usize,
    stride: usize,
    dilation: usize,
}

impl BlockShape {
    fn outputs(&self) -> usize {
        self.width * self.block.expansion()
    }

    fn init(&self, device: &Device) -> ResidualBlock {
        let &Self { block, inputs, width, stride, dilation } = self;
        let outputs = self.outputs();
        let bn = |channels| Some(FrozenBatchNorm::new(channels, device));
        let downsample = (stride != 1 || inputs != outputs)
            .then(|| (conv([inputs, outputs], 1, 1, 1, device), bn(outputs)));
        match block {
            Block::Basic => ResidualBlock {
                conv1: conv([inputs, width], 3, stride, 1, device),
                bn1: bn(width),
                conv2: conv([width, width], 3, 1, 1, device),
                bn2: bn(width),
                conv3: None,
                bn3: None,
                downsample,
                stride,
            },
            Block::Bottleneck => ResidualBlock {
                conv1: conv([inputs, width], 1, 1, 1, device),
                bn1: bn(width),
                conv2: conv([width, width], 3, stride, dilation, device),
                bn2: bn(width),
                conv3: Some(conv([width, outputs], 1, 1, 1, device)),
                bn3: bn(outputs),
                downsample,
                stride,
            },
        }
    }
}

/// Creates a square convolution without bias that keeps the size at stride 1.
fn conv(
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    dilation: usize,
    device: &Device,
) -> Conv2d {
    let padding = dilation * (kernel / 2);
    let kaiming = Initializer::KaimingNormal { gain: 2f64.sqrt(), fan_out_only: true };
    Conv2d::new(ConvShape { channels, kernel, stride, padding, dilation }, &kaiming, None, device)
}
