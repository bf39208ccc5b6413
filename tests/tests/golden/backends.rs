//! The backends that the golden cases run on, and how much wider than on flex their tolerances are.

use burn::tensor::Device;
use detr_infer::backend::{Backend, Precision, select_untested};
use detr_types::env;

/// A backend to test on.
#[derive(Clone)]
pub struct Bench {
    /// Its name in test names.
    pub name: &'static str,
    /// The device on which tensors are made.
    pub device: Device,
    /// Factor on the tolerances, which are six times the error of PyTorch's own f32 run.
    pub slack: f64,
    /// Share of a parameter's weights that Adam may have moved the other way, in sums over parameters.
    pub flips: f64,
}

/// Backends, slack and flips. flex and ndarray: the cases' own tolerance. wgpu: twice that, for the sine,
/// exponential and division of real GPUs; Mesa's software adapter needs none of it. Adam's first steps
/// have the size of the learning rate, however small the gradient is; where its sign is rounding, so is
/// the update's, and the sum of a parameter of two million weights shows it. On wgpu this may happen to
/// one weight in ten thousand (found on the software adapter: one in twenty thousand).
const BACKENDS: [(Backend, &str, f64, f64); 3] = [
    (Backend::Flex, "flex", 1.0, 0.0),
    (Backend::Ndarray, "ndarray", 1.0, 0.0),
    (Backend::Wgpu, "wgpu", 2.0, 1e-4),
];

/// Returns the backends that run here, and those that do not: name, reason, and whether that is a
/// failure.
pub fn available() -> (Vec<Bench>, Vec<(&'static str, String, bool)>) {
    let mut benches = Vec::new();
    let mut skipped = Vec::new();
    for (backend, name, slack, flips) in BACKENDS {
        if !backend.is_compiled() {
            continue;
        }
        match select_untested(backend, 0, Precision::F32) {
            Ok(selected) => benches.push(Bench { name, device: selected.device, slack, flips }),
            Err(error) => {
                let required = backend == Backend::Wgpu && env::is_on(env::DETR_REQUIRE_WGPU);
                skipped.push((name, error.to_string(), required));
            }
        }
    }
    (benches, skipped)
}
