//! Asking for memory before it is needed: sampled cells are all over the level, where the processor
//! does not guess them.

/// Numbers of a cache line.
const LINE: usize = 16;

/// Asks for elements, the first of which is where a line starts; wherever the address leads, this is
/// harmless.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn prefetch_lines(first: *const f32, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..len).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the instruction reads nothing and cannot fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (first, len, LINE);
}

/// Asks for the elements of a slice from `start` on, wherever lines start; they may be outside.
#[inline(always)]
pub(super) fn prefetch(slice: &[f32], start: usize, len: usize) {
    let first = slice.as_ptr().wrapping_add(start);
    prefetch_lines(first, len);
    // The last element may be one line further.
    prefetch_lines(first.wrapping_add(len - 1), 1);
}
