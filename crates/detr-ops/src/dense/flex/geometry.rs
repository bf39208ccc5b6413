//! Sizes of a convolution, and its input unfolded: a matrix with a row for every weight of a filter and
//! a column for every output cell, of which a product with the filters makes the output.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::ConvOptions;

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) images: usize,
    pub(super) channels: usize,
    pub(super) filters: usize,
    pub(super) input: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) output: [usize; 2],
    pub(super) options: ConvOptions,
}

/// Neighbouring output cells of one row of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) image: usize,
    /// Row and first column.
    at: [usize; 2],
    pub(super) len: usize,
}

/// A weight's place in a filter.
#[derive(Clone, Copy, Debug)]
struct Tap {
    channel: usize,
    /// The offset from a cell to its place in the input: below zero before the first cell.
    by: [isize; 2],
}

impl Geometry {
    /// # Panics
    /// Shapes that contradict each other.
    pub(super) fn new(x: &[usize], weight: &[usize], options: ConvOptions) -> Self {
        let (&[images, channels, h, w], &[filters, depth, kh, kw]) = (x, weight) else {
            panic!("a convolution of {x:?} by {weight:?}, which are not four sizes each")
        };
        assert_eq!(channels, depth, "channels of the input and of the filters");
        let output = |axis: usize, input: usize, kernel: usize| {
            let reach = options.dilation[axis] * (kernel - 1) + 1;
            let room = (input + 2 * options.padding[axis]).checked_sub(reach);
            let room = room.unwrap_or_else(|| panic!("filters of {reach} on an input of {input}"));
            room / options.stride[axis] + 1
        };
        Self {
            images,
            channels,
            filters,
            input: [h, w],
            kernel: [kh, kw],
            output: [output(0, h, kh), output(1, w, kw)],
            options,
        }
    }

    pub(super) fn output_shape(&self) -> [usize; 4] {
        [self.images, self.filters, self.output[0], self.output[1]]
    }

    /// Returns the number of cells of an image of the output.
    pub(super) fn cells(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Returns the number of cells of a channel of the input.
    pub(super) fn plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Returns the number of weights of a filter for one channel.
    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Returns the number of weights of a filter.
    pub(super) fn depth(&self) -> usize {
        self.channels * self.taps()
    }

    /// Returns whether the input, as it is, is the unfolded one.
    pub(super) fn is_product(&self) -> bool {
        let ConvOptions { stride, padding, .. } = self.options;
        self.taps() == 1 && stride == [1, 1] && padding == [0, 0]
    }

    /// Returns the rows that `len` cells from `from` on lie in; cells count through all images.
    pub(super) fn runs(&self, from: usize, len: usize) -> Vec<Run> {
        let (cells, columns) = (self.cells(), self.output[1]);
        let mut runs = Vec::with_capacity(len / columns + 2);
        let (mut at, end) = (from, from + len);
        while at < end {
            let cell = at % cells;
            let (row, column) = (cell / columns, cell % columns);
            let len = (columns - column).min(end - at);
            runs.push(Run { image: at / cells, at: [row, column], len });
            at += len;
        }
        runs
    }

    #[inline(always)]
    fn tap(&self, row: usize) -> Tap {
        let (channel, tap) = (row / self.taps(), row % self.taps());
        let place = [tap / self.kernel[1], tap % self.kernel[1]];
        let ConvOptions { padding, dilation, .. } = self.options;
        let by = [0, 1].map(|axis| signed(place[axis] * dilation[axis]) - signed(padding[axis]));
        Tap { channel, by }
    }

    /// Reads one tap's input for a run of cells.
    #[inline(always)]
    fn read(&self, plane: &[f32], by: [isize; 2], run: &Run, out: &mut [f32]) {
        let Some((line, first)) = self.line(by, run) else {
            out.fill(0.0);
            return;
        };
        let width = self.input[1];
        let line = &plane[line * width..(line + 1) * width];
        let step = self.options.stride[1];
        let inside = inside(first, step, out.len(), width);
        out[..inside.start].fill(0.0);
        out[inside.end..].fill(0.0);
        if inside.is_empty() {
            return;
        }
        let from = (first + signed(inside.start * step)).unsigned_abs();
        let out = &mut out[inside];
        if step == 1 {
            out.copy_from_slice(&line[from..from + out.len()]);
        } else {
            for (out, value) in out.iter_mut().zip(line[from..].iter().step_by(step)) {
                *out = *value;
            }
        }
    }

    /// Returns the row of the input that a tap reads for a run, if it is inside, and the column for its
    /// first cell.
    #[inline(always)]
    fn line(&self, by: [isize; 2], run: &Run) -> Option<(usize, isize)> {
        let [row, column] =
            [0, 1].map(|axis| signed(run.at[axis] * self.options.stride[axis]) + by[axis]);
        let row = usize::try_from(row).ok().filter(|row| *row < self.input[0])?;
        Some((row, column))
    }
}

/// Rows of the unfolded input, for the cells of `runs`, one row after the other.
pub(super) struct Unfold<'a> {
    pub(super) geometry: &'a Geometry,
    pub(super) x: &'a [f32],
    pub(super) rows: Range<usize>,
    pub(super) runs: &'a [Run],
    pub(super) out: &'a mut [f32],
}

