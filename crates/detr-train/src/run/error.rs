//! The errors that end a run.

use std::path::PathBuf;

use detr_data::LoaderError;
use detr_loss::TargetError;
use detr_model::DeviceError;
use detr_model::weights::WeightsError;

use super::validate::ValidateError;
use crate::step::{GroupsError, StateError, StepError};

/// Why a run cannot begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The settings do not fit the model.
    #[error(transparent)]
    Groups(GroupsError),
    /// The devices cannot train together.
    #[error("{0}")]
    Devices(String),
    /// Images cannot be loaded.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// Targets do not fit the head.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A step failed.
    #[error("step {step} on a batch of {batch}: {error}")]
    Step {
        /// The number of the step.
        step: u64,
        /// Number and size of its images.
        batch: String,
        /// The reason.
        error: StepError,
    },
    /// A validation failed.
    #[error(transparent)]
    Validate(#[from] ValidateError),
    /// The optimizer's state in a checkpoint does not fit the run.
    #[error(transparent)]
    State(#[from] StateError),
    /// Weights cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Too many steps in a row had numbers that were not finite.
    #[error(
        "{steps} steps in a row were not finite; the last: {reason}\nhint: {}where the data is sound, \
         a lower train.lr helps",
        dump.as_ref().map_or_else(String::new, |dump| {
            format!("the images and numbers of these steps are in {}; ", dump.display())
        })
    )]
    Diverged {
        /// The number of steps.
        steps: usize,
        /// The number of the last step that was not finite.
        reason: String,
        /// The file that describes the steps, if it could be written.
        dump: Option<PathBuf>,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Checkpoints or the model cannot be written, several times in a row or at the end.
    #[error(
        "what was learned could not be written, {times} times in a row; the last: {reason}\nhint: \
         free space or make the folder writable, then go on with --resume"
    )]
    NotSaved {
        /// The number of attempts.
        times: usize,
        /// The last message of the file system.
        reason: String,
    },
    /// A file of a checkpoint does not fit the run.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

impl From<GroupsError> for RunError {
    fn from(error: GroupsError) -> Self {
        // The table `parameters` of a step is a part of the table `train` in the settings of a run.
        Self::Groups(match error {
            GroupsError::Unmatched { field, pattern, shadowed, example } => {
                let field = field.replacen("parameters.", "train.", 1);
                GroupsError::Unmatched { field, pattern, shadowed, example }
            }
            other => other,
        })
    }
}

impl RunError {
    /// Makes an error of the reasons why something could not be written several times in a row.
    pub(super) fn not_saved(reasons: &[String]) -> Self {
        let reason = reasons.last().cloned().unwrap_or_default();
        Self::NotSaved { times: reasons.len(), reason }
    }
}
