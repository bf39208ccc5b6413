//! Calls that must be refused with an error that names the argument.

use burn::tensor::{DType, FloatDType, Tensor};
use detr_infer::backend::Backend;
use detr_ops::{MsdaArgument, MsdaError, try_msda};

use super::properties::device;

const LEVELS: [[usize; 2]; 2] = [[2, 3], [1, 2]];

fn zeros<const R: usize>(shape: [usize; R]) -> Tensor<R> {
    let device = device(Backend::Flex).expect("flex is always there");
    Tensor::zeros(shape, (&device, DType::F32))
}

#[test]
fn a_batch_of_none_is_refused() {
    let refused =
        try_msda(zeros([0, 8, 2, 5]), &LEVELS, zeros([0, 3, 2, 2, 4, 2]), zeros([0, 3, 2, 2, 4]));
    let Err(MsdaError::Empty { argument, what, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((argument, what), (MsdaArgument::Value, "B"));
}

#[test]
fn levels_that_do_not_add_up_are_refused() {
    let refused =
        try_msda(zeros([1, 9, 2, 5]), &LEVELS, zeros([1, 3, 2, 2, 4, 2]), zeros([1, 3, 2, 2, 4]));
    assert!(matches!(refused, Err(MsdaError::Cells { cells: 8, s: 9, .. })), "{refused:?}");
}

#[test]
fn double_precision_is_refused() {
    let refused = try_msda(
        zeros([1, 8, 2, 5]),
        &LEVELS,
        zeros([1, 3, 2, 2, 4, 2]),
        zeros::<5>([1, 3, 2, 2, 4]).cast(FloatDType::F64),
    );
    let Err(MsdaError::Precision { argument, found }) = refused else { panic!("{refused:?}") };
    assert_eq!((argument, found), (MsdaArgument::Weights, DType::F64));
}

#[test]
fn tensors_on_different_devices_are_refused() {
    let Some(gpu) = device(Backend::Wgpu) else { return };
    let locations = Tensor::<6>::zeros([1, 3, 2, 2, 4, 2], (&gpu, DType::F32));
    let refused = try_msda(zeros([1, 8, 2, 5]), &LEVELS, locations, zeros([1, 3, 2, 2, 4]));
    let Err(MsdaError::Device { argument, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(argument, MsdaArgument::Locations);
}
