//! Products of matrices on one thread: `gemm`, behind a function that checks what it reads and writes.
#![allow(unsafe_code)]

use burn_flex::FlexTensor;

use crate::cpu::shared::Shared;

/// A matrix in a slice: element (i, j) is at `start + i * rows + j * columns`.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) data: &'a [f32],
    pub(super) start: usize,
    /// Rows and columns.
    pub(super) shape: [usize; 2],
    /// Distance of rows and of columns.
    pub(super) strides: [usize; 2],
}

impl<'a> View<'a> {
    /// Views a whole slice, row by row.
    pub(super) fn new(data: &'a [f32], shape: [usize; 2]) -> Self {
        Self { data, start: 0, shape, strides: [shape[1], 1] }
    }

    /// Views the last two dimensions of a tensor, whose others are at these places; returns `None` if a
    /// stride is negative.
    pub(super) fn of(tensor: &'a FlexTensor, place: &[usize]) -> Option<Self> {
        let layout = tensor.layout();
        let shape: Vec<usize> = layout.shape().iter().copied().collect();
        let strides: Vec<usize> = layout
            .strides()
            .iter()
            .map(|&stride| usize::try_from(stride).ok())
            .collect::<Option<_>>()?;
        let skipped: usize = place.iter().zip(&strides).map(|(at, stride)| at * stride).sum();
        let [.., rows, columns] = shape[..] else { return None };
        let [.., row, column] = strides[..] else { return None };
        Some(Self {
            data: tensor.storage::<f32>(),
            start: layout.start_offset() + skipped,
            shape: [rows, columns],
            strides: [row, column],
        })
    }

    pub(super) fn transposed(self) -> Self {
        let ([rows, columns], [row, column]) = (self.shape, self.strides);
        Self { shape: [columns, rows], strides: [column, row], ..self }
    }

    pub(super) fn rows(self, from: usize, len: usize) -> Self {
        assert!(from + len <= self.shape[0], "rows of the matrix");
        Self { start: self.start + from * self.strides[0], shape: [len, self.shape[1]], ..self }
    }

    pub(super) fn columns(self, from: usize, len: usize) -> Self {
        self.transposed().rows(from, len).transposed()
    }

    /// Returns whether its last element is in the slice.
    fn fits(&self) -> bool {
        let last =
            self.shape.iter().zip(self.strides).map(|(&n, stride)| n.saturating_sub(1) * stride);
        self.start + last.sum::<usize>() < self.data.len()
    }
}

/// `out = a b`, or `out += a b`; rows of `out` are `stride` apart.
///
/// # Panics
/// Shapes that do not fit, or slices that are too short.
pub(super) fn multiply(out: &mut [f32], stride: usize, a: View<'_>, b: View<'_>, add: bool) {
    // SAFETY: `out` is borrowed mutably.
    unsafe { multiply_part(&Shared::new(out), 0, stride, a, b, add) }
}

/// Multiplies into rows that begin at `start` of a shared buffer.
///
/// # Safety
///
/// No other thread has elements of these rows at the same time; elements between the rows are not touched.
///
/// # Panics
/// As [`multiply`].
pub(super) unsafe fn multiply_part(
    out: &Shared<'_>,
    start: usize,
    stride: usize,
    a: View<'_>,
    b: View<'_>,
    add: bool,
) {
    let ([m, k], [depth, n]) = (a.shape, b.shape);
    assert_eq!(k, depth, "columns of the first and rows of the second matrix");
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= stride, "rows of the product do not overlap");
    assert!(k == 0 || (a.fits() && b.fits()), "the matrices are inside their slices");
    // SAFETY: the assertions above, and that of `pointer`; the buffer of `out` is borrowed mutably, so it
    // overlaps with neither.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.pointer(start, (m - 1) * stride + n),
            1,
            signed(stride),
            add,
            a.data.as_ptr().wrapping_add(a.start),
            signed(a.strides[1]),
            signed(a.strides[0]),
            b.data.as_ptr().wrapping_add(b.start),
            signed(b.strides[1]),
            signed(b.strides[0]),
            if add { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Strides are of tensors in memory.
#[allow(clippy::cast_possible_wrap)]
fn signed(size: usize) -> isize {
    size as isize
}
