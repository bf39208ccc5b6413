//! Half precision: the error against f64 is that of rounding inputs and outputs.

use burn::tensor::{Device, FloatDType, Tensor};
use detr_infer::backend::Backend;
use detr_ops::msda;

use super::properties::device;
use super::random::{Call, Stream};

/// Largest error of output, and of the value's gradient, with values rounded to a type.
fn errors(call: &Call, dtype: FloatDType, device: &Device) -> [f64; 2] {
    let (value, locations, weights, grad) = call.tensors(&device.clone().autodiff());
    let value = value.cast(dtype).detach().require_grad();
    let output = msda(value.clone(), &call.levels, locations, weights);
    assert_eq!(output.dtype(), value.dtype());
    let mut grads = (output.clone().cast(FloatDType::F32) * grad).sum().backward();
    let grad_value = value.grad_remove(&mut grads).expect("a gradient");
    let host = call.host();
    let worst = |found: Vec<f32>, expected: Vec<f64>| {
        let differences = found.iter().zip(expected).map(|(&a, b)| (f64::from(a) - b).abs());
        differences.fold(0.0, f64::max)
    };
    [worst(f32s(output), host.output()), worst(f32s(grad_value), host.gradients().value)]
}

fn f32s<const R: usize>(tensor: Tensor<R>) -> Vec<f32> {
    tensor.cast(FloatDType::F32).into_data().try_into_vec().expect("f32 data")
}

fn check(backend: Backend) {
    let Some(device) = device(backend) else { return };
    let levels = vec![[6, 7], [3, 4]];
    let call = Call::of(Stream::new(5), levels, [2, 54, 3, 24], 11, 4);
    for (dtype, bits) in [(FloatDType::F16, 11), (FloatDType::BF16, 8)] {
        if !device.supports_dtype(dtype) {
            continue;
        }
        // Sums reach 8; inputs, output and its gradient are rounded to that many bits.
        let bound = 8.0 * 2f64.powi(-bits);
        let found = errors(&call, dtype, &device);
        println!(
            "{backend} {dtype:?}: output {:.1e}, gradient of value {:.1e}",
            found[0], found[1]
        );
        assert!(found.iter().all(|&error| error < bound), "{dtype:?}: {found:?}, bound {bound}");
    }
}

#[test]
fn on_flex_half_precision_costs_only_its_rounding() {
    check(Backend::Flex);
}

#[test]
fn on_wgpu_half_precision_costs_only_its_rounding() {
    check(Backend::Wgpu);
}
