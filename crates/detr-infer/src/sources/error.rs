//! Why an argument leads to no image.

use std::io;
use std::path::PathBuf;

use super::EXTENSIONS;

/// An argument that leads to no image.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No arguments.
    #[error("no images given\nhint: name files, folders, globs, @list.txt, or - for stdin")]
    Nothing,
    /// A file or folder that does not exist.
    #[error("no such file or folder: `{}`", .0.display())]
    Missing(PathBuf),
    /// A list that does not exist, where a file is called as the argument is.
    #[error(
        "no such list: `{}`\nhint: the file {} itself is written ./{}",
        list.display(), file.display(), file.display()
    )]
    MissingList {
        /// The list that does not exist.
        list: PathBuf,
        /// The file that starts with `@`.
        file: PathBuf,
    },
    /// An address on the network.
    #[error(
        "`{0}` is an address, and images are not fetched\nhint: curl -L '{0}' | detr-infer - reads it from stdin"
    )]
    Url(String),
    /// A file, folder or list that cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// A folder without images.
    #[error(
        "no images directly in folder {} (looked for {})\n\
         hint: to include its subfolders, give the glob '{}'",
        .0.display(), EXTENSIONS.join(", "), .0.join("**").join("*.jpg").display()
    )]
    EmptyFolder(PathBuf),
    /// A glob that is malformed.
    #[error(
        "`{pattern}` is neither a file nor a glob: {error}\n\
         hint: in a glob, write [[] for a literal bracket"
    )]
    Pattern {
        /// The argument.
        pattern: String,
        /// The fault of the pattern, and its place.
        error: glob::PatternError,
    },
    /// A glob that matches no file.
    #[error("no file matches `{0}`")]
    NoMatch(String),
    /// A list without paths.
    #[error("the list {} names no images\nhint: it takes one path a line", .0.display())]
    EmptyList(PathBuf),
    /// A list that is no text.
    #[error(
        "the list {} is not UTF-8 text (line {line})\nhint: save it as UTF-8, one path a line",
        path.display()
    )]
    NotText {
        /// Path of the list.
        path: PathBuf,
        /// The first line that is not UTF-8, counted from 1.
        line: usize,
    },
    /// A list of absurd size.
    #[error("the list {} is larger than {limit} bytes", path.display())]
    LongList {
        /// Path of the list.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
    /// `-` given twice.
    #[error("- (stdin) can be given only once")]
    StdinTwice,
}
