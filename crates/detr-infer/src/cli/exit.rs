//! The one place that maps what can go wrong to exit codes: 1 the work failed, 2 usage, 3 an
//! unreadable model or data set, 4 no backend or a failing one.

use detr_model::ConfigError;
use detr_model::weights::WeightsError;

use crate::backend::BackendError;
use crate::hub::HubError;
use crate::palette::PaletteError;
use crate::sources::SourceError;
use crate::writers::WriteError;
use crate::{PredictError, PredictorError};

/// Why a command failed. The message may end in a line `hint: ...`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// The work, or part of it, could not be done.
    #[error("{0}")]
    Failed(String),
    /// Flags that do not go together or name what does not exist.
    #[error("{0}")]
    Usage(String),
    /// A model that cannot be found or used.
    #[error("{0}")]
    Model(String),
    /// A data set or a file of results that cannot be read.
    #[error("{0}")]
    Data(String),
    /// Training that cannot go on, because its numbers are not finite.
    #[error("{0}")]
    Diverged(String),
    /// A device that failed in training.
    #[error("the device failed: {0}")]
    Device(String),
    /// An argument that leads to no image.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A colour.
    #[error(transparent)]
    Color(#[from] PaletteError),
    /// An architecture that was asked for.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A checkpoint.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A remote model.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A model that cannot be made ready.
    #[error(transparent)]
    Predictor(#[from] PredictorError),
    /// An image.
    #[error(transparent)]
    Predict(#[from] PredictError),
    /// A device.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Results that cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const UNREADABLE: u8 = 3;
const BACKEND: u8 = 4;
const DIVERGED: u8 = 5;

impl CliError {
    /// Returns the exit code of the process.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::Source(_)
            | Self::Color(_)
            | Self::Config(_)
            | Self::Predictor(PredictorError::Range(_) | PredictorError::Options(_))
            | Self::Write(
                WriteError::Kind { .. }
                | WriteError::NotAFile { .. }
                | WriteError::SameName { .. }
                | WriteError::ClassesName { .. },
            ) => USAGE,
            Self::Backend(_)
            | Self::Device(_)
            | Self::Predictor(PredictorError::Backend(_))
            | Self::Predict(PredictError::Device(_)) => BACKEND,
            Self::Diverged(_) => DIVERGED,
            Self::Failed(_)
            | Self::Write(_)
            | Self::Predict(_)
            | Self::Weights(WeightsError::Write { .. }) => FAILED,
            Self::Model(_)
            | Self::Data(_)
            | Self::Weights(_)
            | Self::Hub(_)
            | Self::Predictor(_) => UNREADABLE,
        }
    }
}
