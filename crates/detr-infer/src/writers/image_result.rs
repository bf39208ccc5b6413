//! The result of one image.

use detr_types::{Detection, ImageSize};
use serde::ser::{Serialize, SerializeStruct, Serializer};

/// The objects that were found in one image.
///
/// The results of one image, in JSON: `{"file", "width", "height", "detections": [{"label",
/// "category_id", "name", "score", "box": {"x1", "y1", "x2", "y2"}}]}`.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageResult {
    /// The image, as the user named it.
    pub file: String,
    /// The size of the image before any resizing.
    pub size: ImageSize,
    /// The objects, with boxes in pixels of that size.
    pub detections: Vec<Detection>,
}

impl Serialize for ImageResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("ImageResult", 4)?;
        object.serialize_field("file", &self.file)?;
        object.serialize_field("width", &self.size.width)?;
        object.serialize_field("height", &self.size.height)?;
        object.serialize_field("detections", &self.detections)?;
        object.end()
    }
}
