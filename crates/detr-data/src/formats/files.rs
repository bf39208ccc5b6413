//! Lists of files and folders, in the order of their names. Hidden ones, whose names start with a dot, are in no
//! list: they are copies that editors and operating systems keep beside the data.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::DatasetError;

/// Extensions of images, in lower case.
pub(super) const IMAGES: &[&str] =
    &["jpg", "jpeg", "png", "bmp", "webp", "ppm", "pgm", "pbm", "pnm", "tif", "tiff", "gif"];

/// Folders in folders that are looked at.
const MAX_DEPTH: usize = 16;

/// The number of names that a message lists.
const LISTED: usize = 5;

/// Lists the files with one of the extensions in a folder; none if it does not exist.
pub(super) fn here(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, DatasetError> {
    list(folder, extensions, 0, |_| false)
}

/// Lists the files in a folder and in all folders below it. Links to folders are not followed.
pub(super) fn below(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, DatasetError> {
    list(folder, extensions, MAX_DEPTH, |_| false)
}

/// Lists the files in a folder, in all folders below it, and in the folders that links lead to, if
/// `follow` says so.
pub(super) fn below_with_links(
    folder: &Path,
    extensions: &[&str],
    follow: impl FnMut(&Path) -> bool,
) -> Result<Vec<PathBuf>, DatasetError> {
    list(folder, extensions, MAX_DEPTH, follow)
}

fn list(
    folder: &Path,
    extensions: &[&str],
    depth: usize,
    mut follow: impl FnMut(&Path) -> bool,
) -> Result<Vec<PathBuf>, DatasetError> {
    let mut found = Vec::new();
    let mut pending = vec![(folder.to_owned(), 0)];
    // A link may lead to a folder that holds it.
    let mut linked = HashSet::new();
    while let Some((folder, at)) = pending.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                continue;
            }
            Err(error) => return Err(DatasetError::io(&folder)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(DatasetError::io(&folder))?;
            if is_hidden(&entry.file_name()) {
                continue;
            }
            let kind = entry.file_type().map_err(DatasetError::io(&folder))?;
            let path = entry.path();
            if kind.is_dir() || (kind.is_symlink() && path.is_dir()) {
                let enter = at < depth
                    && (kind.is_dir()
                        || (follow(&path)
                            && path.canonicalize().is_ok_and(|real| linked.insert(real))));
                if enter {
                    pending.push((path, at + 1));
                }
            } else if has_extension(&path, extensions) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Returns whether a name starts with a dot.
fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Returns whether a file has one of the extensions, in any case of its letters.
pub(super) fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    extensions.contains(&extension.as_str())
}

/// Returns the folders in a folder by their names, without hidden ones.
pub(super) fn folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let visible = entries.filter(|entry| !is_hidden(&entry.file_name()));
    let mut folders: Vec<(String, PathBuf)> = visible
        .filter(|entry| match entry.file_type() {
            Ok(kind) if kind.is_symlink() => entry.path().is_dir(),
            kind => kind.is_ok_and(|kind| kind.is_dir()),
        })
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .collect();
    folders.sort();
    folders
}

/// Returns the first of these folders that is there, in any case of its letters.
pub(super) fn folder(parent: &Path, names: &[&str]) -> Option<PathBuf> {
    let folders = folders(parent);
    names.iter().find_map(|name| {
        let exact = folders.iter().find(|(found, _)| found == name);
        let found =
            exact.or_else(|| folders.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)));
        found.map(|(_, path)| path.clone())
    })
}

/// Returns a path relative to a folder, with `/`.
pub(super) fn relative(path: &Path, folder: &Path) -> String {
    let path = path.strip_prefix(folder).unwrap_or(path);
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// Returns the first names of a list and the number of the others, for a message.
pub(super) fn listed(names: &[impl AsRef<str>]) -> String {
    let first: Vec<&str> = names.iter().take(LISTED).map(AsRef::as_ref).collect();
    let first = first.join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_files_and_folders_are_in_no_list() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        };
        for name in ["a.JPG", "._a.jpg", ".hidden/b.jpg", "c/d.jpg", "c/.e/f.jpg", "c/.g.jpg"] {
            write(name);
        }
        let names: Vec<String> = below(folder.path(), IMAGES)
            .unwrap()
            .iter()
            .map(|path| relative(path, folder.path()))
            .collect();
        assert_eq!(names, ["a.JPG", "c/d.jpg"]);
        assert_eq!(here(folder.path(), IMAGES).unwrap().len(), 1);
        assert_eq!(folders(folder.path()).len(), 1);
    }

    #[test]
    fn lists_in_messages_are_cut() {
        let names: Vec<String> = (0..300).map(|n| n.to_string()).collect();
        assert_eq!(listed(&names), "0, 1, 2, 3, 4 and 295 more");
        assert_eq!(listed(&names[..5]), "0, 1, 2, 3, 4");
    }
}
