//! Memory for intermediate numbers that each thread keeps, so that a step in use allocates nothing.

use std::cell::RefCell;

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
