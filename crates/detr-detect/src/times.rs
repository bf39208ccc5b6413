//! The time that the stages of a prediction take.

use std::ops::AddAssign;
use std::time::Duration;

/// Time spent on some images, stage by stage. Decoding is the caller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Resizing and normalising.
    pub resize: Duration,
    /// Upload and backbone.
    pub backbone: Duration,
    /// Transformer and heads.
    pub transformer: Duration,
    /// Read-back, softmax and naming.
    pub postprocess: Duration,
}

impl AddAssign for StageTimes {
    fn add_assign(&mut self, other: Self) {
        self.resize += other.resize;
        self.backbone += other.backbone;
        self.transformer += other.transformer;
        self.postprocess += other.postprocess;
    }
}
