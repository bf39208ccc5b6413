//! Annotation formats: COCO, COCO panoptic, KITTI, YOLO and Pascal VOC, read into a
//! [`Dataset`] and written from it. The format of a path is detected from its files, unless it is stated.

mod class_names;
mod coco;
mod contents;
mod data_yaml;
mod detect;
mod error;
mod files;
mod format;
mod header;
mod kitti;
mod kitti_line;
mod named;
mod neighbour;
mod options;
mod panoptic;
mod paths;
mod shard;
mod splits;
mod text;
mod voc;
mod voc_files;
mod write;
mod xml_text;
mod yaml;
mod yolo;
mod yolo_files;
mod yolo_line;

use std::path::Path;

pub use detect::{DatasetLocation, detect};
pub use error::DatasetError;
pub use format::Format;
pub use header::{ImageHeader, image_size};
pub use options::{Accept, ReadOptions};
pub use panoptic::{Panoptic, read_panoptic};
pub use paths::{UnsafeName, safe_join};
pub use shard::{ShardOptions, ShardReport, shard};
pub use write::{ImageMode, Loss, LossReport, WriteOptions, write};

use crate::dataset::{Category, Dataset, ImageRecord, Severity};

/// Reads a data set from a file or folder.
///
/// # Errors
/// A path that holds no known format, a file that is not what it should be, and problems beyond
/// [`ReadOptions::accept`].
pub fn read(path: &Path, options: &ReadOptions) -> Result<Dataset, DatasetError> {
    let DatasetLocation { format, path } = detect(path, options)?;
    let dataset = match format {
        Format::Coco | Format::CocoPanoptic => read_coco(&path, options)?,
        Format::Kitti => kitti::read(&path, options)?,
        Format::Yolo => yolo::read(&path, options)?,
        Format::Voc => voc::read(&path, options)?,
    };
    let least = match options.accept {
        Accept::Everything => return Ok(dataset),
        Accept::Errors => Severity::Fatal,
        Accept::Warnings => Severity::Error,
    };
    if dataset.report.worst() >= Some(least) {
        return Err(DatasetError::Refused { report: Box::new(dataset.report), least });
    }
    Ok(dataset)
}

/// Reads a JSON file of COCO, which says by its contents whether it holds objects or panoptic segments.
fn read_coco(path: &Path, options: &ReadOptions) -> Result<Dataset, DatasetError> {
    let text = coco::read_text(path, options)?;
    if panoptic::is_panoptic(&text) {
        return panoptic::read(path, &text, None, options).map(|found| found.dataset);
    }
    coco::read(path, &text, options)
}

/// Writes COCO annotations of images that are where they should be.
///
/// # Errors
/// A file that cannot be written.
pub fn write_coco_json(
    path: &Path,
    images: &[ImageRecord],
    categories: &[Category],
) -> Result<(), DatasetError> {
    write::write_json(path, images.iter(), categories)
}

#[cfg(test)]
mod tests;
