//! The errors that stop a loader, and the faults that it only reports.

use detr_types::RangeError;

use crate::decode::ImageError;

/// Why a loader cannot start or go on. After any of these an epoch yields nothing more: it is never
/// silently shorter.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LoaderError {
    /// There is nothing to load.
    #[error(
        "{samples} images, which is not enough for one batch on each rank ({least} needed)\n\
         hint: check the data set and its filters, or make the batch smaller"
    )]
    TooFew {
        /// Images of the source.
        samples: usize,
        /// Images needed.
        least: usize,
    },
    /// A number of the configuration or of a transform that cannot work.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// A position outside of the epoch.
    #[error("batch {index} of epoch {epoch} does not exist, it has {batches}")]
    Position {
        /// The epoch.
        epoch: u64,
        /// The batch asked for.
        index: usize,
        /// Batches of the epoch.
        batches: usize,
    },
    /// More bad images than allowed.
    #[error(
        "{bad} images could not be used, more than the limit of {limit}; the last: {last}\n\
         hint: `detr data check` lists them all; raise max_bad_images to train without them"
    )]
    TooManyBad {
        /// Different images that failed.
        bad: usize,
        /// Images that may fail.
        limit: usize,
        /// The error of the last image.
        last: String,
    },
    /// A worker panicked, which is a bug.
    #[error(
        "a worker panicked on image {image_id} of epoch {epoch}: {message}\n\
         hint: this is a bug; please report it with the image"
    )]
    WorkerPanicked {
        /// The image that it worked on.
        image_id: i64,
        /// The epoch.
        epoch: u64,
        /// The panic's message.
        message: String,
    },
    /// The system gave no thread.
    #[error("a worker thread cannot be started: {reason}")]
    Spawn {
        /// The message of the system.
        reason: String,
    },
}

/// An image that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("image {image_id}: {error}")]
pub struct SampleError {
    /// Its id.
    pub image_id: i64,
    /// The reason, with the path.
    pub error: ImageError,
}

impl SampleError {
    /// Returns whether trying again may help: the file system failed or the file is not there, as
    /// happens on network drives. Content that cannot be decoded stays so.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.error.reason(), ImageError::Io { .. })
    }
}
