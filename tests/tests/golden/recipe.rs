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
        if case.tensors.contains_key(&head) {
            let values: Vec<f64> = weight[..16].iter().map(|&v| f64::from(v)).collect();
            failures.values(case, 1.0, &head, &[16], &values);
        }
    }
    for (seed, h, w) in [(11, 5, 7), (12, 200, 288)] {
        let image = recipe_image(seed, h, w);
        let head: Vec<f64> = image[..64].iter().map(|&v| f64::from(v)).collect();
        failures.values(case, 1.0, &format!("image.s{seed}.{h}x{w}.head"), &[64], &head);
        let bytes = as_bytes(&image, h, w);
        let head: Vec<f64> = bytes[..64].iter().map(|&v| f64::from(v)).collect();
        failures.values(case, 1.0, &format!("u8.s{seed}.{h}x{w}.head"), &[64], &head);
    }
    failures
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
