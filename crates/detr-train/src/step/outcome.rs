//! The outcome of a training step, and the number that was not finite if it was skipped.

use std::fmt;

use detr_loss::{LossName, MatchError, TargetError};
use detr_model::DeviceError;

/// The outcome of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The parameters changed.
    Updated(StepReport),
    /// Nothing changed, because a number was not finite.
    Skipped(NonFinite),
    /// Nothing changed but the loss scale of f16: gradients overflowed, and it is lower now. This happens
    /// now and then, and does not mean that a run diverges.
    Overflowed {
        /// The loss scale from now on.
        scale: f64,
        /// The numbers of the step, whose gradient norm is not finite.
        report: StepReport,
    },
}

impl Outcome {
    /// Shifts the positions of images by the number of images in earlier parts of the batch.
    pub(crate) fn after(self, images: usize) -> Self {
        match self {
            Self::Skipped(reason) => Self::Skipped(reason.after(images)),
            other => other,
        }
    }
}

/// The numbers of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// The weighted sum of the losses.
    pub loss: f32,
    /// The losses before they are weighted, and numbers that are only logged.
    pub losses: Vec<(LossName, f32)>,
    /// The L2 norm of all gradients, before clipping.
    pub grad_norm: f32,
}

/// A number that is not finite.
#[derive(Clone, Debug, PartialEq)]
pub enum NonFinite {
    /// A cost of the matcher, found before there were losses.
    Cost {
        /// The image, by its position in the whole batch, the query, the object and the term of the cost.
        error: MatchError,
        /// The input that was not finite before the model ran, if one was not.
        origin: Option<NonFiniteInput>,
    },
    /// A loss.
    Loss {
        /// The first loss that is not finite, in the order of the layers; `None` if only their sum overflowed.
        name: Option<LossName>,
        /// Its value.
        value: f32,
        /// All numbers of the batch.
        losses: Vec<(LossName, f32)>,
    },
    /// A gradient, though the losses are finite.
    Gradient {
        /// The first parameter whose gradient has no finite norm; `None` if only the norm of all overflowed.
        parameter: Option<String>,
        /// The norm of all gradients.
        norm: f32,
        /// The numbers of the batch.
        report: StepReport,
    },
    /// A cost of the matcher on another rank, which knows more.
    OtherRank,
}

impl NonFinite {
    /// Shifts the positions of images by the number of images in earlier parts of the batch.
    pub(crate) fn after(mut self, images: usize) -> Self {
        if let Self::Cost { error, origin } = &mut self {
            if let MatchError::NonFinite { image, .. } = error {
                *image += images;
            }
            if let Some(NonFiniteInput::Image(image)) = origin {
                *image += images;
            }
        }
        self
    }

    /// Names the first tensor that is not finite, in the order in which a step computes them. `images` are the ids of
    /// the images of the batch.
    #[must_use]
    pub fn tensor(&self, images: &[i64]) -> String {
        match self {
            Self::Cost { origin: Some(NonFiniteInput::Image(image)), .. } => {
                match images.get(*image) {
                    Some(id) => format!("pixels of image {id}"),
                    None => "pixels".to_owned(),
                }
            }
            Self::Cost { origin: Some(NonFiniteInput::Parameter(name)), .. } => name.clone(),
            Self::Cost { error, .. } => {
                format!("costs: {}", error.to_string().lines().next().unwrap_or_default())
            }
            Self::Loss { name: Some(name), .. } => name.to_string(),
            Self::Loss { name: None, .. } => "sum of all losses".to_owned(),
            Self::Gradient { parameter: Some(name), .. } => format!("gradient of {name}"),
            Self::Gradient { parameter: None, .. } => "norm of all gradients".to_owned(),
            Self::OtherRank => "a tensor of another rank".to_owned(),
        }
    }
}

/// An input of a step that is not finite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NonFiniteInput {
    /// An image, by its position in the whole batch.
    Image(usize),
    /// A parameter, by its official name.
    Parameter(String),
}

/// Why a step cannot be done at all.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// There is no micro-batch, or one has no images.
    #[error("a step needs images")]
    NoImages,
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The targets do not fit the head.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Numbers did not reach another rank, or did not arrive from one.
    #[error("the ranks lost each other: {0}")]
    Ranks(String),
}

impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cost { error, origin, .. } => {
                let text = error.to_string();
                f.write_str(text.lines().next().unwrap_or_default())?;
                match origin {
                    Some(place) => write!(f, "; {place} is not finite to begin with"),
                    None => Ok(()),
                }
            }
            Self::Loss { name: Some(name), value, .. } => write!(f, "{name} is {value}"),
            Self::Loss { name: None, value, .. } => write!(f, "the sum of all losses is {value}"),
            Self::Gradient { parameter: Some(name), .. } => {
                write!(f, "the gradient of {name} is not finite")
            }
            Self::Gradient { parameter: None, norm, .. } => {
                write!(f, "the norm of all gradients is {norm}")
            }
            Self::OtherRank => f.write_str("a cost of the matcher is not finite on another rank"),
        }
    }
}

impl fmt::Display for NonFiniteInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(image) => write!(f, "image {image}"),
            Self::Parameter(name) => f.write_str(name),
        }
    }
}
