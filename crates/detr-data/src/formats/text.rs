//! Reading text from outside: bounded, UTF-8, with places in it for messages.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::DatasetError;

/// Reads a text file, without its byte order mark.
pub(super) fn read(path: &Path, limit: u64) -> Result<String, DatasetError> {
    let mut bytes = read_bytes(path, limit)?;
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        syntax(
            path,
            error.as_bytes(),
            offset,
            "the text is not valid UTF-8\nhint: save it as UTF-8",
        )
    })
}

/// Reads the bytes of a regular file.
pub(super) fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, DatasetError> {
    // The file is checked before opening: opening a named pipe waits for its writer.
    let metadata = path.metadata().map_err(DatasetError::io(path))?;
    if !metadata.is_file() {
        return Err(DatasetError::NotARegularFile { path: path.to_owned() });
    }
    let too_large = |bytes| DatasetError::TooLarge { path: path.to_owned(), bytes, limit };
    if metadata.len() > limit {
        return Err(too_large(metadata.len()));
    }
    let file = File::open(path).map_err(DatasetError::io(path))?;
    let mut bytes = Vec::new();
    let expected = usize::try_from(metadata.len()).unwrap_or(usize::MAX).saturating_add(1);
    bytes.try_reserve_exact(expected).map_err(|error| DatasetError::io(path)(error.into()))?;
    // The file may grow while it is read.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(DatasetError::io(path))?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Returns an error at a byte of a text.
pub(super) fn syntax(
    path: &Path,
    text: &[u8],
    offset: usize,
    reason: impl Into<String>,
) -> DatasetError {
    let (line, column) = position(text, offset);
    DatasetError::Syntax { path: path.to_owned(), line, column, reason: reason.into() }
}

/// Returns the line and column of a byte, from 1.
pub(super) fn position(text: &[u8], offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    (before.split(|&byte| byte == b'\n').count(), 1 + before.len() - start)
}
