//! Writes a data set in any of the formats, and says what the format cannot hold.

mod coco;
mod kitti;
mod loss;
mod names;
mod voc;
mod yolo;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use detr_types::fs::atomic_write;
use detr_types::{ImageSize, Limits};
use rayon::prelude::*;

use super::{DatasetError, Format, image_size};
use crate::dataset::{Dataset, ImageRecord, ObjectRecord};
use crate::decode::ImageError;

pub(super) use coco::write_json;
pub use loss::{Loss, LossReport};

/// What happens to the image files.
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

/// How a data set is written.
#[derive(Clone, Copy)]
pub struct WriteOptions<'a> {
    /// Name of the split: part of file and folder names.
    pub split: &'a str,
    /// What happens to the image files.
    pub images: ImageMode,
    /// What an image file may cost when its size has to be looked up.
    pub limits: Limits,
    /// Called after each image with the number done and the number of all, from several threads.
    pub progress: Option<&'a (dyn Fn(usize, usize) + Sync)>,
}

impl Default for WriteOptions<'_> {
    fn default() -> Self {
        Self { split: "train", images: ImageMode::Copy, limits: Limits::default(), progress: None }
    }
}

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

/// Writes text through the one atomic write.
fn write_text(path: &Path, text: &str) -> Result<(), DatasetError> {
    atomic_write(path, |file| file.write_all(text.as_bytes())).map_err(DatasetError::io(path))
}

/// The size of an image: as stated, else from the file.
fn size_of(image: &ImageRecord, options: &WriteOptions<'_>) -> Result<ImageSize, ImageError> {
    image.size.map_or_else(|| image_size(&image.path, &options.limits), Ok)
}

/// Brings an image file to its place.
fn place_image(image: &ImageRecord, to: &Path, mode: ImageMode) -> Result<(), DatasetError> {
    if mode == ImageMode::Skip {
        return Ok(());
    }
    let from = &image.path;
    let same = |a: &Path, b: &Path| {
        a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b)
    };
    if same(from, to) {
        return Ok(());
    }
    let metadata = fs::metadata(from).map_err(DatasetError::io(from))?;
    if !metadata.is_file() {
        return Err(DatasetError::NotARegularFile { path: from.clone() });
    }
    if mode == ImageMode::Link && !to.exists() {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(DatasetError::io(parent))?;
        }
        if fs::hard_link(from, to).is_ok() {
            return Ok(());
        }
    }
    let mut source = fs::File::open(from).map_err(DatasetError::io(from))?;
    atomic_write(to, |file: &mut dyn Write| io::copy(&mut source, file).map(drop))
        .map_err(DatasetError::io(to))
}

/// What is to be written for one image.
struct Job {
    /// Where the image goes.
    image: PathBuf,
    /// Its label file and the text of it.
    label: Option<(PathBuf, String)>,
}

/// Writes image by image. What to write is worked out in order, a batch at a time; the writing
/// itself waits for the disk most of the time, so it is done by several threads.
fn write_each(
    dataset: &Dataset,
    options: &WriteOptions<'_>,
    mut one: impl FnMut(&ImageRecord) -> Result<Job, DatasetError>,
) -> Result<(), DatasetError> {
    const BATCH: usize = 512;
    let (done, all) = (AtomicUsize::new(0), dataset.images.len());
    for images in dataset.images.chunks(BATCH) {
        let jobs = images.iter().map(&mut one).collect::<Result<Vec<_>, _>>()?;
        images.par_iter().zip(jobs).try_for_each(|(image, job)| {
            if let Some((path, text)) = &job.label {
                write_text(path, text)?;
            }
            place_image(image, &job.image, options.images)?;
            if let Some(progress) = options.progress {
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, all);
            }
            Ok::<(), DatasetError>(())
        })?;
    }
    Ok(())
}

/// Whether a stated area is another than that of the box.
fn has_own_area(object: &ObjectRecord) -> bool {
    let area = object.bbox[2] * object.bbox[3];
    (object.area - area).abs() > 1e-6 * area.abs().max(1.0)
}

#[cfg(test)]
mod tests;
