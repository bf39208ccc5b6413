//! A file that is written bit by bit and appears only when complete: `detr_types::fs` for output
//! that does not come from one function.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A temporary file beside its final place; dropped without [`persist`](Self::persist), it is
/// removed.
pub(super) struct PendingFile {
    // A handle of its own: `NamedTempFile` gives access to the file only while nobody writes.
    buffered: BufWriter<File>,
    temporary: NamedTempFile,
    path: PathBuf,
}

impl PendingFile {
    /// Starts a file for this path; missing parent folders are made.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
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
    pub(super) fn persist(mut self) -> io::Result<()> {
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
