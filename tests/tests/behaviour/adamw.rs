//! `AdamW`'s update as one operation against its formula in f64, on every backend that is compiled in.

use burn::tensor::{DType, Tensor, TensorData};
use detr_infer::backend::{Backend, Precision};
use detr_ops::adamw::Adamw;

use crate::support::devices::device;

/// Makes numbers from -1 to 1 that look random.
fn numbers(len: usize, seed: u32) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 23) - 1.0
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn updates_are_those_of_the_formula() {
    for backend in [Backend::Flex, Backend::Ndarray, Backend::Wgpu] {
        let Some(device) = device(backend, Precision::F32) else { continue };
        // Numbers that fill vectors and tasks, and that do not.
        for len in [1, 7, 64, 1000, 70_001] {
            let to = |numbers: &[f64]| {
                #[allow(clippy::cast_possible_truncation)]
                let numbers: Vec<f32> = numbers.iter().map(|&number| number as f32).collect();
                Tensor::<1>::from_data(TensorData::new(numbers, [len]), (&device, DType::F32))
            };
            let mut value = numbers(len, 1);
            let (mut mean, mut square) = (vec![0.0; len], vec![0.0; len]);
            let [mut v, mut m, mut s] = [&value, &mean, &square].map(|numbers| to(numbers));
            for step in 1..=3 {
                let gradient = numbers(len, 1 + u32::try_from(step).unwrap());
                let update = Adamw { betas: [0.9, 0.99], eps: 1e-8, step, lr: 0.01, decay: 0.1 };
                [v, m, s] = update.update(v, to(&gradient), m, s);
                let exponent = i32::try_from(step).unwrap();
                for (i, g) in gradient.iter().enumerate() {
                    mean[i] = 0.9 * mean[i] + 0.1 * g;
                    square[i] = 0.99 * square[i] + 0.01 * g * g;
                    let root = (square[i] / (1.0 - 0.99f64.powi(exponent))).sqrt() + 1e-8;
                    let direction = mean[i] / (1.0 - 0.9f64.powi(exponent)) / root;
                    value[i] -= 0.01 * (0.1 * value[i] + direction);
                }
            }
            for (found, expected) in [(v, &value), (m, &mean), (s, &square)] {
                let found: Vec<f32> = found.into_data().try_into_vec().unwrap();
                for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                    let difference = (f64::from(*found) - expected).abs();
                    assert!(difference < 1e-6, "{backend:?}, {i} of {len}: {found}, {expected}");
                }
            }
        }
    }
}
