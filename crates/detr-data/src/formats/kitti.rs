//! KITTI's object labels: for each image a text file, one object per line with 15 columns: type,
//! truncation, occlusion, angle, left, top, right and bottom in pixels from 0, and seven numbers of
//! the object in space. Only type and box are used. `DontCare` regions have no class; they are
//! counted and left out.
//!
//! Folders as in KITTI (`image_2`, `label_2`) or TAO (`images`, `labels`), also below `training` or
//! the name of the split. KITTI's tracking data (`image_02`, `label_02`) has a text file for each sequence and a
//! folder of images beside it; a line starts with the number of the image.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::kitti_line::{KittiLine, Labels, TrackingLine, labels};
use super::named::{NamedImage, NamedObject, assemble};
use super::paths::DatasetRoot;
use super::{DatasetError, Format, ReadOptions, class_names, files, neighbour, splits, text};
use crate::dataset::{Builder, Dataset, Problem};

/// Bytes of a file that is only looked at.
const LOOKED_AT: u64 = 16 << 20;
/// Pairs of folders, images first.
const FOLDERS: [(&str, &str); 5] = [
    ("image_2", "label_2"),
    ("image_02", "label_02"),
    ("images", "labels"),
    ("image", "label"),
    ("", ""),
];

/// Returns whether a folder, or one of its splits, holds KITTI's labels.
pub(super) fn are_in(root: &Path, options: &ReadOptions) -> bool {
    let whole = [root.to_owned(), root.join("training")];
    whole.iter().any(|base| folders_in(base, options).is_some()) || !splits(root).is_empty()
}

/// Returns the folder of the images and that of the labels, if a folder holds KITTI's labels.
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

/// Returns the folders `images/SPLIT` and `labels/SPLIT`.
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

/// Returns the names of the folders in this one that hold KITTI's labels.
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
        // Labels are in this folder itself, not somewhere below, if they have no folder of their
        // own.
        let list = if images.is_empty() { files::here } else { files::below };
        if hold_labels(&labels, list) {
            let images = options.images.clone().or_else(|| below(images));
            return Some((images.unwrap_or_else(|| base.join("images")), labels));
        }
    }
    None
}

type List = fn(&Path, &[&str]) -> Result<Vec<PathBuf>, DatasetError>;

/// Returns whether any of the first label files has KITTI's columns; those of images without objects
/// are empty.
fn hold_labels(folder: &Path, list: List) -> bool {
    let found = list(folder, &["txt"]).unwrap_or_default();
    found.iter().take(50).any(|path| kind_of(path).is_some())
}

/// Says why the labels of a folder laid out like KITTI are none of KITTI's, if there are some.
pub(super) fn almost(root: &Path) -> Option<String> {
    let labels = files::folder(root, &["label_2"])?;
    let path = files::below(&labels, &["txt"]).ok()?.into_iter().next()?;
    let text = text::read(&path, LOOKED_AT).ok()?;
    let (number, line) = text.lines().enumerate().find(|(_, line)| !line.trim().is_empty())?;
    let reason = KittiLine::parse(line).err()?;
    Some(format!(
        "looks like KITTI, but {}:{}: {reason}\n\
         hint: a line is a class and 14 numbers, with a point before decimals and spaces between them",
        files::relative(&path, root),
        number + 1
    ))
}

/// Returns the kind of labels in a file, or `None` if they are not KITTI's.
fn kind_of(path: &Path) -> Option<Labels> {
    labels(&text::read(path, LOOKED_AT).ok()?)
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
        let reason = "holds no KITTI labels; looked for label_2/*.txt and labels/*.txt with 15 columns, \
             and label_02/*.txt with 17";
        return Err(DatasetError::layout(root, reason));
    };
    let mut builder = Builder::new(format!("{} {}", Format::Kitti, root.display()));
    let folder = DatasetRoot::new(&image_folder, options.allow_outside, options.check_files)
        .map_err(DatasetError::io(&image_folder))?
        .within(root);
    let mut labels = LabelFiles::read(&label_folder, &mut builder, options)?;
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
        // Names may be of bytes that are not UTF-8.
        let inner = path.strip_prefix(&image_folder).unwrap_or(&path);
        let objects = labels.of_image(inner, &mut builder, options)?.unwrap_or_else(|| {
            builder.report.add(Problem::MissingLabels, &name);
            Vec::new()
        });
        images.push(NamedImage { path, file_name: name, size: None, objects });
    }
    for label in labels.unused(root) {
        builder.report.add(Problem::OrphanLabels, label);
    }
    let names = class_names::all(&images, classes_elsewhere(root, options, &label_folder));
    Ok(assemble(builder, images, Some(names)))
}

/// Collects the classes in folders of labels of the data set other than the one that is read. What is wrong with
/// such a file is of no concern here.
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
        names.extend(LabelFiles::classes(&labels, &mut scratch, options));
    }
    names
}

