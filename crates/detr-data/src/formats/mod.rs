//! Annotation formats: COCO, COCO panoptic, KITTI, YOLO and Pascal VOC, read into a
//! [`Dataset`] and written from it. Which one a path holds is found by looking, unless it is said.

mod coco;
mod detect;
mod error;
mod files;
mod header;
mod kitti;
mod named;
mod panoptic;
mod paths;
mod shard;
mod text;
mod voc;
mod write;
mod yolo;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use detr_types::Limits;
use serde::{Deserialize, Serialize};

pub use detect::{Detected, detect};
pub use error::DatasetError;
pub use header::image_size;
pub use panoptic::{Panoptic, read_panoptic};
pub use paths::{UnsafeName, safe_join};
pub use shard::{ShardOptions, ShardReport, shard};
pub use write::{ImageMode, Loss, LossReport, WriteOptions, write};

use crate::dataset::{Category, Dataset, ImageRecord, Severity};

/// A format of annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// COCO detection: one JSON file for all images.
    Coco,
    /// COCO panoptic: one JSON file, and a PNG of segment ids for each image.
    CocoPanoptic,
    /// KITTI: a text file for each image, corners in pixels.
    Kitti,
    /// YOLO: `data.yaml`, and a text file for each image with relative boxes.
    Yolo,
    /// Pascal VOC: an XML file for each image.
    Voc,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Coco, Self::CocoPanoptic, Self::Kitti, Self::Yolo, Self::Voc];

    /// Its name, as it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Coco => "coco",
            Self::CocoPanoptic => "coco-panoptic",
            Self::Kitti => "kitti",
            Self::Yolo => "yolo",
            Self::Voc => "voc",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("unknown format {name:?}, expected one of {names}")
        })
    }
}

/// Which problems make reading fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    /// None that can be counted: what cannot be used is left out. For looking at broken data.
    Everything,
    /// A broken structure is refused; single objects and images are left out and counted.
    #[default]
    Errors,
    /// Whatever is left out is refused.
    Warnings,
}

/// How a data set is read.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// The format; found by looking if not given.
    pub format: Option<Format>,
    /// Folder that file names refer to; found by looking if not given.
    pub images: Option<PathBuf>,
    /// `train`, `val`, `test` and so on, where a path holds several.
    pub split: Option<String>,
    /// What a file may cost.
    pub limits: Limits,
    /// Files may lie outside of the data set's folder: links that leave it, absolute folders in
    /// `data.yaml`.
    pub allow_outside: bool,
    /// Whether to look for each image file. Off, file names are checked by their text only.
    pub check_files: bool,
    /// Which problems make reading fail.
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
            accept: Accept::default(),
        }
    }
}

/// Reads a data set from a file or folder.
///
/// # Errors
/// A path that holds no known format, a file that is not what it should be, and problems beyond
/// [`ReadOptions::accept`].
pub fn read(path: &Path, options: &ReadOptions) -> Result<Dataset, DatasetError> {
    let Detected { format, path } = detect(path, options)?;
    let dataset = match format {
        Format::Coco | Format::CocoPanoptic => coco::read(&path, options)?,
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
