//! Group 11, the part that inference needs: decoding, resizing, sizes and normalisation.

use std::path::Path;

use detr_data::{DecodeOptions, RgbImage, normalize, prepare, read_image, resize_bilinear};
use detr_types::{ImageSize, PreprocessSpec};

use crate::backends::Bench;
use crate::case::{Case, Failures, has_extension, index};

/// Bytes are resized exactly; normalising them rounds in f32.
const ROUNDING: f64 = 1e-6;

pub fn run(case: &Case, _bench: &Bench) -> Failures {
    let mut failures = Failures::default();
    match case.name.as_str() {
        "decode" => decode(case, &mut failures),
        "pil_resize" => pil_resize(case, &mut failures),
        "resize_sizes" => resize_sizes(case, &mut failures),
        "val_pipeline" => val_pipeline(case, &mut failures),
        _ => return Failures::unhandled(),
    }
    failures
}

fn open(case: &Case, file: &str) -> RgbImage {
    read_image(&case.folder.join(file), &DecodeOptions::default()).expect("a readable image")
}

fn bytes(image: &RgbImage) -> (Vec<usize>, Vec<f64>) {
    let shape = vec![image.height() as usize, image.width() as usize, 3];
    (shape, image.as_raw().iter().map(|&v| f64::from(v)).collect())
}

/// PNG exactly; JPEG within the case's own allowance of 4 levels, 0.5 on average.
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
    failures.uncovered(&["src1.nearest.to40x90"]); // masks are resized in training only
    let names: Vec<String> = case.tensors.keys().cloned().collect();
    for name in names.iter().filter(|name| !name.contains("nearest")) {
        let (source, target) = name.rsplit_once(".to").expect("a target");
        let (h, w) = target.split_once('x').expect("height and width");
        let size = ImageSize::new(h.parse().expect("h"), w.parse().expect("w"));
        let image = open(case, &format!("{}.png", source.trim_end_matches(".normalized")));
        let resized = resize_bilinear(&image, size);
        if source.ends_with(".normalized") {
            let found = normalize(&resized, &PreprocessSpec::default());
            let found: Vec<f64> = found.into_iter().map(f64::from).collect();
            let shape = [3, size.height as usize, size.width as usize];
            failures.values_within(case, ROUNDING, name, &shape, &found);
        } else {
            let (shape, values) = bytes(&resized);
            failures.values_within(case, 0.0, name, &shape, &values);
        }
    }
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

/// Four rows of every channel, found by their content: the case does not say which.
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
