//! A segment for every pixel of an image.

use serde::Serialize;

use crate::{CategoryId, ImageSize, Mask, Xywh};

/// The segments of an image, and which of them every pixel belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Panoptic {
    /// The height and width in pixels.
    pub size: ImageSize,
    /// The id of every pixel's segment, row-major `[H, W]`; an id without a segment is void.
    pub ids: Vec<u32>,
    /// The segments.
    pub segments: Vec<PanopticSegment>,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PanopticSegment {
    /// Its id in the image.
    pub id: u32,
    /// Index of the class in the model's head.
    pub label: usize,
    /// Id of the class in the data set that the model was trained on.
    pub category_id: CategoryId,
    /// Name of the class.
    pub name: String,
    /// Whether the class has instances, as things have and stuff has not.
    pub is_thing: bool,
    /// Confidence in `[0, 1]`.
    pub score: f32,
    /// Number of pixels.
    pub area: u64,
}

impl Panoptic {
    /// Returns the pixels of a segment.
    #[must_use]
    pub fn mask(&self, id: u32) -> Mask {
        let bits = self.ids.iter().map(|&other| u8::from(other == id)).collect();
        Mask { size: self.size, bits }
    }

    /// Returns the box around the pixels of a segment; zeros where there are none.
    #[must_use]
    pub fn bbox(&self, id: u32) -> Xywh<f64> {
        self.mask(id).to_rle().bbox()
    }
}
