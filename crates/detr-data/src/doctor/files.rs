//! Image files: whether they are there and readable, whether their size is what the annotations
//! say, and whether some are copies of others.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use detr_types::ImageSize;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::options::{CheckOptions, FileCheck};
use crate::dataset::{Dataset, ImageRecord, Problem, ReadReport};
use crate::decode::{DecodeOptions, ImageError, read_image};
use crate::formats::ImageHeader;

/// The result of a look at one file.
enum FileState {
    /// Not there; counted while reading unless it vanished since.
    Missing,
    Unreadable(ImageError),
    Readable(ImageHeader),
}

/// Counts what is wrong with the files; sizes by image id, from the files where these were asked.
pub(super) fn check(
    dataset: &Dataset,
    options: &CheckOptions<'_>,
    report: &mut ReadReport,
) -> HashMap<i64, ImageSize> {
    let stated = |image: &ImageRecord| Some((image.id, image.size?));
    let mut sizes: HashMap<i64, ImageSize> = dataset.images.iter().filter_map(stated).collect();
    if options.files == FileCheck::Skip {
        return sizes;
    }
    let (done, all) = (AtomicUsize::new(0), dataset.images.len());
    let look = |image: &ImageRecord| {
        let looked = look(&image.path, options);
        if let Some(progress) = options.progress {
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, all);
        }
        looked
    };
    let looked: Vec<FileState> = dataset.images.par_iter().map(look).collect();
    let counted = report.count(Problem::MissingFile);
    let missing = looked.iter().filter(|looked| matches!(looked, FileState::Missing)).count();
    let mut turned = Vec::new();
    for (image, looked) in dataset.images.iter().zip(looked) {
        match looked {
            // Readers that look at the files have listed these already.
            FileState::Missing if counted >= missing => {}
            FileState::Missing => report.add(Problem::MissingFile, &image.file_name),
            FileState::Unreadable(error) => {
                let reason = error.reason().to_string();
                let reason = reason.lines().next().unwrap_or_default();
                report.add(Problem::UnreadableImage, format!("{} {reason}", image.file_name));
            }
            FileState::Readable(header) => {
                sizes.insert(image.id, header.size(options.apply_exif));
                compare(image, header, options.apply_exif, report);
                if header.is_turned() && !options.apply_exif {
                    turned.push(&image.file_name);
                }
            }
        }
    }
    // Reading has counted these as errors if boxes are relative.
    if turned.len() > report.count(Problem::TurnedLabels) {
        for name in &turned {
            report.add(Problem::TurnedImage, name);
        }
    }
    if options.duplicates {
        copies(dataset, report);
    }
    sizes
}

fn look(path: &Path, options: &CheckOptions<'_>) -> FileState {
    let decoded = match options.files {
        FileCheck::Decode => {
            let decode = DecodeOptions { limits: options.limits, ..DecodeOptions::default() };
            read_image(path, &decode).map(drop)
        }
        _ => Ok(()),
    };
    match decoded.and_then(|()| ImageHeader::read(path, &options.limits)) {
        Ok(header) => FileState::Readable(header),
        Err(error) => match error.reason() {
            ImageError::Io { error } if error.kind() == std::io::ErrorKind::NotFound => {
                FileState::Missing
            }
            _ => FileState::Unreadable(error),
        },
    }
}

fn compare(image: &ImageRecord, header: ImageHeader, apply_exif: bool, report: &mut ReadReport) {
    let found = header.size(apply_exif);
    let Some(stated) = image.size.filter(|stated| *stated != found) else { return };
    let ratio = |size: ImageSize| f64::from(size.width) / f64::from(size.height);
    let same_ratio = (ratio(stated) / ratio(found) - 1.0).abs() < 0.02;
    let problem = if same_ratio { Problem::SizeDiffers } else { Problem::AspectDiffers };
    let other = if header.size(!apply_exif) == stated {
        if apply_exif { ", its size before it is turned" } else { ", its size when turned upright" }
    } else {
        ""
    };
    report.add(problem, format!("{} is {found}, stated {stated}{other}", image.file_name));
}

/// Counts files of equal content under several names.
fn copies(dataset: &Dataset, report: &mut ReadReport) {
    for group in alike(dataset.images.iter().collect()) {
        for copy in &group[1..] {
            report.add(
                Problem::DuplicateContent,
                format!("{} = {}", group[0].file_name, copy.file_name),
            );
        }
    }
}

/// Lists the file names of images that two data sets share by content, such as training images
/// among those for validation.
#[must_use]
pub fn common_images(first: &Dataset, second: &Dataset) -> Vec<(String, String)> {
    let both: Vec<&ImageRecord> = first.images.iter().chain(&second.images).collect();
    let mut common = Vec::new();
    for group in alike_files(both) {
        let find = |set: &Dataset| {
            let of =
                |image: &&&ImageRecord| set.images.iter().any(|other| std::ptr::eq(other, **image));
            group.iter().find(of).map(|image| image.file_name.clone())
        };
        common.extend(find(first).zip(find(second)));
    }
    common
}

/// Groups of images of equal content in files of their own, sorted by id.
fn alike(images: Vec<&ImageRecord>) -> Vec<Vec<&ImageRecord>> {
    let mut groups = alike_files(images);
    for group in &mut groups {
        // One file under two entries is a problem of another kind.
        group.dedup_by(|a, b| a.path == b.path);
    }
    groups.retain(|group| group.len() > 1);
    groups
}

/// Groups of images of equal content, sorted by id. Reading is left to those of equal length.
fn alike_files(images: Vec<&ImageRecord>) -> Vec<Vec<&ImageRecord>> {
    let mut lengths: HashMap<u64, Vec<&ImageRecord>> = HashMap::new();
    for image in images {
        if let Ok(metadata) = fs::metadata(&image.path)
            && metadata.is_file()
        {
            lengths.entry(metadata.len()).or_default().push(image);
        }
    }
    let same: Vec<&ImageRecord> =
        lengths.into_values().filter(|same| same.len() > 1).flatten().collect();
    let hashed = same.into_par_iter().filter_map(|image| Some((digest(&image.path)?, image)));
    let mut by_digest: HashMap<[u8; 32], Vec<&ImageRecord>> = HashMap::new();
    for (digest, image) in hashed.collect::<Vec<_>>() {
        by_digest.entry(digest).or_default().push(image);
    }
    let mut groups: Vec<Vec<&ImageRecord>> =
        by_digest.into_values().filter(|group| group.len() > 1).collect();
    for group in &mut groups {
        group.sort_by(|a, b| (a.id, &a.path).cmp(&(b.id, &b.path)));
    }
    groups.sort_by_key(|group| group.first().map(|image| image.id));
    groups
}

fn digest(path: &Path) -> Option<[u8; 32]> {
    let mut file = fs::File::open(path).ok()?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(hasher.finalize().into()),
            read => hasher.update(&buffer[..read]),
        }
    }
}
