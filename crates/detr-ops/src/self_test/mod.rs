//! The self-test: does the operation compute on this device, in this precision, what the formula
//! says?
//!
//! A few small calls of awkward sizes run forward and, with the feature `autodiff`, backward. Errors
//! are measured against [`HostCall`] in f64, for the very numbers that the device was given, so that
//! in half precision only results are rounded, not the comparison. [`test_operations`] does the same for
//! the operations of Burn that models, losses and gradients are made of.

mod calls;
mod operations;

use std::fmt;

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

use crate::formula::HostCall;
use crate::msda;

pub use operations::{
    DeviceOperations, Extent, Need, OperationCheck, OperationError, Operations, Section,
    test_operations,
};

/// An operation with the arguments of [`msda`].
pub type Operation<'a> = &'a dyn Fn(Tensor<4>, &[[usize; 2]], Tensor<6>, Tensor<5>) -> Tensor<3>;

/// Rounding of sums in f32, for each unit of the largest result: 64 roundings of that number. CPUs and
/// Mesa's software adapter need a fifth of it.
const SUMS: f64 = 64.0 / (1 << 24) as f64;

/// A result of the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// The output.
    Output,
    /// Gradient of `value`.
    GradValue,
    /// Gradient of `locations`.
    GradLocations,
    /// Gradient of `weights`.
    GradWeights,
}

/// The largest error of one result over all calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The result that was compared.
    pub quantity: Quantity,
    /// Largest difference from the formula, in units of the largest number expected in that call; not
    /// a number where a result is not.
    pub error: f64,
    /// The error that is allowed.
    pub bound: f64,
    /// Sizes of the call with that error, for messages.
    pub call: String,
}

/// The results of a self-test.
#[derive(Clone, Debug, PartialEq)]
pub struct SelfTestReport {
    /// Precision of values and output.
    pub dtype: FloatDType,
    /// One for every result: the output, and the gradients where the feature `autodiff` is on.
    pub comparisons: Vec<Comparison>,
}

/// A device that failed at work.
#[derive(Debug, thiserror::Error)]
#[error("self-test of msda: the device failed at {quantity} of {call}: {message}")]
pub struct SelfTestError {
    /// The result that was read.
    pub quantity: Quantity,
    /// Sizes of the call.
    pub call: String,
    /// The message of the backend.
    pub message: String,
}

impl Comparison {
    /// Returns whether the error is within its bound.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.error <= self.bound
    }
}

impl SelfTestReport {
    /// Returns whether all errors are within their bounds.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.comparisons.iter().all(Comparison::passed)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Output => "output",
            Self::GradValue => "gradient of value",
            Self::GradLocations => "gradient of locations",
            Self::GradWeights => "gradient of weights",
        })
    }
}

/// Tests [`msda`] on a device that supports `dtype`, with values of that type.
///
/// # Errors
///
/// If the device fails at work. Results out of bounds are no error: ask the report.
pub fn self_test(device: &Device, dtype: FloatDType) -> Result<SelfTestReport, SelfTestError> {
    self_test_of(&msda, device, dtype)
}

/// Tests any operation, so that a test can see what a broken kernel does to the report.
///
/// # Errors
///
/// Returns the errors of [`self_test`].
pub fn self_test_of(
    operation: Operation<'_>,
    device: &Device,
    dtype: FloatDType,
) -> Result<SelfTestReport, SelfTestError> {
    let mut report = SelfTestReport { dtype, comparisons: Vec::new() };
    for call in calls::calls(dtype) {
        for found in run(operation, &call, device, dtype)? {
            let worst = report.comparisons.iter_mut().find(|c| c.quantity == found.quantity);
            match worst {
                None => report.comparisons.push(found),
                Some(worst) if found.error > worst.error || found.error.is_nan() => *worst = found,
                Some(_) => {}
            }
        }
    }
    Ok(report)
}

