//! Group 11: decoding, resizing, sizes and normalisation; targets from annotations, and the moves
//! of augmentation with boxes, areas and masks.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the cases' numbers are small

use std::collections::BTreeSet;
use std::path::Path;

use detr_data::transforms::{CenterCrop, Object};
use detr_data::{
    DecodeOptions, ImageRecord, Mask, ObjectRecord, Purpose, Region, RgbImage, Sample, SampleRng,
    Target, TargetRules, Transform, normalize, prepare, read_image, resize_bilinear,
};
use detr_types::classes::{Category, ClassTable};
use detr_types::{ImageSize, PreprocessSpec, Xyxy};

use crate::backends::Bench;
use crate::case::{Case, Failures, has_extension, index};

/// Bytes are resized exactly; normalising them rounds in f32.
const ROUNDING: f64 = 1e-6;

pub fn run(case: &Case, _bench: &Bench) -> Failures {
    let mut failures = Failures::default();
    match Kind::of(case) {
        Some(Kind::Target) => coco_target(case, &mut failures),
        Some(Kind::Decoding) => decode(case, &mut failures),
        Some(Kind::Geometry) => geometry(case, &mut failures),
        Some(Kind::Resizing) => pil_resize(case, &mut failures),
        Some(Kind::Sizes) => resize_sizes(case, &mut failures),
        Some(Kind::Pipeline) => val_pipeline(case, &mut failures),
        Some(Kind::Polygons) => crate::polygons::run(case, &mut failures),
        None => return Failures::unhandled(),
    }
    failures
}

/// The subjects of the cases of this group.
enum Kind {
    Target,
    Decoding,
    Geometry,
    Resizing,
    Sizes,
    Pipeline,
    Polygons,
}

impl Kind {
    /// Tells the kind of a case by its content.
    fn of(case: &Case) -> Option<Self> {
        let mut names = case.tensors.keys();
        Some(match () {
            () if case.json["annotations"].is_array() => Self::Target,
            () if case.json["polygons"].is_object() => Self::Polygons,
            () if case.has("in.image") => Self::Geometry,
            () if case.has("table") => Self::Sizes,
            () if case.config("file").is_string() => Self::Pipeline,
            () if names.len() > 0 && names.all(|name| case.folder.join(name).is_file()) => {
                Self::Decoding
            }
            () if case.tensors.keys().all(|name| resized(name).is_some()) => Self::Resizing,
            () => return None,
        })
    }
}

fn open(case: &Case, file: &str) -> RgbImage {
    read_image(&case.folder.join(file), &DecodeOptions::default()).expect("a readable image")
}

fn bytes(image: &RgbImage) -> (Vec<usize>, Vec<f64>) {
    let shape = vec![image.height() as usize, image.width() as usize, 3];
    (shape, image.as_raw().iter().map(|&v| f64::from(v)).collect())
}

/// Compares PNG exactly, and JPEG within the case's own allowance of 4 levels, 0.5 on average.
fn decode(case: &Case, failures: &mut Failures) {
    for (name, stored) in &case.tensors {
        let (shape, values) = bytes(&open(case, name));
        let jpeg = has_extension(Path::new(name), "jpg");
        failures.values_within(case, if jpeg { 4.0 } else { 0.0 }, name, &shape, &values);
        let total: f64 = values.iter().zip(&stored.values).map(|(a, b)| (a - b).abs()).sum();
        let mean = total / values.len() as f64;
        failures.check(!jpeg || mean <= 0.5, || format!("{name}: mean difference {mean}"));
    }
}

fn pil_resize(case: &Case, failures: &mut Failures) {
    for name in case.tensors.keys() {
        let (source, size) = resized(name).expect("a source and a size");
        let (file, manner) = source.split_once('.').unwrap_or((source, ""));
        if manner == "nearest" {
            // Pillow's, by the centres of pixels. Nothing here resizes so: masks go by PyTorch's rule.
            failures.used(name);
            continue;
        }
        let image = open(case, &format!("{file}.png"));
        let resized = resize_bilinear(&image, size);
        if manner == "normalized" {
            let found = normalize(&resized, &PreprocessSpec::default());
            let found: Vec<f64> = found.into_iter().map(f64::from).collect();
            let shape = [3, size.height as usize, size.width as usize];
            failures.values_within(case, ROUNDING, name, &shape, &found);
        } else if manner.is_empty() {
            let (shape, values) = bytes(&resized);
            failures.values_within(case, 0.0, name, &shape, &values);
        }
    }
}

/// Returns the name of the source and the size it gets: `src0.normalized.to50x60`.
fn resized(name: &str) -> Option<(&str, ImageSize)> {
    let (source, size) = name.rsplit_once(".to")?;
    let (h, w) = size.split_once('x')?;
    Some((source, ImageSize::new(h.parse().ok()?, w.parse().ok()?)))
}

