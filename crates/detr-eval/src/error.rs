//! The errors of ground truth, results and options.

use std::path::PathBuf;

use detr_types::ImageSize;

/// An evaluation that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// Anything that is wrong in a file.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of this image.
        source: Box<EvalError>,
    },
    /// The system refused to read.
    #[error("cannot be read: {0}\nhint: give the path of a JSON file")]
    Read(#[from] std::io::Error),
    /// More bytes than a file may have.
    #[error("has {bytes} bytes, more than the limit of {limit}\nhint: split the file")]
    TooLarge {
        /// Size of the file.
        bytes: u64,
        /// The largest number that is allowed.
        limit: u64,
    },
    /// Not JSON, or not of the expected form.
    #[error("{field}: {message} (line {line}, column {column})\nhint: {hint}")]
    Json {
        /// The place in the document, such as `annotations[3].bbox`.
        field: String,
        /// The fault that was found.
        message: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// The remedy.
        hint: &'static str,
    },
    /// An entry of a list that contradicts the others or itself.
    #[error("{list}[{index}].{field}: {message}\nhint: {hint}")]
    Entry {
        /// The name of the list: `images`, `annotations`, `categories` or `results`.
        list: &'static str,
        /// Index in the list.
        index: usize,
        /// Field of the entry.
        field: &'static str,
        /// The fault that was found.
        message: String,
        /// The remedy.
        hint: &'static str,
    },
    /// A list without which nothing can be measured.
    #[error("the ground truth has no {0}\nhint: is it a COCO file with annotations?")]
    Empty(&'static str),
    /// Settings that no evaluation can follow.
    #[error("option {field}: {message}")]
    Option {
        /// The setting.
        field: &'static str,
        /// The fault that was found.
        message: String,
    },
    /// Detections for an image that the ground truth lacks.
    #[error(
        "image {image_id} is not in the ground truth\nhint: are the results of another split or \
         data set?"
    )]
    UnknownImage {
        /// The id that came with the detections.
        image_id: i64,
    },
    /// A detection that cannot be compared with anything.
    #[error("image {image_id}, detection {index}, {field}: {message}\nhint: {hint}")]
    Detection {
        /// Image it belongs to.
        image_id: i64,
        /// Index among those of the image.
        index: usize,
        /// The field.
        field: &'static str,
        /// The fault that was found.
        message: String,
        /// The remedy.
        hint: &'static str,
    },
    /// An object of the ground truth whose mask cannot be compared.
    #[error("image {image_id}, annotation {id}, segmentation: {message}\nhint: {hint}")]
    TruthMask {
        /// Image it belongs to.
        image_id: i64,
        /// Id of the annotation.
        id: i64,
        /// The fault that was found.
        message: String,
        /// The remedy.
        hint: &'static str,
    },
    /// Panoptic files that cannot be compared.
    #[error(
        "{0}\nhint: the PNG of an image and its segments_info name the same ids, every image of the ground truth has a \
         prediction, and the PNGs lie in a folder named like the JSON file"
    )]
    Panoptic(String),
    /// Parts of one evaluation that do not belong together.
    #[error(
        "the parts of this evaluation differ in {what}\nhint: every rank needs the same ground \
         truth and options"
    )]
    Merge {
        /// In what they differ.
        what: &'static str,
    },
    /// Bytes that are no saved part of an evaluation.
    #[error("not a saved part of an evaluation: {0}")]
    State(String),
    /// The matching refused what was checked before: a fault of this crate.
    #[error("internal error of the matching: {0}")]
    Engine(String),
}

/// Why a mask cannot be compared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum MaskError {
    #[error("polygon {index} has {count} numbers, expected an even number from 6")]
    Polygon { index: usize, count: usize },
    #[error("polygon {index} has a coordinate that is no finite number")]
    NotFinite { index: usize },
    #[error("no polygon")]
    NoPolygon,
    #[error("polygons in an image of unknown size")]
    NoSize,
    #[error("a mask of {mask} in an image of {image}")]
    Size { mask: ImageSize, image: ImageSize },
    #[error("{0}")]
    Runs(String),
}

impl MaskError {
    /// Returns what to do about the mask.
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::Polygon { .. } | Self::NotFinite { .. } | Self::NoPolygon => {
                "a polygon is x, y, x, y, ... with three points or more"
            }
            Self::NoSize => "give every image a width and a height",
            Self::Size { .. } => "a mask has the size of its image, height first",
            Self::Runs(_) => "run lengths add up to at most height times width",
        }
    }
}
