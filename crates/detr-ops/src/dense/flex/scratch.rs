//! Memory for intermediate numbers that is kept, so that a step in use allocates nothing: of each thread, and for
//! operations that all threads share.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

thread_local! {
    static SCRATCH: RefCell<[Vec<f32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Runs work on two buffers of this thread; what is in them is left from before.
pub(super) fn with<T>(sizes: [usize; 2], work: impl FnOnce([&mut [f32]; 2]) -> T) -> T {
    SCRATCH.with_borrow_mut(|buffers| {
        for (buffer, size) in buffers.iter_mut().zip(sizes) {
            if buffer.len() < size {
                buffer.resize(size, 0.0);
            }
        }
        let [a, b] = buffers;
        work([&mut a[..sizes[0]], &mut b[..sizes[1]]])
    })
}

static SHARED: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// A buffer that goes back when it is dropped.
pub(super) struct BorrowedBuffer {
    buffer: Vec<f32>,
    len: usize,
}

/// Lends a buffer for an operation of all threads, with whatever content was left from before.
pub(super) fn lend(len: usize) -> BorrowedBuffer {
    let mut kept = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    // The smallest that is large enough, or else the largest.
    let best = (0..kept.len()).min_by_key(|&i| {
        let has = kept[i].len();
        (has < len, has.abs_diff(len))
    });
    let mut buffer = best.map(|i| kept.swap_remove(i)).unwrap_or_default();
    drop(kept);
    if buffer.len() < len {
        drop(buffer);
        buffer = vec![0.0; len];
    }
    BorrowedBuffer { buffer, len }
}

impl Deref for BorrowedBuffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.buffer[..self.len]
    }
}

impl DerefMut for BorrowedBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[..self.len]
    }
}

impl Drop for BorrowedBuffer {
    fn drop(&mut self) {
        let mut kept = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(std::mem::take(&mut self.buffer));
    }
}
