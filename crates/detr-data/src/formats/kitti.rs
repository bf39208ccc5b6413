//! KITTI's object labels: for each image a text file, one object per line with 15 columns: type,
//! truncation, occlusion, angle, left, top, right and bottom in pixels from 0, and seven numbers of
//! the object in space. Only type and box are used. `DontCare` regions have no class; they are
//! counted and left out.
//!
//! Folders as in KITTI (`image_2`, `label_2`) or TAO (`images`, `labels`), also below `training` or
//! the name of the split.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::named::{NamedImage, NamedObject, assemble};
use super::paths::Root;
use super::{DatasetError, Format, ReadOptions, files, neighbour, splits, text};
use crate::dataset::{Builder, Dataset, Problem};

/// Columns of which the box is the fifth to the eighth.
const BOX_END: usize = 8;
/// Pairs of folders, images first.
const FOLDERS: [(&str, &str); 4] =
    [("image_2", "label_2"), ("images", "labels"), ("image", "label"), ("", "")];

/// Whether a folder, or one of its splits, holds KITTI's labels.
pub(super) fn are_in(root: &Path, options: &ReadOptions) -> bool {
    let whole = [root.to_owned(), root.join("training")];
    whole.iter().any(|base| folders_in(base, options).is_some()) || !splits(root).is_empty()
}

/// Folder of the images and of the labels, if a folder holds KITTI's labels.
fn folders(root: &Path, options: &ReadOptions) -> Option<(PathBuf, PathBuf)> {
    if let Some(split) = &options.split {
        let named = files::folders(root);
        let named = splits::choose(split, &named, |(name, _)| name);
        let found = named.and_then(|(_, folder)| folders_in(folder, options));
        return found.or_else(|| split_in(root, split, options));
    }
    let bases = [root.to_owned(), root.join("training")];
    let found = bases.into_iter().find_map(|base| folders_in(&base, options));
    found.or_else(|| match splits(root).as_slice() {
        [only] => folders_in(&root.join(only), options),
        _ => None,
    })
}

/// The folders `images/SPLIT` and `labels/SPLIT`.
fn split_in(root: &Path, split: &str, options: &ReadOptions) -> Option<(PathBuf, PathBuf)> {
    FOLDERS.iter().filter(|(images, _)| !images.is_empty()).find_map(|(images, labels)| {
        let below = |folder: &str| {
            let folders = files::folders(&files::folder(root, &[folder])?);
            splits::choose(split, &folders, |(name, _)| name).map(|(_, path)| path.clone())
        };
        let labels = below(labels).filter(|labels| hold_labels(labels, files::below))?;
        Some((options.images.clone().or_else(|| below(images))?, labels))
    })
}

/// Names of the folders in this one that hold KITTI's labels.
pub(super) fn splits(root: &Path) -> Vec<String> {
    let options = ReadOptions::default();
    // A folder of labels is no split, though it holds labels.
    let is_split = |name: &str| {
        !FOLDERS.iter().any(|(images, labels)| {
            [images, labels].iter().any(|known| name.eq_ignore_ascii_case(known))
        })
    };
    let folders = files::folders(root).into_iter();
    folders
        .filter(|(name, path)| is_split(name) && folders_in(path, &options).is_some())
        .map(|(name, _)| name)
        .collect()
}

fn folders_in(base: &Path, options: &ReadOptions) -> Option<(PathBuf, PathBuf)> {
    for (images, labels) in FOLDERS {
        let below = |name: &str| match name {
            "" => Some(base.to_owned()),
            name => files::folder(base, &[name]),
        };
        let Some(labels) = below(labels) else { continue };
        // Without folders of their own, labels are in this one, not somewhere below.
        let list = if images.is_empty() { files::here } else { files::below };
        if hold_labels(&labels, list) {
            let images = options.images.clone().or_else(|| below(images));
            return Some((images.unwrap_or_else(|| base.join("images")), labels));
        }
    }
    None
}

type List = fn(&Path, &[&str]) -> Result<Vec<PathBuf>, DatasetError>;

