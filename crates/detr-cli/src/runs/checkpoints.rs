//! The checkpoints of a run: sizes always checked, hashes if asked for. Which one a run goes on from,
//! `detr-train` decides.

use std::fs;
use std::path::Path;

use detr_train::{Checkpoints, check_checkpoint};
use serde::Serialize;

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Checkpoint {
    /// Steps done.
    pub(super) step: u64,
    /// Bytes of its files.
    pub(super) bytes: u64,
    /// The reason why the checkpoint cannot be used.
    pub(super) problem: Option<String>,
    /// Whether it is the `last` one or the `best`.
    pub(super) is: Vec<String>,
}

/// Lists all checkpoints of a run, the oldest first.
pub(super) fn list(run: &Path, verify: bool) -> Vec<Checkpoint> {
    let folder = run.join("checkpoints");
    let pointed: Vec<(String, String)> = ["last", "best"]
        .iter()
        .filter_map(|name| {
            let text = fs::read_to_string(folder.join(name)).ok()?;
            Some(((*name).to_owned(), text.trim().to_owned()))
        })
        .collect();
    let listed = Checkpoints::new(folder).listed().into_iter();
    let found = listed.map(|(step, path)| {
        let name = format!("step-{step}");
        let is = pointed.iter().filter(|(_, to)| *to == name).map(|(is, _)| is.clone());
        let problem = check_checkpoint(&path, step, verify).err();
        Checkpoint { step, bytes: size(&path), problem, is: is.collect() }
    });
    found.collect()
}

/// Returns the size of the files in a folder in bytes.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}
