//! The self-test of the operations that models, losses and gradients are made of, at the sizes of real
//! training: reductions, gathering and scattering, sorting, products, convolutions, normalisations and attention.
//!
//! Every result is compared with numbers that the host computes in f64 from the very numbers that the device was
//! given. Reductions, indexing and sorting get integers whose sums f32 holds exactly in any order, so that one
//! element left out of millions is an error. Products and convolutions are compared in a random combination of
//! their columns, which costs the host little and shows every wrong element.

mod indices;
mod norms;
mod products;
mod reductions;
mod values;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, FloatDType, IndexingUpdateOp, Int, Tensor, module};

use super::{error, read};
use crate::dense::{self, ConvOptions};

/// The operations of a device, as the models and losses call them. A test replaces one by a broken one.
pub trait Operations {
    /// Sums all elements.
    fn sum(&self, x: Tensor<2>) -> Tensor<1> {
        x.sum()
    }

    /// Averages all elements.
    fn mean(&self, x: Tensor<2>) -> Tensor<1> {
        x.mean()
    }

    /// Returns the largest element.
    fn max(&self, x: Tensor<2>) -> Tensor<1> {
        x.max()
    }

    /// Sums along an axis, which stays with one element.
    fn sum_dim(&self, x: Tensor<2>, axis: usize) -> Tensor<2> {
        x.sum_dim(axis)
    }

    /// Averages along an axis, which stays with one element.
    fn mean_dim(&self, x: Tensor<2>, axis: usize) -> Tensor<2> {
        x.mean_dim(axis)
    }

    /// Returns the largest elements along an axis, which stays with one element.
    fn max_dim(&self, x: Tensor<2>, axis: usize) -> Tensor<2> {
        x.max_dim(axis)
    }

    /// Returns the places of the largest elements along an axis, which stays with one element.
    fn argmax(&self, x: Tensor<2>, axis: usize) -> Tensor<2, Int> {
        x.argmax(axis)
    }

    /// Returns the sums of the elements up to each one, along an axis.
    fn cumsum(&self, x: Tensor<2>, axis: usize) -> Tensor<2> {
        x.cumsum(axis)
    }

    /// Reads an element for every index.
    fn gather(&self, x: Tensor<2>, axis: usize, indices: Tensor<2, Int>) -> Tensor<2> {
        x.gather(axis, indices)
    }

    /// Reads a row or column for every index.
    fn select(&self, x: Tensor<2>, axis: usize, indices: Tensor<1, Int>) -> Tensor<2> {
        x.select(axis, indices)
    }

    /// Adds a value at every index; indices repeat.
    fn scatter_add(
        &self,
        x: Tensor<2>,
        axis: usize,
        indices: Tensor<2, Int>,
        values: Tensor<2>,
    ) -> Tensor<2> {
        x.scatter(axis, indices, values, IndexingUpdateOp::Add)
    }

    /// Adds a row or column at every index; indices repeat.
    fn select_add(
        &self,
        x: Tensor<2>,
        axis: usize,
        indices: Tensor<1, Int>,
        values: Tensor<2>,
    ) -> Tensor<2> {
        x.select_assign(axis, indices, values, IndexingUpdateOp::Add)
    }

    /// Sorts along an axis, the smallest first; returns the values and their former places.
    fn sort(&self, x: Tensor<2>, axis: usize) -> (Tensor<2>, Tensor<2, Int>) {
        x.sort_with_indices(axis)
    }

    /// Returns the `k` largest along an axis, the largest first, and their places.
    fn top_k(&self, x: Tensor<2>, k: usize, axis: usize) -> (Tensor<2>, Tensor<2, Int>) {
        x.topk_with_indices(k, axis)
    }

    /// Multiplies matrices, `[B, M, K]` and `[B, K, N]`.
    fn matmul(&self, a: Tensor<3>, b: Tensor<3>) -> Tensor<3> {
        a.matmul(b)
    }

    /// Convolves `[B, C, H, W]` with `[C', C, kh, kw]`.
    fn conv2d(&self, x: Tensor<4>, weight: Tensor<4>, options: ConvOptions) -> Tensor<4> {
        dense::conv2d(x, weight, None, None, options)
    }

    /// Normalises the rows of `[N, D]`, then scales and shifts each column.
    fn layer_norm(&self, x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>) -> Tensor<2> {
        module::layer_norm(x, gamma, Some(beta), EPSILON)
    }

    /// Scales and shifts the channels of `[B, C, H, W]`, as a frozen batch normalisation does.
    fn frozen_norm(&self, x: Tensor<4>, scale: Tensor<1>, shift: Tensor<1>) -> Tensor<4> {
        let c = scale.dims()[0];
        x * scale.reshape([1, c, 1, 1]) + shift.reshape([1, c, 1, 1])
    }

    /// Computes `softmax(query key^T) value`, `[B, M, Q, d]` and `[B, M, S, d]` to `[B, Q, M * d]`.
    fn attention(&self, query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<3> {
        dense::attention(&query, &key, &value, None).unwrap_or_else(|| {
            let [b, m, q, d] = query.dims();
            let heads = softmax(query.matmul(key.swap_dims(2, 3)), 3).matmul(value);
            heads.swap_dims(1, 2).reshape([b, q, m * d])
        })
    }
}

/// The operations of the device itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceOperations;

impl Operations for DeviceOperations {}

/// The number that is added to variances.
const EPSILON: f64 = 1e-5;

/// The amount of work that is tested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// Sizes of losses, and of models on pictures of some 400x534 pixels: seconds on a CPU.
    #[default]
    Quick,
    /// Sizes of models on two pictures of 800x1333 pixels, too: minutes on a CPU.
    Full,
}