fn resize_sizes(case: &Case, failures: &mut Failures) {
    failures.used("table");
    for row in case.tensors["table"].values.chunks_exact(6) {
        let side = |i: usize| u32::try_from(index(row[i])).expect("a side");
        let image = ImageSize::new(side(1), side(0));
        let spec = PreprocessSpec {
            shortest_edge: side(2),
            // 0 stands for no limit, which training augmentation uses.
            longest_edge: if side(3) == 0 { u32::MAX } else { side(3) },
            ..PreprocessSpec::default()
        };
        let found = spec.target_size(image);
        let expected = ImageSize::new(side(5), side(4));
        failures.check(found == expected, || format!("{row:?}: {found}, expected {expected}"));
    }
}

fn val_pipeline(case: &Case, failures: &mut Failures) {
    let image = open(case, case.config("file").as_str().expect("a file"));
    let prepared = prepare(&image, &PreprocessSpec::default()).expect("an image with pixels");
    let (h, w) = (prepared.size.height as usize, prepared.size.width as usize);
    let values: Vec<f64> = prepared.pixels.iter().map(|&v| f64::from(v)).collect();
    failures.values_within(case, ROUNDING, "tensor", &[3, h, w], &values);
    let rows = row_samples(case, &values, h, w);
    let stored = &case.tensors["rows"];
    failures.values_within(case, ROUNDING, "rows", &stored.shape.clone(), &rows);
}

/// Finds four rows of every channel by their content: the case does not say which.
fn row_samples(case: &Case, values: &[f64], h: usize, w: usize) -> Vec<f64> {
    let stored = &case.tensors["rows"];
    let count = stored.shape[1];
    let given: Vec<usize> =
        (0..count).map(|k| closest_row(&stored.values[k * w..][..w], values, h, w)).collect();
    (0..3)
        .flat_map(|channel| given.iter().map(move |&row| (channel, row)))
        .flat_map(|(channel, row)| values[(channel * h + row) * w..][..w].to_vec())
        .collect()
}

fn closest_row(row: &[f64], values: &[f64], h: usize, w: usize) -> usize {
    let distance = |y: usize| -> f64 {
        values[y * w..][..w].iter().zip(row).map(|(a, b)| (a - b).abs()).sum()
    };
    (0..h).min_by(|&a, &b| distance(a).total_cmp(&distance(b))).expect("rows")
}

/// Checks the rules by which annotations become targets.
fn coco_target(case: &Case, failures: &mut Failures) {
    let side = |key: &str| u32::try_from(case.number(key)).expect("a side");
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value.as_array().expect("a list").iter().filter_map(serde_json::Value::as_f64).collect()
    };
    let annotations = case.json["annotations"].as_array().expect("annotations");
    let objects = annotations.iter().zip(1..).map(|(annotation, id)| ObjectRecord {
        id,
        category_id: annotation["category_id"].as_i64().expect("a category"),
        bbox: <[f64; 4]>::try_from(numbers(&annotation["bbox"])).expect("four numbers").into(),
        area: annotation["area"].as_f64().expect("an area"),
        iscrowd: annotation["iscrowd"].as_i64() == Some(1),
        segmentation: serde_json::from_value(annotation["segmentation"].clone()).ok(),
    });
    let record = ImageRecord {
        id: case.tensors["image_id"].values[0] as i64,
        path: "unused".into(),
        file_name: "unused".to_owned(),
        size: None,
        objects: objects.collect(),
    };
    // The reference's labels are the ids, whatever they are.
    let classes = (0..91).zip(0..).map(|(label, id)| Category {
        label,
        id,
        name: label.to_string(),
        is_thing: true,
    });
    let classes = ClassTable::new(91, classes.collect()).expect("a table");
    let rules = TargetRules::new(&classes).with_masks(true);
    let (sample, counts) = rules.sample(&record, RgbImage::new(side("W"), side("H")));
    let kept = case.shape("labels").map_or(0, |shape| shape[0] as u64);
    let crowds = annotations.iter().filter(|annotation| annotation["iscrowd"] == 1).count() as u64;
    let found = (counts.kept, counts.crowd);
    failures.check(found == (kept, crowds), || format!("{counts:?}"));
    compare(case, failures, "", &sample);
    let (_, target) = Target::finish(sample);
    for (name, size) in [("orig_size", target.original_size), ("size", target.size)] {
        let found = [f64::from(size.height), f64::from(size.width)];
        failures.values_within(case, 0.0, name, &[2], &found);
    }
    failures.values_within(case, 0.0, "image_id", &[1], &[target.image_id as f64]);
}

