//! The one way the program writes a file: completely, or not at all. Logs, which grow, are written
//! the same way piece by piece.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Refuses to put a file where something else is: a device, a pipe or a folder would be replaced
/// and lost. A path where nothing is yet passes.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] when the path leads to something that is no regular file.
pub fn check_replaceable(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(data) if !data.is_file() => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "what is there is no regular file"))
        }
        _ => Ok(()),
    }
}

/// A file that one process holds. The system frees it however the process ends.
pub struct LockFile {
    _file: File,
}

/// A [`LockFile`] that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A process has it: its number, as it wrote it.
    #[error("held by process {0}")]
    Held(String),
    /// An error of the file system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl LockFile {
    /// Takes the file, which is made if it does not exist.
    ///
    /// # Errors
    /// Another process has it, or it cannot be opened.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                drop(file.read_to_string(&mut pid));
                return Err(LockError::Held(pid.trim().to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        // The number is for people; the lock is the system's.
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { _file: file })
    }
}

/// Writes a file completely or not at all: [`PendingFile`] for output that comes from one function.
///
/// # Errors
/// Those of [`check_replaceable`], and whatever `write` or the file system reports; the temporary
/// file is then removed.
pub fn atomic_write(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = PendingFile::create(path)?;
    write(&mut file)?;
    file.persist()
}

/// A file that is written bit by bit to a temporary one beside it, and appears under its name only
/// when complete. Dropped without [`persist`](Self::persist), it leaves nothing behind.
pub struct PendingFile {
    // A handle of its own: `NamedTempFile` gives access to the file only while nobody writes.
    buffered: BufWriter<File>,
    temporary: NamedTempFile,
    path: PathBuf,
}

impl PendingFile {
    /// Starts a file for this path; missing parent folders are made.
    ///
    /// # Errors
    /// Those of [`check_replaceable`], and a folder that cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        check_replaceable(path)?;
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(folder)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".detr-").suffix(".tmp");
        // Temporary files are private; what is put in place has the usual mode.
        #[cfg(unix)]
        let permissions =
            <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
        #[cfg(unix)]
        builder.permissions(permissions);
        let temporary = builder.tempfile_in(folder)?;
        let buffered = BufWriter::with_capacity(1 << 20, temporary.as_file().try_clone()?);
        Ok(Self { buffered, temporary, path: path.to_owned() })
    }

    /// Flushes everything to disk and gives the file its name.
    ///
    /// # Errors
    /// Whatever the file system reports; the temporary file is then removed.
    pub fn persist(mut self) -> io::Result<()> {
        self.buffered.flush()?;
        self.temporary.as_file().sync_all()?;
        self.temporary.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

impl Write for PendingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffered.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.buffered.flush()
    }
}

/// A file that grows by whole pieces: one that could not be written to its end is taken back, so
/// that the next does not stand on half of it.
#[derive(Debug)]
pub struct AppendFile {
    file: File,
    /// The length of the file up to its last whole line.
    length: u64,
    /// Whether there may be more in the file than that.
    torn: bool,
}

impl AppendFile {
    /// Opens a file to write behind what is in it; it and missing parent folders are made.
    ///
    /// # Errors
    /// Those of [`check_replaceable`], and a file that cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        check_replaceable(path)?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length, torn: false })
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// Whatever the file system reports; the piece is then not in the file.
    pub fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.length)?;
            self.torn = false;
        }
        if let Err(error) = self.file.write_all(piece) {
            self.torn = self.file.set_len(self.length).is_err();
            return Err(error);
        }
        self.length += piece.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe stands for all that is no file. (Never try this with a device of the system.)
    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_stays() {
        use std::os::unix::fs::FileTypeExt;
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for path in [&pipe, &link] {
            let error = atomic_write(path, |w| w.write_all(b"new")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        assert!(pipe.metadata().unwrap().file_type().is_fifo() && link.is_symlink());
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/file.txt");
        atomic_write(&path, |w| w.write_all(b"old")).unwrap();
        let failed = atomic_write(&path, |w| {
            w.write_all(b"new")?;
            Err(io::Error::other("disk on fire"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_growing_file_keeps_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/log.txt");
        for piece in ["one\n", "two\n"] {
            AppendFile::open(&path).unwrap().append(piece.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
        assert!(AppendFile::open(folder.path()).is_err());
    }
}
