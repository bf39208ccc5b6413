//! Kernels and reference against the formula, over random shapes.

use burn::tensor::{Device, Tensor};
use detr_infer::backend::{Backend, Precision, select};
use detr_ops::reference::msda_reference;
use detr_ops::{msda, try_msda};
use detr_types::env;

use super::random::{Call, Stream};

/// Error allowed for each unit of the largest number that a sum may reach.
const TOLERANCE: f64 = 4e-7;

type Operation = fn(Tensor<4>, &[[usize; 2]], Tensor<6>, Tensor<5>) -> Tensor<3>;

/// The device of a backend, or `None` where it is not compiled in or, for wgpu, not there.
pub(crate) fn device(backend: Backend) -> Option<Device> {
    match select(backend, 0, Precision::F32) {
        Ok(selected) => Some(selected.device),
        Err(error) => {
            let required = backend == Backend::Wgpu && env::is_on(env::DETR_REQUIRE_WGPU);
            assert!(!(required && backend.is_compiled()), "{error}");
            println!("skipped: {error}");
            None
        }
    }
}

fn numbers<const R: usize>(tensor: Tensor<R>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32 data")
}

/// Output, and gradients of value, locations and weights.
fn run(call: &Call, operation: Operation, device: &Device) -> [Vec<f32>; 4] {
    let (value, locations, weights, grad) = call.tensors(&device.clone().autodiff());
    let (value, locations) = (value.require_grad(), locations.require_grad());
    let weights = weights.require_grad();
    let output = operation(value.clone(), &call.levels, locations.clone(), weights.clone());
    let mut grads = (output.clone() * grad).sum().backward();
    [
        numbers(output),
        numbers(value.grad_remove(&mut grads).expect("a gradient")),
        numbers(locations.grad_remove(&mut grads).expect("a gradient")),
        numbers(weights.grad_remove(&mut grads).expect("a gradient")),
    ]
}

/// Compares with the formula. Numbers of inputs are below one, so that the number of terms bounds
/// every sum.
fn check(call: &Call, found: &[Vec<f32>; 4], title: &str) {
    let host = call.host();
    let gradients = host.gradients();
    let expected = [host.output(), gradients.value, gradients.locations, gradients.weights];
    let [_, _, _, d] = call.value_shape;
    let [_, q, _, l, p, _] = call.locations_shape;
    let side = call.levels.iter().flatten().max().copied().unwrap_or(1);
    let terms = [l * p, q * p, d * side, d];
    let names = ["output", "gradient of value", "of locations", "of weights"];
    for (((name, terms), found), expected) in names.iter().zip(terms).zip(found).zip(&expected) {
        let bound = TOLERANCE * (terms as f64 + 1.0) * side as f64;
        assert_eq!(found.len(), expected.len());
        for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            let difference = (f64::from(found) - expected).abs();
            assert!(
                difference <= bound,
                "{title}, {}: {name} {i}: {found}, expected {expected}, bound {bound:e}",
                call.title()
            );
        }
    }
}

fn cases(backend: Backend, seeds: std::ops::Range<u64>, operations: &[(&str, Operation)]) {
    let Some(device) = device(backend) else { return };
    for seed in seeds {
        let call = Call::new(seed);
        for (name, operation) in operations {
            check(&call, &run(&call, *operation, &device), &format!("{name}, seed {seed}"));
        }
    }
}

const KERNEL: (&str, Operation) = ("kernel", msda);
const REFERENCE: (&str, Operation) = ("reference", msda_reference);

#[test]
fn on_flex_kernel_and_reference_are_the_formula() {
    cases(Backend::Flex, 0..500, &[KERNEL, REFERENCE]);
}

#[test]
fn on_ndarray_kernel_and_reference_are_the_formula() {
    cases(Backend::Ndarray, 0..100, &[KERNEL, REFERENCE]);
}

#[test]
fn on_wgpu_kernel_and_reference_are_the_formula() {
    cases(Backend::Wgpu, 0..10, &[KERNEL]);
    cases(Backend::Wgpu, 10..12, &[REFERENCE]);
}

#[test]
fn on_flex_the_gradient_does_not_depend_on_threads_or_runs() {
    let levels = vec![[16, 17], [8, 9]];
    let call = Call::of(Stream::new(1), levels, [2, 344, 3, 33], 200, 3);
    let Some(device) = device(Backend::Flex) else { return };
    let first = run(&call, msda, &device);
    for _ in 0..5 {
        assert!(run(&call, msda, &device) == first);
    }
}

#[test]
fn strided_inputs_are_read_by_their_strides() {
    let Some(device) = device(Backend::Flex) else { return };
    let call = Call::new(3);
    let (value, locations, weights, _) = call.tensors(&device);
    let expected = msda(value.clone(), &call.levels, locations.clone(), weights.clone());
    // The same numbers, laid out with two axes exchanged.
    let value = Tensor::from_data(value.swap_dims(1, 3).into_data(), &device).swap_dims(1, 3);
    let locations =
        Tensor::from_data(locations.swap_dims(2, 4).into_data(), &device).swap_dims(2, 4);
    let found = try_msda(value, &call.levels, locations, weights).expect("inputs that fit");
    assert_eq!(numbers(found), numbers(expected));
}
