//! COCO detection annotations: `instances_*.json`.
//!
//! The file is split into records first, and each record is read by itself: one that is wrong is
//! counted with its place instead of ending everything, and memory stays below four times the
//! file. Python writes `NaN` and `Infinity`, which are not JSON; they are taken as numbers that
//! are not finite.

pub(super) mod lenient;

use std::path::{Path, PathBuf};

use detr_types::{ImageSize, Xywh};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::contents::{self, JsonKind};
use super::paths::{self, DataFile, DatasetRoot, UnsafeName};
use super::{DatasetError, Format, ReadOptions, files, neighbour, splits, text};
use crate::dataset::{Builder, Category, Dataset, ImageRecord, ObjectRecord, Occurrences, Problem};
use crate::segmentation::{Rle, Segmentation};
use lenient::{Flag, Id, Int, Num, Text};

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    images: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    annotations: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    categories: Vec<&'a RawValue>,
    info: Option<IgnoredAny>,
    licenses: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct Image {
    id: Int,
    file_name: Option<Text>,
    width: Option<u32>,
    height: Option<u32>,
    license: Option<IgnoredAny>,
    coco_url: Option<IgnoredAny>,
    flickr_url: Option<IgnoredAny>,
    date_captured: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Annotation<'a> {
    id: Id,
    image_id: Int,
    category_id: Int,
    bbox: [Num; 4],
    area: Option<Num>,
    iscrowd: Option<Flag>,
    #[serde(borrow)]
    segmentation: Option<&'a RawValue>,
    keypoints: Option<IgnoredAny>,
    attributes: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct RawCategory {
    id: Int,
    name: Text,
    supercategory: Option<Text>,
    isthing: Option<Flag>,
}

/// Reads the text of a file as JSON: numbers that are not finite are quoted.
pub(super) fn read_text(path: &Path, options: &ReadOptions) -> Result<String, DatasetError> {
    let mut text = text::read(path, options.limits.annotation_bytes)?;
    lenient::quote_non_finite(&mut text);
    Ok(text)
}

/// Reads the text of a file.
pub(super) fn read(
    path: &Path,
    text: &str,
    options: &ReadOptions,
) -> Result<Dataset, DatasetError> {
    let file: File<'_> = parse(path, text)?;
    let mut builder = Builder::new(format!("{} {}", Format::Coco, path.display()));
    let lists = [("info", file.info.is_some()), ("licenses", file.licenses.is_some())];
    builder.other_fields(lists);
    let place = Place { path, text };
    categories(&mut builder, place, &file.categories);
    add_images(&mut builder, place, &file.images, options)?;
    let mut ids = TextIds::new(&file.annotations);
    for (index, record) in file.annotations.iter().enumerate() {
        if let Some(annotation) = place.record("annotations", index, record, &mut builder) {
            add_object(&mut builder, annotation, &mut ids);
        }
    }
    Ok(builder.finish())
}

/// Numbers for ids that are texts.
struct TextIds<'a> {
    records: &'a [&'a RawValue],
    next: Option<i64>,
}

impl<'a> TextIds<'a> {
    fn new(records: &'a [&'a RawValue]) -> Self {
        Self { records, next: None }
    }

    /// Returns a number above all others.
    fn number(&mut self) -> i64 {
        #[derive(Deserialize)]
        struct OnlyId {
            id: Int,
        }
        let next = self.next.unwrap_or_else(|| {
            let ids = self.records.iter().filter_map(|record| {
                serde_json::from_str::<OnlyId>(record.get()).ok().map(|record| record.id.0)
            });
            ids.max().unwrap_or(0).max(0).saturating_add(1)
        });
        self.next = Some(next.saturating_add(1));
        next
    }
}

/// Parses the three lists of the file, or returns where it stops being JSON.
pub(super) fn parse<'a, T: Deserialize<'a>>(path: &Path, text: &'a str) -> Result<T, DatasetError> {
    serde_json::from_str(text).map_err(|error| {
        let mut reason = lenient::message(&error);
        let kind = contents::json_of(text.as_bytes());
        match kind {
            JsonKind::Labelme => {
                return DatasetError::layout(path, format!("is {}", contents::LABELME));
            }
            JsonKind::CreateMl => {
                return DatasetError::layout(path, format!("holds {}", contents::CREATE_ML));
            }
            JsonKind::Coco | JsonKind::Other => {}
        }
        if reason.contains("missing field `images`") {
            reason += "\nhint: this is no COCO file; give that of the annotations, or the folder of the data set";
        }
        if text.trim_start().starts_with('[') {
            reason += "\nhint: a list looks like detection results; annotations are an object with \
                       `images`, `annotations` and `categories`";
        }
        let (line, column) = (error.line(), error.column());
        DatasetError::Syntax { path: path.to_owned(), line, column, reason }
    })
}