impl WithSimd for Unfold<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { geometry, x, rows, runs, mut out } = self;
        for row in rows {
            let tap = geometry.tap(row);
            for run in runs {
                let (part, rest) = out.split_at_mut(run.len);
                out = rest;
                let plane = (run.image * geometry.channels + tap.channel) * geometry.plane();
                geometry.read(&x[plane..plane + geometry.plane()], tap.by, run, part);
            }
        }
    }
}

/// Adds rows of an unfolded gradient, of one image's cells `runs`, to the gradient of the input's channels
/// that the rows are of.
pub(super) struct Fold<'a> {
    pub(super) geometry: &'a Geometry,
    pub(super) folded: &'a [f32],
    pub(super) rows: Range<usize>,
    pub(super) runs: &'a [Run],
    /// Begins with the channel of the first row.
    pub(super) planes: &'a mut [f32],
}

impl WithSimd for Fold<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { geometry, mut folded, rows, runs, planes } = self;
        let (width, step) = (geometry.input[1], geometry.options.stride[1]);
        let first_channel = rows.start / geometry.taps();
        for row in rows {
            let tap = geometry.tap(row);
            let plane = (tap.channel - first_channel) * geometry.plane();
            let plane = &mut planes[plane..plane + geometry.plane()];
            for run in runs {
                let (part, rest) = folded.split_at(run.len);
                folded = rest;
                let Some((line, first)) = geometry.line(tap.by, run) else { continue };
                let line = &mut plane[line * width..(line + 1) * width];
                let inside = inside(first, step, part.len(), width);
                if inside.is_empty() {
                    continue;
                }
                let from = (first + signed(inside.start * step)).unsigned_abs();
                let part = &part[inside];
                if step == 1 {
                    for (sum, value) in line[from..from + part.len()].iter_mut().zip(part) {
                        *sum += value;
                    }
                } else {
                    for (sum, value) in line[from..].iter_mut().step_by(step).zip(part) {
                        *sum += value;
                    }
                }
            }
        }
    }
}

/// Returns which of `len` places from `first` on, `step` apart, are from 0 to below `width`.
#[inline(always)]
fn inside(first: isize, step: usize, len: usize, width: usize) -> Range<usize> {
    let before = (-first).max(0).unsigned_abs().div_ceil(step).min(len);
    let until = (signed(width) - first).max(0).unsigned_abs().div_ceil(step).min(len);
    before..until.max(before)
}

/// Converts a size, since sizes of tensors in memory are far below the limit.
#[allow(clippy::cast_possible_wrap)]
fn signed(size: usize) -> isize {
    size as isize
}
