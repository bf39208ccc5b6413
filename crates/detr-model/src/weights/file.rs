//! Files of weights: mapped into memory, told apart by their first bytes, and indexed.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::checkpoint::Format;
use super::training_args::TrainingArgs;
use super::{StateDict, WeightsError, pth, safetensors};

/// Reads the tensors of a `.pth` or safetensors file as they are, whatever they belong to.
///
/// # Errors
/// A file of neither format, or a damaged one.
pub fn read_state_dict(path: &Path) -> Result<StateDict, WeightsError> {
    let map = map_file(path)?;
    Ok(read_tensors(path, &map)?.1)
}

pub(super) fn read_tensors(
    path: &Path,
    map: &Arc<Mmap>,
) -> Result<(Format, StateDict, TrainingArgs), WeightsError> {
    if is_safetensors(map) {
        Ok((Format::Safetensors, safetensors::read(path, map)?, TrainingArgs::default()))
    } else if is_pth(map) {
        let (state, args) = pth::read(path, map)?;
        Ok((Format::Pth, state, args))
    } else {
        Err(WeightsError::NotAModel {
            path: path.to_owned(),
            reason: "neither a PyTorch checkpoint nor safetensors".into(),
        })
    }
}

/// Batch norm's step counters mean nothing once frozen, and profilers leave their totals behind.
pub(super) fn without_counters(state: StateDict) -> StateDict {
    const IGNORED: [&str; 3] = ["num_batches_tracked", "total_params", "total_ops"];
    state.rename(|name| {
        let last = name.rsplit('.').next().unwrap_or(name);
        (!IGNORED.contains(&last)).then(|| name.to_owned())
    })
}

/// A torchvision file without its `ImageNet` classifier.
pub(super) fn without_classifier(state: StateDict) -> StateDict {
    state.rename(|name| (!matches!(name, "fc.weight" | "fc.bias")).then(|| name.to_owned()))
}

/// A header length that fits the file, then JSON.
fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return false };
    u64::from_le_bytes(*length) <= rest.len() as u64 && rest.starts_with(b"{")
}

/// A zip archive, or a pickle of protocol 2 and up.
fn is_pth(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || matches!(bytes, [0x80, 2..=5, ..])
}

/// Maps a file into memory.
pub(super) fn map_file(path: &Path) -> Result<Arc<Mmap>, WeightsError> {
    let io = |error| WeightsError::io(path, error);
    // Asked before the file is opened: opening a pipe would wait for its writer.
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
