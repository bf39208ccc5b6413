//! KITTI's object labels: for each image a text file, one object per line with 15 columns: type,
//! truncation, occlusion, angle, left, top, right and bottom in pixels from 0, and seven numbers of
//! the object in space. Only type and box are used. `DontCare` regions have no class; they are
//! counted and left out.
//!
//! Folders as in KITTI (`image_2`, `label_2`) or TAO (`images`, `labels`), also below `training` or
//! the name of the split.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::named::{NamedImage, NamedObject, assemble};
use super::paths::Root;
use super::{DatasetError, Format, ReadOptions, class_names, files, text};
use crate::dataset::{Builder, Dataset, Problem};

/// Columns of which the box is the fifth to the eighth.
const BOX_END: usize = 8;
/// Pairs of folders, images first.
const FOLDERS: [(&str, &str); 4] =
    [("image_2", "label_2"), ("images", "labels"), ("image", "label"), ("", "")];

/// Folder of the images and of the labels, if a folder holds KITTI's labels.
pub(super) fn folders(root: &Path, options: &ReadOptions) -> Option<(PathBuf, PathBuf)> {
    let bases = options.split.iter().map(|split| root.join(split));
    let bases = bases.chain([root.to_owned(), root.join("training")]);
    let found = bases.into_iter().find_map(|base| folders_in(&base, options));
    if found.is_some() || options.split.is_some() {
        return found;
    }
    match splits(root).as_slice() {
        [only] => folders_in(&root.join(only), options),
        _ => None,
    }
}

/// Names of the folders in this one that hold KITTI's labels.
pub(super) fn splits(root: &Path) -> Vec<String> {
    let entries = root.read_dir().into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let holds = |name: &String| folders_in(&root.join(name), &ReadOptions::default()).is_some();
    let mut splits: Vec<String> = names.filter(holds).collect();
    splits.sort();
    splits
}

fn folders_in(base: &Path, options: &ReadOptions) -> Option<(PathBuf, PathBuf)> {
    for (images, labels) in FOLDERS {
        let labels = base.join(labels);
        // Without folders of their own, labels are in this one, not somewhere below.
        let list = if images.is_empty() { files::here } else { files::below };
        let found = list(&labels, &["txt"]).unwrap_or_default();
        let is_kitti =
            |path: &PathBuf| text::read(path, 1 << 20).is_ok_and(|text| looks_right(&text));
        // Label files of images without objects are empty.
        if found.iter().take(50).any(is_kitti) {
            return Some((options.images.clone().unwrap_or_else(|| base.join(images)), labels));
        }
    }
    None
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
        let reason =
            "holds no KITTI labels; looked for label_2/*.txt and labels/*.txt with 15 columns";
        return Err(DatasetError::layout(root, reason));
    };
    let mut builder = Builder::new(format!("{} {}", Format::Kitti, root.display()));
    let folder = Root::new(&image_folder, options.allow_outside, options.check_files)
        .map_err(DatasetError::io(&image_folder))?;
    let mut labels: HashSet<PathBuf> = files::below(&label_folder, &["txt"])?.into_iter().collect();
    let mut images = Vec::new();
    for path in files::below(&image_folder, files::IMAGES)? {
        let name = files::relative(&path, &image_folder);
        let located = match folder.locate(&name) {
            Ok(located) => located,
            Err(reason) => {
                builder.report.add(Problem::UnsafeFileName, format!("{name}: {reason}"));
                continue;
            }
        };
        if !located.exists {
            builder.report.add(Problem::MissingFile, &name);
        }
        let label = label_folder.join(&name).with_extension("txt");
        let mut objects = Vec::new();
        if labels.remove(&label) {
            let text = text::read(&label, options.limits.annotation_bytes)?;
            objects = parse(&text, &label, &mut builder);
        } else {
            builder.report.add(Problem::MissingLabels, &name);
        }
        images.push(NamedImage { path: located.path, file_name: name, size: None, objects });
    }
    let mut orphans: Vec<_> = labels.into_iter().collect();
    orphans.sort();
    for label in orphans {
        builder.report.add(Problem::OrphanLabels, files::relative(&label, root));
    }
    let names = class_names::all(&images, classes_elsewhere(root, options, &label_folder));
    Ok(assemble(builder, images, Some(names)))
}

/// The classes in folders of labels of the data set other than the one that is read. What is wrong with such a file
/// is of no concern here.
fn classes_elsewhere(root: &Path, options: &ReadOptions, read: &Path) -> BTreeSet<String> {
    let whole = ReadOptions { split: None, ..options.clone() };
    let known = read.canonicalize().ok();
    let mut scratch = Builder::default();
    let mut names = BTreeSet::new();
    for folder in class_names::folders_of_splits(root) {
        let Some((_, labels)) = folders(&folder, &whole) else { continue };
        if labels.canonicalize().ok() == known {
            continue;
        }
        for path in files::below(&labels, &["txt"]).unwrap_or_default() {
            let Ok(text) = text::read(&path, options.limits.annotation_bytes) else { continue };
            let objects = parse(&text, &path, &mut scratch);
            names.extend(objects.into_iter().map(|object| object.class));
        }
    }
    names
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
