//! YOLO as Ultralytics writes it: `data.yaml` with the names of the classes and a folder (or list
//! of files) per split, and for each `images/X.jpg` a `labels/X.txt` of lines `class cx cy w h`, or
//! `class x1 y1 x2 y2 ...` for outlines, all relative to the image. Where `data.yaml` has a `kpt_shape`, keypoints
//! follow the box; they are not read.
//!
//! `yolo_files` finds all this, also for files that were written for another place.

use std::path::{Path, PathBuf};

pub(super) use super::data_yaml::DataYaml;
use super::named::{NamedImage, assemble};
use super::yolo_line::LineRules;
use super::{DatasetError, Format, ImageHeader, ReadOptions, neighbour, text, yolo_files};
use crate::dataset::{Builder, Dataset, Problem};

pub(super) fn read(path: &Path, options: &ReadOptions) -> Result<Dataset, DatasetError> {
    let yaml = if yolo_files::is_outline(path) {
        DataYaml::of_outline(yolo_files::outline(path)?)
    } else {
        DataYaml::read(path)?
    };
    let names = yaml.names(path)?;
    let mut builder = Builder::new(format!("{} {}", Format::Yolo, path.display()));
    let Some(wanted) = yaml.places(options.split.as_deref()) else {
        let split = options.split.as_deref().unwrap_or("train");
        let known: Vec<String> =
            yaml.splits().iter().map(|(name, _)| format!("`{name}:`")).collect();
        let known = match known.as_slice() {
            [] => "none of the others".to_owned(),
            known => known.join(", "),
        };
        let reason = format!(
            "has no `{split}:`; it has {known}\nhint: the splits it may name are train, val and test"
        );
        return Err(DatasetError::layout(path, reason));
    };
    let rules = LineRules::new(&yaml, &names);
    let splits = yaml.splits();
    let all: Vec<&str> = splits.iter().flat_map(|(_, places)| places.list()).collect();
    let wanted = wanted.list();
    let places = yolo_files::YoloFolders::new(path, yaml.path.as_deref(), &wanted, options)?;
    let root = places.root()?;
    let mut images = Vec::new();
    for place in places.resolve(&wanted, &all)? {
        images.extend(places.images(&place, &root, &mut builder)?);
    }
    images.sort();
    images.dedup_by(|a, b| a.0 == b.0);
    let mut records = Vec::with_capacity(images.len());
    for (image, name) in images {
        match root.check(&image) {
            Ok(true) => {
                neighbour::note_encoding(&mut builder.report, &image);
                let label = places.label(&image);
                records.extend(read_image(image, name, label, &rules, &mut builder, options)?);
            }
            Ok(false) => neighbour::add_missing(&mut builder.report, places.base(), &name),
            Err(reason) => builder.report.add(Problem::UnsafeFileName, format!("{name}: {reason}")),
        }
    }
    Ok(assemble(builder, records, Some(names)))
}

fn read_image(
    path: PathBuf,
    file_name: String,
    label: Option<PathBuf>,
    rules: &LineRules<'_>,
    builder: &mut Builder,
    options: &ReadOptions,
) -> Result<Option<NamedImage>, DatasetError> {
    let header = match ImageHeader::read(&path, &options.limits) {
        Ok(header) => header,
        // The boxes of an image of unknown size cannot be read.
        Err(error) => {
            builder.report.add(Problem::UnreadableImage, error);
            return Ok(None);
        }
    };
    let size = header.size(options.apply_exif);
    let mut objects = Vec::new();
    if let Some(label) = label {
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
