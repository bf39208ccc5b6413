//! Tells the caller of a download how far it is. This module never prints.

/// Listens to a download; every method does nothing unless overridden.
pub trait Progress {
    /// A file is about to be downloaded: its address, its size in bytes where the server says,
    /// and what it will be verified against, such as `sha256:…`.
    fn announce(&self, url: &str, size: Option<u64>, hash: &str) {
        let _ = (url, size, hash);
    }
    /// The body of `file` begins; `total` bytes are expected.
    fn start(&self, file: &str, total: Option<u64>) {
        let _ = (file, total);
    }
    /// Adds to the number of bytes that have arrived.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }
    /// The body ended, well or not; called once for each `start`.
    fn finish(&self) {}
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
