//! The checkpoints of a run: folders `step-N` below `checkpoints/`. A folder is written under another name,
//! its manifest of sizes and hashes last, and then renamed. A folder without a manifest that fits does not
//! count. So whenever the program is stopped, the newest checkpoint that counts is whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use detr_types::fs::atomic_write;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The name of the manifest.
const MANIFEST: &str = "MANIFEST.json";
/// The names of the files that point to checkpoints.
const POINTERS: [&str; 2] = ["last", "best"];
/// The newest layout that is written and read.
const VERSION: u32 = 1;

/// The checkpoints of a run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

/// A checkpoint that a run can go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsableCheckpoint {
    /// The steps that were done.
    pub step: u64,
    /// The folder.
    pub path: PathBuf,
}

/// A checkpoint that a run cannot go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedCheckpoint {
    /// The folder.
    pub path: PathBuf,
    /// The reason.
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    version: u32,
    step: u64,
    /// The number of the epoch that it ends; `None` in the middle of an epoch.
    epoch: Option<u64>,
    files: Vec<File>,
}

#[derive(Serialize, Deserialize)]
struct File {
    name: String,
    bytes: u64,
    sha256: String,
}

impl Checkpoints {
    /// Names the folder of the checkpoints, which need not exist yet.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes a checkpoint of these files, given by name and content. `epoch` is the number of the epoch
    /// that it ends, if it ends one.
    ///
    /// # Errors
    /// The file system reports an error. The checkpoints that were there stay.
    pub fn save(
        &self,
        step: u64,
        epoch: Option<u64>,
        files: &[(&str, Vec<u8>)],
    ) -> io::Result<PathBuf> {
        let [temporary, old] =
            ["tmp", "old"].map(|kind| self.folder.join(format!(".step-{step}.{kind}")));
        let path = self.folder.join(format!("step-{step}"));
        if let Err(error) = write(&temporary, step, epoch, files) {
            drop(fs::remove_dir_all(&temporary));
            return Err(error);
        }
        // A folder cannot be renamed onto another; what is set aside is put back by `sweep`.
        if path.exists() {
            fs::rename(&path, &old)?;
        }
        if let Err(error) = fs::rename(&temporary, &path) {
            drop(fs::rename(&old, &path));
            return Err(error);
        }
        drop(fs::remove_dir_all(&old));
        sync(&self.folder)?;
        Ok(path)
    }

    /// Writes the name of a checkpoint into a file beside the checkpoints, such as `last` or `best`.
    ///
    /// # Errors
    /// The file system reports an error.
    pub fn point(&self, name: &str, step: u64) -> io::Result<()> {
        atomic_write(&self.folder.join(name), |file| writeln!(file, "step-{step}"))
    }

    /// Returns the newest checkpoint that counts, the newer ones that do not, and those that `last` or `best` name
    /// although they are gone.
    #[must_use]
    pub fn newest(&self) -> (Option<UsableCheckpoint>, Vec<RejectedCheckpoint>) {
        let mut passed = self.gone();
        for (step, path) in self.listed().into_iter().rev() {
            match check(&path, step, true) {
                Ok(()) => return (Some(UsableCheckpoint { step, path }), passed),
                Err(reason) => passed.push(RejectedCheckpoint { path, reason }),
            }
        }
        (None, passed)
    }

    /// Returns the names of checkpoints that do not exist.
    fn gone(&self) -> Vec<RejectedCheckpoint> {
        let mut gone: Vec<RejectedCheckpoint> = Vec::new();
        for pointer in POINTERS {
            let Ok(text) = fs::read_to_string(self.folder.join(pointer)) else { continue };
            let name = text.trim();
            let is_step = name.strip_prefix("step-").is_some_and(|n| n.parse::<u64>().is_ok());
            let path = self.folder.join(name);
            if is_step && !path.exists() && gone.iter().all(|known| known.path != path) {
                let reason = format!("is not there any more, though `{pointer}` names it");
                gone.push(RejectedCheckpoint { path, reason });
            }
        }
        gone
    }

