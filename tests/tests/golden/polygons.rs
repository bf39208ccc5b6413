//! Group 11, outlines: polygons to run-length codes to masks, their areas, boxes and overlaps, all
//! equal to pycocotools'.

use std::ops::Range;

use detr_data::Segmentation;
use detr_data::segmentation::{Rle, box_iou, mask_iou, rasterize};
use detr_types::ImageSize;
use serde_json::Value;

use crate::case::{Case, Failures};

pub fn run(case: &Case, failures: &mut Failures) {
    let side = |key| u32::try_from(case.number(key)).expect("a side");
    let size = ImageSize::new(side("H"), side("W"));
    let order = case.json["order"].as_array().expect("order");
    let mut codes = Vec::with_capacity(order.len());
    for name in order.iter().map(text) {
        let polygon = &case.json["polygons"][name];
        let code = if polygon.is_null() {
            encoded(case, name, size, failures)
        } else {
            drawn(polygon, name, size, failures)
        };
        let mask = code.to_mask().expect("a mask");
        let bits: Vec<f64> = mask.bits.iter().map(|&bit| f64::from(bit)).collect();
        let shape = [size.height as usize, size.width as usize];
        failures.values_within(case, 0.0, &format!("mask.{name}"), &shape, &bits);
        failures.check(mask.to_rle() == code, || format!("{name}: mask to code"));
        codes.push(code);
    }
    for name in case.tensors.keys() {
        let Some((a, b, crowd)) = tables(name) else { continue };
        let (a, b) = (&codes[a], &codes[b]);
        let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
        let found: Vec<f64> =
            pairs.map(|(a, b)| mask_iou(a, b, crowd).expect("masks of one size")).collect();
        failures.values_within(case, 0.0, name, &[a.len(), b.len()], &found);
    }
    if !case.has("bbox_iou.dt") {
        return;
    }
    let rows = |name: &str| case.tensors[name].values.as_chunks::<4>().0.to_vec();
    let (dt, gt) = (rows("bbox_iou.dt"), rows("bbox_iou.gt"));
    failures.used("bbox_iou.dt");
    failures.used("bbox_iou.gt");
    for (name, crowd) in [("bbox_iou.plain", false), ("bbox_iou.crowd", true)] {
        let pairs = dt.iter().flat_map(|a| gt.iter().map(move |b| (a, b)));
        let found: Vec<f64> =
            pairs.map(|(a, b)| box_iou((*a).into(), (*b).into(), crowd)).collect();
        failures.values_within(case, 0.0, name, &[dt.len(), gt.len()], &found);
    }
}

/// Returns the two ranges of outlines that are compared, and whether the second are crowds:
/// `iou.a0_8.b8_16.crowd`.
fn tables(name: &str) -> Option<(Range<usize>, Range<usize>, bool)> {
    let rest = name.strip_prefix("iou.")?;
    let (rest, crowd) = rest.strip_suffix(".crowd").map_or((rest, false), |before| (before, true));
    let (a, b) = rest.split_once('.')?;
    let range = |text: &str, side: char| {
        let (first, end) = text.strip_prefix(side)?.split_once('_')?;
        Some(first.parse().ok()?..end.parse().ok()?)
    };
    Some((range(a, 'a')?, range(b, 'b')?, crowd))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

/// Reads a code that the case gives in compressed form.
fn encoded(case: &Case, name: &str, size: ImageSize, failures: &mut Failures) -> Rle {
    let compressed = text(&case.json["encoded"][name]["counts_string"]);
    let code = Rle::from_compressed(size, compressed).expect("a code");
    failures.check(code.to_compressed() == compressed, || format!("{name}: compressed"));
    code
}

/// Draws polygons as a code, and compares everything that the case knows of it.
fn drawn(polygon: &Value, name: &str, size: ImageSize, failures: &mut Failures) -> Rle {
    let parts: Vec<Vec<f64>> =
        serde_json::from_value(polygon["polygons"].clone()).expect("polygons");
    let expected = polygon["rle_parts"].as_array().expect("rle_parts");
    for (part, expected) in parts.iter().zip(expected) {
        let found = rasterize(part, size).expect("a polygon").to_compressed();
        failures.check(found == text(expected), || format!("{name}: {found}, expected {expected}"));
    }
    let code = Segmentation::Polygons(parts).to_rle(size).expect("polygons");
    let merged = &polygon["rle_merged"];
    failures.check(code.to_compressed() == text(merged), || format!("{name}: merged {merged}"));
    failures.check(Some(code.area()) == polygon["area"].as_u64(), || {
        format!("{name}: {}", code.area())
    });
    let bbox: Vec<f64> = serde_json::from_value(polygon["bbox"].clone()).expect("bbox");
    failures
        .check(code.bbox().to_array().to_vec() == bbox, || format!("{name}: {:?}", code.bbox()));
    code
}