pub(super) fn categories(builder: &mut Builder, place: Place<'_>, records: &[&RawValue]) {
    for category in place.records::<RawCategory>("categories", records, builder) {
        builder.category(Category {
            id: category.id.0,
            name: category.name.0,
            supercategory: category.supercategory.map(|name| name.0),
            is_thing: category.isthing.is_none_or(|flag| flag.0),
        });
    }
}

/// Adds the images, and finds their files.
pub(super) fn add_images(
    builder: &mut Builder,
    place: Place<'_>,
    records: &[&RawValue],
    options: &ReadOptions,
) -> Result<(), DatasetError> {
    let mut images = Vec::with_capacity(records.len());
    for (index, record) in records.iter().enumerate() {
        let Some(image) = place.record::<Image>("images", index, record, builder) else { continue };
        if image.file_name.is_none() && options.file_names {
            let message = format!(
                "{}: missing field `file_name`",
                place.of(&format!("images[{index}]"), record)
            );
            builder.report.add(Problem::MalformedRecord, message);
            continue;
        }
        images.push(image);
    }
    if !options.file_names {
        for image in images {
            add_image(builder, None, image);
        }
        return Ok(());
    }
    let names = || images.iter().filter_map(|image| Some(image.file_name.as_ref()?.0.as_str()));
    let folder = options.images.clone().unwrap_or_else(|| image_folder(place.path, names()));
    let root = root(place.path, &folder, names(), options)?;
    for image in images {
        add_image(builder, Some(&root), image);
    }
    Ok(())
}

/// Adds an image; without a root, one without a file.
fn add_image(builder: &mut Builder, root: Option<&DatasetRoot>, image: Image) {
    let id = image.id.0;
    builder.other_fields([
        ("images.license", image.license.is_some()),
        ("images.coco_url", image.coco_url.is_some()),
        ("images.flickr_url", image.flickr_url.is_some()),
        ("images.date_captured", image.date_captured.is_some()),
    ]);
    let name = image.file_name.map_or_else(String::new, |name| name.0);
    let located = match root {
        Some(root) => locate(builder, root, id, &name),
        None => Some(DataFile { path: PathBuf::new(), name, exists: false, by_tail: false }),
    };
    let Some(located) = located else { return };
    let size = image.height.zip(image.width).filter(|&(h, w)| h > 0 && w > 0);
    builder.image(ImageRecord {
        id,
        path: located.path,
        file_name: located.name,
        size: size.map(|(height, width)| ImageSize::new(height, width)),
        objects: Vec::new(),
    });
}

/// Finds the file of an image, or of its segments; returns `None` if the name leads out of the
/// folder. What is wrong is counted.
pub(super) fn locate(
    builder: &mut Builder,
    root: &DatasetRoot,
    image_id: i64,
    name: &str,
) -> Option<DataFile> {
    match root.locate(name) {
        Ok(located) => {
            if !located.exists {
                neighbour::add_missing(&mut builder.report, root.folder(), &located.name);
            }
            if located.by_tail {
                builder.report.add(Problem::NameOfOtherPlace, name);
            }
            Some(located)
        }
        Err(reason) => {
            let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
            let is_there =
                root.checks_files() && root.locate(last).is_ok_and(|located| located.exists);
            let there = || format!("; {last} is in {}", root.folder().display());
            let there = is_there.then(there).unwrap_or_default();
            let example = format!("image {image_id}: {name:?} {reason}{there}");
            builder.report.add(Problem::UnsafeFileName, example);
            None
        }
    }
}

