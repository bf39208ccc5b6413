//! The options of the dataset doctor.

use detr_types::{Limits, PreprocessSpec};

/// The depth to which image files are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileCheck {
    /// They are not checked.
    Skip,
    /// They must exist and have a readable header.
    #[default]
    Header,
    /// All their pixels are decoded, which finds truncated and damaged files.
    Decode,
}

/// The options of a check.
#[derive(Clone, Copy)]
pub struct CheckOptions<'a> {
    /// The depth to which image files are checked.
    pub files: FileCheck,
    /// Whether files of identical content are looked for. Only files of equal length are read.
    pub duplicates: bool,
    /// The number of objects that the model can find on one image.
    pub queries: usize,
    /// The preprocessing, after which objects are measured that may be too small.
    pub input: PreprocessSpec,
    /// The number of objects below which a category is rare.
    pub rare: usize,
    /// The limits of an image.
    pub limits: Limits,
    /// Whether images are taken upright, as their EXIF orientation turns them.
    pub apply_exif: bool,
    /// A function that is called after each file with the number done and the number of all, from
    /// several threads.
    pub progress: Option<&'a (dyn Fn(usize, usize) + Sync)>,
}

impl Default for CheckOptions<'_> {
    fn default() -> Self {
        Self {
            files: FileCheck::default(),
            duplicates: true,
            queries: 100,
            input: PreprocessSpec::default(),
            rare: 10,
            limits: Limits::default(),
            apply_exif: false,
            progress: None,
        }
    }
}
