//! Why results cannot be written.

use std::io;
use std::path::PathBuf;

use super::output_format::OutputFormat;

/// Results that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system refuses.
    #[error("cannot write {}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// A file where a folder is needed, or the other way round.
    #[error(
        "cannot write {format} results to {}: {}", path.display(),
        if format.is_folder() { "it is a file\nhint: name a folder" }
        else { "it is a folder\nhint: name a file in it" }
    )]
    Kind {
        /// The path as given.
        path: PathBuf,
        /// The format asked for.
        format: OutputFormat,
    },
    /// Objects where the format has segments.
    #[error("panoptic files hold segments, not objects")]
    NotObjects,
    /// A device or pipe where a file is needed.
    #[error(
        "cannot write results to {}: it is a device or pipe, which a file would replace\n\
         hint: name a file; --json and --jsonl print to stdout", path.display()
    )]
    NotAFile {
        /// The path as given.
        path: PathBuf,
    },
    /// Two images whose label files would have the same name.
    #[error(
        "{first} and {second} would both be written to {name}\n\
         hint: images are paired with their label files by name; write their folders to \
         separate folders, or use coco or csv"
    )]
    SameName {
        /// The earlier image.
        first: String,
        /// The later image.
        second: String,
        /// The file name they share.
        name: String,
    },
    /// An image called like the file of class names.
    #[error("{file} would be written over classes.txt\nhint: rename the image, or use kitti")]
    ClassesName {
        /// The image.
        file: String,
    },
    /// A result for an image that was not announced.
    #[error("{file} is not among the images that this output was made for")]
    Unexpected {
        /// The image.
        file: String,
    },
    /// A second result for an image.
    #[error("a second result for {file}")]
    Repeated {
        /// The image.
        file: String,
    },
    /// A box or score that is NaN or infinite.
    #[error(
        "{file}: detection {index} ({name}) has a box or score that is not a finite number\n\
         hint: the model's weights may be damaged, or f16 overflows: try f32"
    )]
    NotFinite {
        /// The image.
        file: String,
        /// Position of the detection in the result, from 0.
        index: usize,
        /// Name of its class.
        name: String,
    },
}
