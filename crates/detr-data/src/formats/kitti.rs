//! KITTI's object labels: for each image a text file, one object per line with 15 columns: type,
//! truncation, occlusion, angle, left, top, right and bottom in pixels from 0, and seven numbers of
//! the object in space. Only type and box are used. `DontCare` regions have no class; they are
//! counted and left out.
//!
//! Folders as in KITTI (`image_2`, `label_2`) or TAO (`images`, `labels`), also below `training` or
//! the name of the split. KITTI's tracking data (`image_02`, `label_02`) has a text file for each sequence and a
//! folder of images beside it; a line starts with the number of the image.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::kitti_line::{KittiLine, Labels, TrackingLine, labels};
use super::named::{NamedImage, NamedObject, assemble};
use super::paths::Root;
use super::{DatasetError, Format, ReadOptions, files, text};
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
        let is_kitti = |path: &PathBuf| kind_of(path).is_some();
        // Label files of images without objects are empty.
        if found.iter().take(50).any(is_kitti) {
            return Some((options.images.clone().unwrap_or_else(|| base.join(images)), labels));
        }
    }
    None
}

/// The kind of labels in a file; none if they are not KITTI's.
fn kind_of(path: &Path) -> Option<Labels> {
    labels(&text::read(path, LOOKED_AT).ok()?)
}

pub(super) fn read(root: &Path, options: &ReadOptions) -> Result<Dataset, DatasetError> {
    let Some((image_folder, label_folder)) = folders(root, options) else {
        let reason = "holds no KITTI labels; looked for label_2/*.txt and labels/*.txt with 15 columns, \
             and label_02/*.txt with 17";
        return Err(DatasetError::layout(root, reason));
    };
    let mut builder = Builder::new(format!("{} {}", Format::Kitti, root.display()));
    let folder = Root::new(&image_folder, options.allow_outside, options.check_files)
        .map_err(DatasetError::io(&image_folder))?;
    let mut labels = LabelFiles::read(&label_folder, &mut builder, options)?;
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
        let objects = labels.of_image(&name, &mut builder, options)?.unwrap_or_else(|| {
            builder.report.add(Problem::MissingLabels, &name);
            Vec::new()
        });
        images.push(NamedImage { path: located.path, file_name: name, size: None, objects });
    }
    for label in labels.unused(root) {
        builder.report.add(Problem::OrphanLabels, label);
    }
    Ok(assemble(builder, images, None))
}

/// The label files of a data set: one for each image, or one for each sequence of images.
struct LabelFiles {
    folder: PathBuf,
    /// Those of images that were not asked for yet.
    rest: HashSet<PathBuf>,
    /// Those of sequences, and whether an image was found for them.
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

    /// The objects of an image; none if it has no label file.
    fn of_image(
        &mut self,
        name: &str,
        builder: &mut Builder,
        options: &ReadOptions,
    ) -> Result<Option<Vec<NamedObject>>, DatasetError> {
        let label = self.folder.join(name).with_extension("txt");
        if self.rest.remove(&label) {
            let text = text::read(&label, options.limits.annotation_bytes)?;
            let objects = parse(&text, &label, builder, |line| Ok(((), KittiLine::parse(line)?)));
            return Ok(Some(objects.into_iter().map(|(_, object)| object).collect()));
        }
        // `0003/000012.png` is image 12 of the sequence in `0003.txt`; a single sequence may go without a folder.
        let name = Path::new(name);
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

    /// The files, and frames of sequences, that no image belongs to.
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

/// The objects of a label file, each with what else `read` finds in its line.
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
