//! Group 00: the weight and image recipe itself, bit for bit.

use detr_model::weights::{recipe_image, recipe_weight};

use crate::backends::Bench;
use crate::case::{Case, Failures};

pub fn run(case: &Case, _bench: &Bench) -> Failures {
    let mut failures = Failures::default();
    for check in case.json["checks"].as_array().expect("checks") {
        let name = check["name"].as_str().expect("a name");
        let seed = check["seed"].as_u64().expect("a seed");
        let shape: Vec<usize> = serde_json::from_value(check["shape"].clone()).expect("a shape");
        let weight = recipe_weight(name, &shape, seed);
        for (found, bits) in weight.iter().zip(check["first_bits"].as_array().expect("bits")) {
            let bits = u32::from_str_radix(bits.as_str().expect("hex"), 16).expect("hex");
            failures
                .check(found.to_bits() == bits, || format!("{name}: {found} is not {bits:08x}"));
        }
        let sum: f64 = weight.iter().map(|&v| f64::from(v)).sum();
        let expected = check["sum_f64"].as_f64().expect("a sum");
        failures.check((sum - expected).abs() < 1e-9 * weight.len() as f64, || {
            format!("{name}: sum {sum}, expected {expected}")
        });
        let head = format!("s{seed}.{name}.head");
        if let Some(shape) = case.shape(&head) {
            let values = weight.iter().take(shape[0]).map(|&v| f64::from(v)).collect::<Vec<_>>();
            failures.values(case, 1.0, &head, &[values.len()], &values);
        }
    }
    // `image.sSEED.HxW.head` and the same as bytes, `u8.sSEED.HxW.head`; sums are in the json file.
    for name in case.tensors.keys() {
        let Some((kind, seed, [h, w])) = image_name(name) else { continue };
        let image = recipe_image(seed, h, w);
        let values: Vec<f64> = match kind {
            "image" => image.iter().map(|&v| f64::from(v)).collect(),
            _ => as_bytes(&image, h, w).into_iter().map(f64::from).collect(),
        };
        let facts = &case.json[format!("image.s{seed}.{h}x{w}")];
        let sum = facts[if kind == "image" { "sum_f64" } else { "u8_sum" }].as_f64();
        let total: f64 = values.iter().sum();
        let near = sum.is_none_or(|sum| (sum - total).abs() < 1e-9 * values.len() as f64);
        failures.check(near, || format!("{name}: sum {total}, expected {sum:?}"));
        let head = case.shape(name).map_or(0, |shape| shape[0]).min(values.len());
        failures.values(case, 1.0, name, &[head], &values[..head]);
    }
    failures
}

/// Reads the kind, seed, height and width from the name of an image's first numbers.
fn image_name(name: &str) -> Option<(&str, u64, [usize; 2])> {
    let [kind @ ("image" | "u8"), seed, size, "head"] = name.split('.').collect::<Vec<_>>()[..]
    else {
        return None;
    };
    let (h, w) = size.split_once('x')?;
    let seed = seed.strip_prefix('s')?.parse().ok()?;
    Some((kind, seed, [h.parse().ok()?, w.parse().ok()?]))
}

/// `recipe_u8` of the golden README: `[h, w, 3]`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to a byte
fn as_bytes(image: &[f32], h: usize, w: usize) -> Vec<u8> {
    (0..h * w * 3)
        .map(|i| {
            let value = f64::from(image[(i % 3) * h * w + i / 3]);
            (128.0 + 56.0 * value).floor().clamp(0.0, 255.0) as u8
        })
        .collect()
}
