//! Decodes images on worker threads ahead of the device, and hands them over in their order.
//!
//! Bounded by a number of images and by their bytes, so a folder of large photographs costs no
//! more memory than a few of them.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use detr_data::{DecodeOptions, ImageError, RgbImage, decode_image, read_image};

use crate::backend::catch_panic;
use crate::sources::Source;

/// No new image is begun while decoded ones of so many bytes wait.
const WAITING_BYTES: usize = 128 << 20;
/// Decoding is far faster than detection; more threads would only take cores from it.
const MAX_WORKERS: usize = 4;

/// One image, or why there is none.
pub(super) struct Decoded {
    pub(super) image: Result<RgbImage, String>,
    /// Time its thread spent on it.
    pub(super) time: Duration,
}

struct State {
    /// The next source to begin.
    next: usize,
    /// The next source to hand over.
    taken: usize,
    /// Bytes of the pixels in `done`.
    bytes: usize,
    done: HashMap<usize, Decoded>,
    stopped: bool,
}

struct Shared<'a> {
    sources: &'a [Source],
    options: &'a DecodeOptions,
    /// Images begun but not handed over.
    ahead: usize,
    state: Mutex<State>,
    changed: Condvar,
}

/// The images in the order of their sources.
pub(super) struct Images<'a>(&'a Shared<'a>);

/// Runs `consume` on the decoded images; at most `ahead` of them are in the making or wait.
/// Decoding stops when `consume` returns.
pub(super) fn decode_ahead<T>(
    sources: &[Source],
    options: &DecodeOptions,
    ahead: usize,
    consume: impl FnOnce(Images<'_>) -> T,
) -> T {
    let state = State { next: 0, taken: 0, bytes: 0, done: HashMap::new(), stopped: false };
    let shared =
        Shared { sources, options, ahead, state: Mutex::new(state), changed: Condvar::new() };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = cores.min(MAX_WORKERS).min(sources.len()).min(ahead);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| work(&shared));
        }
        consume(Images(&shared))
    })
}

impl Shared<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next source to work on, as soon as there is room for it.
    fn begin(&self) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.stopped || state.next == self.sources.len() {
                return None;
            }
            if state.next < state.taken + self.ahead && state.bytes < WAITING_BYTES {
                state.next += 1;
                return Some(state.next - 1);
            }
            state = self.wait(state);
        }
    }
}

impl Iterator for Images<'_> {
    type Item = Decoded;

    fn next(&mut self) -> Option<Decoded> {
        let mut state = self.0.lock();
        let index = state.taken;
        if index == self.0.sources.len() {
            return None;
        }
        loop {
            if let Some(decoded) = state.done.remove(&index) {
                state.taken += 1;
                state.bytes -= size(&decoded);
                self.0.changed.notify_all();
                return Some(decoded);
            }
            state = self.0.wait(state);
        }
    }
}

impl Drop for Images<'_> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}

fn work(shared: &Shared<'_>) {
    while let Some(index) = shared.begin() {
        let start = Instant::now();
        // A worker that died would leave everybody waiting.
        let image = catch_panic(|| decode(&shared.sources[index], shared.options))
            .unwrap_or_else(|message| Err(format!("the decoder failed: {message}")));
        let decoded = Decoded { image, time: start.elapsed() };
        let mut state = shared.lock();
        state.bytes += size(&decoded);
        state.done.insert(index, decoded);
        shared.changed.notify_all();
    }
}

fn size(decoded: &Decoded) -> usize {
    decoded.image.as_ref().map_or(0, |image| image.as_raw().len())
}

/// The reason of a failure does not repeat the path.
fn decode(source: &Source, options: &DecodeOptions) -> Result<RgbImage, String> {
    match source {
        Source::File(path) => read_image(path, options),
        Source::Stdin => read_stdin(options.limits.file_bytes)
            .map_err(|error| ImageError::Io { error })
            .and_then(|bytes| decode_image(&bytes, options)),
    }
    .map_err(|error| error.reason().to_string())
}

/// One byte more than allowed is enough to see that it is too much.
fn read_stdin(limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_come_in_order_and_bad_ones_in_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let sources: Vec<Source> = (1..30_u32)
            .map(|width| {
                let path = folder.path().join(format!("{width}.ppm"));
                let pixels = vec![0; 3 * width as usize];
                let mut bytes = format!("P6 {width} 1 255\n").into_bytes();
                bytes.extend(pixels);
                if !width.is_multiple_of(7) {
                    std::fs::write(&path, bytes).unwrap();
                }
                Source::File(path)
            })
            .collect();
        let options = DecodeOptions::default();
        for ahead in [1, 3, 100] {
            let widths: Vec<Option<u32>> = decode_ahead(&sources, &options, ahead, |images| {
                images.map(|decoded| decoded.image.ok().map(|image| image.width())).collect()
            });
            let expected: Vec<_> =
                (1..30).map(|width: u32| (!width.is_multiple_of(7)).then_some(width)).collect();
            assert_eq!(widths, expected);
            // Stopping early must not wait for the rest.
            let first = decode_ahead(&sources, &options, ahead, |mut images| images.next());
            assert_eq!(first.unwrap().image.unwrap().width(), 1);
        }
    }
}
