//! Outlines of objects: COCO's polygons and run-length codes (those of [`detr_types::masks`]), and the masks they
//! stand for.
//!
//! Mirrors the C part of `pycocotools` (`maskApi.c`) number for number, because areas, boxes and
//! overlaps of COCO are defined by it. Sizes are bounded, which they are not there.

mod iou;
mod polygon;

use detr_types::ImageSize;
pub use detr_types::{Mask, Rle, SegmentationError};
use serde::{Deserialize, Serialize};

pub use iou::{box_iou, mask_iou};
pub use polygon::rasterize;

/// The outline of an object as annotated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Segmentation {
    /// Parts of an object, each `x1, y1, x2, y2, ...` in pixels.
    Polygons(Vec<Vec<f64>>),
    /// A run-length code, plain or compressed.
    Rle(Rle),
    /// A segment of a panoptic picture, which shares no pixel with another. It is written as [`Segmentation::Rle`] is.
    Segment(Rle),
}

impl Segmentation {
    /// Checks everything that [`to_rle`](Self::to_rle) would refuse, without rasterising.
    ///
    /// # Errors
    /// The first part that has no inside or does not fit.
    pub fn check(&self, size: Option<ImageSize>) -> Result<(), SegmentationError> {
        match self {
            Self::Polygons(parts) => {
                parts.iter().enumerate().try_for_each(|(part, points)| polygon::check(part, points))
            }
            Self::Rle(rle) | Self::Segment(rle) => match size {
                Some(size) if size != rle.size => {
                    Err(SegmentationError::Size { code: rle.size, image: size })
                }
                _ => rle.check(),
            },
        }
    }

    /// Converts the outline to one run-length code: the union of polygons.
    ///
    /// # Errors
    /// Polygons without inside, a code for another size, an absurd size.
    pub fn to_rle(&self, size: ImageSize) -> Result<Rle, SegmentationError> {
        self.check(Some(size))?;
        match self {
            Self::Polygons(parts) => {
                let mut codes = Vec::with_capacity(parts.len());
                for (part, points) in parts.iter().enumerate() {
                    codes.push(polygon::rasterize_part(part, points, size)?);
                }
                Ok(Rle::union(&codes).unwrap_or_else(|| Rle::empty(size)))
            }
            Self::Rle(rle) | Self::Segment(rle) => Ok(rle.clone()),
        }
    }

    /// Draws the outline as a mask of the pixels inside.
    ///
    /// # Errors
    /// Those of [`to_rle`](Self::to_rle).
    pub fn to_mask(&self, size: ImageSize) -> Result<Mask, SegmentationError> {
        self.to_rle(size)?.to_mask()
    }
}

#[cfg(test)]
mod tests;
