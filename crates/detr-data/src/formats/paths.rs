//! File names from annotations: joined to the root of a data set so that they cannot leave it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why a file name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsafeName {
    /// Nothing that names a file.
    #[error("names no file")]
    Empty,
    /// A zero byte.
    #[error("contains a zero byte")]
    Nul,
    /// A path from the root of the system, or of a drive.
    #[error("is absolute")]
    Absolute,
    /// A part `..`, plain or percent-encoded.
    #[error("contains `..`")]
    Parent,
    /// A link that leads out of the data set.
    #[error("leads out of the data set through a link")]
    Link,
    /// A folder, pipe, socket or device.
    #[error("is no regular file")]
    NotAFile,
}

/// Joins a file name to the root of a data set by its text alone. `/` and `\` both separate, `.`
/// parts are dropped.
///
/// # Errors
/// A name that is absolute, leads upwards, or names no file.
pub fn safe_join(root: &Path, name: &str) -> Result<PathBuf, UnsafeName> {
    Ok(root.join(clean(name)?))
}

/// The name with `/` between its parts.
pub(super) fn clean(name: &str) -> Result<String, UnsafeName> {
    if name.contains('\0') {
        return Err(UnsafeName::Nul);
    }
    let parts = name.split(['/', '\\']).filter(|part| !matches!(*part, "" | "."));
    let parts: Vec<&str> = parts.collect();
    if name.starts_with(['/', '\\']) || is_drive(&parts) {
        return Err(UnsafeName::Absolute);
    }
    let lower = name.to_ascii_lowercase();
    let decoded = lower.replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    if decoded.split(['/', '\\']).any(|part| part.trim_end() == "..") {
        return Err(UnsafeName::Parent);
    }
    if parts.is_empty() {
        return Err(UnsafeName::Empty);
    }
    Ok(parts.join("/"))
}

/// Whether the first part is a drive of Windows.
fn is_drive(parts: &[&str]) -> bool {
    matches!(parts.first().map(|part| part.as_bytes()), Some([letter, b':', ..]) if letter.is_ascii_alphabetic())
}

/// A file of a data set.
pub(super) struct Located {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its name with `/`, relative to the root.
    pub(super) name: String,
    /// Whether it is there.
    pub(super) exists: bool,
}

/// The folder that names refer to.
pub(super) struct Root {
    folder: PathBuf,
    real: PathBuf,
    allow_outside: bool,
    check_files: bool,
    /// Folders that were looked up, and whether they are inside.
    folders: RefCell<HashMap<PathBuf, bool>>,
}

impl Root {
    /// A folder; one that is not there has no files.
    pub(super) fn new(folder: &Path, allow_outside: bool, check_files: bool) -> io::Result<Self> {
        // The folder of a file that is named without one.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let real = match folder.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => folder.to_owned(),
            Err(error) => return Err(error),
        };
        let folders = RefCell::default();
        Ok(Self { folder: folder.to_owned(), real, allow_outside, check_files, folders })
    }

    /// The file of that name, which must be a regular one inside the root if it is there.
    pub(super) fn locate(&self, name: &str) -> Result<Located, UnsafeName> {
        let name = clean(name)?;
        let path = self.folder.join(&name);
        if !self.check_files {
            return Ok(Located { path, name, exists: true });
        }
        let Ok(mut metadata) = fs::symlink_metadata(&path) else {
            return Ok(Located { path, name, exists: false });
        };
        if metadata.is_symlink() {
            let Ok(real) = path.canonicalize() else {
                return Ok(Located { path, name, exists: false });
            };
            if !self.allow_outside && !real.starts_with(&self.real) {
                return Err(UnsafeName::Link);
            }
            metadata = fs::metadata(&real).map_err(|_| UnsafeName::NotAFile)?;
        }
        if !self.allow_outside && !self.folder_is_inside(&path) {
            return Err(UnsafeName::Link);
        }
        if !metadata.is_file() {
            return Err(UnsafeName::NotAFile);
        }
        Ok(Located { path, name, exists: true })
    }

    /// Folders are few, so each is resolved once.
    fn folder_is_inside(&self, path: &Path) -> bool {
        let Some(folder) = path.parent() else { return false };
        *self
            .folders
            .borrow_mut()
            .entry(folder.to_owned())
            .or_insert_with(|| folder.canonicalize().is_ok_and(|real| real.starts_with(&self.real)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_root() {
        let root = Path::new("data");
        for (name, joined) in [
            ("a.jpg", "data/a.jpg"),
            ("./sub\\a b.jpg", "data/sub/a b.jpg"),
            ("..a/b..jpg", "data/..a/b..jpg"),
        ] {
            assert_eq!(safe_join(root, name).unwrap(), Path::new(joined));
        }
        for (name, reason) in [
            ("", UnsafeName::Empty),
            ("./", UnsafeName::Empty),
            ("a\0.jpg", UnsafeName::Nul),
            ("/etc/passwd", UnsafeName::Absolute),
            ("\\\\server\\a", UnsafeName::Absolute),
            ("C:\\a.jpg", UnsafeName::Absolute),
            ("../a.jpg", UnsafeName::Parent),
            ("a/..\\..\\b.jpg", UnsafeName::Parent),
            ("%2e%2E/a.jpg", UnsafeName::Parent),
            ("a%2f..%5Cb", UnsafeName::Parent),
        ] {
            assert_eq!(safe_join(root, name), Err(reason), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_and_special_files_do_not_leave_the_root() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        for folder in [&inside, &outside] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("a.jpg"), b"x").unwrap();
        }
        symlink(outside.join("a.jpg"), inside.join("file.jpg")).unwrap();
        symlink(&outside, inside.join("folder")).unwrap();
        symlink("a.jpg", inside.join("fine.jpg")).unwrap();
        symlink("/dev/null", inside.join("null.jpg")).unwrap();
        let root = Root::new(&inside, false, true).unwrap();
        for name in ["file.jpg", "folder/a.jpg", "null.jpg"] {
            assert_eq!(root.locate(name).err(), Some(UnsafeName::Link), "{name}");
        }
        assert!(root.locate("fine.jpg").unwrap().exists);
        assert!(!root.locate("missing.jpg").unwrap().exists);
        let root = Root::new(&inside, true, true).unwrap();
        assert!(root.locate("folder/a.jpg").unwrap().exists);
        assert_eq!(root.locate("null.jpg").err(), Some(UnsafeName::NotAFile));
    }
}
