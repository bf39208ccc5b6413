//! Asking for memory before it is needed: sampled cells are all over the level, where the processor
//! does not guess them.

/// Numbers of a cache line.
const LINE: usize = 16;

/// Asks for the elements from `start` on; those outside the slice are harmless.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn prefetch(slice: &[f32], start: usize, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..len).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = slice.as_ptr().wrapping_add(start + line);
        // SAFETY: the instruction reads nothing and cannot fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, start, len, LINE);
}
