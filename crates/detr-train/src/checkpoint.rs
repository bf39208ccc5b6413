//! Checkpoints of a run: folders `step-N` below `checkpoints/`. A folder is written under another name,
//! its manifest of sizes and hashes last, and then renamed; one without a manifest that fits does not
//! count. So whenever the program is stopped, the newest that counts is whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use detr_types::fs::atomic_write;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Name of the manifest.
const MANIFEST: &str = "MANIFEST.json";
/// Newest layout that is written and read.
const VERSION: u32 = 1;

/// The checkpoints of a run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

/// A checkpoint that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Steps done.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
}

/// A checkpoint that does not count, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Its folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    version: u32,
    step: u64,
    files: Vec<File>,
}

#[derive(Serialize, Deserialize)]
struct File {
    name: String,
    bytes: u64,
    sha256: String,
}

impl Checkpoints {
    /// Those of a folder, which need not exist.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes a checkpoint of these files, given by name and content.
    ///
    /// # Errors
    /// What the file system reports; nothing is left then.
    pub fn save(&self, step: u64, files: &[(&str, Vec<u8>)]) -> io::Result<PathBuf> {
        let temporary = self.folder.join(format!(".step-{step}.tmp"));
        let path = self.folder.join(format!("step-{step}"));
        let written = write(&temporary, step, files);
        if let Err(error) = written {
            drop(fs::remove_dir_all(&temporary));
            return Err(error);
        }
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::rename(&temporary, &path)?;
        Ok(path)
    }

    /// The newest checkpoint that counts, and the newer ones that do not.
    #[must_use]
    pub fn newest(&self) -> (Option<Found>, Vec<Passed>) {
        let mut passed = Vec::new();
        for (step, path) in self.listed().into_iter().rev() {
            match check(&path, step) {
                Ok(()) => return (Some(Found { step, path }), passed),
                Err(reason) => passed.push(Passed { path, reason }),
            }
        }
        (None, passed)
    }

    /// Removes all but the newest `keep` and those at `spare`, and what interrupted writing left.
    pub fn prune(&self, keep: usize, spare: &[u64]) {
        let listed = self.listed();
        let old = listed.len().saturating_sub(keep);
        for (step, path) in &listed[..old] {
            if !spare.contains(step) {
                // What cannot be removed now is tried again after the next checkpoint.
                drop(fs::remove_dir_all(path));
            }
        }
        for entry in self.folder.read_dir().into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(".step-") {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    }

    /// Folders by their names, ascending.
    fn listed(&self) -> Vec<(u64, PathBuf)> {
        let entries = self.folder.read_dir().into_iter().flatten().flatten();
        let step = |name: &str| name.strip_prefix("step-")?.parse().ok();
        let mut listed: Vec<(u64, PathBuf)> = entries
            .filter_map(|entry| Some((step(&entry.file_name().to_string_lossy())?, entry.path())))
            .collect();
        listed.sort();
        listed
    }
}

/// Writes the files, and the manifest last.
fn write(folder: &Path, step: u64, files: &[(&str, Vec<u8>)]) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let mut listed = Vec::with_capacity(files.len());
    for (name, content) in files {
        atomic_write(&folder.join(name), |file| file.write_all(content))?;
        listed.push(File {
            name: (*name).to_owned(),
            bytes: content.len() as u64,
            sha256: sha256(content),
        });
    }
    let manifest = Manifest { version: VERSION, step, files: listed };
    let json = serde_json::to_vec_pretty(&manifest)?;
    atomic_write(&folder.join(MANIFEST), |file| file.write_all(&json))
}

/// Whether a folder holds what its manifest says.
fn check(folder: &Path, step: u64) -> Result<(), String> {
    let text = fs::read(folder.join(MANIFEST)).map_err(|error| format!("{MANIFEST}: {error}"))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| format!("{MANIFEST}: {error}"))?;
    if manifest.version > VERSION {
        let version = manifest.version;
        return Err(format!("is of version {version}, this program reads up to {VERSION}"));
    }
    if manifest.step != step {
        return Err(format!("{MANIFEST} is of step {}", manifest.step));
    }
    for file in manifest.files {
        let content =
            fs::read(folder.join(&file.name)).map_err(|error| format!("{}: {error}", file.name))?;
        if content.len() as u64 != file.bytes || sha256(&content) != file.sha256 {
            return Err(format!("{} is not the file that was written", file.name));
        }
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_checkpoint_counts() {
        let folder = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(folder.path().join("checkpoints"));
        assert_eq!(all.newest(), (None, Vec::new()));
        for step in [5, 10, 100] {
            all.save(step, &[("a", vec![1; 9]), ("b/c", vec![2; 3])]).unwrap();
        }
        assert_eq!(all.newest().0.unwrap().step, 100);
        fs::write(all.folder.join("step-100/a"), [1, 1, 1, 1, 0, 1, 1, 1, 1]).unwrap();
        fs::create_dir(all.folder.join("step-200")).unwrap();
        let (found, passed) = all.newest();
        assert_eq!(found.unwrap().step, 10);
        assert!(passed[0].reason.contains(MANIFEST), "{passed:?}");
        assert_eq!(passed[1].reason, "a is not the file that was written");
        fs::create_dir(all.folder.join(".step-300.tmp")).unwrap();
        all.prune(1, &[5]);
        let left: Vec<u64> = all.listed().iter().map(|(step, _)| *step).collect();
        assert_eq!(left, [5, 200]);
        assert!(!all.folder.join(".step-300.tmp").exists());
    }

    #[test]
    fn a_checkpoint_that_cannot_be_written_leaves_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(folder.path().to_owned());
        all.save(1, &[("a", vec![1])]).unwrap();
        // A file name that no file system takes.
        assert!(all.save(2, &[("a", vec![1]), (&"x".repeat(5000), vec![1])]).is_err());
        assert_eq!(all.newest().0.unwrap().step, 1);
        assert_eq!(all.listed().len(), 1);
    }
}
