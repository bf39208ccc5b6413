//! YOLO as Ultralytics writes it: `data.yaml` with the names of the classes and a folder (or list
//! of files) per split, and for each `images/X.jpg` a `labels/X.txt` of lines `class cx cy w h`, or
//! `class x1 y1 x2 y2 ...` for outlines, all relative to the image. Where `data.yaml` has a `kpt_shape`, keypoints
//! follow the box; they are not read.
//!
//! Where all this lies, also for files that were written for another place, is in `yolo_files`.

use std::path::{Path, PathBuf};

pub(super) use super::data_yaml::DataYaml;
use super::named::{NamedImage, assemble};
use super::yolo_line::LineRules;
use super::{DatasetError, Format, ImageHeader, ReadOptions, neighbour, text, yolo_files};
use crate::dataset::{Builder, Dataset, Problem};

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

    /// What a data set without such a file names.
    fn of_outline(outline: Outline) -> Self {
        let place = |split: &str| {
            let found = splits::choose(split, &outline.splits, |(name, _)| name);
            found.map(|(_, place)| Places::One(place.clone()))
        };
        Self {
            path: None,
            train: place("train"),
            val: place("val"),
            valid: None,
            validation: None,
            test: place("test"),
            all: outline.all.clone().map(Places::One),
            names: Names::List(outline.names),
        }
    }

    /// The splits that the file names, with their places.
    fn splits(&self) -> Vec<(&'static str, &Places)> {
        let all = [
            ("train", &self.train),
            ("val", &self.val),
            ("valid", &self.valid),
            ("validation", &self.validation),
            ("test", &self.test),
        ];
        all.into_iter().filter_map(|(name, places)| Some((name, places.as_ref()?))).collect()
    }

    /// The places of a split, or of the first one.
    fn places(&self, split: Option<&str>) -> Option<&Places> {
        let splits = self.splits();
        match split {
            Some(split) => splits::choose(split, &splits, |(name, _)| name).map(|found| found.1),
            None => self.all.as_ref().or(splits.first().map(|found| found.1)),
        }
    }
}

impl Places {
    fn list(&self) -> Vec<&str> {
        match self {
            Self::One(place) => vec![place],
            Self::Several(places) => places.iter().map(String::as_str).collect(),
        }
    }
}

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
    let places = yolo_files::Places::new(path, yaml.path.as_deref(), &wanted, options)?;
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
        // Without its size nothing is known about its boxes.
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
