//! Image files in memory, as they are on disk: decoding again is cheap beside reading over a
//! network, and encoded images are ten to twenty times smaller than their pixels.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use crate::decode::{ImageError, read_file};

/// The place where image files are kept between epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheMode {
    /// Nowhere: every epoch reads the files again (and the system may remember them).
    #[default]
    None,
    /// A thread reads all files once at the start, so that the system has them in its page cache;
    /// for data that fits into free memory, on a slow or remote disk.
    DiskPage,
    /// Each file stays in the program's memory after its first use, up to a limit; what does not
    /// fit any more is read every time.
    Memory,
}

/// Image files by index.
#[derive(Default)]
pub(super) struct Cache {
    limit: u64,
    held: AtomicU64,
    files: Vec<OnceLock<Arc<[u8]>>>,
    /// Reads ahead as long as the cache lives.
    _warming: Option<CacheWarmer>,
}

impl Cache {
    /// Creates an empty cache of at most `limit` bytes.
    pub(super) fn new(mode: CacheMode, limit: u64, paths: Vec<PathBuf>) -> Self {
        let files = match mode {
            CacheMode::Memory => paths.iter().map(|_| OnceLock::new()).collect(),
            _ => Vec::new(),
        };
        let warming =
            (mode == CacheMode::DiskPage).then(|| CacheWarmer::start(paths, limit)).flatten();
        Self { limit, held: AtomicU64::new(0), files, _warming: warming }
    }

    /// Reads the bytes of a file.
    pub(super) fn read(
        &self,
        index: usize,
        path: &Path,
        limit: u64,
    ) -> Result<Arc<[u8]>, ImageError> {
        let Some(slot) = self.files.get(index) else {
            return read_file(path, limit).map(Into::into);
        };
        if let Some(bytes) = slot.get() {
            return Ok(bytes.clone());
        }
        let bytes: Arc<[u8]> = read_file(path, limit)?.into();
        let length = bytes.len() as u64;
        if self.held.fetch_add(length, Ordering::Relaxed) + length > self.limit
            || slot.set(bytes.clone()).is_err()
        {
            // No room, or another thread was faster.
            self.held.fetch_sub(length, Ordering::Relaxed);
        }
        Ok(bytes)
    }

    /// Returns the number of bytes held.
    #[cfg(test)]
    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

/// The thread that reads ahead; dropping it stops and joins it.
struct CacheWarmer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl CacheWarmer {
    /// Starts a thread that reads ahead; returns `None` if the system gives none, since reading
    /// ahead is only a help.
    fn start(paths: Vec<PathBuf>, limit: u64) -> Option<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = move || {
            let mut read = 0;
            for path in paths {
                if stopped.load(Ordering::Relaxed) || read > limit {
                    return;
                }
                // Files that cannot be read are reported when they are used.
                read += read_file(&path, limit).map_or(0, |bytes| bytes.len() as u64);
            }
        };
        let thread = std::thread::Builder::new().name("detr-read-ahead".to_owned()).spawn(work);
        Some(Self { stop, thread: Some(thread.ok()?) })
    }
}

impl Drop for CacheWarmer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported and concerns nothing else.
            let _ = thread.join();
        }
    }
}
