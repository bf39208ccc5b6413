//! The formats of results by name.

use clap::ValueEnum;

/// A format in which results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum OutputFormat {
    /// One JSON file of COCO results, as pycocotools reads them.
    Coco,
    /// A folder with one KITTI label file per image.
    Kitti,
    /// A folder with one YOLO label file per image, and `classes.txt`.
    Yolo,
    /// One table with a row per object.
    Csv,
    /// A folder with COCO's panoptic format: a PNG of segments per image, and panoptic.json.
    Panoptic,
}

impl OutputFormat {
    /// Returns whether the output is a folder with a file per image, and not one file.
    #[must_use]
    pub fn is_folder(self) -> bool {
        matches!(self, Self::Kitti | Self::Yolo | Self::Panoptic)
    }
}

impl std::fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}
