//! YOLO as Ultralytics writes it: `data.yaml` with the names of the classes and a folder (or list
//! of files) per split, and for each `images/X.jpg` a `labels/X.txt` of lines `class cx cy w h`, or
//! `class x1 y1 x2 y2 ...` for outlines, all relative to the image.
//!
//! Where all this lies, also for files that were written for another place, is in `yolo_files`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use detr_types::{ImageSize, Xywh};
use serde::Deserialize;

use super::named::{NamedImage, NamedObject, assemble};
use super::yolo_files::{self, Outline};
use super::{DatasetError, Format, ReadOptions, image_size, neighbour, splits, text};
use crate::dataset::{Builder, Dataset, Problem};
use crate::segmentation::Segmentation;

#[derive(Deserialize)]
pub(super) struct DataYaml {
    path: Option<String>,
    train: Option<Places>,
    val: Option<Places>,
    valid: Option<Places>,
    validation: Option<Places>,
    test: Option<Places>,
    /// All images, where no split was asked for and none is named.
    #[serde(skip)]
    all: Option<Places>,
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
                records.extend(read_image(image, name, label, &names, &mut builder, options)?);
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
    let mut objects = Vec::new();
    if let Some(label) = label {
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
