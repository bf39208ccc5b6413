//! Files of weights: mapped into memory, told apart by their first bytes, and indexed.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::candidates::{self, ModelTensors};
use super::checkpoint::Format;
use super::pth::PthFile;
use super::training_args::TrainingArgs;
use super::{StateDict, WeightsError, safetensors};

/// Reads the tensors of a `.pth` or safetensors file as they are, whatever they belong to.
///
/// # Errors
/// A file of neither format, or a damaged one.
pub fn read_state_dict(path: &Path) -> Result<StateDict, WeightsError> {
    let map = map_file(path)?;
    read_tensors(path, &map)
}

/// The contents of a file of weights.
pub(super) struct FileTensors {
    pub(super) format: Format,
    /// The tensors of its model, under official names where they are known.
    pub(super) state: StateDict,
    pub(super) args: TrainingArgs,
    /// The notes about tensors that were left out or chosen.
    pub(super) notes: Vec<String>,
}

/// Reads the tensors of a file as they are, without a search for a model.
pub(super) fn read_tensors(path: &Path, map: &Arc<Mmap>) -> Result<StateDict, WeightsError> {
    match kind(path, map)? {
        Format::Pth => PthFile::open(path, map)?.usual_state(),
        _ => safetensors::read(path, map),
    }
}

/// Reads the tensors of the model in a file, whatever stands before their names.
pub(super) fn read_model(path: &Path, map: &Arc<Mmap>) -> Result<FileTensors, WeightsError> {
    let format = kind(path, map)?;
    let (found, args) = if format == Format::Pth {
        let file = PthFile::open(path, map)?;
        let found = candidates::find(path, &file, file.args)?;
        let found = found.map_or_else(|| file.usual_state().map(ModelTensors::from), Ok)?;
        (found, file.args)
    } else {
        let (state, args) = (safetensors::read(path, map)?, TrainingArgs::default());
        (candidates::find(path, &state, args)?.unwrap_or_else(|| ModelTensors::from(state)), args)
    };
    Ok(FileTensors { format, state: found.state, args, notes: found.notes })
}

/// Tells the kind of a file by its first bytes.
fn kind(path: &Path, bytes: &[u8]) -> Result<Format, WeightsError> {
    if is_safetensors(bytes) {
        return Ok(Format::Safetensors);
    }
    if is_pth(bytes) {
        return Ok(Format::Pth);
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(WeightsError::config(
            path,
            "a pointer of Git LFS to a file that was not fetched\nhint: run `git lfs pull` in its folder",
        ));
    }
    Err(WeightsError::NotAModel {
        path: path.to_owned(),
        reason: "neither a PyTorch checkpoint nor safetensors".into(),
    })
}

/// Removes batch norm's step counters, which mean nothing once frozen, and the totals that
/// profilers leave behind.
pub(super) fn without_counters(state: StateDict) -> StateDict {
    const IGNORED: [&str; 3] = ["num_batches_tracked", "total_params", "total_ops"];
    state.rename(|name| {
        let last = name.rsplit('.').next().unwrap_or(name);
        (!IGNORED.contains(&last)).then(|| name.to_owned())
    })
}

/// Removes the `ImageNet` classifier of a torchvision file.
pub(super) fn without_classifier(state: StateDict) -> StateDict {
    state.rename(|name| (!matches!(name, "fc.weight" | "fc.bias")).then(|| name.to_owned()))
}

/// Returns whether the bytes are those of safetensors: a header length that fits the file, then
/// JSON.
fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return false };
    u64::from_le_bytes(*length) <= rest.len() as u64 && rest.starts_with(b"{")
}

/// Returns whether the bytes begin a zip archive, or a pickle of protocol 2 and up.
fn is_pth(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || matches!(bytes, [0x80, 2..=5, ..])
}

/// Maps a file into memory.
pub(super) fn map_file(path: &Path) -> Result<Arc<Mmap>, WeightsError> {
    let io = |error| WeightsError::io(path, error);
    // The kind of the file is checked before it is opened: opening a pipe would wait for its
    // writer.
    if !path.metadata().map_err(io)?.is_file() {
        return Err(WeightsError::NotAModel {
            path: path.to_owned(),
            reason: "not a regular file".into(),
        });
    }
    let file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.len() == 0 {
        return Err(WeightsError::corrupt(path, "the file is empty"));
    }
    // SAFETY: the map is only read. As with any mapped file, another process that truncates it
    // meanwhile would be fatal; model files are written by rename, never in place.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(&file) }.map_err(io)?;
    Ok(Arc::new(map))
}
