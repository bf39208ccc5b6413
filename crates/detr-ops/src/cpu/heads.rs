//! Rearranges values so that the cells of one head lie together: rows of a head are then near each
//! other, and share no part of the processor's cache with those of all other heads.

use std::ops::Range;

use rayon::prelude::*;

use super::geometry::Sizes;

/// The number of cells that a task moves.
const BLOCK: usize = 256;

/// The number of values that are moved at once, about as many as the nearest cache holds.
const AT_ONCE: usize = 1 << 18;

/// The rows of some heads.
pub(super) struct HeadRows<'a> {
    pub(super) value: &'a [f32],
    pub(super) heads: Range<usize>,
    /// The distance from the first cell of a head to that of the next.
    pub(super) head: usize,
    /// The distance from a cell to the next.
    pub(super) stride: usize,
}

/// Returns whether cells are read so often that moving them first is faster.
pub(super) fn worth_moving(sizes: &Sizes) -> bool {
    sizes.q * sizes.points() > sizes.s
}

/// A buffer that starts where a line of the cache does, so that no vector lies in two lines.
pub(super) struct AlignedBuffer {
    room: Vec<f32>,
    start: usize,
    len: usize,
}

/// The number of bytes in a line of the cache.
const LINE: usize = 64;

impl AlignedBuffer {
    /// Zeros.
    pub(super) fn new(len: usize) -> Self {
        let room = vec![0f32; len + LINE / size_of::<f32>()];
        let start = room.as_ptr().align_offset(LINE).min(room.len() - len);
        Self { room, start, len }
    }

    pub(super) fn get(&mut self) -> &mut [f32] {
        &mut self.room[self.start..][..self.len]
    }
}

/// A buffer for the cells of some heads.
pub(super) struct HeadBuffer {
    heads: usize,
    value: AlignedBuffer,
}

impl HeadBuffer {
    pub(super) fn new(sizes: &Sizes) -> Self {
        let head = sizes.s * sizes.d;
        let heads = (AT_ONCE / head).clamp(1, sizes.m);
        Self { heads, value: AlignedBuffer::new(heads * head) }
    }

    /// Returns the number of heads that the buffer holds.
    pub(super) fn heads(&self) -> usize {
        self.heads
    }

    /// Moves the heads from `first` on of an image, `[S, M, D]`.
    pub(super) fn fill(&mut self, sizes: &Sizes, value: &[f32], first: usize) -> HeadRows<'_> {
        let &Sizes { s, m, d, .. } = sizes;
        let heads = first..m.min(first + self.heads);
        let moved = &mut self.value.get()[..heads.len() * s * d];
        moved.par_chunks_mut(s * d).zip(heads.clone()).for_each(|(moved, head)| {
            moved.par_chunks_mut(BLOCK * d).enumerate().for_each(|(block, moved)| {
                let value = &value[block * BLOCK * m * d + head * d..];
                for (to, from) in moved.chunks_exact_mut(d).zip(value.chunks(m * d)) {
                    to.copy_from_slice(&from[..d]);
                }
            });
        });
        HeadRows { value: moved, heads, head: s * d, stride: d }
    }
}
