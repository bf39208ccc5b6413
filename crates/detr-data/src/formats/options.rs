//! The options of reading a data set.

use std::path::PathBuf;

use detr_types::Limits;

use super::format::Format;

/// The problems that make reading fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    /// Reading never fails for a problem that can be counted. Unusable records are left out. This is for
    /// looking at broken data.
    Everything,
    /// Reading fails if the structure is broken. Single objects and images are left out and counted.
    #[default]
    Errors,
    /// Reading fails if anything would have to be left out.
    Warnings,
}

/// The options of reading a data set.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // independent switches
pub struct ReadOptions {
    /// The format, or `None` to find it by looking.
    pub format: Option<Format>,
    /// The folder that file names refer to, or `None` to find it by looking.
    pub images: Option<PathBuf>,
    /// The split (`train`, `val`, `test` and so on), where a path holds several.
    pub split: Option<String>,
    /// The limits of a file.
    pub limits: Limits,
    /// Whether files may lie outside of the data set's folder: links that leave it, absolute folders in
    /// `data.yaml`.
    pub allow_outside: bool,
    /// Whether each image file is looked for. If not, file names are checked by their text only.
    pub check_files: bool,
    /// Whether images are taken upright, as their EXIF orientation turns them: their sizes, and with these what
    /// relative boxes mean. Whoever reads their pixels has to turn them, too.
    pub apply_exif: bool,
    /// Whether the names of the image files matter. If not, as for scoring results, they may be missing or lead
    /// anywhere, and the images have no paths.
    pub file_names: bool,
    /// The problems that make reading fail.
    pub accept: Accept,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            format: None,
            images: None,
            split: None,
            limits: Limits::default(),
            allow_outside: false,
            check_files: true,
            apply_exif: false,
            file_names: true,
            accept: Accept::default(),
        }
    }
}
