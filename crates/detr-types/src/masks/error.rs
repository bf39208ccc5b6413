//! The reasons why an outline cannot become a mask.

use crate::ImageSize;

/// An error of an outline that cannot become a mask.
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
