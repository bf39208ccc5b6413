//! Files of a run that grow. A run must not end because its disk is full: what cannot be written waits
//! and is tried again with what comes next.

use std::io;
use std::path::PathBuf;

use detr_types::fs::AppendFile;

/// Bytes that wait at most; beyond them the newest are given up.
const MOST: usize = 16 << 20;

/// A file that grows, and what is still to be written to it.
#[derive(Debug)]
pub struct Appender {
    path: PathBuf,
    file: Option<AppendFile>,
    waiting: Vec<u8>,
}

impl Appender {
    /// For a file that need not be there; nothing is opened yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, waiting: Vec::new() }
    }

    /// Adds a piece, after all that waits.
    ///
    /// # Errors
    /// What the file system reports; the piece waits then.
    pub fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.waiting.len() + piece.len() <= MOST {
            self.waiting.extend_from_slice(piece);
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(AppendFile::open(&self.path)?),
        };
        file.append(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_written_comes_later() {
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
