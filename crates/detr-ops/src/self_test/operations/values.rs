//! Numbers and layouts of the tensors that the operations are tested on.

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use super::super::calls::SplitMix64;
use super::super::tensor;

/// The order of a matrix in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Contiguous,
    Transposed,
    Sliced,
}

pub(super) const LAYOUTS: [Layout; 3] = [Layout::Contiguous, Layout::Transposed, Layout::Sliced];

/// The value of the memory beside a slice, where a wrong stride finds it.
const POISON: f64 = 4096.0;

/// Returns a matrix of these numbers, row by row, that lies in memory in some way.
pub(super) fn matrix(
    numbers: &[f64],
    [rows, columns]: [usize; 2],
    layout: Layout,
    device: &Device,
    dtype: FloatDType,
) -> Tensor<2> {
    match layout {
        Layout::Contiguous => tensor(numbers, [rows, columns], device, dtype),
        Layout::Transposed => {
            let turned: Vec<f64> = (0..columns)
                .flat_map(|column| (0..rows).map(move |row| numbers[row * columns + column]))
                .collect();
            tensor::<2>(&turned, [columns, rows], device, dtype).transpose()
        }
        Layout::Sliced => {
            let (before, wide) = (1, columns + 5);
            let mut all = vec![POISON; (rows + 3) * wide];
            for (row, numbers) in numbers.chunks_exact(columns).enumerate() {
                all[(row + before) * wide + 2..][..columns].copy_from_slice(numbers);
            }
            let all: Tensor<2> = tensor(&all, [rows + 3, wide], device, dtype);
            all.slice([before..rows + before, 2..columns + 2])
        }
    }
}

/// Returns a tensor of indices.
pub(super) fn indices<const D: usize>(
    indices: &[usize],
    shape: [usize; D],
    device: &Device,
) -> Tensor<D, Int> {
    let indices = indices.iter().map(|&index| i32::try_from(index).unwrap_or(i32::MAX));
    let data = TensorData::new(indices.collect::<Vec<i32>>(), shape);
    Tensor::from_data(data, (device, DType::I32))
}

/// Returns random numbers in [-1, 1) that are exact in a precision.
pub(super) fn random(count: usize, seed: u64, dtype: FloatDType) -> Vec<f64> {
    SplitMix64(seed).rounded(count, dtype.into())
}

/// Returns random integers from 1 on whose sum f32 holds exactly, in whatever order they are added.
#[allow(clippy::cast_precision_loss)] // small integers
pub(super) fn countable(count: usize, seed: u64) -> Vec<f64> {
    let most = ((1 << 24) / count.max(1)).clamp(1, 23);
    let mut numbers = SplitMix64(seed);
    (0..count).map(|_| (numbers.below(most) + 1) as f64).collect()
}

/// Returns different integers below 2^22 in no order, exact in f32.
#[allow(clippy::cast_precision_loss)] // below 2^22
pub(super) fn distinct(count: usize) -> Vec<f64> {
    const MODULUS: usize = 1 << 22;
    (0..count).map(|i| (i.wrapping_mul(2_654_435_761) % MODULUS) as f64).collect()
}

/// Returns random indices below a limit.
pub(super) fn places(count: usize, limit: usize, seed: u64) -> Vec<usize> {
    let mut numbers = SplitMix64(seed);
    (0..count).map(|_| numbers.below(limit)).collect()
}

/// Returns (row, column, index) of every element along an axis: `along[k]` are the elements with the k-th other
/// coordinate.
pub(super) fn lines(numbers: &[f64], [rows, columns]: [usize; 2], axis: usize) -> Vec<Vec<f64>> {
    match axis {
        0 => (0..columns)
            .map(|column| (0..rows).map(|row| numbers[row * columns + column]).collect())
            .collect(),
        _ => numbers.chunks_exact(columns).map(<[f64]>::to_vec).collect(),
    }
}

/// Returns lines along an axis as a matrix, row by row: the reverse of [`lines`].
pub(super) fn unlines(lines: &[Vec<f64>], axis: usize) -> Vec<f64> {
    match axis {
        0 => (0..lines.first().map_or(0, Vec::len))
            .flat_map(|row| lines.iter().map(move |line| line[row]))
            .collect(),
        _ => lines.concat(),
    }
}
