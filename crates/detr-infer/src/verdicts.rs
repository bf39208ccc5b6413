//! What the self-test found, remembered per device and precision in the user's cache, so that a
//! precision that failed is refused from then on. A verdict of another version of this program counts
//! for nothing.

use std::io;
use std::path::{Path, PathBuf};

use detr_types::env;
use detr_types::fs::atomic_write;
use serde::{Deserialize, Serialize};

use crate::backend::{Precision, Selected};

/// Name of the file inside the cache.
const FILE: &str = "self-test.json";
/// More than this was not written by us.
const MAX_BYTES: u64 = 1 << 20;

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
    /// The file; none where there is no folder for it.
    path: Option<PathBuf>,
}

impl Verdicts {
    /// Those of this user.
    #[must_use]
    pub fn of_user() -> Self {
        let given = std::env::var_os(env::DETR_CACHE).filter(|folder| !folder.is_empty());
        let folder = match given {
            Some(folder) => Some(PathBuf::from(folder)),
            None => std::env::home_dir().map(|home| home.join(".cache").join("detr")),
        };
        Self { path: folder.map(|folder| folder.join(FILE)) }
    }

    /// Those of another cache folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self { path: Some(folder.join(FILE)) }
    }

    /// Why the self-test refused a precision of a device, if it did.
    #[must_use]
    pub fn refused(&self, selected: &Selected, precision: Precision) -> Option<String> {
        let wanted = Verdict::of(selected, precision, None);
        self.read().into_iter().find(|verdict| verdict.is_about(&wanted))?.refused
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
        let path = self.path.as_ref().ok_or_else(|| {
            let message = format!("no home folder; set {}", env::DETR_CACHE);
            io::Error::new(io::ErrorKind::NotFound, message)
        })?;
        let new = Verdict::of(selected, precision, refused);
        let mut verdicts = self.read();
        verdicts.retain(|old| old.version == new.version && !old.is_about(&new));
        verdicts.push(new);
        let json = serde_json::to_vec_pretty(&verdicts)?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        atomic_write(path, |file| file.write_all(&json))
    }

    /// All verdicts. A file that is missing or damaged holds none: the next self-test replaces it.
    fn read(&self) -> Vec<Verdict> {
        let Some(path) = &self.path else { return Vec::new() };
        let usable =
            |metadata: std::fs::Metadata| metadata.is_file() && metadata.len() <= MAX_BYTES;
        if !path.metadata().is_ok_and(usable) {
            return Vec::new();
        }
        let text = std::fs::read(path).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!("{}: {error}; no verdict of the self-test is known", path.display());
            Vec::new()
        })
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

    fn is_about(&self, other: &Self) -> bool {
        self.device == other.device
            && self.precision == other.precision
            && self.version == other.version
    }
}
