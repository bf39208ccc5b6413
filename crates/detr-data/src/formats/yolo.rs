//! YOLO as Ultralytics writes it: `data.yaml` with the names of the classes and a folder (or list
//! of files) per split, and for each `images/X.jpg` a `labels/X.txt` of lines `class cx cy w h`, or
//! `class x1 y1 x2 y2 ...` for outlines, all relative to the image.
//!
//! Folders that start with `../` are looked for below `data.yaml` too, because many files in
//! circulation are written for another place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use detr_types::{ImageSize, Xywh};
use serde::Deserialize;

use super::named::{NamedImage, NamedObject, assemble};
use super::paths::{self, Root};
use super::{DatasetError, Format, ReadOptions, files, image_size, text};
use crate::dataset::{Builder, Dataset, Problem};
use crate::segmentation::Segmentation;

/// Splits in the order in which they are tried.
const SPLITS: [&str; 3] = ["train", "val", "test"];

#[derive(Deserialize)]
pub(super) struct DataYaml {
    path: Option<String>,
    train: Option<Places>,
    val: Option<Places>,
    valid: Option<Places>,
    test: Option<Places>,
    names: Names,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Places {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    List(Vec<String>),
    Map(BTreeMap<u32, String>),
}

impl DataYaml {
    /// Reads and checks the file.
    pub(super) fn read(path: &Path) -> Result<Self, DatasetError> {
        let text = text::read(path, 1 << 20)?;
        serde_saphyr::from_str(&text).map_err(|error| {
            let place = error.location();
            let number = |value: Option<u64>| value.and_then(|v| v.try_into().ok()).unwrap_or(1);
            let message = error.without_snippet().to_string();
            let reason = message.lines().next().unwrap_or_default();
            // The place has fields of its own.
            let reason = reason.split(" at line ").next().unwrap_or_default().to_owned();
            DatasetError::Syntax {
                path: path.to_owned(),
                line: number(place.map(|at| at.line())),
                column: number(place.map(|at| at.column())),
                reason,
            }
        })
    }

    /// Names by class number; numbers that are left out are named after themselves.
    pub(super) fn names(&self, path: &Path) -> Result<Vec<String>, DatasetError> {
        let map = match &self.names {
            Names::List(names) => return Ok(names.clone()),
            Names::Map(map) => map,
        };
        let count = map.keys().last().map_or(0, |last| *last as usize + 1);
        if count > map.len() + 10_000 {
            let reason =
                format!("`names` has {} classes with numbers up to {}", map.len(), count - 1);
            return Err(DatasetError::layout(path, reason));
        }
        let name = |number| map.get(&number).cloned().unwrap_or_else(|| format!("class {number}"));
        Ok((0..).take(count).map(name).collect())
    }

    fn places(&self, split: &str) -> Option<&Places> {
        match split {
            "train" => self.train.as_ref(),
            "val" | "valid" => self.val.as_ref().or(self.valid.as_ref()),
            "test" => self.test.as_ref(),
            _ => None,
        }
    }
}

pub(super) fn read(path: &Path, options: &ReadOptions) -> Result<Dataset, DatasetError> {
    let yaml = DataYaml::read(path)?;
    let names = yaml.names(path)?;
    let here = path.parent().unwrap_or(Path::new("."));
    let mut builder = Builder::new(format!("{} {}", Format::Yolo, path.display()));
    let wanted: Vec<&str> = match &options.split {
        Some(split) => vec![split.as_str()],
        None => SPLITS.into_iter().filter(|split| yaml.places(split).is_some()).take(1).collect(),
    };
    let places = wanted.first().and_then(|split| yaml.places(split));
    let Some(places) = places else {
        let split = options.split.as_deref().unwrap_or("train");
        let reason =
            format!("has no `{split}:`\nhint: the splits it may name are train, val and test");
        return Err(DatasetError::layout(path, reason));
    };
    let places = match places {
        Places::One(place) => std::slice::from_ref(place),
        Places::Several(places) => places,
    };
    let base = base_folder(path, here, yaml.path.as_deref(), options)?;
    let mut images = Vec::new();
    for place in places {
        let place = resolve(path, &base, place, options)?;
        images.extend(list_images(&place, &base, &mut builder, options)?);
    }
    images.sort();
    images.dedup_by(|a, b| a.0 == b.0);
    let root = Root::new(&base, options.allow_outside, options.check_files)
        .map_err(DatasetError::io(&base))?;
    let mut records = Vec::with_capacity(images.len());
    for (image, name) in images {
        match root.locate(&files::relative(&image, &base)) {
            Ok(located) if located.exists => {
                records.extend(read_image(located.path, name, &names, &mut builder, options)?);
            }
            Ok(_) => builder.report.add(Problem::MissingFile, &name),
            // A folder outside was allowed when it was resolved.
            Err(_) if options.allow_outside => {
                records.extend(read_image(image, name, &names, &mut builder, options)?);
            }
            Err(reason) => builder.report.add(Problem::UnsafeFileName, format!("{name}: {reason}")),
        }
    }
    Ok(assemble(builder, records, Some(names)))
}

/// The folder that `path:` names.
fn base_folder(
    yaml: &Path,
    here: &Path,
    path: Option<&str>,
    options: &ReadOptions,
) -> Result<PathBuf, DatasetError> {
    if let Some(folder) = &options.images {
        return Ok(folder.clone());
    }
    let Some(path) = path.filter(|path| !matches!(*path, "" | "." | "./")) else {
        return Ok(here.to_owned());
    };
    if options.allow_outside && here.join(path).is_dir() {
        return Ok(here.join(path));
    }
    match paths::clean(path) {
        Ok(inside) if here.join(&inside).is_dir() => Ok(here.join(inside)),
        // Written for another machine or working folder: the splits may be beside the file.
        _ if SPLITS.iter().any(|split| here.join(split).is_dir())
            || here.join("images").is_dir() =>
        {
            Ok(here.to_owned())
        }
        _ => {
            let reason = format!(
                "`path: {path}` is not a folder below it\n\
                 hint: give the folder of the images, or allow data outside of the folder"
            );
            Err(DatasetError::layout(yaml, reason))
        }
    }
}

/// A folder or list of a split.
fn resolve(
    yaml: &Path,
    base: &Path,
    place: &str,
    options: &ReadOptions,
) -> Result<PathBuf, DatasetError> {
    if options.allow_outside && base.join(place).exists() {
        return Ok(base.join(place));
    }
    let inside = place.trim_start_matches("../");
    match paths::clean(inside) {
        Ok(inside) if base.join(&inside).exists() => Ok(base.join(inside)),
        Ok(inside) => {
            let reason = format!("names {inside}, which is not in {}", base.display());
            Err(DatasetError::layout(yaml, reason))
        }
        Err(reason) => {
            let reason =
                format!("the place {place:?} {reason}\nhint: allow data outside of the folder");
            Err(DatasetError::layout(yaml, reason))
        }
    }
}

/// Images of a folder, or those that a text file lists; with their names in the folder, so that a
/// data set that was converted has its old names.
fn list_images(
    place: &Path,
    base: &Path,
    builder: &mut Builder,
    options: &ReadOptions,
) -> Result<Vec<(PathBuf, String)>, DatasetError> {
    if place.is_dir() {
        let found = files::below(place, files::IMAGES)?.into_iter();
        return Ok(found.map(|path| (path.clone(), files::relative(&path, place))).collect());
    }
    let text = text::read(place, options.limits.annotation_bytes)?;
    let mut images = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match paths::clean(line) {
            Ok(name) => images.push((base.join(&name), name)),
            Err(_) if options.allow_outside => images.push((line.into(), line.to_owned())),
            Err(reason) => builder.report.add(Problem::UnsafeFileName, format!("{line}: {reason}")),
        }
    }
    Ok(images)
}