    /// Removes the checkpoint at the end of an epoch.
    pub fn remove(&self, epoch: u64) {
        for (_, path) in self.listed() {
            if manifest(&path).is_ok_and(|manifest| manifest.epoch == Some(epoch)) {
                // One that cannot be removed does no harm.
                drop(fs::remove_dir_all(path));
            }
        }
    }

    /// Removes the checkpoints in the middle of an epoch, but for the newest two up to `step`, the step of the run.
    /// Later ones are those that the run passed over; they stay.
    pub fn remove_passing(&self, step: u64) {
        let mut listed = self.listed();
        listed.retain(|(of, _)| *of <= step);
        for (_, path) in &listed[..listed.len().saturating_sub(2)] {
            if manifest(path).is_ok_and(|manifest| manifest.epoch.is_none()) {
                drop(fs::remove_dir_all(path));
            }
        }
    }

    /// Removes the incomplete files of a process that was killed while it wrote, and puts back what it set aside.
    pub fn sweep(&self) {
        for entry in self.folder.read_dir().into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(name) = name.strip_prefix('.') else { continue };
            match name.split_once('.') {
                Some((step, "old")) if !self.folder.join(step).exists() => {
                    drop(fs::rename(entry.path(), self.folder.join(step)));
                }
                _ if name.starts_with("step-") => drop(fs::remove_dir_all(entry.path())),
                // The temporary file of a pointer.
                Some((_, "tmp")) => drop(fs::remove_file(entry.path())),
                _ => (),
            }
        }
    }

    /// Lists all folders with the steps in their names, ascending, whether they count or not.
    #[must_use]
    pub fn listed(&self) -> Vec<(u64, PathBuf)> {
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
fn write(
    folder: &Path,
    step: u64,
    epoch: Option<u64>,
    files: &[(&str, Vec<u8>)],
) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let mut listed = Vec::with_capacity(files.len());
    for (name, content) in files {
        atomic_write(&folder.join(name), |file| file.write_all(content))?;
        listed.push(File {
            name: (*name).to_owned(),
            bytes: content.len() as u64,
            sha256: format!("{:x}", Sha256::digest(content)),
        });
    }
    let manifest = Manifest { version: VERSION, step, epoch, files: listed };
    let json = serde_json::to_vec_pretty(&manifest)?;
    atomic_write(&folder.join(MANIFEST), |file| file.write_all(&json))?;
    sync(folder)
}

/// Writes a folder to disk, since the names of its files are on disk only when it is.
fn sync(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

fn manifest(folder: &Path) -> Result<Manifest, String> {
    /// The part of a manifest that all later versions keep.
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let text = fs::read(folder.join(MANIFEST)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{MANIFEST} is missing: it was never finished"),
        _ => format!("{MANIFEST}: {error}"),
    })?;
    let version = serde_json::from_slice(&text).map(|Version { version }| version);
    if let Ok(version) = version
        && version > VERSION
    {
        return Err(format!("is of version {version}, this program reads up to {VERSION}"));
    }
    serde_json::from_slice(&text).map_err(|error| format!("{MANIFEST}: {error}"))
}

/// Checks that a folder is the checkpoint of a step and holds the files of its manifest. Sizes are always compared,
/// hashes only if asked for, because they take as long as reading all files.
///
/// # Errors
/// Says what is wrong with the checkpoint.
pub fn check(folder: &Path, step: u64, hashes: bool) -> Result<(), String> {
    let manifest = manifest(folder)?;
    if manifest.step != step {
        return Err(format!("{MANIFEST} is of step {}", manifest.step));
    }
    for File { name, bytes, sha256 } in manifest.files {
        let path = folder.join(&name);
        let data = path.metadata().map_err(|error| format!("{name}: {error}"))?;
        if !data.is_file() || data.len() != bytes {
            return Err(format!("{name} has {} bytes instead of {bytes}", data.len()));
        }
        if hashes && digest(&path).map_err(|error| format!("{name}: {error}"))? != sha256 {
            return Err(format!("{name} is not the file that was written"));
        }
    }
    Ok(())
}

