//! The configuration of a ResNet.

use serde::{Deserialize, Serialize};

use super::{ConfigError, MAX_PARAMETERS, range, too_large};

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
    /// Output channels per channel of the 3x3 convolution.
    #[must_use]
    pub const fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

impl ResNetConfig {
    /// Torchvision's ResNet of that depth: 18, 34, 50 or 101.
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

    /// Output channels of a stage, 0 to 3.
    #[must_use]
    pub fn out_channels(&self, stage: usize) -> usize {
        self.widths[stage] * self.block.expansion()
    }

    /// Pixels per cell of the last feature map.
    #[must_use]
    pub const fn stride(&self) -> u32 {
        if self.dilation { 16 } else { 32 }
    }

    /// Refuses what cannot be built.
    ///
    /// # Errors
    /// The first field out of range, or some that contradict each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        range("backbone.stem", self.stem, 1, 4096)?;
        for stage in 0..4 {
            range("backbone.depths", self.depths[stage], 1, 128)?;
            range("backbone.widths", self.widths[stage], 1, 8192)?;
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
}
