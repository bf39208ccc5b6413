//! Reads images on worker threads ahead of the one who uses them, and hands them over in their order.
//!
//! The queue is bounded by a number of images and by their bytes, so a folder of large photographs costs
//! no more memory than a few of them.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use image::RgbImage;

/// The limit on the bytes of decoded images that wait: no new image is begun beyond it.
const WAITING_BYTES: usize = 128 << 20;
/// Decoding is far faster than detection; more threads would only take cores from it.
const MAX_WORKERS: usize = 4;

/// An image that was read ahead.
#[derive(Debug)]
pub struct ReadImage<K, E> {
    /// The caller's name for the image.
    pub key: K,
    /// The image, or why there is none.
    pub image: Result<RgbImage, E>,
    /// Time that its thread spent on it.
    pub time: Duration,
}

struct State<S, K, E> {
    sources: S,
    /// Number of the next image to begin.
    next: usize,
    /// Number of the next image to hand over.
    taken: usize,
    /// Bytes of the pixels in `done`.
    bytes: usize,
    done: HashMap<usize, ReadImage<K, E>>,
    /// No image comes after those that were begun.
    exhausted: bool,
    /// Whether the workers shall end: the caller wants no more, or one of them panicked.
    stopped: bool,
}

struct Shared<S, K, E> {
    /// The most images that are begun but not handed over.
    ahead: usize,
    state: Mutex<State<S, K, E>>,
    changed: Condvar,
}

/// An iterator over images in the order of their sources.
pub struct ReadImages<'a, S: Iterator<Item = K>, K, E>(&'a Shared<S, K, E>);

/// Runs `consume` on the images that `read` makes of the sources; at most `ahead` of them are in the making
/// or wait. The number of sources need not be known. Reading stops when `consume` returns.
///
/// # Panics
/// If `read` does: the images end there, and the panic goes on once `consume` returned.
pub fn read_ahead<K, E, S, T>(
    sources: S,
    ahead: usize,
    read: impl Fn(&K) -> Result<RgbImage, E> + Sync,
    consume: impl FnOnce(ReadImages<'_, S, K, E>) -> T,
) -> T
where
    K: Send,
    E: Send,
    S: Iterator<Item = K> + Send,
{
    let most = sources.size_hint().1.unwrap_or(usize::MAX);
    let state = State {
        sources,
        next: 0,
        taken: 0,
        bytes: 0,
        done: HashMap::new(),
        exhausted: false,
        stopped: false,
    };
    let ahead = ahead.max(1);
    let shared = Shared { ahead, state: Mutex::new(state), changed: Condvar::new() };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = cores.min(MAX_WORKERS).min(most).min(ahead);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| work(&shared, &read));
        }
        consume(ReadImages(&shared))
    })
}

impl<S: Iterator<Item = K>, K, E> Shared<S, K, E> {
    fn lock(&self) -> MutexGuard<'_, State<S, K, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State<S, K, E>>) -> MutexGuard<'s, State<S, K, E>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the next source to work on with its number, as soon as there is room for it.
    fn begin(&self) -> Option<(usize, K)> {
        let mut state = self.lock();
        loop {
            if state.stopped || state.exhausted {
                return None;
            }
            if state.next < state.taken + self.ahead && state.bytes < WAITING_BYTES {
                let Some(source) = state.sources.next() else {
                    state.exhausted = true;
                    self.changed.notify_all();
                    return None;
                };
                state.next += 1;
                return Some((state.next - 1, source));
            }
            state = self.wait(state);
        }
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }
}

impl<S: Iterator<Item = K>, K, E> Iterator for ReadImages<'_, S, K, E> {
    type Item = ReadImage<K, E>;

    fn next(&mut self) -> Option<ReadImage<K, E>> {
        let mut state = self.0.lock();
        let index = state.taken;
        loop {
            if let Some(image) = state.done.remove(&index) {
                state.taken += 1;
                state.bytes -= size(&image);
                self.0.changed.notify_all();
                return Some(image);
            }
            if state.stopped || (state.exhausted && index == state.next) {
                return None;
            }
            state = self.0.wait(state);
        }
    }
}

impl<S: Iterator<Item = K>, K, E> Drop for ReadImages<'_, S, K, E> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Stops everything if a worker panics, because the others would wait for its image for ever.
struct StopOnPanic<'a, S: Iterator<Item = K>, K, E>(&'a Shared<S, K, E>);

impl<S: Iterator<Item = K>, K, E> Drop for StopOnPanic<'_, S, K, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

fn work<S: Iterator<Item = K>, K, E>(
    shared: &Shared<S, K, E>,
    read: &impl Fn(&K) -> Result<RgbImage, E>,
) {
    let _guard = StopOnPanic(shared);
    while let Some((index, key)) = shared.begin() {
        let start = Instant::now();
        let image = read(&key);
        let image = ReadImage { key, image, time: start.elapsed() };
        let mut state = shared.lock();
        state.bytes += size(&image);
        state.done.insert(index, image);
        shared.changed.notify_all();
    }
}

fn size<K, E>(image: &ReadImage<K, E>) -> usize {
    image.image.as_ref().map_or(0, |image| image.as_raw().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an image of that width, or a fault for every seventh.
    #[allow(clippy::trivially_copy_pass_by_ref)] // as `read_ahead` calls it
    fn read(width: &u32) -> Result<RgbImage, ()> {
        (!width.is_multiple_of(7)).then(|| RgbImage::new(*width, 1)).ok_or(())
    }

    #[test]
    fn images_come_in_order_and_bad_ones_in_their_place() {
        for ahead in [1, 3, 100] {
            // A source whose end is not known before it is there.
            let sources = || (1..).take_while(|&width| width < 30);
            let widths: Vec<_> = read_ahead(sources(), ahead, read, |images| {
                images.map(|read| (read.key, read.image.ok().map(|image| image.width()))).collect()
            });
            let expected: Vec<_> = (1..30)
                .map(|width: u32| (width, (!width.is_multiple_of(7)).then_some(width)))
                .collect();
            assert_eq!(widths, expected);
            // Stopping early must not wait for the rest.
            let first = read_ahead(sources(), ahead, read, |mut images| images.next());
            assert_eq!(first.unwrap().image.unwrap().width(), 1);
        }
    }

    #[test]
    fn a_panic_of_a_worker_ends_the_images_instead_of_hanging() {
        let panics = |width: &u32| {
            assert_ne!(*width, 5, "on purpose");
            read(width)
        };
        let ended =
            std::thread::spawn(move || read_ahead(1..30, 3, panics, |images| images.count()));
        assert!(ended.join().is_err());
    }
}