/// Whether any of the first label files has KITTI's columns; those of images without objects are empty.
fn hold_labels(folder: &Path, list: List) -> bool {
    let found = list(folder, &["txt"]).unwrap_or_default();
    let is_kitti = |path: &PathBuf| text::read(path, 1 << 20).is_ok_and(|text| looks_right(&text));
    found.iter().take(50).any(is_kitti)
}

fn looks_right(text: &str) -> bool {
    text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        (15..=16).contains(&columns.len())
            && columns[0].parse::<f64>().is_err()
            && columns[1..].iter().all(|column| column.parse::<f64>().is_ok())
    })
}

pub(super) fn read(root: &Path, options: &ReadOptions) -> Result<Dataset, DatasetError> {
    let Some((image_folder, label_folder)) = folders(root, options) else {
        if let Some(split) = &options.split
            && are_in(root, &ReadOptions::default())
        {
            return Err(splits::refuse(root, split, &self::splits(root)));
        }
        let several = self::splits(root);
        if several.len() > 1 {
            let reason = format!(
                "holds several splits of KITTI: {}\nhint: give the split",
                files::listed(&several)
            );
            return Err(DatasetError::layout(root, reason));
        }
        let reason =
            "holds no KITTI labels; looked for label_2/*.txt and labels/*.txt with 15 columns";
        return Err(DatasetError::layout(root, reason));
    };
    let mut builder = Builder::new(format!("{} {}", Format::Kitti, root.display()));
    let folder = Root::new(&image_folder, options.allow_outside, options.check_files)
        .map_err(DatasetError::io(&image_folder))?
        .within(root);
    let mut labels: HashSet<PathBuf> = files::below(&label_folder, &["txt"])?.into_iter().collect();
    let mut images = Vec::new();
    for path in folder.images(&image_folder, &mut builder.report)? {
        let name = files::relative(&path, &image_folder);
        match folder.check(&path) {
            Ok(true) => {}
            Ok(false) => neighbour::add_missing(&mut builder.report, &image_folder, &name),
            Err(reason) => {
                builder.report.add(Problem::UnsafeFileName, format!("{name}: {reason}"));
                continue;
            }
        }
        neighbour::note_encoding(&mut builder.report, &path);
        let inner = path.strip_prefix(&image_folder).unwrap_or(&path);
        let label = label_folder.join(inner).with_extension("txt");
        let mut objects = Vec::new();
        if labels.remove(&label) {
            let text = text::read(&label, options.limits.annotation_bytes)?;
            objects = parse(&text, &label, &mut builder);
        } else {
            builder.report.add(Problem::MissingLabels, &name);
        }
        images.push(NamedImage { path, file_name: name, size: None, objects });
    }
    let mut orphans: Vec<_> = labels.into_iter().collect();
    orphans.sort();
    for label in orphans {
        builder.report.add(Problem::OrphanLabels, files::relative(&label, root));
    }
    Ok(assemble(builder, images, None))
}

fn parse(text: &str, path: &Path, builder: &mut Builder) -> Vec<NamedObject> {
    let mut objects = Vec::new();
    for (line, columns) in text.lines().enumerate() {
        let columns: Vec<&str> = columns.split_whitespace().collect();
        let wrong = |reason: &str| format!("{}:{}: {reason}", path.display(), line + 1);
        let [class, .., _, _, _, _] = columns.as_slice() else {
            if !columns.is_empty() {
                builder.report.add(Problem::MalformedRecord, wrong("expected 15 columns"));
            }
            continue;
        };
        let numbers: Option<Vec<f64>> =
            columns.get(4..BOX_END).map(|c| c.iter().filter_map(|c| c.parse().ok()).collect());
        let Some(&[x1, y1, x2, y2]) = numbers.as_deref() else {
            let reason = "expected left, top, right and bottom in columns 5 to 8";
            builder.report.add(Problem::MalformedRecord, wrong(reason));
            continue;
        };
        if class.eq_ignore_ascii_case("DontCare") {
            builder.report.add(Problem::IgnoredRegion, wrong("DontCare"));
            continue;
        }
        let bbox = [x1, y1, x2 - x1, y2 - y1].into();
        let class = (*class).to_owned();
        objects.push(NamedObject { class, bbox, iscrowd: false, segmentation: None });
    }
    objects
}
