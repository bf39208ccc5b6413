//! The checkpoints of a run, as their manifests describe them: sizes always, hashes if asked for,
//! because they take as long as reading all files. Which one a run goes on from, `detr-train` decides.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Name of the manifest.
const MANIFEST: &str = "MANIFEST.json";

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Checkpoint {
    /// Steps done.
    pub(super) step: u64,
    /// Bytes of its files.
    pub(super) bytes: u64,
    /// What is wrong with it.
    pub(super) problem: Option<String>,
    /// Whether it is the `last` one or the `best`.
    pub(super) is: Vec<String>,
}

#[derive(Deserialize)]
struct Manifest {
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    bytes: u64,
    sha256: String,
}

/// All of a run, the oldest first.
pub(super) fn list(run: &Path, verify: bool) -> Vec<Checkpoint> {
    let folder = run.join("checkpoints");
    let pointed: Vec<(String, String)> = ["last", "best"]
        .iter()
        .filter_map(|name| {
            let text = fs::read_to_string(folder.join(name)).ok()?;
            Some(((*name).to_owned(), text.trim().to_owned()))
        })
        .collect();
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut found: Vec<Checkpoint> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let step = name.strip_prefix("step-")?.parse().ok()?;
            let problem = check(&entry.path(), verify).err();
            let is = pointed.iter().filter(|(_, to)| *to == name).map(|(is, _)| is.clone());
            Some(Checkpoint { step, bytes: size(&entry.path()), problem, is: is.collect() })
        })
        .collect();
    found.sort_by_key(|checkpoint| checkpoint.step);
    found
}

/// Bytes of the files in a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

fn check(folder: &Path, verify: bool) -> Result<(), String> {
    let text = fs::read(folder.join(MANIFEST)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{MANIFEST} is missing: it was never finished"),
        _ => format!("{MANIFEST}: {error}"),
    })?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| format!("{MANIFEST}: {error}"))?;
    for Entry { name, bytes, sha256 } in manifest.files {
        let path = folder.join(&name);
        let data = path.metadata().map_err(|error| format!("{name}: {error}"))?;
        let found = data.len();
        if !data.is_file() {
            return Err(format!("{name} is no file"));
        }
        if found != bytes {
            return Err(format!("{name} has {found} bytes instead of {bytes}"));
        }
        if verify && digest(&path).map_err(|error| format!("{name}: {error}"))? != sha256 {
            return Err(format!("{name} is not the file that was written"));
        }
    }
    Ok(())
}

fn digest(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
