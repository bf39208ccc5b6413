//! YOLO as Ultralytics writes it: `data.yaml` with the names of the classes and a folder (or list
//! of files) per split, and for each `images/X.jpg` a `labels/X.txt` of lines `class cx cy w h`, or
//! `class x1 y1 x2 y2 ...` for outlines, all relative to the image. Where `data.yaml` has a `kpt_shape`, keypoints
//! follow the box; they are not read.
//!
//! Folders that start with `../` are looked for below `data.yaml` too, because many files in
//! circulation are written for another place.

use std::path::{Path, PathBuf};

pub(super) use super::data_yaml::DataYaml;
use super::data_yaml::Places;
use super::named::{NamedImage, assemble};
use super::paths::{self, Root};
use super::yolo_line::LineRules;
use super::{DatasetError, Format, ImageHeader, ReadOptions, files, text};
use crate::dataset::{Builder, Dataset, Problem};

/// Splits in the order in which they are tried.
const SPLITS: [&str; 3] = ["train", "val", "test"];

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
    let rules = LineRules::new(&yaml, &names);
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
                records.extend(read_image(located.path, name, &rules, &mut builder, options)?);
            }
            Ok(_) => builder.report.add(Problem::MissingFile, &name),
            // A folder outside was allowed when it was resolved.
            Err(_) if options.allow_outside => {
                records.extend(read_image(image, name, &rules, &mut builder, options)?);
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
    rules: &LineRules<'_>,
    builder: &mut Builder,
    options: &ReadOptions,
) -> Result<Option<NamedImage>, DatasetError> {
    let header = match ImageHeader::read(&path, &options.limits) {
        Ok(header) => header,
        // Without its size nothing is known about its boxes.
        Err(error) => {
            builder.report.add(Problem::UnreadableImage, error);
            return Ok(None);
        }
    };
    let size = header.size(options.apply_exif);
    let label = label_path(&path);
    let mut objects = Vec::new();
    if label.is_file() {
        let text = text::read(&label, options.limits.annotation_bytes)?;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match rules.parse(line, size) {
                Ok(line) => {
                    if line.keypoints {
                        let place = format!("{}:{}", label.display(), number + 1);
                        builder.report.add(Problem::Keypoints, place);
                    }
                    objects.push(line.object);
                }
                Err(reason) => {
                    let place = format!("{}:{}: {reason}", label.display(), number + 1);
                    builder.report.add(Problem::MalformedRecord, place);
                }
            }
        }
        if header.is_turned() && !options.apply_exif && !objects.is_empty() {
            builder.report.add(Problem::TurnedLabels, &file_name);
        }
    } else {
        builder.report.add(Problem::MissingLabels, &file_name);
    }
    Ok(Some(NamedImage { path, file_name, size: Some(size), objects }))
}
