//! Writes a data set in any of the formats, and says what the format cannot hold.

mod coco;
mod files;
mod kitti;
mod loss;
mod names;
mod options;
mod voc;
mod yolo;

use std::path::Path;

use super::{DatasetError, Format};
use crate::dataset::Dataset;

pub(super) use coco::write_json;
pub use loss::{Loss, LossReport};
pub use options::{ImageMode, WriteOptions};

/// Writes a data set into a folder:
///
/// | format | annotations | images |
/// |---|---|---|
/// | COCO | `annotations/instances_SPLIT.json` | `SPLIT/` |
/// | KITTI | `SPLIT/label_2/` | `SPLIT/image_2/` |
/// | YOLO | `data.yaml`, `labels/SPLIT/` | `images/SPLIT/` |
/// | VOC | `Annotations/`, `ImageSets/Main/SPLIT.txt` | `JPEGImages/` |
///
/// Several splits go into one folder one after the other. Each file appears complete or not at all.
///
/// # Errors
/// COCO panoptic, which is only read; files that cannot be written or copied; images whose size is
/// needed and unreadable.
pub fn write(
    dataset: &Dataset,
    format: Format,
    folder: &Path,
    options: &WriteOptions<'_>,
) -> Result<LossReport, DatasetError> {
    if super::safe_join(folder, options.split).is_err() || options.split.contains(['/', '\\']) {
        let reason = format!("the split {:?} is no name for a file", options.split);
        return Err(DatasetError::layout(folder, reason));
    }
    match format {
        Format::Coco => coco::write(dataset, folder, options),
        Format::Kitti => kitti::write(dataset, folder, options),
        Format::Yolo => yolo::write(dataset, folder, options),
        Format::Voc => voc::write(dataset, folder, options),
        Format::CocoPanoptic => {
            Err(DatasetError::layout(folder, "COCO panoptic is read, but not written"))
        }
    }
}

#[cfg(test)]
mod tests;