/// The work that needs an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Predictions, and so everything.
    Prediction,
    /// Training.
    Training,
    /// Nothing in these programs, which go round it. A wrong result is reported, and refuses nothing.
    Nothing,
}

/// The largest error of one operation over all its sizes and layouts.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationCheck {
    /// The name of the operation.
    pub operation: &'static str,
    /// The work that needs it.
    pub need: Need,
    /// The largest difference from the host's numbers, in units of the largest number expected; not a number
    /// where a result is not.
    pub error: f64,
    /// The error that is allowed; zero where every result is exact.
    pub bound: f64,
    /// The sizes and layout with that error, for messages.
    pub call: String,
}

/// An operation at which the device failed.
#[derive(Debug, thiserror::Error)]
#[error("self-test of {operation}: the device failed at {call}: {message}")]
pub struct OperationError {
    /// The operation whose result was read.
    pub operation: &'static str,
    /// The sizes and layout.
    pub call: String,
    /// The message of the backend.
    pub message: String,
}

impl OperationCheck {
    /// Returns whether the error is within its bound.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.error <= self.bound
    }
}

/// Tests operations on a device that supports `dtype`. In half precision these are products, convolutions,
/// normalisations and attention; everything else is computed in f32 by every model and loss.
///
/// # Errors
///
/// If the device fails at work. Results out of bounds are no error: ask the checks.
pub fn test_operations(
    operations: &dyn Operations,
    device: &Device,
    dtype: FloatDType,
    extent: Extent,
) -> Result<Vec<OperationCheck>, OperationError> {
    let sections =
        Section::ALL.into_iter().map(|section| section.test(operations, device, dtype, extent));
    Ok(sections.collect::<Result<Vec<_>, _>>()?.concat())
}

/// Operations that are tested together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Sums, means, largest elements and their places, cumulative sums.
    Reductions,
    /// Gathering, scattering with addition, sorting.
    Indices,
    /// Matrix products and convolutions.
    Products,
    /// Normalisations and attention.
    Norms,
}

impl Section {
    /// All sections, in the order in which they are tested.
    pub const ALL: [Self; 4] = [Self::Reductions, Self::Indices, Self::Products, Self::Norms];

    /// Tests the operations of this section as [`test_operations`] does.
    ///
    /// # Errors
    ///
    /// If the device fails at work.
    pub fn test(
        self,
        operations: &dyn Operations,
        device: &Device,
        dtype: FloatDType,
        extent: Extent,
    ) -> Result<Vec<OperationCheck>, OperationError> {
        let mut test = Test { operations, device, dtype, extent, checks: Vec::new() };
        let is_f32 = dtype == FloatDType::F32;
        match self {
            Self::Reductions if is_f32 => reductions::run(&mut test)?,
            Self::Indices if is_f32 => indices::run(&mut test)?,
            Self::Reductions | Self::Indices => {}
            Self::Products => products::run(&mut test)?,
            Self::Norms => norms::run(&mut test)?,
        }
        Ok(test.checks)
    }
}

/// A test that goes on.
struct Test<'a> {
    operations: &'a dyn Operations,
    device: &'a Device,
    dtype: FloatDType,
    extent: Extent,
    checks: Vec<OperationCheck>,
}

/// An operation, the work that needs it, and the error that is allowed.
#[derive(Clone, Copy)]
struct TestedOperation {
    operation: &'static str,
    need: Need,
    bound: f64,
}

impl TestedOperation {
    /// Describes an operation whose results are exact.
    const fn exact(operation: &'static str, need: Need) -> Self {
        Self { operation, need, bound: 0.0 }
    }

    /// Describes an operation that rounds.
    const fn rounded(operation: &'static str, need: Need, bound: f64) -> Self {
        Self { operation, need, bound }
    }
}

impl TestedOperation {
    /// Reads a result.
    fn read<const D: usize>(
        self,
        call: &str,
        found: Option<Tensor<D>>,
    ) -> Result<Vec<f64>, OperationError> {
        let Self { operation, .. } = self;
        read(found).map_err(|message| OperationError { operation, call: call.to_owned(), message })
    }

    /// Reads indices as numbers.
    fn read_int<const D: usize>(
        self,
        call: &str,
        found: Tensor<D, Int>,
    ) -> Result<Vec<f64>, OperationError> {
        let Self { operation, .. } = self;
        let data = found.try_into_data().map_err(|error| OperationError {
            operation,
            call: call.to_owned(),
            message: format!("{error:?}"),
        })?;
        Ok(data.iter::<f64>().collect())
    }
}

impl Test<'_> {
    /// Compares a result with the expected numbers.
    fn compare<const D: usize>(
        &mut self,
        subject: TestedOperation,
        call: &str,
        found: Option<Tensor<D>>,
        expected: &[f64],
    ) -> Result<(), OperationError> {
        let found = subject.read(call, found)?;
        self.note(subject, call, error(&found, expected));
        Ok(())
    }

    /// Keeps an error if it is the largest of its operation.
    fn note(&mut self, subject: TestedOperation, call: &str, error: f64) {
        let TestedOperation { operation, need, bound } = subject;
        let call = call.to_owned();
        let found = OperationCheck { operation, need, error, bound, call };
        match self.checks.iter_mut().find(|check| check.operation == operation) {
            None => self.checks.push(found),
            Some(worst) if error > worst.error || error.is_nan() => *worst = found,
            Some(_) => {}
        }
    }

    /// Returns what may be lost to rounding in this precision: `f32`, or a multiple of half precision's rounding.
    fn bound(&self, f32: f64) -> f64 {
        match self.dtype {
            FloatDType::F16 => 8.0 / f64::from(1 << 11),
            FloatDType::BF16 => 8.0 / f64::from(1 << 8),
            _ => f32,
        }
    }
}