fn add_object(builder: &mut Builder, annotation: Annotation<'_>, ids: &mut TextIds<'_>) {
    let image_id = annotation.image_id.0;
    let id = match annotation.id {
        Id::Number(id) => id,
        Id::Text(text) => {
            let id = ids.number();
            let text: String = text.chars().take(60).collect();
            builder.report.add(Problem::TextId, format_args!("{text} is {id}"));
            id
        }
    };
    builder.other_fields([
        ("annotations.keypoints", annotation.keypoints.is_some()),
        ("annotations.attributes", annotation.attributes.is_some()),
    ]);
    let bbox = Xywh::from(annotation.bbox.map(|value| value.0));
    let area = annotation.area.map(|area| area.0).filter(|area| area.is_finite());
    if area.is_none() {
        builder.report.add(Problem::MissingArea, format_args!("annotation {id}"));
    }
    if annotation.iscrowd.is_none() {
        builder.report.add(Problem::MissingCrowd, format_args!("annotation {id}"));
    }
    let segmentation = annotation
        .segmentation
        .and_then(|json| segmentation(builder, id, json.get(), builder.size_of(image_id)));
    let object = ObjectRecord {
        id,
        category_id: annotation.category_id.0,
        bbox,
        area: area.unwrap_or(bbox.area()),
        iscrowd: annotation.iscrowd.is_some_and(|flag| flag.0),
        segmentation,
    };
    builder.object(image_id, object);
}

/// Returns the outline, without parts that cannot become a mask.
fn segmentation(
    builder: &mut Builder,
    id: i64,
    json: &str,
    size: Option<ImageSize>,
) -> Option<Segmentation> {
    let report = &mut builder.report;
    if json.starts_with('{') {
        let outline = serde_json::from_str::<Rle>(json).map(Segmentation::Rle);
        let reason = match outline {
            Ok(outline) => match outline.check(size) {
                Ok(()) => return Some(outline),
                Err(error) => error.to_string(),
            },
            Err(error) => lenient::message(&error),
        };
        report.add(Problem::BadRle, format_args!("annotation {id}: {reason}"));
        return None;
    }
    let parts = match serde_json::from_str::<Option<Vec<Vec<Num>>>>(json) {
        Ok(parts) => parts.unwrap_or_default(),
        Err(error) => {
            report.add(
                Problem::BadPolygon,
                format_args!("annotation {id}: {}", lenient::message(&error)),
            );
            return None;
        }
    };
    let mut kept = Vec::with_capacity(parts.len());
    for part in parts {
        let part = part.into_iter().map(|value| value.0).collect();
        let one = Segmentation::Polygons(vec![part]);
        match (one.check(None), one) {
            (Ok(()), Segmentation::Polygons(parts)) => kept.extend(parts),
            (Err(error), _) => {
                report.add(Problem::BadPolygon, format_args!("annotation {id}: {error}"));
            }
            (Ok(()), Segmentation::Rle(_) | Segmentation::Segment(_)) => {}
        }
    }
    (!kept.is_empty()).then_some(Segmentation::Polygons(kept))
}

/// The place of records in a file, for messages.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl<'a> Place<'a> {
    /// Reads the records that are right, and counts the others.
    pub(super) fn records<T: Deserialize<'a>>(
        self,
        list: &str,
        records: &[&'a RawValue],
        builder: &mut Builder,
    ) -> Vec<T> {
        let read =
            |(index, record): (usize, &&'a RawValue)| self.record(list, index, record, builder);
        records.iter().enumerate().filter_map(read).collect()
    }

    /// Reads a record; one that is not right is counted and returned as `None`.
    fn record<T: Deserialize<'a>>(
        self,
        list: &str,
        index: usize,
        record: &'a RawValue,
        builder: &mut Builder,
    ) -> Option<T> {
        if let Ok(record) = serde_json::from_str(record.get()) {
            return Some(record);
        }
        // Places cost a walk through the file, so only those that are shown are looked up.
        let shown = builder.report.count(Problem::MalformedRecord) < Occurrences::EXAMPLES;
        let message = if shown { self.explain::<T>(list, index, record) } else { String::new() };
        builder.report.add(Problem::MalformedRecord, message);
        None
    }

    /// Explains an error in a record: `images[3].id (FILE:7:12): ...`.
    fn explain<T: Deserialize<'a>>(self, list: &str, index: usize, record: &'a RawValue) -> String {
        let json = &mut serde_json::Deserializer::from_str(record.get());
        let (field, reason) = match serde_path_to_error::deserialize::<_, T>(json) {
            Err(error) => (error.path().to_string(), lenient::message(error.inner())),
            Ok(_) => (String::new(), "trailing characters".to_owned()),
        };
        let dot =
            if field == "." || field.is_empty() { String::new() } else { format!(".{field}") };
        format!("{}: {reason}", self.of(&format!("{list}[{index}]{dot}"), record))
    }

    /// Returns the name and the place of a record or of a field of it: `images[3].id (FILE:7:12)`.
    fn of(self, name: &str, record: &RawValue) -> String {
        // A record is a slice of the text.
        let offset = record.get().as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        let (line, column) = text::position(self.text.as_bytes(), offset);
        format!("{name} ({}:{line}:{column})", self.path.display())
    }
}

