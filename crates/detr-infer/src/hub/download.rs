//! Reads an answer's body: counted, bounded, hashed while it streams, and kept only if all agree.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Instant;

use detr_types::fs::atomic_write;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::HubError;
use super::error::shown;
use super::http::{ContentHash, Patience, Reply};
use super::progress::Progress;

/// Bytes handled at a time.
const CHUNK: usize = 256 << 10;

/// The limits of a download, and its listener.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    /// Most bytes.
    pub(super) limit: u64,
    /// The limits on how slow the server may be.
    pub(super) patience: &'a Patience,
    /// Listener.
    pub(super) progress: &'a dyn Progress,
}

/// Reads a small file into memory and verifies it.
pub(super) fn to_memory(
    reply: &mut Reply,
    file: &str,
    rules: Rules<'_>,
) -> Result<Vec<u8>, HubError> {
    announce(reply, rules)?;
    let mut content = Vec::new();
    receive(reply, file, rules, |chunk| {
        content.extend_from_slice(chunk);
        Ok(())
    })?;
    match &reply.hash {
        ContentHash::Sha256(expected) => {
            compare(reply, "SHA-256", expected, hex(&Sha256::digest(&content)))?;
        }
        ContentHash::GitSha1(expected) => {
            compare(reply, "git SHA-1", expected, git_blob_sha1(&content))?;
        }
        ContentHash::Opaque(etag) => {
            tracing::warn!("{}: cannot be verified, its ETag `{etag}` is no hash", reply.url);
        }
    }
    Ok(content)
}

/// Streams a large file to `path`, which appears only if length and SHA-256 are right. Nothing is
/// read when the same content lies there already.
pub(super) fn to_file(
    reply: &mut Reply,
    file: &str,
    path: &Path,
    rules: Rules<'_>,
) -> Result<(), HubError> {
    let ContentHash::Sha256(expected) = reply.hash.clone() else {
        let etag = reply.hash.text().to_owned();
        return Err(HubError::Unverifiable { url: reply.url.clone(), etag });
    };
    if holds(path, &expected) {
        return Ok(());
    }
    announce(reply, rules)?;
    let written = atomic_write(path, |writer| {
        let mut hasher = Sha256::new();
        receive(reply, file, rules, |chunk| {
            hasher.update(chunk);
            writer.write_all(chunk).map_err(HubError::io(path))
        })
        .and_then(|()| compare(reply, "SHA-256", &expected, hex(&hasher.finalize())))
        .map_err(io::Error::other)
    });
    written.map_err(|error| match error.downcast::<HubError>() {
        Ok(error) => error,
        Err(error) => HubError::io(path)(error),
    })
}

/// Refuses what is too large before its first byte, and tells the listener about the rest.
fn announce(reply: &Reply, rules: Rules<'_>) -> Result<(), HubError> {
    if let Some(size) = reply.size.filter(|size| *size > rules.limit) {
        return Err(HubError::TooLarge { url: reply.url.clone(), got: size, limit: rules.limit });
    }
    rules.progress.announce(&reply.url, reply.size, &reply.hash.to_string());
    Ok(())
}

/// Hands the body on in pieces and checks its length.
fn receive(
    reply: &mut Reply,
    file: &str,
    rules: Rules<'_>,
    mut sink: impl FnMut(&[u8]) -> Result<(), HubError>,
) -> Result<(), HubError> {
    rules.progress.start(file, reply.size);
    let _finish = FinishOnDrop(rules.progress);
    let url = &reply.url;
    let wrong_length = |got| HubError::Length {
        url: url.clone(),
        got,
        expected: reply.size.map_or_else(|| "?".to_owned(), |size| size.to_string()),
    };
    let mut body = reply.body.as_reader();
    let mut buffer = vec![0; CHUNK];
    let mut got = 0_u64;
    let start = Instant::now();
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(wrong_length(got));
            }
            Err(error) => {
                return Err(HubError::Network {
                    url: url.clone(),
                    reason: why(&error, got, rules),
                });
            }
        };
        got += count as u64;
        if got > rules.limit {
            return Err(HubError::TooLarge { url: url.clone(), got, limit: rules.limit });
        }
        if reply.size.is_some_and(|size| got > size) {
            return Err(wrong_length(got));
        }
        if start.elapsed() > rules.patience.deadline(got) {
            let reason = rules.patience.too_slow(got);
            return Err(HubError::Network { url: url.clone(), reason });
        }
        sink(&buffer[..count])?;
        rules.progress.advance(count as u64);
    }
    if reply.size.is_some_and(|size| got != size) {
        return Err(wrong_length(got));
    }
    Ok(())
}

fn why(error: &io::Error, got: u64, rules: Rules<'_>) -> String {
    let source = error.get_ref().and_then(|source| source.downcast_ref::<ureq::Error>());
    match source {
        Some(ureq::Error::Timeout(ureq::Timeout::RecvBody)) => rules.patience.too_slow(got),
        Some(ureq::Error::Timeout(_)) => {
            format!("no data for {:?} after {got} bytes", rules.patience.idle)
        }
        _ => format!("{} after {got} bytes", shown(&error.to_string())),
    }
}

/// Ends the listener's file on every way out.
struct FinishOnDrop<'a>(&'a dyn Progress);

impl Drop for FinishOnDrop<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}

fn compare(
    reply: &Reply,
    kind: &'static str,
    expected: &str,
    actual: String,
) -> Result<(), HubError> {
    if actual == expected {
        return Ok(());
    }
    Err(HubError::Mismatch { url: reply.url.clone(), kind, expected: expected.to_owned(), actual })
}

/// Returns whether the file is there and its content has this SHA-256.
fn holds(path: &Path, sha256: &str) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher).is_ok() && hex(&hasher.finalize()) == sha256
}

/// Computes the hash under which git stores a file's content.
pub(super) fn git_blob_sha1(content: &[u8]) -> String {
    let mut hasher = Sha1::new();
    Digest::update(&mut hasher, format!("blob {}\0", content.len()));
    Digest::update(&mut hasher, content);
    hex(&hasher.finalize())
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}
