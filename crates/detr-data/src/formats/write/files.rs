//! The files of one image after another: the image itself, and its labels in formats that have a file for each.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use detr_types::ImageSize;
use detr_types::fs::atomic_write;
use rayon::prelude::*;

use super::options::{ImageMode, WriteOptions};
use crate::dataset::{Dataset, ImageRecord, ObjectRecord};
use crate::decode::ImageError;
use crate::formats::{DatasetError, ImageHeader};

/// Writes text through the one atomic write.
pub(super) fn write_text(path: &Path, text: &str) -> Result<(), DatasetError> {
    atomic_write(path, |file| file.write_all(text.as_bytes())).map_err(DatasetError::io(path))
}

/// Returns the size of an image as stated, or else from its file.
pub(super) fn size_of(
    image: &ImageRecord,
    options: &WriteOptions<'_>,
) -> Result<ImageSize, ImageError> {
    let look = || {
        let header = ImageHeader::read(&image.path, &options.limits)?;
        Ok(header.size(options.apply_exif))
    };
    image.size.map_or_else(look, Ok)
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

/// The files to be written for one image.
pub(super) struct Job {
    /// The path that the image gets.
    pub(super) image: PathBuf,
    /// The path and the text of its label file, in formats that have one.
    pub(super) label: Option<(PathBuf, String)>,
}

/// Writes image by image. What to write is worked out in order, a batch at a time; the writing
/// itself waits for the disk most of the time, so it is done by several threads.
pub(super) fn write_each(
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

/// Returns whether the stated area differs from the area of the box.
pub(super) fn has_own_area(object: &ObjectRecord) -> bool {
    let area = object.bbox.area();
    (object.area - area).abs() > 1e-6 * area.abs().max(1.0)
}
