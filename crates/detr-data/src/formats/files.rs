//! Lists of files, in the order of their names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::DatasetError;

/// Extensions of images, in lower case.
pub(super) const IMAGES: &[&str] =
    &["jpg", "jpeg", "png", "bmp", "webp", "ppm", "pgm", "pbm", "pnm", "tif", "tiff", "gif"];

/// Folders in folders that are looked at.
const MAX_DEPTH: usize = 16;

/// Files with one of the extensions in a folder; none if it is not there.
pub(super) fn here(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, DatasetError> {
    list(folder, extensions, 0)
}

/// The same in a folder and all below it. Links to folders are not followed.
pub(super) fn below(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, DatasetError> {
    list(folder, extensions, MAX_DEPTH)
}

fn list(folder: &Path, extensions: &[&str], depth: usize) -> Result<Vec<PathBuf>, DatasetError> {
    let mut found = Vec::new();
    let mut pending = vec![(folder.to_owned(), 0)];
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
            let kind = entry.file_type().map_err(DatasetError::io(&folder))?;
            let path = entry.path();
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            if kind.is_dir() {
                if at < depth {
                    pending.push((path, at + 1));
                }
            } else if extensions.contains(&extension.to_ascii_lowercase().as_str()) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A path relative to a folder, with `/`.
pub(super) fn relative(path: &Path, folder: &Path) -> String {
    let path = path.strip_prefix(folder).unwrap_or(path);
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}
