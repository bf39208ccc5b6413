//! Reasons why nothing is detected.

use detr_data::ImageError;
use detr_model::DeviceError;
use detr_types::ImageSize;

/// A prediction that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    /// An image cannot be used.
    #[error("image {index}: {fault}")]
    Image {
        /// Its position among the images.
        index: usize,
        /// The fault of the image.
        fault: ImageFault,
    },
    /// The model makes no masks.
    #[error(
        "the model has no mask head, so it cannot tell which object a pixel belongs to\nhint: use a panoptic model, such as facebook/detr-resnet-50-panoptic"
    )]
    NoMasks,
    /// The model's scores of a query do not exclude each other, so it has no best query for a pixel.
    #[error(
        "the model scores every class by itself, so no query is the best for a pixel\nhint: use a DETR with a mask head; this model's masks are those of its objects"
    )]
    NotPanoptic,
    /// The device failed.
    #[error(
        "{0}\nhint: if memory ran out, use a smaller --size or --batch-size; --backend flex runs on the CPU"
    )]
    Device(#[from] DeviceError),
}

/// An image that cannot be used, or a model that has no answer to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFault {
    /// It cannot be read, or it has no pixels.
    #[error("{}", .0.reason())]
    Unreadable(#[from] ImageError),
    /// The decoder panicked.
    #[error("the decoder failed: {0}")]
    Decoder(String),
    /// It is too large for the model's table of positions.
    #[error(
        "resized to {size}, but this model's learned positions end at {max} pixels\nhint: use a smaller --max-size"
    )]
    TooLarge {
        /// Size after resizing.
        size: ImageSize,
        /// Largest side.
        max: u32,
    },
    /// The model's output is not finite.
    #[error("the model's output is not finite\nhint: use --dtype f32")]
    NonFinite,
}
