//! Shards for distributed work, after TAO's converter: one data set in, N files of COCO annotations
//! out that are balanced in images and objects, and a file that maps classes to ids and lists the
//! shards.

use std::path::{Path, PathBuf};

use detr_types::fs::atomic_write;
use serde::Serialize;

use super::write::write_json;
use super::{DatasetError, ImageHeader};
use crate::dataset::{Category, Dataset, ImageRecord};
use crate::decode::ImageError;
use detr_types::Limits;

/// The options of writing shards.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Number of files, at most one per image.
    pub shards: usize,
    /// First part of their names.
    pub prefix: String,
    /// The limits on reading an image file whose size has to be looked up.
    pub limits: Limits,
    /// Whether that size is the one of the upright image.
    pub apply_exif: bool,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self { shards: 8, prefix: "shard".to_owned(), limits: Limits::default(), apply_exif: false }
    }
}

/// The files that were written; also the contents of `mapping.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardReport {
    /// The classes with their ids, which are the same in every shard.
    pub categories: Vec<Category>,
    /// The files.
    pub shards: Vec<Shard>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shard {
    /// Its name in the folder.
    pub file: PathBuf,
    /// Number of images.
    pub images: usize,
    /// Number of objects.
    pub objects: usize,
}

/// Writes `PREFIX-00000-of-NNNNN.json` and so on, and `mapping.json` last. The images stay where
/// they are; file names are those of the data set, relative to its image folder.
///
/// # Errors
/// No shards or more than images, images whose size is needed and unreadable, files that cannot be
/// written.
pub fn shard(
    dataset: &Dataset,
    folder: &Path,
    options: &ShardOptions,
) -> Result<ShardReport, DatasetError> {
    let count = options.shards;
    if count == 0 || count > dataset.images.len() {
        let images = dataset.images.len();
        let reason = format!("{count} shards of {images} images, expected 1 to {images}");
        return Err(DatasetError::layout(folder, reason));
    }
    super::safe_join(folder, &options.prefix).map_err(|reason| {
        DatasetError::layout(folder, format!("the prefix {:?} {reason}", options.prefix))
    })?;
    let mut report = ShardReport { categories: dataset.categories.clone(), shards: Vec::new() };
    for (index, images) in deal(&dataset.images, count).into_iter().enumerate() {
        let mut sized = Vec::with_capacity(images.len());
        for image in images {
            let look = || {
                let header = ImageHeader::read(&image.path, &options.limits)?;
                Ok::<_, ImageError>(header.size(options.apply_exif))
            };
            let size = image.size.map_or_else(look, Ok)?;
            sized.push(ImageRecord { size: Some(size), ..image.clone() });
        }
        let file = PathBuf::from(format!("{}-{index:05}-of-{count:05}.json", options.prefix));
        write_json(&folder.join(&file), sized.iter(), &dataset.categories)?;
        let objects = sized.iter().map(|image| image.objects.len()).sum();
        report.shards.push(Shard { file, images: sized.len(), objects });
    }
    let path = folder.join("mapping.json");
    atomic_write(&path, |out| {
        serde_json::to_writer_pretty(&mut *out, &report).map_err(std::io::Error::from)?;
        out.write_all(b"\n")
    })
    .map_err(DatasetError::io(&path))?;
    Ok(report)
}

/// Deals images out like cards, those with most objects first and every other round backwards:
/// numbers of images differ by one at most, those of objects by no more than the fullest image has.
fn deal(images: &[ImageRecord], count: usize) -> Vec<Vec<&ImageRecord>> {
    let mut order: Vec<&ImageRecord> = images.iter().collect();
    order.sort_by_key(|image| (std::cmp::Reverse(image.objects.len()), image.id));
    let mut shards = vec![Vec::new(); count];
    for (index, image) in order.into_iter().enumerate() {
        let (round, seat) = (index / count, index % count);
        let seat = if round % 2 == 0 { seat } else { count - 1 - seat };
        shards[seat].push(image);
    }
    for shard in &mut shards {
        shard.sort_by_key(|image| image.id);
    }
    shards
}