/// The label files of a data set: one for each image, or one for each sequence of images.
struct LabelFiles {
    folder: PathBuf,
    /// The files of images that were not asked for yet.
    rest: HashSet<PathBuf>,
    /// The files of sequences, and whether an image was found for them.
    sequences: BTreeMap<PathBuf, Sequence>,
}

/// A file of a sequence.
#[derive(Default)]
struct Sequence {
    frames: HashMap<u64, Vec<NamedObject>>,
    used: bool,
}

impl LabelFiles {
    /// Lists the files; those of sequences are read.
    fn read(
        folder: &Path,
        builder: &mut Builder,
        options: &ReadOptions,
    ) -> Result<Self, DatasetError> {
        let found = files::below(folder, &["txt"])?;
        let kind = found.iter().take(50).find_map(|path| kind_of(path));
        let mut labels =
            Self { folder: folder.to_owned(), rest: HashSet::new(), sequences: BTreeMap::new() };
        if kind != Some(Labels::Sequence) {
            labels.rest = found.into_iter().collect();
            return Ok(labels);
        }
        for path in found {
            let text = text::read(&path, options.limits.annotation_bytes)?;
            let mut sequence = Sequence::default();
            let frame = |line: &str| TrackingLine::parse(line).map(|l| (l.frame, l.object));
            for (frame, object) in parse(&text, &path, builder, frame) {
                sequence.frames.entry(frame).or_default().push(object);
            }
            labels.sequences.insert(path, sequence);
        }
        Ok(labels)
    }

    /// Returns the classes of all files in a folder.
    fn classes(folder: &Path, builder: &mut Builder, options: &ReadOptions) -> BTreeSet<String> {
        let Ok(labels) = Self::read(folder, builder, options) else { return BTreeSet::new() };
        let frames = labels.sequences.into_values().flat_map(|sequence| sequence.frames);
        let mut objects: Vec<NamedObject> = frames.flat_map(|(_, objects)| objects).collect();
        for path in labels.rest {
            let Ok(text) = text::read(&path, options.limits.annotation_bytes) else { continue };
            let found = parse(&text, &path, builder, |line| Ok(((), KittiLine::parse(line)?)));
            objects.extend(found.into_iter().map(|((), object)| object));
        }
        objects.into_iter().map(|object| object.class).collect()
    }

    /// Reads the objects of an image; `None` if it has no label file.
    fn of_image(
        &mut self,
        name: &Path,
        builder: &mut Builder,
        options: &ReadOptions,
    ) -> Result<Option<Vec<NamedObject>>, DatasetError> {
        let label = self.folder.join(name).with_extension("txt");
        if self.rest.remove(&label) {
            let text = text::read(&label, options.limits.annotation_bytes)?;
            let objects = parse(&text, &label, builder, |line| Ok(((), KittiLine::parse(line)?)));
            return Ok(Some(objects.into_iter().map(|((), object)| object).collect()));
        }
        // `0003/000012.png` is image 12 of the sequence in `0003.txt`; a single sequence may go without a folder.
        let frame = name.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        let only = self.sequences.len() == 1;
        let sequence = match name.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => self.sequences.get_mut(&self.folder.join(parent).with_extension("txt")),
            None => self.sequences.values_mut().next().filter(|_| only),
        };
        Ok(sequence.zip(frame).map(|(sequence, frame): (&mut Sequence, u64)| {
            sequence.used = true;
            sequence.frames.remove(&frame).unwrap_or_default()
        }))
    }

    /// Lists the files, and frames of sequences, that no image belongs to.
    fn unused(self, root: &Path) -> Vec<String> {
        let mut unused: Vec<String> =
            self.rest.iter().map(|label| files::relative(label, root)).collect();
        for (path, sequence) in self.sequences {
            let name = files::relative(&path, root);
            if sequence.used {
                let mut frames: Vec<u64> = sequence.frames.into_keys().collect();
                frames.sort_unstable();
                unused.extend(frames.iter().map(|frame| format!("{name}, frame {frame}")));
            } else {
                unused.push(name);
            }
        }
        unused.sort();
        unused
    }
}

/// Reads the objects of a label file, each with the rest that `read` finds in its line.
fn parse<T>(
    text: &str,
    path: &Path,
    builder: &mut Builder,
    read: impl Fn(&str) -> Result<(T, KittiLine), String>,
) -> Vec<(T, NamedObject)> {
    let mut objects = Vec::new();
    for (line, columns) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = |reason: &str| format!("{}:{}: {reason}", path.display(), line + 1);
        match read(columns) {
            Ok((_, object)) if object.is_ignored() => {
                builder.report.add(Problem::IgnoredRegion, place("DontCare"));
            }
            Ok((other, KittiLine { class, bbox })) => {
                let object = NamedObject { class, bbox, iscrowd: false, segmentation: None };
                objects.push((other, object));
            }
            Err(reason) => builder.report.add(Problem::MalformedRecord, place(&reason)),
        }
    }
    objects
}
