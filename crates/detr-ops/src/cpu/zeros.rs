//! Buffers of zeros.
#![allow(unsafe_code)]

use rayon::prelude::*;

/// Numbers that a task fills.
const TASK: usize = 1 << 17;

/// `len` zeros; many of them are written by all threads.
pub(crate) fn zeros(len: usize) -> Vec<f32> {
    if len <= 2 * TASK {
        return vec![0.0; len];
    }
    let mut buffer = Vec::with_capacity(len);
    let room = &mut buffer.spare_capacity_mut()[..len];
    room.par_chunks_mut(TASK).for_each(|room| {
        for number in room {
            number.write(0.0);
        }
    });
    // SAFETY: every one of them was written.
    unsafe { buffer.set_len(len) };
    buffer
}
