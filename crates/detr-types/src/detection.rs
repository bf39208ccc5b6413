//! One detected object.

use serde::{Deserialize, Serialize};

use crate::{CategoryId, Rle, Xyxy};

/// An object found in an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// Index of the class in the model's head.
    pub label: usize,
    /// Id of the class in the data set the model was trained on.
    pub category_id: CategoryId,
    /// Name of the class.
    pub name: String,
    /// Confidence in `[0, 1]`.
    pub score: f32,
    /// Corners in pixels of the original image; not clipped to it, as in the reference.
    #[serde(rename = "box")]
    pub bbox: Xyxy,
    /// The pixels of the object in the original image, where the model makes masks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Rle>,
}
