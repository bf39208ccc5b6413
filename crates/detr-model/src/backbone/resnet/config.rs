//! The configuration of a ResNet.

use detr_types::range::in_range;
use serde::{Deserialize, Serialize};

use super::super::families::BackboneFamily;
use crate::config::{ConfigError, MAX_PARAMETERS, too_large};
use crate::flops::{BackboneFlops, cells, halved};
use crate::weights::StateDict;

/// Kind of a ResNet's residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Block {
    /// Two 3x3 convolutions (ResNet-18, 34).
    Basic,
    /// 1x1, 3x3, 1x1 with four times the width at the end (ResNet-50, 101); the stride is in the
    /// 3x3, as in torchvision's version 1.5.
    Bottleneck,
}

/// A ResNet with frozen batch norm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Residual block.
    pub block: Block,
    /// Blocks per stage.
    pub depths: [usize; 4],
    /// Channels of the stem.
    pub stem: usize,
    /// Channels of the 3x3 convolutions per stage; a bottleneck puts out four times as many.
    pub widths: [usize; 4],
    /// DC5: the last stage dilates by 2 instead of striding by 2. Bottlenecks only.
    #[serde(default)]
    pub dilation: bool,
}

impl Block {
    /// Returns the number of output channels per channel of the 3x3 convolution.
    #[must_use]
    pub const fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

impl ResNetConfig {
    /// Returns torchvision's ResNet of a depth of 18, 34, 50 or 101, and `None` for others.
    #[must_use]
    pub fn torchvision(depth: usize) -> Option<Self> {
        let (block, depths) = match depth {
            18 => (Block::Basic, [2, 2, 2, 2]),
            34 => (Block::Basic, [3, 4, 6, 3]),
            50 => (Block::Bottleneck, [3, 4, 6, 3]),
            101 => (Block::Bottleneck, [3, 4, 23, 3]),
            _ => return None,
        };
        Some(Self { block, depths, stem: 64, widths: [64, 128, 256, 512], dilation: false })
    }
}

impl BackboneFamily for ResNetConfig {
    fn kind() -> &'static str {
        "resnet"
    }

    fn infer(state: &StateDict, prefix: &str, dilation: bool) -> Option<Self> {
        let bottleneck = state.get(&format!("{prefix}layer1.0.conv3.weight")).is_some();
        let mut depths = [0; 4];
        let mut widths = [0; 4];
        for stage in 0..4 {
            let layer = stage + 1;
            depths[stage] = state.count(|i| format!("{prefix}layer{layer}.{i}.conv2.weight"));
            widths[stage] = state.side(&format!("{prefix}layer{layer}.0.conv2.weight"), 0)?;
        }
        Some(Self {
            block: if bottleneck { Block::Bottleneck } else { Block::Basic },
            depths,
            stem: state.side(&format!("{prefix}conv1.weight"), 0)?,
            widths,
            dilation,
        })
    }

    fn validate(&self) -> Result<(), ConfigError> {
        in_range("backbone.stem", self.stem, 1..=4096)?;
        for stage in 0..4 {
            in_range("backbone.depths", self.depths[stage], 1..=128)?;
            in_range("backbone.widths", self.widths[stage], 1..=8192)?;
        }
        // Two 3x3 convolutions, or one of them and two 1x1 with four times the width on one side.
        let squares = match self.block {
            Block::Basic => 18,
            Block::Bottleneck => 17,
        };
        let parameters = (0..4)
            .map(|stage| self.depths[stage] as u64 * squares * (self.widths[stage] as u64).pow(2))
            .sum();
        too_large("backbone.depths and backbone.widths", "parameters", parameters, MAX_PARAMETERS)?;
        if self.dilation && self.block == Block::Basic {
            return Err(ConfigError::Mismatch(
                "backbone.dilation needs bottleneck blocks; basic blocks cannot dilate".into(),
            ));
        }
        Ok(())
    }

    fn out_channels(&self, stage: usize) -> usize {
        self.widths[stage] * self.block.expansion()
    }

    fn strides(&self) -> [u32; 4] {
        [4, 8, 16, if self.dilation { 16 } else { 32 }]
    }

    fn is_dilated(&self) -> bool {
        self.dilation
    }

    fn dilate(&mut self) -> bool {
        self.dilation = self.block == Block::Bottleneck;
        self.dilation
    }

    fn frozen(&self) -> &'static [&'static str] {
        &["conv1", "layer1"]
    }

    fn flops(&self, image: [u64; 2]) -> BackboneFlops {
        let stem = halved(image);
        let mut size = halved(stem);
        let mut inputs = self.stem as u64;
        let mut cost = cells(stem) * 3 * 49 * inputs;
        let mut sizes = [[0; 2]; 4];
        let mut channels = [0; 4];
        for stage in 0..4 {
            let (width, outputs) = (self.widths[stage] as u64, self.out_channels(stage) as u64);
            for block in 0..self.depths[stage] {
                let before = size;
                let strides = block == 0 && stage > 0 && !(self.dilation && stage == 3);
                size = if strides { halved(size) } else { size };
                let (before, after) = (cells(before), cells(size));
                cost += match self.block {
                    Block::Basic => after * 9 * width * (inputs + width),
                    // The first convolution is before the stride.
                    Block::Bottleneck => {
                        before * inputs * width + after * width * (9 * width + outputs)
                    }
                };
                if strides || inputs != outputs {
                    cost += after * inputs * outputs;
                }
                inputs = outputs;
            }
            (sizes[stage], channels[stage]) = (size, outputs);
        }
        BackboneFlops { cost, sizes, channels }
    }
}
