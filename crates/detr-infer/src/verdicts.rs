//! The findings of the self-test, remembered per device, driver and precision in the user's cache, so that a
//! precision that computed wrongly is refused from then on for the work that needs it. A verdict on another
//! driver, or of another version of this program, counts for nothing.

use std::io;
use std::path::{Path, PathBuf};

use detr_types::env;
use detr_types::fs::atomic_write;
use serde::{Deserialize, Serialize};

use crate::backend::{Precision, Purpose, SelectedDevice};
use crate::self_test::Report;

/// Folder inside the cache; a file for every device and precision.
const FOLDER: &str = "self-test";
/// More than this was not written by us.
const MAX_BYTES: u64 = 1 << 16;

/// The form of the files; those of another form count for nothing.
const FORM: u32 = 2;

/// One verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Verdict {
    /// [`FORM`].
    form: u32,
    /// Backend and adapter.
    device: String,
    /// Driver and its version, where they are known.
    driver: Option<String>,
    precision: String,
    /// The version of the program that tested.
    version: String,
    /// Whether the large sizes were tested, too.
    full: bool,
    /// The operations out of bounds that predictions need; `None` if all was well.
    prediction: Option<String>,
    /// The operations out of bounds that training needs, predictions included.
    training: Option<String>,
}

/// The verdicts of a cache folder.
#[derive(Clone, Debug)]
pub struct Verdicts {
    /// None where the user has no folder.
    folder: Option<PathBuf>,
}

impl Verdicts {
    /// Opens the verdicts of this user.
    #[must_use]
    pub fn of_user() -> Self {
        let given = std::env::var_os(env::DETR_CACHE).filter(|folder| !folder.is_empty());
        let cache = match given {
            Some(folder) => Some(PathBuf::from(folder)),
            None => std::env::home_dir().map(|home| home.join(".cache").join("detr")),
        };
        Self { folder: cache.map(|cache| cache.join(FOLDER)) }
    }

    /// Opens the verdicts of another cache folder.
    #[must_use]
    pub fn in_folder(cache: &Path) -> Self {
        Self { folder: Some(cache.join(FOLDER)) }
    }

    /// Returns why the self-test refused a precision of a device for any work, if it did.
    #[must_use]
    pub fn refused(&self, selected: &SelectedDevice, precision: Precision) -> Option<String> {
        self.refused_for(Purpose::Prediction, selected, precision)
    }

    /// Returns why the self-test refused a precision of a device for some work, if it did.
    #[must_use]
    pub fn refused_for(
        &self,
        purpose: Purpose,
        selected: &SelectedDevice,
        precision: Precision,
    ) -> Option<String> {
        let verdict = self.find(selected, precision)?;
        match purpose {
            Purpose::Prediction => verdict.prediction,
            Purpose::Training => verdict.training,
        }
    }

    /// Returns whether a device, with the driver that it has now, passed the self-test of some work in a
    /// precision.
    #[must_use]
    pub fn passed(
        &self,
        purpose: Purpose,
        selected: &SelectedDevice,
        precision: Precision,
    ) -> bool {
        self.find(selected, precision).is_some()
            && self.refused_for(purpose, selected, precision).is_none()
    }

    /// Finds the verdict on a device with its present driver, by this version of the program.
    fn find(&self, selected: &SelectedDevice, precision: Precision) -> Option<Verdict> {
        let wanted = Verdict::of(selected, precision);
        read(&self.path(&wanted)?).filter(|found| found.is_about(&wanted))
    }

    /// Remembers a verdict on all work: what was out of bounds, or none if all was well.
    ///
    /// # Errors
    /// No home folder, or a file that cannot be written.
    pub fn record(
        &self,
        selected: &SelectedDevice,
        precision: Precision,
        refused: Option<String>,
    ) -> io::Result<()> {
        let verdict = Verdict::of(selected, precision);
        self.write(&Verdict { prediction: refused.clone(), training: refused, ..verdict })
    }

    /// Remembers what a self-test found. What the large sizes refused stays refused until they are tested again:
    /// returns whether that is so.
    ///
    /// # Errors
    /// No home folder, or a file that cannot be written.
    pub fn record_report(
        &self,
        selected: &SelectedDevice,
        precision: Precision,
        report: &Report,
    ) -> io::Result<bool> {
        let mut verdict = Verdict {
            full: report.full,
            prediction: report.refused(Purpose::Prediction),
            training: report.refused(Purpose::Training),
            ..Verdict::of(selected, precision)
        };
        let before = self.find(selected, precision).filter(|before| before.full && !report.full);
        let mut kept = false;
        if let Some(before) = before {
            kept = (verdict.training.is_none() && before.training.is_some())
                || (verdict.prediction.is_none() && before.prediction.is_some());
            verdict.full = true;
            verdict.prediction = verdict.prediction.or(before.prediction);
            verdict.training = verdict.training.or(before.training);
        }
        self.write(&verdict)?;
        Ok(kept)
    }

    fn write(&self, verdict: &Verdict) -> io::Result<()> {
        let path = self.path(verdict).ok_or_else(|| {
            let message = format!("no home folder; set {}", env::DETR_CACHE);
            io::Error::new(io::ErrorKind::NotFound, message)
        })?;
        let json = serde_json::to_vec_pretty(verdict)?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        atomic_write(&path, |file| file.write_all(&json))
    }

    /// Returns the file of a verdict. Names that differ in punctuation only share it; the content
    /// tells them apart, and the last one tested counts.
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
    /// Creates a verdict that finds nothing wrong.
    fn of(selected: &SelectedDevice, precision: Precision) -> Self {
        Self {
            form: FORM,
            device: selected.id.clone(),
            driver: selected.driver.clone(),
            precision: precision.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            full: false,
            prediction: None,
            training: None,
        }
    }

    /// Returns whether both are about the same device, driver, precision and version of the
    /// program.
    fn is_about(&self, other: &Self) -> bool {
        (&self.device, &self.driver, &self.precision, &self.version)
            == (&other.device, &other.driver, &other.precision, &other.version)
    }
}

/// Reads a verdict; `None` if the file is missing or damaged: the next self-test replaces it.
fn read(path: &Path) -> Option<Verdict> {
    let metadata = path.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return None;
    }
    let text = std::fs::read(path).ok()?;
    let left_aside = |error: &serde_json::Error| {
        tracing::warn!("{}: {error}; left aside", path.display());
    };
    let value: serde_json::Value = serde_json::from_slice(&text).inspect_err(left_aside).ok()?;
    // The next self-test replaces verdicts of an earlier program.
    if value.get("form").and_then(serde_json::Value::as_u64) != Some(FORM.into()) {
        return None;
    }
    serde_json::from_value(value).inspect_err(left_aside).ok()
}