/// `a/images/b/c.jpg` has its labels in `a/labels/b/c.txt`; without such a folder, beside it.
fn label_path(image: &Path) -> PathBuf {
    let mut parts: Vec<_> = image.iter().collect();
    if let Some(at) = parts.iter().rposition(|part| *part == "images") {
        parts[at] = "labels".as_ref();
    }
    parts.iter().collect::<PathBuf>().with_extension("txt")
}

fn read_image(
    path: PathBuf,
    file_name: String,
    names: &[String],
    builder: &mut Builder,
    options: &ReadOptions,
) -> Result<Option<NamedImage>, DatasetError> {
    let size = match image_size(&path, &options.limits) {
        Ok(size) => size,
        // Without its size nothing is known about its boxes.
        Err(error) => {
            builder.report.add(Problem::UnreadableImage, error);
            return Ok(None);
        }
    };
    let label = label_path(&path);
    let mut objects = Vec::new();
    if label.is_file() {
        let text = text::read(&label, options.limits.annotation_bytes)?;
        for (line, columns) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty())
        {
            match parse(columns, names, size) {
                Ok(object) => objects.push(object),
                Err(reason) => {
                    let place = format!("{}:{}: {reason}", label.display(), line + 1);
                    builder.report.add(Problem::MalformedRecord, place);
                }
            }
        }
    } else {
        builder.report.add(Problem::MissingLabels, &file_name);
    }
    Ok(Some(NamedImage { path, file_name, size: Some(size), objects }))
}

fn parse(line: &str, names: &[String], size: ImageSize) -> Result<NamedObject, String> {
    let mut columns = line.split_whitespace();
    let class = columns.next().unwrap_or_default();
    let number =
        class.parse::<usize>().map_err(|_| format!("class {class:?} is no whole number"))?;
    let class = names
        .get(number)
        .ok_or_else(|| format!("class {number}, but data.yaml names {}", names.len()))?
        .clone();
    let numbers = columns.map(|c| c.parse::<f64>().map_err(|_| format!("{c:?} is no number")));
    let numbers = numbers.collect::<Result<Vec<f64>, String>>()?;
    let (width, height) = (f64::from(size.width), f64::from(size.height));
    let object = |bbox, segmentation| NamedObject { class, bbox, iscrowd: false, segmentation };
    match numbers.as_slice() {
        &[cx, cy, w, h] => {
            let (x, y) = ((cx - w / 2.0) * width, (cy - h / 2.0) * height);
            Ok(object(Xywh { x, y, w: w * width, h: h * height }, None))
        }
        outline if outline.len() >= 6 && outline.len() % 2 == 0 => {
            let points: Vec<f64> = outline
                .as_chunks::<2>()
                .0
                .iter()
                .flat_map(|[x, y]| [x * width, y * height])
                .collect();
            let bbox = around(&points);
            Ok(object(bbox, Some(Segmentation::Polygons(vec![points]))))
        }
        other => Err(format!(
            "{} numbers after the class, expected 4, or pairs of an outline",
            other.len()
        )),
    }
}

/// The box around points.
fn around(points: &[f64]) -> Xywh<f64> {
    let (mut low, mut high) = ([f64::INFINITY; 2], [f64::NEG_INFINITY; 2]);
    for point in points.as_chunks::<2>().0 {
        for axis in 0..2 {
            low[axis] = low[axis].min(point[axis]);
            high[axis] = high[axis].max(point[axis]);
        }
    }
    Xywh { x: low[0], y: low[1], w: high[0] - low[0], h: high[1] - low[1] }
}
