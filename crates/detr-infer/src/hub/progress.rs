//! Tells the caller of a download how far it is. This module never prints.

/// Listens to a download; every method does nothing unless overridden.
pub trait Progress {
    /// Announces the download of a file: its address, its size in bytes if the server states it,
    /// and the hash that it will be verified against, such as `sha256:…`.
    fn announce(&self, url: &str, size: Option<u64>, hash: &str) {
        let _ = (url, size, hash);
    }
    /// Announces that the body of `file` begins; `total` bytes are expected.
    fn start(&self, file: &str, total: Option<u64>) {
        let _ = (file, total);
    }
    /// Adds to the number of bytes that have arrived.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }
    /// Announces that the body ended, well or not; called once for each `start`.
    fn finish(&self) {}
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
