//! Convolutions, which are the kernels of `detr-ops` where there are some.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};
use detr_ops::dense::{self, ConvOptions};

/// A convolution in two dimensions.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[outputs, inputs, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    /// `[outputs]`; `None` where a normalisation follows.
    pub bias: Option<Param<Tensor<1>>>,
    /// The strides and padding of the kernel.
    #[module(skip)]
    pub(crate) options: ConvOptions,
}

/// The sizes of a square convolution, by default of one cell, moving by one cell and without padding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvShape {
    /// Channels before and after.
    pub(crate) channels: [usize; 2],
    /// Rows and columns of the kernel.
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) dilation: usize,
}

impl ConvShape {
    /// Describes a convolution that looks at one cell.
    pub(crate) const fn one_by_one(channels: [usize; 2]) -> Self {
        Self { channels, kernel: 1, stride: 1, padding: 0, dilation: 1 }
    }
}

impl Conv2d {
    /// Makes a convolution; its parameters are drawn when first read, those of the bias by the rule that is
    /// given for it.
    pub(crate) fn new(
        shape: ConvShape,
        weight: &Initializer,
        bias: Option<&Initializer>,
        device: &Device,
    ) -> Self {
        let ConvShape { channels: [inputs, outputs], kernel, stride, padding, dilation } = shape;
        let area = kernel * kernel;
        let (fan_in, fan_out) = (Some(inputs * area), Some(outputs * area));
        Self {
            weight: weight.init_with([outputs, inputs, kernel, kernel], fan_in, fan_out, device),
            bias: bias.map(|bias| bias.init_with([outputs], fan_in, fan_out, device)),
            options: ConvOptions {
                stride: [stride; 2],
                padding: [padding; 2],
                dilation: [dilation; 2],
                relu: false,
            },
        }
    }

    /// Applies the convolution.
    ///
    /// # Shapes
    /// - input `[B, inputs, H, W]`
    /// - output `[B, outputs, H / stride, W / stride]`, rounded up where the padding keeps the size
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let bias = self.bias.as_ref().map(Param::val);
        dense::conv2d(x, self.weight.val(), bias, None, self.options)
    }
}
