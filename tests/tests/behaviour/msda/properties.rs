//! Kernels and reference against the formula, over random shapes.

use burn::tensor::{Device, Tensor};
use detr_infer::backend::{Backend, Precision};
use detr_ops::msda;
use detr_ops::reference::msda_reference;

use super::random::{Call, Stream};
use crate::support::devices;

/// Error allowed for each unit of the largest number that a sum may reach.
const TOLERANCE: f64 = 4e-7;

type Operation = fn(Tensor<4>, &[[usize; 2]], Tensor<6>, Tensor<5>) -> Tensor<3>;

/// Returns the device of a backend, if there is one.
pub(crate) fn device(backend: Backend) -> Option<Device> {
    devices::device(backend, Precision::F32)
}

fn numbers<const R: usize>(tensor: Tensor<R>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32 data")
}

/// Computes the output, and the gradients of value, locations and weights.
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
fn more_points_than_are_placed_at_once_are_the_formula() {
    for backend in [Backend::Flex, Backend::Wgpu] {
        let Some(device) = device(backend) else { continue };
        let call = Call::of(Stream::new(2), vec![[5, 6], [2, 3]], [2, 36, 2, 9], 7, 19);
        check(&call, &run(&call, msda, &device), "19 points");
    }
}

#[test]
fn heads_that_are_moved_a_few_at_a_time_are_the_formula() {
    let Some(device) = device(Backend::Flex) else { return };
    // There is room for two heads; the fifth is alone. Points outnumber cells, so that moving pays.
    let call = Call::of(Stream::new(4), vec![[50, 50], [20, 25]], [2, 3000, 5, 32], 200, 8);
    check(&call, &run(&call, msda, &device), "five heads");
}

#[test]
fn points_on_centres_of_cells_are_the_formula() {
    // The sides are powers of two, so that the centres are exact in f32.
    let mut call = Call::of(Stream::new(5), vec![[4, 8], [2, 1]], [2, 34, 3, 5], 40, 3);
    let mut stream = Stream::new(6);
    let sides = [[8, 4], [1, 2]];
    for (i, location) in call.locations.iter_mut().enumerate() {
        let side: u8 = sides[i / 6 % 2][i % 2];
        // From a whole cell before the first to one after the last.
        *location = (stream.size(0, usize::from(side) + 1) as f32 - 0.5) / f32::from(side);
    }
    for backend in [Backend::Flex, Backend::Ndarray, Backend::Wgpu] {
        let Some(device) = device(backend) else { continue };
        for (name, operation) in [KERNEL, REFERENCE] {
            check(&call, &run(&call, operation, &device), &format!("{backend}, {name}, centres"));
        }
    }
}

#[test]
fn points_that_are_not_finite_add_nothing() {
    let mut call = Call::of(Stream::new(7), vec![[3, 5], [2, 3]], [1, 21, 2, 5], 30, 2);
    let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    for (i, location) in call.locations.iter_mut().step_by(5).enumerate() {
        *location = bad[i % 3];
    }
    for backend in [Backend::Flex, Backend::Ndarray, Backend::Wgpu] {
        let Some(device) = device(backend) else { continue };
        for (name, operation) in [KERNEL, REFERENCE] {
            check(
                &call,
                &run(&call, operation, &device),
                &format!("{backend}, {name}, not finite"),
            );
        }
    }
}

#[test]
fn on_flex_results_do_not_depend_on_threads_or_runs() {
    let levels = vec![[16, 17], [8, 9]];
    let call = Call::of(Stream::new(1), levels, [2, 344, 3, 33], 200, 3);
    let Some(device) = device(Backend::Flex) else { return };
    let on_threads = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&call, msda, &device))
    };
    let first = on_threads(1);
    for threads in [1, 2, 7, 7] {
        assert!(on_threads(threads) == first, "{threads} threads");
    }
}

#[test]
fn strided_and_broadcast_inputs_and_gradients_are_read_by_their_strides() {
    let mut call = Call::new(3);
    let [b, q, m, l, p, _] = call.locations_shape;
    // One set of weights for all queries of an image; the gradient of a sum is one number, repeated.
    let row = m * l * p;
    for image in call.weights.chunks_mut(q * row) {
        let (first, others) = image.split_at_mut(row);
        others.chunks_mut(row).for_each(|other| other.copy_from_slice(first));
    }
    call.grad.fill(1.0);
    for backend in [Backend::Flex, Backend::Ndarray, Backend::Wgpu] {
        let Some(device) = device(backend).map(Device::autodiff) else { continue };
        let (value, locations, weights, _) = call.tensors(&device);
        // The same numbers, laid out with two axes exchanged.
        let value = Tensor::from_data(value.swap_dims(1, 3).into_data(), &device);
        let value: Tensor<4> = value.swap_dims(1, 3).require_grad();
        let locations = Tensor::from_data(locations.swap_dims(2, 4).into_data(), &device);
        let locations: Tensor<6> = locations.swap_dims(2, 4).require_grad();
        let weights = weights.narrow(1, 0, 1).expand([b, q, m, l, p]).require_grad();
        let output = msda(value.clone(), &call.levels, locations.clone(), weights.clone());
        let mut grads = output.clone().sum().backward();
        let found = [
            numbers(output),
            numbers(value.grad_remove(&mut grads).expect("a gradient")),
            numbers(locations.grad_remove(&mut grads).expect("a gradient")),
            numbers(weights.grad_remove(&mut grads).expect("a gradient")),
        ];
        check(&call, &found, &format!("{backend}, strided"));
    }
}
