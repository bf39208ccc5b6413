//! Outlines of objects: COCO's polygons and run-length codes, and the masks they stand for.
//!
//! Mirrors the C part of `pycocotools` (`maskApi.c`) number for number, because areas, boxes and
//! overlaps of COCO are defined by it. Sizes are bounded, which they are not there.

mod iou;
mod polygon;
mod rle;

use detr_types::ImageSize;
use serde::{Deserialize, Serialize};

pub use iou::{box_iou, mask_iou};
pub use polygon::rasterize;
pub use rle::Rle;

/// The outline of an object as annotated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Segmentation {
    /// Parts of an object, each `x1, y1, x2, y2, ...` in pixels.
    Polygons(Vec<Vec<f64>>),
    /// A run-length code, plain or compressed.
    Rle(Rle),
}

/// The pixels that belong to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Height and width.
    pub size: ImageSize,
    /// 1 inside and 0 outside, row-major `[H, W]`.
    pub bits: Vec<u8>,
}

/// Why an outline cannot become a mask.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentationError {
    /// A polygon of fewer than three points.
    #[error("polygon {part} has {length} coordinates, expected at least 6")]
    TooShort {
        /// Index of the polygon.
        part: usize,
        /// Number of coordinates.
        length: usize,
    },
    /// A coordinate without partner.
    #[error("polygon {part} has {length} coordinates, expected x and y for each point")]
    Odd {
        /// Index of the polygon.
        part: usize,
        /// Number of coordinates.
        length: usize,
    },
    /// A coordinate that is not finite, or absurdly far away.
    #[error("polygon {part} has coordinate {value} at index {index}")]
    Coordinate {
        /// Index of the polygon.
        part: usize,
        /// Index in the polygon.
        index: usize,
        /// The coordinate.
        value: f64,
    },
    /// More outline than any image has.
    #[error("polygon {part} is longer than {limit} pixels")]
    TooLong {
        /// Index of the polygon.
        part: usize,
        /// The limit.
        limit: u64,
    },
    /// A code for an image of another size.
    #[error("the run-length code is for {code}, the image is {image}")]
    Size {
        /// Size in the code.
        code: ImageSize,
        /// Size of the image.
        image: ImageSize,
    },
    /// Runs that do not add up to the pixels.
    #[error("the runs cover {covered} pixels, expected {expected}")]
    Runs {
        /// Sum of the runs.
        covered: u64,
        /// Pixels of the size in the code.
        expected: u64,
    },
    /// A string that is no compressed code.
    #[error("byte {index} of the compressed run-length code is not allowed there")]
    Code {
        /// Index of the byte.
        index: usize,
    },
    /// A mask larger than any image that is read.
    #[error("a mask of {size} is larger than the limit of {limit} pixels")]
    TooLarge {
        /// The size.
        size: ImageSize,
        /// The limit.
        limit: u64,
    },
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
            Self::Rle(rle) => match size {
                Some(size) if size != rle.size => {
                    Err(SegmentationError::Size { code: rle.size, image: size })
                }
                _ => rle.check(),
            },
        }
    }

    /// The outline as one run-length code: the union of polygons.
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
            Self::Rle(rle) => Ok(rle.clone()),
        }
    }

    /// The pixels inside.
    ///
    /// # Errors
    /// Those of [`to_rle`](Self::to_rle).
    pub fn to_mask(&self, size: ImageSize) -> Result<Mask, SegmentationError> {
        self.to_rle(size)?.to_mask()
    }
}

impl Mask {
    /// The run-length code of the mask.
    #[must_use]
    pub fn to_rle(&self) -> Rle {
        Rle::from_mask(self)
    }

    /// Number of pixels inside.
    #[must_use]
    pub fn area(&self) -> u64 {
        self.bits.iter().map(|&bit| u64::from(bit != 0)).sum()
    }
}

#[cfg(test)]
mod tests;
