//! Names an image in the output: its id in COCO results, its file in a folder of labels.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::error::WriteError;
use super::output_format::OutputFormat;
use crate::text::shown;

/// The origin of the image ids in COCO results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageIds {
    /// From the file names: `000000000139.jpg` is image 139, as in COCO's own data sets.
    Stems,
    /// The position among the images, from 1, because not all names are distinct numbers. The
    /// results tell the images apart by `file_name`.
    Positions,
}

/// Ids and stems of all images, and which of them have been written.
pub(super) struct Naming {
    pub(super) ids: ImageIds,
    entries: HashMap<String, Entry>,
}

struct Entry {
    id: u64,
    stem: OsString,
    written: bool,
}

impl Naming {
    /// Settles all names; refuses images that would share a label file.
    pub(super) fn new(
        files: &[impl AsRef<Path>],
        format: OutputFormat,
    ) -> Result<Self, WriteError> {
        let mut seen = HashSet::new();
        let files: Vec<&Path> =
            files.iter().map(AsRef::as_ref).filter(|file| seen.insert(*file)).collect();
        if format.is_folder() {
            refuse_shared_names(&files, format)?;
        }
        let numbers: Option<Vec<u64>> =
            files.iter().map(|file| number(stem(file).to_str()?)).collect();
        let distinct = numbers.filter(|n| n.iter().collect::<HashSet<_>>().len() == n.len());
        let ids = if distinct.is_some() { ImageIds::Stems } else { ImageIds::Positions };
        let numbers = distinct.unwrap_or_else(|| (1..).take(files.len()).collect());
        let entry = |(file, id): (&Path, u64)| {
            (shown(file), Entry { id, stem: stem(file), written: false })
        };
        Ok(Self { ids, entries: files.into_iter().zip(numbers).map(entry).collect() })
    }

    /// Returns the id and stem of an image that is now written.
    pub(super) fn take(&mut self, file: &str) -> Result<(u64, &OsStr), WriteError> {
        let file = || file.to_owned();
        let Some(entry) = self.entries.get_mut(&file()) else {
            return Err(WriteError::Unexpected { file: file() });
        };
        if std::mem::replace(&mut entry.written, true) {
            return Err(WriteError::Repeated { file: file() });
        }
        Ok((entry.id, &entry.stem))
    }
}

/// Refuses two names that a case-insensitive file system could mistake for each other: one label
/// file would replace the other.
fn refuse_shared_names(files: &[&Path], format: OutputFormat) -> Result<(), WriteError> {
    let mut owners: HashMap<String, &Path> = HashMap::new();
    for file in files {
        let stem = shown(Path::new(&stem(file)));
        let key = if cfg!(any(windows, target_os = "macos")) { stem.to_lowercase() } else { stem };
        if format == OutputFormat::Yolo && key == "classes" {
            return Err(WriteError::ClassesName { file: shown(file) });
        }
        let name = format!("{key}.txt");
        if let Some(first) = owners.insert(key, file) {
            return Err(WriteError::SameName { first: shown(first), second: shown(file), name });
        }
    }
    Ok(())
}

/// Returns the file name without its extension, byte by byte; never empty, never with a separator.
fn stem(file: &Path) -> OsString {
    let stem = file.file_stem().filter(|stem| !stem.is_empty());
    stem.unwrap_or(OsStr::new("image")).to_owned()
}

/// Returns the number that a stem consists of, if it does and JSON readers can hold it exactly.
fn number(stem: &str) -> Option<u64> {
    let digits = stem.bytes().all(|byte| byte.is_ascii_digit());
    stem.parse().ok().filter(|number| digits && *number < 1 << 53)
}
