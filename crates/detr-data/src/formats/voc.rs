//! Pascal VOC: an XML file for each image, in `Annotations` beside `JPEGImages`, with lists of names
//! per split in `ImageSets/Main`; or XML files beside their images.
//!
//! VOC counts pixels from 1 and includes the last one, so a box that covers an image of width W is
//! `xmin = 1, xmax = W`. Many tools write corners from 0 instead. A data set is taken as such when
//! any of its boxes has a corner below 1. `difficult` objects, which VOC's evaluation ignores, become
//! crowds, which COCO's ignores.
//!
//! Files may be in UTF-8, UTF-16, ISO-8859-1 or Windows-1252.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use detr_types::{ImageSize, Xyxy};
use roxmltree::{Document, Node};

use super::named::{NamedImage, NamedObject, assemble};
use super::paths::{DataFile, DatasetRoot, UnsafeName};
use super::voc_files::{self, Stems};
use super::{DatasetError, Format, ReadOptions, class_names, files, neighbour, text, xml_text};
use crate::dataset::{Builder, Dataset, Problem};

/// The note that our writer puts into `<source><annotation>`: corners are VOC's, whatever they are.
pub(super) const ONE_BASED: &str = "pixels from 1, last one included";

pub(super) fn read(root: &Path, options: &ReadOptions) -> Result<Dataset, DatasetError> {
    let annotations = voc_files::annotations(root, options)?;
    let mut builder = Builder::new(format!("{} {}", Format::Voc, root.display()));
    let elsewhere = classes_elsewhere(root, options, &annotations);
    let mut files = Vec::with_capacity(annotations.len());
    for path in annotations {
        let text = xml_text::read(&path, options.limits.annotation_bytes)?;
        match parse(&text, &mut builder, &path) {
            Ok(file) => files.push((path, file)),
            Err((offset, reason)) => {
                return Err(text::syntax(&path, text.as_bytes(), offset, reason));
            }
        }
    }
    let images = options.images.clone().unwrap_or_else(|| {
        let names = files.iter().map(|(path, file)| (path.as_path(), file.name.as_deref()));
        voc_files::image_folder(root, &names.collect::<Vec<_>>())
    });
    let folder = DatasetRoot::new(&images, options.allow_outside, options.check_files)
        .map_err(DatasetError::io(&images))?
        .within(root);
    let (mut found, mut from_zero) = (Vec::with_capacity(files.len()), false);
    let mut stems = None;
    for (path, file) in files {
        let Some(located) = locate(&folder, &path, &file, &mut stems, &mut builder)? else {
            continue;
        };
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

/// Collects the classes in the XML files of the data set that are not among those that are read. What is wrong
/// with such a file is of no concern here.
fn classes_elsewhere(root: &Path, options: &ReadOptions, read: &[PathBuf]) -> BTreeSet<String> {
    let whole = ReadOptions { split: None, ..options.clone() };
    let known: BTreeSet<PathBuf> =
        read.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let mut scratch = Builder::default();
    let mut names = BTreeSet::new();
    for folder in class_names::folders_of_splits(root) {
        for path in voc_files::annotations(&folder, &whole).unwrap_or_default() {
            if path.canonicalize().is_ok_and(|path| known.contains(&path)) {
                continue;
            }
            let Ok(text) = xml_text::read(&path, options.limits.annotation_bytes) else { continue };
            if let Ok(file) = parse(&text, &mut scratch, &path) {
                names.extend(file.objects.into_iter().map(|object| object.class));
            }
        }
    }
    names
}

/// Finds the image of an XML file: the one that `<filename>` names, or, if that leads nowhere, the image that is
/// named like the XML file, which is VOC's own rule. None if the name leads out of the data set, which is counted.
fn locate(
    folder: &DatasetRoot,
    xml: &Path,
    file: &VocFile,
    stems: &mut Option<Stems>,
    builder: &mut Builder,
) -> Result<Option<DataFile>, DatasetError> {
    let stem = xml.file_stem().unwrap_or_default().to_string_lossy();
    let name = file.name.clone().unwrap_or_else(|| format!("{stem}.jpg"));
    let named = folder.locate(&name);
    let leads_nowhere = match &named {
        Ok(located) => !located.exists,
        Err(reason) => matches!(reason, UnsafeName::Absolute | UnsafeName::Url | UnsafeName::Empty),
    };
    if leads_nowhere && folder.checks_files() {
        let stems = match stems {
            Some(stems) => stems,
            None => stems.insert(Stems::of(folder.folder())?),
        };
        if let Some(path) = stems.find(xml, file.name.as_deref()) {
            let located = folder.locate(&files::relative(path, folder.folder()));
            if let Ok(located) = located
                && located.exists
            {
                // A file that lacks `<filename>` states nothing else.
                if file.name.is_some() {
                    let example = format!("{}: {}, not {name}", xml.display(), located.name);
                    builder.report.add(Problem::NamedLikeXml, example);
                }
                return Ok(Some(located));
            }
        }
    }
    match named {
        Ok(located) => {
            if !located.exists {
                neighbour::add_missing(&mut builder.report, folder.folder(), &located.name);
            }
            Ok(Some(located))
        }
        Err(reason) => {
            let example = format!("{}: {name:?} {reason}", xml.display());
            builder.report.add(Problem::UnsafeFileName, example);
            Ok(None)
        }
    }
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

/// Returns the content of a file, or the byte where it stops making sense.
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