/// Returns the folder of the images, with all files of the data set's own folder inside.
pub(super) fn root<'a>(
    path: &Path,
    folder: &Path,
    names: impl Iterator<Item = &'a str>,
    options: &ReadOptions,
) -> Result<DatasetRoot, DatasetError> {
    let root = DatasetRoot::new(folder, options.allow_outside, options.check_files)
        .map_err(DatasetError::io(folder))?;
    Ok(root.within(&own_folder(path)).with_tails(all_elsewhere(names)))
}

/// Returns the folder of the data set: that of the file, or the one above if that is `annotations`.
fn own_folder(path: &Path) -> PathBuf {
    let here = path.parent().unwrap_or(Path::new("."));
    let real = std::path::absolute(here).unwrap_or_default();
    let is_annotations = |name: &std::ffi::OsStr| {
        let name = name.to_string_lossy().to_ascii_lowercase();
        name == "annotations" || name == "annotation"
    };
    match real.file_name() {
        Some(name) if is_annotations(name) => above(here),
        _ => here.to_owned(),
    }
}

fn above(here: &Path) -> PathBuf {
    match here.file_name() {
        Some(_) => here.parent().unwrap_or(here).to_owned(),
        None => here.join(".."),
    }
}

/// Returns whether no name is relative: the file was written at another place.
fn all_elsewhere<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    let is_elsewhere =
        |name| matches!(paths::clean(name), Err(UnsafeName::Absolute | UnsafeName::Url));
    names.by_ref().all(is_elsewhere)
}

/// Returns the folder of the images: the first of the usual places that holds the first image.
pub(super) fn image_folder<'a>(path: &Path, names: impl Iterator<Item = &'a str>) -> PathBuf {
    let here = path.parent().unwrap_or(Path::new("."));
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let split = stem.rsplit('_').next().unwrap_or_default();
    let mut folders = Vec::new();
    // `annotations/x.json` is beside the images' folders.
    for base in [here.to_owned(), above(here)] {
        for sub in [split, stem.as_ref(), "images", "", "data"] {
            folders.push(base.join(sub));
        }
        folders.push(base.join("images").join(split));
        // The same in another spelling.
        let same = splits::names(split);
        let same: Vec<&str> = same.iter().map(String::as_str).collect();
        let images = files::folder(&base, &["images", "jpegimages", "image", "imgs", "img"]);
        folders.extend(files::folder(&base, &same));
        folders.extend(images.iter().filter_map(|images| files::folder(images, &same)));
        folders.extend(images);
    }
    let names: Vec<&str> = names.take(20).collect();
    let elsewhere = all_elsewhere(names.iter().copied());
    let holds = |folder: &&PathBuf| {
        names.iter().any(|name| match super::safe_join(folder, name) {
            Ok(path) => path.is_file(),
            Err(_) if elsewhere => {
                paths::tails(name).iter().any(|tail| folder.join(tail).is_file())
            }
            Err(_) => false,
        })
    };
    let found = folders.iter().find(holds).cloned();
    // If no file is there, its name is compared with those that are.
    let near = || {
        let name = names.first()?;
        let last = name.rsplit(['/', '\\']).next().filter(|last| paths::clean(last).is_ok());
        let is_near = |folder: &&PathBuf| {
            last.is_some_and(|last| folder.join(last).is_file())
                || neighbour::describe(folder, name).is_some()
        };
        folders.iter().find(is_near).cloned()
    };
    found.or_else(near).unwrap_or_else(|| here.to_owned())
}
