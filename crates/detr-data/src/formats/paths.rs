//! File names from annotations: joined to the root of a data set so that they cannot leave it.
//!
//! An absolute name, or one with `..`, is inside when it leads to a place below the data set's folder. An absolute
//! name of another machine has no such place, but its end may be a name below that folder: [`tails`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::{DatasetError, files, neighbour, splits};
use crate::dataset::{Problem, ReadReport};

/// Says how data outside of its folder is allowed, for hints.
pub(super) const OUTSIDE_HINT: &str = "to read files outside of the data set's folder give `--follow-symlinks`, or \
     `follow_symlinks = true` to the source in the settings of `detr train`";

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
    /// The address of something on the web.
    #[error("is the address of a web page, not a file")]
    Url,
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

/// Returns the name with `/` between its parts.
pub(super) fn clean(name: &str) -> Result<String, UnsafeName> {
    if name.contains('\0') {
        return Err(UnsafeName::Nul);
    }
    let parts = name.split(['/', '\\']).filter(|part| !matches!(*part, "" | "."));
    let parts: Vec<&str> = parts.collect();
    if is_url(name) {
        return Err(UnsafeName::Url);
    }
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

/// Returns whether the first part is a drive of Windows.
fn is_drive(parts: &[&str]) -> bool {
    matches!(parts.first().map(|part| part.as_bytes()), Some([letter, b':', ..]) if letter.is_ascii_alphabetic())
}

/// Returns whether a name starts with the scheme of a web address.
fn is_url(name: &str) -> bool {
    name.split_once("://").is_some_and(|(scheme, _)| {
        scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Returns the names that the end of an absolute one may be below another folder, the longest first; for a
/// relative name that with its first folder left out. A folder that is named after a split is never left out,
/// because another split's files would be taken for its own.
pub(super) fn tails(name: &str) -> Vec<String> {
    let is_relative = match clean(name) {
        Ok(_) => true,
        Err(UnsafeName::Absolute | UnsafeName::Url) => false,
        Err(UnsafeName::Parent) if name.starts_with("..") => false,
        Err(_) => return Vec::new(),
    };
    // Label Studio's addresses of local files.
    let name = name.replace("?d=", "/");
    let parts: Vec<&str> =
        name.split(['/', '\\']).filter(|part| !matches!(*part, "" | ".")).collect();
    let upwards = parts.iter().take_while(|part| **part == "..").count();
    let mut parts = &parts[upwards..];
    let mut tails = Vec::new();
    while !parts.is_empty() {
        let tail = parts.join("/");
        let decoded = neighbour::percent_decoded(&tail);
        for tail in [tail, decoded] {
            if clean(&tail).is_ok_and(|clean| clean == tail) && !tails.contains(&tail) {
                tails.push(tail);
            }
        }
        if splits::is_usual(parts[0]) || parts.len() == 1 {
            break;
        }
        parts = &parts[1..];
    }
    if is_relative {
        tails.drain(..tails.len().min(1));
        tails.truncate(1);
    }
    tails
}

/// Folders of a data set, and where they really are.
#[derive(Default)]
pub(super) struct Folders {
    folders: Vec<(PathBuf, PathBuf)>,
    /// Folders that were looked up, and what they are below a folder of the data set.
    known: RefCell<HashMap<PathBuf, Option<PathBuf>>>,
}

impl Folders {
    /// Adds a folder; one that does not exist holds nothing.
    pub(super) fn add(&mut self, folder: &Path) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        if let Ok(real) = folder.canonicalize() {
            self.folders.push((folder.to_owned(), real));
        }
    }

    /// Returns a path as one below a folder of the data set, if it leads there by its text.
    pub(super) fn below(&self, path: &Path) -> Option<PathBuf> {
        let (parent, name) = (path.parent()?, path.file_name());
        let Some(name) = name else { return self.find(path) };
        if let Some(folder) = self.known.borrow().get(parent) {
            return folder.as_ref().map(|folder| folder.join(name));
        }
        let folder = self.find(parent);
        self.known.borrow_mut().insert(parent.to_owned(), folder.clone());
        // The path may be a folder of the data set itself.
        folder.map(|folder| folder.join(name)).or_else(|| self.find(path))
    }

    fn find(&self, path: &Path) -> Option<PathBuf> {
        for above in path.ancestors().filter(|above| !above.as_os_str().is_empty()) {
            let Ok(real) = above.canonicalize() else { continue };
            let rest = path.strip_prefix(above).ok()?;
            if rest.components().any(|part| part == Component::ParentDir) {
                continue;
            }
            // Links below the folder stay as they are: labels are found by the names of folders.
            if let Some((folder, _)) = self.folders.iter().find(|(_, known)| *known == real) {
                return Some(if rest.as_os_str().is_empty() {
                    folder.clone()
                } else {
                    folder.join(rest)
                });
            }
        }
        None
    }

    fn hold(&self, real: &Path) -> bool {
        self.folders.iter().any(|(_, folder)| real.starts_with(folder))
    }
}

/// A file of a data set.
pub(super) struct DataFile {
    /// The path of the image.
    pub(super) path: PathBuf,
    /// Its name with `/`, relative to the root.
    pub(super) name: String,
    /// Whether it is there.
    pub(super) exists: bool,
    /// Whether only the end of its name leads to it.
    pub(super) by_tail: bool,
}

/// The folder that names refer to.
pub(super) struct DatasetRoot {
    folder: PathBuf,
    real: PathBuf,
    /// All folders whose files are inside.
    inside: Folders,
    allow_outside: bool,
    check_files: bool,
    use_tails: bool,
    /// Folders that were looked up, and whether they are inside.
    folders: RefCell<HashMap<PathBuf, bool>>,
}

impl DatasetRoot {
    /// Opens a folder; one that does not exist has no files.
    pub(super) fn new(folder: &Path, allow_outside: bool, check_files: bool) -> io::Result<Self> {
        // The folder of a file that is named without one.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let real = match folder.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => folder.to_owned(),
            Err(error) => return Err(error),
        };
        let mut inside = Folders::default();
        inside.add(folder);
        Ok(Self {
            folder: folder.to_owned(),
            real,
            inside,
            allow_outside,
            check_files,
            use_tails: false,
            folders: RefCell::default(),
        })
    }

    /// Takes the files of another folder as inside, too: of the data set's own, where that is not the images'.
    #[must_use]
    pub(super) fn within(mut self, folder: &Path) -> Self {
        self.inside.add(folder);
        self
    }

    /// Looks for the ends of absolute names that lead outside or nowhere.
    #[must_use]
    pub(super) fn with_tails(mut self, use_tails: bool) -> Self {
        self.use_tails = use_tails;
        self
    }

    /// Finds the file of that name, which must be a regular one inside the root if it exists.
    pub(super) fn locate(&self, name: &str) -> Result<DataFile, UnsafeName> {
        let name = match clean(name) {
            Ok(name) => name,
            Err(reason @ (UnsafeName::Absolute | UnsafeName::Url | UnsafeName::Parent)) => {
                return self.locate_elsewhere(name).unwrap_or(Err(reason));
            }
            Err(reason) => return Err(reason),
        };
        let path = self.folder.join(&name);
        if !self.check_files {
            return Ok(DataFile { path, name, exists: true, by_tail: false });
        }
        let exists = self.check(&path)?;
        Ok(DataFile { path, name, exists, by_tail: false })
    }

    /// Returns whether a file is there; it must be a regular one inside the root.
    pub(super) fn check(&self, path: &Path) -> Result<bool, UnsafeName> {
        let Ok(mut metadata) = fs::symlink_metadata(path) else { return Ok(false) };
        if metadata.is_symlink() {
            let Ok(real) = path.canonicalize() else { return Ok(false) };
            if !self.allow_outside && !self.holds(&real) {
                return Err(UnsafeName::Link);
            }
            metadata = fs::metadata(&real).map_err(|_| UnsafeName::NotAFile)?;
        }
        if !self.allow_outside && !self.folder_is_inside(path) {
            return Err(UnsafeName::Link);
        }
        if !metadata.is_file() {
            return Err(UnsafeName::NotAFile);
        }
        Ok(true)
    }

    /// Returns the images of a folder and all below it, also in folders that links lead to. A link that leads out of
    /// the data set to a folder is counted.
    pub(super) fn images(
        &self,
        folder: &Path,
        report: &mut ReadReport,
    ) -> Result<Vec<PathBuf>, DatasetError> {
        files::below_with_links(folder, files::IMAGES, |link| {
            let is_inside = link.canonicalize().is_ok_and(|real| self.holds(&real));
            if !is_inside && !self.allow_outside {
                let reason = UnsafeName::Link;
                report.add(Problem::UnsafeFileName, format!("{}: {reason}", link.display()));
            }
            is_inside || self.allow_outside
        })
    }

    /// Finds the file of a name that is not relative to the root; `None` if it leads nowhere.
    fn locate_elsewhere(&self, name: &str) -> Option<Result<DataFile, UnsafeName>> {
        let native = Path::new(name);
        let slashes = name.replace('\\', "/");
        let mut given = Vec::new();
        for name in [native, Path::new(&slashes)] {
            // A name relative to the annotations may lead upwards and down again.
            given.extend(self.inside.folders.iter().map(|(folder, _)| folder.join(name)));
        }
        given.retain(|path| path.exists());
        let path = given.iter().find_map(|path| self.inside.below(path));
        let by_tail = path.is_none();
        let path = path.or_else(|| {
            let tails = if self.use_tails { tails(name) } else { Vec::new() };
            tails.iter().map(|tail| self.folder.join(tail)).find(|path| path.exists())
        });
        let by_tail = by_tail && path.is_some();
        let path = path.or_else(|| given.into_iter().next().filter(|_| self.allow_outside))?;
        let name = self.name_of(&path);
        Some(self.check(&path).map(|exists| DataFile { path, name, exists, by_tail }))
    }

    /// Returns whether each file is looked for.
    pub(super) fn checks_files(&self) -> bool {
        self.check_files
    }

    /// Returns the folder that names refer to.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the name of a path relative to the folder that it is below, or without the root of the
    /// system.
    fn name_of(&self, path: &Path) -> String {
        let folders = self.inside.folders.iter();
        let below = folders.filter_map(|(folder, _)| path.strip_prefix(folder).ok());
        let rest = below.min_by_key(|rest| rest.components().count()).unwrap_or(path);
        let parts = rest.components().filter_map(|part| match part {
            Component::Normal(part) => Some(part.to_string_lossy()),
            _ => None,
        });
        parts.collect::<Vec<_>>().join("/")
    }

    fn holds(&self, real: &Path) -> bool {
        real.starts_with(&self.real) || self.inside.hold(real)
    }

    /// Folders are few, so each is resolved once.
    fn folder_is_inside(&self, path: &Path) -> bool {
        let Some(folder) = path.parent() else { return false };
        *self
            .folders
            .borrow_mut()
            .entry(folder.to_owned())
            .or_insert_with(|| folder.canonicalize().is_ok_and(|real| self.holds(&real)))
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

    #[test]
    fn ends_of_absolute_names_keep_the_split() {
        for (name, expected) in [
            ("/a/b/c.jpg", vec!["a/b/c.jpg", "b/c.jpg", "c.jpg"]),
            ("/a/val/c.jpg", vec!["a/val/c.jpg", "val/c.jpg"]),
            ("C:\\a\\c.jpg", vec!["a/c.jpg", "c.jpg"]),
            ("../../a/c.jpg", vec!["a/c.jpg", "c.jpg"]),
            (
                "/x/?d=a/my%20c.jpg",
                vec![
                    "x/a/my%20c.jpg",
                    "x/a/my c.jpg",
                    "a/my%20c.jpg",
                    "a/my c.jpg",
                    "my%20c.jpg",
                    "my c.jpg",
                ],
            ),
            ("data/a/c.jpg", vec!["a/c.jpg"]),
            ("train/c.jpg", vec![]),
            ("a/../../c.jpg", vec![]),
            ("/a/../c.jpg", vec!["c.jpg"]),
        ] {
            assert_eq!(tails(name), expected, "{name}");
        }
    }

    #[test]
    fn absolute_names_inside_are_inside() {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("images");
        fs::create_dir(&images).unwrap();
        fs::write(images.join("a.jpg"), b"x").unwrap();
        let absolute = images.join("a.jpg").display().to_string();
        let root = DatasetRoot::new(&images, false, true).unwrap();
        let located = root.locate(&absolute).unwrap();
        assert_eq!((located.path, located.name.as_str()), (images.join("a.jpg"), "a.jpg"));
        let annotations = folder.path().join("annotations");
        fs::create_dir(&annotations).unwrap();
        assert_eq!(root.locate("../images/a.jpg").unwrap().name, "a.jpg");
        assert_eq!(root.locate("/elsewhere/a.jpg").err(), Some(UnsafeName::Absolute));
        assert_eq!(root.locate("https://x.org/a.jpg").err(), Some(UnsafeName::Url));
        let root = root.with_tails(true);
        assert_eq!(root.locate("/elsewhere/a.jpg").unwrap().name, "a.jpg");
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
        let root = DatasetRoot::new(&inside, false, true).unwrap();
        for name in ["file.jpg", "folder/a.jpg", "null.jpg"] {
            assert_eq!(root.locate(name).err(), Some(UnsafeName::Link), "{name}");
        }
        assert!(root.locate("fine.jpg").unwrap().exists);
        assert!(!root.locate("missing.jpg").unwrap().exists);
        let root = DatasetRoot::new(&inside, true, true).unwrap();
        assert!(root.locate("folder/a.jpg").unwrap().exists);
        assert_eq!(root.locate("null.jpg").err(), Some(UnsafeName::NotAFile));
    }
}
