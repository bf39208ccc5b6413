//! The errors of reading an image, by kind.

use std::io;
use std::path::{Path, PathBuf};

use detr_types::ImageSize;

/// Why an image could not be decoded or prepared. Every message reads well after `path: `.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// An error at a path; the reason is any of the other kinds.
    #[error("{}: {error}", path.display())]
    At {
        /// The file as it was named.
        path: PathBuf,
        /// The reason.
        error: Box<ImageError>,
    },
    /// The file system refused.
    #[error("cannot be read: {error}")]
    Io {
        /// The error that the system reported.
        error: io::Error,
    },
    /// A directory, named pipe, socket or device.
    #[error("is {what}, expected an image file")]
    NotARegularFile {
        /// The kind of file that was found instead.
        what: &'static str,
    },
    /// Zero bytes.
    #[error("is empty (0 bytes)\nhint: copy or download the file again")]
    Empty,
    /// More bytes than [`detr_types::Limits::file_bytes`].
    #[error("has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Bytes of the file, or those read before giving up.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// More pixels than [`detr_types::Limits::pixels`], by the header.
    #[error(
        "has {size} = {} pixels, more than the limit of {limit}\n\
         hint: shrink the image, or raise the pixel limit if it can be trusted",
        size.pixels()
    )]
    TooManyPixels {
        /// Size in the header.
        size: ImageSize,
        /// The limit.
        limit: u64,
    },
    /// An image in a format that is not read here.
    #[error("is {found}, which is not supported\nhint: convert it to JPEG or PNG")]
    UnsupportedFormat {
        /// The real format, with an article.
        found: &'static str,
    },
    /// Not an image at all.
    #[error("is not an image, it looks like {looks_like}")]
    NotAnImage {
        /// The format that the content resembles, with an article.
        looks_like: &'static str,
    },
    /// The data ends before the image does.
    #[error("is a truncated {format}: {reason}\nhint: copy or download the file again")]
    Truncated {
        /// Name of the format.
        format: &'static str,
        /// The part that is missing.
        reason: String,
    },
    /// The data contradicts the format.
    #[error("is a damaged {format}: {reason}\nhint: copy or download the file again")]
    Corrupt {
        /// Name of the format.
        format: &'static str,
        /// The reason why it is refused.
        reason: String,
    },
    /// A decoded image with a side of zero cannot be resized.
    #[error("the image is {size}, expected at least 1x1 pixels")]
    NoPixels {
        /// Its size.
        size: ImageSize,
    },
}

impl ImageError {
    /// Returns the error without the path around it.
    #[must_use]
    pub fn reason(&self) -> &Self {
        match self {
            Self::At { error, .. } => error.reason(),
            other => other,
        }
    }

    /// Returns the file, if it is known.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::At { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// Sorts an error of the `image` crate into ours.
pub(super) fn from_image(format: &'static str, error: &image::ImageError) -> ImageError {
    let reason = one_line(&error.to_string());
    match error {
        image::ImageError::IoError(io) if io.kind() == io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format, reason: "the data ends early".to_owned() }
        }
        _ => ImageError::Corrupt { format, reason },
    }
}

/// Cuts a decoder's message to a part of ours: one line, without quotes and full stop.
pub(super) fn one_line(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    words.join(" ").trim_matches(['"', '.', ',']).to_owned()
}
