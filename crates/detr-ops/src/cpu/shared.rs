//! A buffer that parallel tasks write in separate places.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use super::prefetch::prefetch_lines;

/// A mutable slice of which tasks take parts that do not overlap, but that are not runs either, so
/// that `chunks_mut` cannot hand them out.
pub(crate) struct Shared<'a> {
    start: *mut f32,
    len: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: `part` and `pointer` are the only access, and whoever uses them promises that parts do not
// overlap, so threads never reach the same element.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(crate) fn new(buffer: &'a mut [f32]) -> Self {
        Self { start: buffer.as_mut_ptr(), len: buffer.len(), borrowed: PhantomData }
    }

    /// Asks for the elements from `start` on.
    #[inline(always)]
    pub(crate) fn prefetch(&self, start: usize, len: usize) {
        prefetch_lines(self.start.wrapping_add(start), len);
    }

    /// Returns a pointer to the elements from `start` on, for code that writes only some of them.
    #[inline(always)]
    pub(crate) fn pointer(&self, start: usize, len: usize) -> *mut f32 {
        assert!(start <= self.len && len <= self.len - start, "a part inside the buffer");
        self.start.wrapping_add(start)
    }

    /// Returns the elements from `start` on.
    ///
    /// # Safety
    ///
    /// No element is in two parts that are alive at the same time.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // the caller's promise
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &mut [f32] {
        // SAFETY: inside the buffer, which is borrowed for 'a, and, as the caller promises, nobody
        // else's.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(start, len), len) }
    }
}
