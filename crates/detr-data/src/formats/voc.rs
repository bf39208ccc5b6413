//! Pascal VOC: an XML file for each image, in `Annotations` beside `JPEGImages`, with lists of names
//! per split in `ImageSets/Main`; or XML files beside their images.
//!
//! VOC counts pixels from 1 and includes the last one, so a box that covers an image of width W is
//! `xmin = 1, xmax = W`. Many tools write corners from 0 instead. A data set is taken as such when
//! any of its boxes has a corner below 1. `difficult` objects, which VOC's evaluation ignores, become
//! crowds, which COCO's ignores.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use detr_types::{ImageSize, Xyxy};
use roxmltree::{Document, Node};

use super::named::{NamedImage, NamedObject, assemble};
use super::paths::Root;
use super::{DatasetError, Format, ReadOptions, class_names, files, text};
use crate::dataset::{Builder, Dataset, Problem};

/// Stated in `<source><annotation>` by our writer: corners are VOC's, whatever they are.
pub(super) const ONE_BASED: &str = "pixels from 1, last one included";

/// The XML files of a data set.
pub(super) fn annotations(
    root: &Path,
    options: &ReadOptions,
) -> Result<Option<Vec<PathBuf>>, DatasetError> {
    let folder = root.join("Annotations");
    if let Some(split) = &options.split {
        let list = root.join("ImageSets/Main").join(format!("{split}.txt"));
        if list.is_file() {
            let text = text::read(&list, options.limits.annotation_bytes)?;
            // Lists of one class have a second column.
            let names = text.lines().filter_map(|line| line.split_whitespace().next());
            let mut found = Vec::new();
            for name in names {
                let path = super::safe_join(&folder, &format!("{name}.xml")).map_err(|reason| {
                    DatasetError::layout(&list, format!("the name {name:?} {reason}"))
                })?;
                found.push(path);
            }
            return Ok(Some(found));
        }
    }
    let mut places = vec![folder, root.to_owned()];
    places.splice(0..0, options.split.iter().map(|split| root.join(split)));
    for folder in places {
        let found = files::here(&folder, &["xml"])?;
        if !found.is_empty() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

pub(super) fn read(root: &Path, options: &ReadOptions) -> Result<Dataset, DatasetError> {
    let Some(annotations) = annotations(root, options)? else {
        let reason = "holds no VOC annotations; looked for Annotations/*.xml and *.xml";
        return Err(DatasetError::layout(root, reason));
    };
    let mut builder = Builder::new(format!("{} {}", Format::Voc, root.display()));
    let images = options.images.clone().unwrap_or_else(|| {
        let usual = root.join("JPEGImages");
        let beside = annotations.first().and_then(|file| file.parent()).unwrap_or(root);
        if usual.is_dir() { usual } else { beside.to_owned() }
    });
    let folder = Root::new(&images, options.allow_outside, options.check_files)
        .map_err(DatasetError::io(&images))?;
    let elsewhere = classes_elsewhere(root, options, &annotations);
    let (mut found, mut from_zero) = (Vec::with_capacity(annotations.len()), false);
    for path in annotations {
        let text = text::read(&path, options.limits.annotation_bytes)?;
        let file = match parse(&text, &mut builder, &path) {
            Ok(file) => file,
            Err((offset, reason)) => {
                return Err(text::syntax(&path, text.as_bytes(), offset, reason));
            }
        };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = file.name.unwrap_or_else(|| format!("{stem}.jpg"));
        let located = match folder.locate(&name) {
            Ok(located) => located,
            Err(reason) => {
                builder
                    .report
                    .add(Problem::UnsafeFileName, format!("{}: {name:?} {reason}", path.display()));
                continue;
            }
        };
        if !located.exists {
            builder.report.add(Problem::MissingFile, &located.name);
        }
        let mut corners = file.objects.iter().map(|object| object.corners);
        from_zero |= !file.one_based && corners.any(|corners| corners.x1 < 1.0 || corners.y1 < 1.0);
        found.push((located, file.size, file.objects));
    }
    let origin = if from_zero { 0.0 } else { 1.0 };
    let records = found.into_iter().map(|(located, size, objects)| NamedImage {
        path: located.path,
        file_name: located.name,
        size,
        objects: objects.into_iter().map(|object| object.named(origin)).collect(),
    });
    let images: Vec<NamedImage> = records.collect();
    let names = class_names::all(&images, elsewhere);
    Ok(assemble(builder, images, Some(names)))
}

/// The classes in the XML files of the data set that are not among those that are read. What is wrong with such a
/// file is of no concern here.
fn classes_elsewhere(root: &Path, options: &ReadOptions, read: &[PathBuf]) -> BTreeSet<String> {
    let whole = ReadOptions { split: None, ..options.clone() };
    let known: BTreeSet<PathBuf> =
        read.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let mut scratch = Builder::default();
    let mut names = BTreeSet::new();
    for folder in class_names::folders_of_splits(root) {
        for path in annotations(&folder, &whole).ok().flatten().unwrap_or_default() {
            if path.canonicalize().is_ok_and(|path| known.contains(&path)) {
                continue;
            }
            let Ok(text) = text::read(&path, options.limits.annotation_bytes) else { continue };
            if let Ok(file) = parse(&text, &mut scratch, &path) {
                names.extend(file.objects.into_iter().map(|object| object.class));
            }
        }
    }
    names
}

struct VocFile {
    name: Option<String>,
    size: Option<ImageSize>,
    one_based: bool,
    objects: Vec<VocObject>,
}

/// An object as written.
struct VocObject {
    class: String,
    /// The last pixel is inside; whether the first one of an image is 0 or 1, the whole data set tells.
    corners: Xyxy<f64>,
    iscrowd: bool,
}

impl VocObject {
    /// Counts pixels from 0; `origin` is the number that the file gives the first one.
    fn named(self, origin: f64) -> NamedObject {
        let Xyxy { x1, y1, x2, y2 } = self.corners;
        let bbox = [x1 - origin, y1 - origin, x2 - x1 + origin, y2 - y1 + origin].into();
        NamedObject { class: self.class, bbox, iscrowd: self.iscrowd, segmentation: None }
    }
}

/// What a file says, or the byte where it stops making sense.
fn parse(text: &str, builder: &mut Builder, path: &Path) -> Result<VocFile, (usize, String)> {
    let document = Document::parse(text).map_err(|error| {
        let at = error.pos();
        let before = text.split_inclusive('\n').take((at.row as usize).saturating_sub(1));
        (before.map(str::len).sum::<usize>() + (at.col as usize).saturating_sub(1), message(&error))
    })?;
    let root = document.root_element();
    if root.tag_name().name() != "annotation" {
        let name = root.tag_name().name();
        return Err((root.range().start, format!("<{name}> where <annotation> was expected")));
    }
    let side = |name| child(root, "size").and_then(|size| value(size, name)?.parse::<u32>().ok());
    let size = side("height").zip(side("width")).filter(|&(h, w)| h > 0 && w > 0);
    let mut objects = Vec::new();
    for node in root.children().filter(|node| node.has_tag_name("object")) {
        match object(node) {
            Ok(object) => objects.push(object),
            Err(reason) => {
                let at = document.text_pos_at(node.range().start);
                let place = format!("{}:{}:{}: {reason}", path.display(), at.row, at.col);
                builder.report.add(Problem::MalformedRecord, place);
            }
        }
    }
    let origin = child(root, "source").and_then(|source| value(source, "annotation"));
    Ok(VocFile {
        name: value(root, "filename").filter(|name| !name.is_empty()).map(str::to_owned),
        size: size.map(|(height, width)| ImageSize::new(height, width)),
        one_based: origin == Some(ONE_BASED),
        objects,
    })
}

fn message(error: &roxmltree::Error) -> String {
    let text = error.to_string();
    text.rfind(" at ").map_or(text.clone(), |at| text[..at].to_owned())
}

fn object(node: Node<'_, '_>) -> Result<VocObject, String> {
    let class = value(node, "name").filter(|name| !name.is_empty());
    let class = class.ok_or("an <object> without <name>")?.to_owned();
    let corners = child(node, "bndbox").ok_or("an <object> without <bndbox>")?;
    let corner = |name| {
        let text = value(corners, name).ok_or_else(|| format!("a <bndbox> without <{name}>"))?;
        text.parse::<f64>().map_err(|_| format!("<{name}> is {text:?}, expected a number"))
    };
    let [x1, y1, x2, y2] = ["xmin", "ymin", "xmax", "ymax"].map(corner);
    let corners = Xyxy { x1: x1?, y1: y1?, x2: x2?, y2: y2? };
    let iscrowd = value(node, "difficult") == Some("1");
    Ok(VocObject { class, corners, iscrowd })
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn value<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name)?.text().map(str::trim)
}
