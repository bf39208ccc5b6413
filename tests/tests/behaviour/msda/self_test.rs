//! The self-test passes on every backend here, and sees what is wrong with broken kernels.

use burn::tensor::{FloatDType, Tensor};
use detr_infer::backend::Backend;
use detr_ops::self_test::{Operation, Quantity, SelfTestReport, self_test, self_test_of};
use detr_ops::{msda, msda_compare_and_swap};

use super::properties::device;

fn check(backend: Backend) {
    let Some(device) = device(backend) else { return };
    for dtype in [FloatDType::F32, FloatDType::F16, FloatDType::BF16] {
        if device.supports_dtype(dtype) {
            let report = self_test(&device, dtype).expect("a device that works");
            print(backend, &report);
            assert!(report.passed(), "{report:#?}");
        }
    }
}

fn print(backend: Backend, report: &SelfTestReport) {
    for comparison in &report.comparisons {
        println!(
            "{backend} {:?} {}: {:.1e} of {:.1e}",
            report.dtype, comparison.quantity, comparison.error, comparison.bound
        );
    }
}

#[test]
fn flex_passes_the_self_test() {
    check(Backend::Flex);
}

#[test]
fn ndarray_passes_the_self_test() {
    check(Backend::Ndarray);
}

#[test]
fn wgpu_passes_the_self_test() {
    check(Backend::Wgpu);
}

#[test]
fn wgpu_passes_the_self_test_without_atomic_addition_of_floats() {
    let Some(device) = device(Backend::Wgpu) else { return };
    let report = self_test_of(&msda_compare_and_swap, &device, FloatDType::F32);
    let report = report.expect("a device that works");
    assert!(report.passed(), "{report:#?}");
}

/// Returns the results that the self-test refuses.
fn refused(operation: Operation<'_>) -> Vec<Quantity> {
    let device = device(Backend::Flex).expect("flex is always there");
    let report = self_test_of(operation, &device, FloatDType::F32).expect("a device that works");
    report.comparisons.iter().filter(|c| !c.passed()).map(|c| c.quantity).collect()
}

#[test]
fn the_self_test_refuses_broken_kernels() {
    use Quantity::{GradLocations, GradValue, GradWeights, Output};
    type Inputs<'a> = (Tensor<4>, &'a [[usize; 2]], Tensor<6>, Tensor<5>);
    let of = |breakage: fn(Inputs<'_>) -> Tensor<3>| {
        refused(&move |value, levels, locations, weights| {
            breakage((value, levels, locations, weights))
        })
    };
    // Pixels counted from corners in place of centres.
    let shifted =
        of(|(value, levels, locations, weights)| msda(value, levels, locations + 0.01, weights));
    assert_eq!(shifted, [Output, GradValue, GradLocations, GradWeights]);
    // The numbers are rounded on the way, there and back.
    let coarse = of(|(value, levels, locations, weights)| {
        msda(value, levels, locations, weights).cast(FloatDType::BF16).cast(FloatDType::F32)
    });
    assert_eq!(coarse, [Output, GradValue, GradLocations, GradWeights]);
    let offset =
        of(|(value, levels, locations, weights)| msda(value, levels, locations, weights) + 1e-3);
    assert_eq!(offset, [Output]);
    // One gradient missing, one with the wrong factor, one not a number.
    let forgotten =
        of(|(value, levels, locations, weights)| msda(value, levels, locations, weights.detach()));
    assert_eq!(forgotten, [GradWeights]);
    let halved = of(|(value, levels, locations, weights)| {
        let half = locations.clone() * 0.5;
        msda(value, levels, half.clone() + (locations - half).detach(), weights)
    });
    assert_eq!(halved, [GradLocations]);
    let poisoned = of(|(value, levels, locations, weights)| {
        let zero = (value.clone() - value.clone().detach()).sum().sqrt();
        msda(value, levels, locations, weights) + zero.reshape([1, 1, 1])
    });
    assert_eq!(poisoned, [GradValue]);
}
