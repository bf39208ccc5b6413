//! A file that grows by pieces. A run must not end because its disk is full, so a piece that cannot be written
//! waits in memory and is tried again with the next one.

use std::io;
use std::path::PathBuf;

use detr_types::fs::AppendFile;

/// Bytes that wait at most; further pieces are lost until those are written.
const MAX_WAITING: usize = 16 << 20;

/// A file that grows, and the pieces that are not in it yet.
#[derive(Debug)]
pub(crate) struct Appender {
    path: PathBuf,
    file: Option<AppendFile>,
    waiting: Vec<u8>,
}

impl Appender {
    /// Prepares a file, which need not exist; nothing is opened yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, file: None, waiting: Vec::new() }
    }

    /// Adds a piece without writing it.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        if self.waiting.len() + piece.len() <= MAX_WAITING {
            self.waiting.extend_from_slice(piece);
        }
    }

    /// Writes the pieces that wait.
    ///
    /// # Errors
    /// The file cannot be opened or written; the pieces still wait.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(AppendFile::open(&self.path)?),
        };
        file.append(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }

    /// Adds a piece and writes it behind those that wait.
    ///
    /// # Errors
    /// The file cannot be opened or written; the piece waits.
    pub(crate) fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        self.push(piece);
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_could_not_be_written_are_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("run");
        let mut log = Appender::new(place.join("log"));
        std::fs::write(&place, "in the way").unwrap();
        assert!(log.append(b"one\n").is_err());
        assert!(log.append(b"two\n").is_err());
        std::fs::remove_file(&place).unwrap();
        log.append(b"three\n").unwrap();
        assert_eq!(std::fs::read(place.join("log")).unwrap(), b"one\ntwo\nthree\n");
    }
}
