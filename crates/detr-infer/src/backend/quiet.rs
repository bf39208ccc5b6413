//! Keeps drivers quiet about what is harmless.

/// Runs `f`, and drops the messages of the Wayland library meanwhile if there is no desktop: graphics drivers ask it
/// for a display while adapters are listed, and in a container each question becomes a line on standard error that
/// looks like a failure. Everything else that was written to standard error follows after `f`. One call at a time:
/// standard error is the whole program's.
#[cfg(unix)]
pub(super) fn without_desktop_messages<T>(f: impl FnOnce() -> T) -> T {
    if std::env::var_os(detr_types::env::XDG_RUNTIME_DIR).is_some() {
        return f();
    }
    let captured = unix::StderrCapture::start();
    let value = f();
    drop(captured);
    value
}

/// Runs `f`.
#[cfg(not(unix))]
pub(super) fn without_desktop_messages<T>(f: impl FnOnce() -> T) -> T {
    f()
}

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
    use std::os::fd::OwnedFd;

    /// The messages begin with it.
    const HARMLESS: &[u8] = b"error: XDG_RUNTIME_DIR is invalid or not set";

    /// Standard error while it goes to a file.
    pub(super) struct StderrCapture {
        terminal: OwnedFd,
        file: File,
    }

    impl StderrCapture {
        /// Returns `None` where standard error cannot be moved; it stays as it is then.
        pub(super) fn start() -> Option<Self> {
            let file = tempfile::tempfile().ok()?;
            let terminal = rustix::io::dup(std::io::stderr()).ok()?;
            rustix::stdio::dup2_stderr(&file).ok()?;
            Some(Self { terminal, file })
        }

        fn hand_on(&mut self) -> std::io::Result<()> {
            self.file.seek(SeekFrom::Start(0))?;
            let mut err = std::io::stderr().lock();
            for line in BufReader::new(&self.file).split(b'\n') {
                let line = line?;
                if !line.starts_with(HARMLESS) {
                    err.write_all(&line)?;
                    err.write_all(b"\n")?;
                }
            }
            Ok(())
        }
    }

    impl Drop for StderrCapture {
        fn drop(&mut self) {
            // A failure cannot be reported: standard error itself has failed.
            let _ = rustix::stdio::dup2_stderr(&self.terminal);
            let _ = self.hand_on();
        }
    }
}
