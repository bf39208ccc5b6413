//! The options of writing a data set.

use detr_types::Limits;

/// The way in which image files get to their places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageMode {
    /// They are copied.
    #[default]
    Copy,
    /// They get a second name for the same data; copied where the file system cannot do that.
    Link,
    /// Only annotations are written. The readers of KITTI and YOLO start from the images, so these
    /// have to be put in place before such a data set is of use.
    Skip,
}

/// The options of writing a data set.
#[derive(Clone, Copy)]
pub struct WriteOptions<'a> {
    /// The name of the split, which is part of file and folder names.
    pub split: &'a str,
    /// The way in which image files get to their places.
    pub images: ImageMode,
    /// The limits of an image file whose size has to be looked up.
    pub limits: Limits,
    /// Whether that size is the one of the upright image, as [`ReadOptions::apply_exif`] says of the boxes.
    ///
    /// [`ReadOptions::apply_exif`]: crate::formats::ReadOptions::apply_exif
    pub apply_exif: bool,
    /// A function that is called after each image with the number done and the number of all, from
    /// several threads.
    pub progress: Option<&'a (dyn Fn(usize, usize) + Sync)>,
}

impl Default for WriteOptions<'_> {
    fn default() -> Self {
        Self {
            split: "train",
            images: ImageMode::Copy,
            limits: Limits::default(),
            apply_exif: false,
            progress: None,
        }
    }
}
