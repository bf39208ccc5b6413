//! What the self-test found, remembered per device and precision in the user's cache, so that a
//! precision that computed wrongly is refused from then on. A verdict of another version of this
//! program counts for nothing.

use std::io;
use std::path::{Path, PathBuf};

use detr_types::env;
use detr_types::fs::atomic_write;
use serde::{Deserialize, Serialize};

use crate::backend::{Precision, Selected};

/// Folder inside the cache; a file for every device and precision.
const FOLDER: &str = "self-test";
/// More than this was not written by us.
const MAX_BYTES: u64 = 1 << 16;

/// One verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Verdict {
    /// Backend and adapter.
    device: String,
    precision: String,
    /// Of the program that tested.
    version: String,
    /// What was out of bounds; none if all was well.
    refused: Option<String>,
}

/// The verdicts of a cache folder.
#[derive(Clone, Debug)]
pub struct Verdicts {
    /// None where the user has no folder.
    folder: Option<PathBuf>,
}

impl Verdicts {
    /// Those of this user.
    #[must_use]
    pub fn of_user() -> Self {
        let given = std::env::var_os(env::DETR_CACHE).filter(|folder| !folder.is_empty());
        let cache = match given {
            Some(folder) => Some(PathBuf::from(folder)),
            None => std::env::home_dir().map(|home| home.join(".cache").join("detr")),
        };
        Self { folder: cache.map(|cache| cache.join(FOLDER)) }
    }

    /// Those of another cache folder.
    #[must_use]
    pub fn in_folder(cache: &Path) -> Self {
        Self { folder: Some(cache.join(FOLDER)) }
    }

    /// Why the self-test refused a precision of a device, if it did.
    #[must_use]
    pub fn refused(&self, selected: &Selected, precision: Precision) -> Option<String> {
        let wanted = Verdict::of(selected, precision, None);
        let found = read(&self.path(&wanted)?)?;
        let same = found.device == wanted.device
            && found.precision == wanted.precision
            && found.version == wanted.version;
        found.refused.filter(|_| same)
    }

    /// Remembers a verdict: what was out of bounds, or none if all was well.
    ///
    /// # Errors
    /// No home folder, or a file that cannot be written.
    pub fn record(
        &self,
        selected: &Selected,
        precision: Precision,
        refused: Option<String>,
    ) -> io::Result<()> {
        let verdict = Verdict::of(selected, precision, refused);
        let path = self.path(&verdict).ok_or_else(|| {
            let message = format!("no home folder; set {}", env::DETR_CACHE);
            io::Error::new(io::ErrorKind::NotFound, message)
        })?;
        let json = serde_json::to_vec_pretty(&verdict)?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        atomic_write(&path, |file| file.write_all(&json))
    }

    /// The file of a verdict. Names that differ in punctuation only share it; the content tells them
    /// apart, and the last one tested counts.
    fn path(&self, verdict: &Verdict) -> Option<PathBuf> {
        let device: String = verdict
            .device
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(100)
            .collect();
        let name = format!("{device}-{}.json", verdict.precision);
        self.folder.as_ref().map(|folder| folder.join(name))
    }
}

impl Verdict {
    fn of(selected: &Selected, precision: Precision, refused: Option<String>) -> Self {
        Self {
            device: selected.id.clone(),
            precision: precision.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            refused,
        }
    }
}

/// A verdict; none where the file is missing or damaged: the next self-test replaces it.
fn read(path: &Path) -> Option<Verdict> {
    let metadata = path.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return None;
    }
    let text = std::fs::read(path).ok()?;
    serde_json::from_slice(&text)
        .inspect_err(|error| tracing::warn!("{}: {error}; left aside", path.display()))
        .ok()
}