/// Compares one call.
fn run(
    operation: Operation<'_>,
    call: &HostCall,
    device: &Device,
    dtype: FloatDType,
) -> Result<Vec<Comparison>, SelfTestError> {
    let compare = |quantity, found: Result<Vec<f64>, String>, expected: &[f64]| {
        let call = format!("{:?} x {:?}", call.value_shape, call.locations_shape);
        let rounded = matches!(quantity, Quantity::Output | Quantity::GradValue);
        let bound = SUMS + if rounded { unit_roundoff(dtype) } else { 0.0 };
        match found {
            Ok(found) => Ok(Comparison { quantity, error: error(&found, expected), bound, call }),
            Err(message) => Err(SelfTestError { quantity, call, message }),
        }
    };
    let [b, q, m, l, p, _] = call.locations_shape;
    let value: Tensor<4> = tensor(&call.value, call.value_shape, device, dtype);
    let locations: Tensor<6> =
        tensor(&call.locations, call.locations_shape, device, FloatDType::F32);
    let weights: Tensor<5> = tensor(&call.weights, [b, q, m, l, p], device, FloatDType::F32);
    let expected = call.output();

    let output = operation(value.clone(), &call.levels, locations.clone(), weights.clone());
    let found = compare(Quantity::Output, read(Some(output)), &expected)?;
    let value = value.autodiff().require_grad();
    let locations = locations.autodiff().require_grad();
    let weights = weights.autodiff().require_grad();
    // The way through the graph is another: both outputs are compared.
    let output = operation(value.clone(), &call.levels, locations.clone(), weights.clone());
    let grad_shape = [b, q, m * call.value_shape[3]];
    let grad = tensor(&call.grad, grad_shape, device, FloatDType::F32).autodiff();
    let mut grads = (output.clone().cast(FloatDType::F32) * grad).sum().backward();
    let gradients = call.gradients();
    Ok(vec![
        found,
        compare(Quantity::Output, read(Some(output)), &expected)?,
        compare(Quantity::GradValue, read(value.grad_remove(&mut grads)), &gradients.value)?,
        compare(
            Quantity::GradLocations,
            read(locations.grad_remove(&mut grads)),
            &gradients.locations,
        )?,
        compare(Quantity::GradWeights, read(weights.grad_remove(&mut grads)), &gradients.weights)?,
    ])
}

/// Reads the numbers of a tensor; returns none if an operation forgot a gradient.
fn read<const R: usize>(tensor: Option<Tensor<R>>) -> Result<Vec<f64>, String> {
    let Some(tensor) = tensor else { return Ok(Vec::new()) };
    let data = tensor.try_into_data().map_err(|error| format!("{error:?}"))?;
    Ok(data.iter::<f64>().collect())
}

/// Returns the largest difference in units of the largest number expected; infinite if numbers are
/// missing.
fn error(found: &[f64], expected: &[f64]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let largest = |numbers: &mut dyn Iterator<Item = f64>| {
        // `f64::max` would pass over what is not a number.
        numbers.fold(0.0, |a: f64, b| if b.abs() > a || b.is_nan() { b.abs() } else { a })
    };
    let difference = largest(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    difference / largest(&mut expected.iter().copied()).max(f64::MIN_POSITIVE)
}

/// Returns half the distance between neighbouring numbers near one.
fn unit_roundoff(dtype: FloatDType) -> f64 {
    match dtype {
        FloatDType::F16 => 1.0 / f64::from(1 << 11),
        FloatDType::BF16 => 1.0 / f64::from(1 << 8),
        _ => 0.0,
    }
}

fn tensor<const R: usize>(
    numbers: &[f64],
    shape: [usize; R],
    device: &Device,
    dtype: FloatDType,
) -> Tensor<R> {
    let data = TensorData::new(numbers.to_vec(), shape).convert_dtype(dtype.into());
    Tensor::from_data(data, (device, DType::from(dtype)))
}