/// Compares the sample with the tensors whose names start with `prefix`.
fn compare(case: &Case, failures: &mut Failures, prefix: &str, sample: &Sample) {
    let count = sample.objects.len();
    let all = |of: &dyn Fn(&Object) -> Vec<f64>| -> Vec<f64> {
        sample.objects.iter().flat_map(of).collect()
    };
    let corners = |object: &Object| {
        let Xyxy { x1, y1, x2, y2 } = object.bbox;
        [x1, y1, x2, y2].map(f64::from).to_vec()
    };
    let size = sample.size();
    let (h, w) = (size.height as usize, size.width as usize);
    let mask = |object: &Object| {
        let mask = object.mask.as_ref().expect("a mask");
        mask.bits.iter().map(|&bit| f64::from(bit)).collect()
    };
    let size = vec![f64::from(size.height), f64::from(size.width)];
    for (name, shape, found) in [
        ("boxes", vec![count, 4], all(&corners)),
        ("labels", vec![count], all(&|object| vec![object.label as f64])),
        ("area", vec![count], all(&|object| vec![f64::from(object.area)])),
        ("iscrowd", vec![count], all(&|object| vec![f64::from(u8::from(object.iscrowd))])),
        ("masks", vec![count, h, w], all(&mask)),
        ("size", vec![2], size),
    ] {
        failures.values_within(case, 0.0, &format!("{prefix}{name}"), &shape, &found);
    }
    if case.tensors.contains_key(&format!("{prefix}image")) {
        let (shape, values) = bytes(&sample.image);
        failures.values_within(case, 0.0, &format!("{prefix}image"), &shape, &values);
    }
}

/// Compares crop, flip, resize, pad and normalise, each of the same sample. Everything is exact.
fn geometry(case: &Case, failures: &mut Failures) {
    let input = geometry_input(case);
    compare(case, failures, "in.", &input);
    let lists = |key: &str| case.json[key].as_array().expect("a list").clone();
    let side = |value: &serde_json::Value| u32::try_from(value.as_u64().expect("a side"));
    for (number, region) in lists("crop_regions_top_left_h_w").iter().enumerate() {
        let at = |i: usize| side(&region[i]).expect("small");
        let mut sample = input.clone();
        let size = ImageSize::new(at(2), at(3));
        sample.crop(Region { top: at(0), left: at(1), size });
        compare(case, failures, &format!("crop{number}."), &sample);
    }
    for (number, sizes) in lists("resize_args").iter().enumerate() {
        let spec = PreprocessSpec {
            shortest_edge: side(&sizes[0]).expect("small"),
            longest_edge: if sizes[1].is_null() {
                u32::MAX
            } else {
                side(&sizes[1]).expect("small")
            },
            ..PreprocessSpec::default()
        };
        let mut sample = input.clone();
        sample.resize(spec.target_size(sample.size()));
        compare(case, failures, &format!("resize{number}."), &sample);
    }
    let mut flipped = input.clone();
    flipped.flip_horizontally();
    compare(case, failures, "hflip.", &flipped);
    let moves: BTreeSet<&str> =
        case.tensors.keys().filter_map(|name| Some(name.split_once('.')?.0)).collect();
    for name in moves {
        let mut sample = input.clone();
        if let Some([right, bottom]) = sides(name, "pad_", '_') {
            sample.pad(right, bottom);
        } else if let Some([height, width]) = sides(name, "centercrop_", 'x') {
            let crop = Transform::CenterCrop(CenterCrop { height, width });
            crop.apply(&mut sample, &mut SampleRng::new(0, 0, Purpose::Other(0)));
        } else {
            continue;
        }
        compare(case, failures, &format!("{name}."), &sample);
    }
    let pixels = normalize(&input.image, &PreprocessSpec::default());
    let pixels: Vec<f64> = pixels.into_iter().map(f64::from).collect();
    let shape = [3, input.image.height() as usize, input.image.width() as usize];
    failures.values_within(case, ROUNDING, "normalize.tensor", &shape, &pixels);
    let (_, target) = Target::finish(input);
    let boxes = target.boxes.iter().flat_map(|b| [b.cx, b.cy, b.w, b.h]).map(f64::from);
    let boxes: Vec<f64> = boxes.collect();
    failures.values_within(case, ROUNDING, "normalize.boxes", &[boxes.len() / 4, 4], &boxes);
}

/// Reads the two numbers of a move's name, such as `pad_5_9`.
fn sides(name: &str, kind: &str, between: char) -> Option<[u32; 2]> {
    let (a, b) = name.strip_prefix(kind)?.split_once(between)?;
    Some([a.parse().ok()?, b.parse().ok()?])
}

fn geometry_input(case: &Case) -> Sample {
    let values = |name: &str| &case.tensors[name].values;
    let byte = |value: &f64| *value as u8;
    let size = values("in.size");
    let size = ImageSize::new(size[0] as u32, size[1] as u32);
    let pixels = values("in.image").iter().map(byte).collect();
    let masks = values("in.masks").chunks_exact(size.pixels() as usize);
    let objects =
        values("in.boxes").chunks_exact(4).zip(masks).enumerate().map(|(at, (b, mask))| {
            let [x1, y1, x2, y2] = [b[0], b[1], b[2], b[3]].map(|v| v as f32);
            Object {
                bbox: Xyxy { x1, y1, x2, y2 },
                label: index(values("in.labels")[at]),
                area: values("in.area")[at] as f32,
                iscrowd: values("in.iscrowd")[at] != 0.0,
                mask: Some(Mask { size, bits: mask.iter().map(byte).collect() }),
            }
        });
    Sample {
        image_id: 0,
        original_size: size,
        has_masks: true,
        image: RgbImage::from_raw(size.width, size.height, pixels).expect("an image"),
        objects: objects.collect(),
    }
}
