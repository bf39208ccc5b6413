//! A batch, as the consumer gets it.

use crate::batch::HostBatch;
use crate::target::{Target, TargetCounts};

/// The images and targets of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The epoch.
    pub epoch: u64,
    /// The number of the batch in the epoch, from 0.
    pub index: usize,
    /// The normalised and padded pixels.
    pub images: HostBatch,
    /// The objects on each image.
    pub targets: Vec<Target>,
    /// Counts of the annotations that became targets, and of those that did not.
    pub counts: TargetCounts,
    /// The images that could not be used, each with the reason. Another one took its place.
    pub replaced: Vec<BadImage>,
}

/// An image that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadImage {
    /// The id of the image.
    pub image_id: i64,
    /// The reason, with the path.
    pub reason: String,
}