fn digest(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    Ok(format!("{:x}", hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(all: &Checkpoints) -> Vec<u64> {
        all.listed().iter().map(|(step, _)| *step).collect()
    }

    #[test]
    fn the_newest_whole_checkpoint_counts() {
        let folder = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(folder.path().join("checkpoints"));
        assert_eq!(all.newest(), (None, Vec::new()));
        for step in [5, 10, 100] {
            all.save(step, None, &[("a", vec![1; 9]), ("b/c", vec![2; 3])]).unwrap();
        }
        assert_eq!(all.newest().0.unwrap().step, 100);
        fs::write(all.folder.join("step-100/a"), [1, 1, 1, 1, 0, 1, 1, 1, 1]).unwrap();
        fs::create_dir(all.folder.join("step-200")).unwrap();
        let newer = all.save(300, None, &[]).unwrap().join(MANIFEST);
        fs::write(newer, r#"{"version": 2, "unheard": "of"}"#).unwrap();
        let (found, passed) = all.newest();
        assert_eq!(found.unwrap().step, 10);
        assert!(passed[0].reason.starts_with("is of version 2"), "{passed:?}");
        assert!(passed[1].reason.contains(MANIFEST), "{passed:?}");
        assert_eq!(passed[2].reason, "a is not the file that was written");
    }

    #[test]
    fn a_checkpoint_that_is_named_and_gone_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(folder.path().to_owned());
        all.save(5, None, &[("a", vec![1])]).unwrap();
        for pointer in POINTERS {
            all.point(pointer, 10).unwrap();
        }
        let (found, passed) = all.newest();
        assert_eq!(found.unwrap().step, 5);
        let [gone] = &passed[..] else { panic!("{passed:?}") };
        assert!(gone.path.ends_with("step-10") && gone.reason.contains("`last` names it"));
        fs::remove_dir_all(folder.path().join("step-5")).unwrap();
        assert!(matches!(all.newest(), (None, passed) if passed.len() == 1));
    }

    #[test]
    fn ends_of_epochs_are_kept_until_they_are_removed_by_number() {
        let folder = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(folder.path().to_owned());
        for (step, epoch) in [(5, None), (10, Some(1)), (15, None), (20, Some(2)), (25, None)] {
            all.save(step, epoch, &[("a", vec![1])]).unwrap();
        }
        all.remove_passing(15);
        assert_eq!(steps(&all), [10, 15, 20, 25], "those after step 15 are not of this run");
        all.remove_passing(25);
        assert_eq!(steps(&all), [10, 20, 25]);
        all.remove(1);
        assert_eq!(steps(&all), [20, 25]);
    }

    #[test]
    fn what_a_killed_process_left_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(folder.path().to_owned());
        all.save(1, None, &[("a", vec![1])]).unwrap();
        all.save(1, Some(1), &[("a", vec![2])]).unwrap();
        assert_eq!(steps(&all), [1]);
        fs::rename(all.folder.join("step-1"), all.folder.join(".step-1.old")).unwrap();
        fs::create_dir(all.folder.join(".step-2.tmp")).unwrap();
        all.sweep();
        assert_eq!(steps(&all), [1]);
        assert_eq!(all.newest().0.unwrap().step, 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_checkpoint_that_cannot_be_written_leaves_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let all = Checkpoints::new(folder.path().to_owned());
        all.save(1, None, &[("a", vec![1])]).unwrap();
        // A file name that no file system takes.
        assert!(all.save(2, None, &[("a", vec![1]), (&"x".repeat(5000), vec![1])]).is_err());
        assert_eq!(all.newest().0.unwrap().step, 1);
        assert_eq!(all.listed().len(), 1);
    }
}
