//! Official `.pth` files, of either container that `torch.save` writes. The pickle is parsed, not
//! run: classes it names are never looked up.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;
use pytorch_reader::{DType, PickleValue, PytorchReader, Tensor};

use super::candidates::Source;
use super::state_dict::ElementType;
use super::training_args::TrainingArgs;
use super::{StateDict, StoredTensor, WeightsError};

/// An opened file of `torch.save`: its tensors are known, but not read.
pub(super) struct PthFile<'a> {
    path: &'a Path,
    bytes: usize,
    /// By the path of keys that leads to them.
    tensors: BTreeMap<String, Tensor>,
    /// Settings in the pickled arguments.
    pub(super) args: TrainingArgs,
}

impl<'a> PthFile<'a> {
    /// Parses a file.
    pub(super) fn open(path: &'a Path, map: &Mmap) -> Result<Self, WeightsError> {
        if map.starts_with(b"PK") {
            refuse_trailing(path, map)?;
            refuse_compressed(path)?;
        }
        let reader =
            PytorchReader::new(path).map_err(|error| WeightsError::corrupt(path, error))?;
        let tensors = reader.into_tensors().into_iter().collect();
        Ok(Self { path, bytes: map.len(), tensors, args: scan_args(map) })
    }

    /// Returns the state dict, from under `model` or `state_dict` where there is one, whatever it belongs to.
    pub(super) fn usual_state(&self) -> Result<StateDict, WeightsError> {
        let prefix = ["model.", "state_dict."].into_iter().find(|prefix| self.has_key(prefix));
        self.state(prefix.unwrap_or_default())
    }

    /// Returns whether a first key of the file, with a dot after it, leads to tensors.
    fn has_key(&self, prefix: &str) -> bool {
        let found = PytorchReader::with_top_level_key(self.path, prefix.trim_end_matches('.'));
        found.is_ok_and(|found| !found.is_empty())
    }
}

impl Source for PthFile<'_> {
    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn state(&self, prefix: &str) -> Result<StateDict, WeightsError> {
        let mut state = StateDict::default();
        let mut budget = Budget::new(self.bytes);
        for (path, tensor) in &self.tensors {
            let Some(name) = path.strip_prefix(prefix) else { continue };
            let dtype = element_type(tensor.dtype()).ok_or_else(|| {
                WeightsError::corrupt(
                    self.path,
                    format_args!(
                        "{name} has element type {:?}, which no model uses",
                        tensor.dtype()
                    ),
                )
            })?;
            budget
                .take(name, dtype, tensor.shape())
                .map_err(|why| WeightsError::corrupt(self.path, why))?;
            state.insert(name, StoredTensor::pickled(dtype, tensor.clone()));
        }
        Ok(state)
    }

    fn keys<'p>(&self, prefix: &'p str) -> &'p str {
        let Ok(root) = PytorchReader::read_pickle_data(self.path, None) else { return "" };
        let (mut place, mut end) = (&root, 0);
        while let PickleValue::Dict(entries) = place {
            // A key may have dots of its own; the shortest that leads to a dictionary is taken.
            let rest = &prefix[end..];
            let next = rest.match_indices('.').find_map(|(dot, _)| {
                let inner = entries.get(&rest[..dot])?;
                matches!(inner, PickleValue::Dict(_)).then_some((inner, end + dot + 1))
            });
            let Some((inner, at)) = next else { break };
            (place, end) = (inner, at);
        }
        if end == 0 {
            // A whole module is no dictionary there, but its tensors are found below its key.
            let first = prefix.find('.').map_or("", |dot| &prefix[..=dot]);
            return if !first.is_empty() && self.has_key(first) { first } else { "" };
        }
        &prefix[..end]
    }
}

/// The bytes that the tensors of a file may take up once read. A view that repeats its storage
/// (stride 0) can ask for terabytes in a hundred bytes of pickle.
struct Budget {
    file: usize,
    left: usize,
}

impl Budget {
    /// The number of times that the bytes of a file may be read. Checkpoints do share storages: the
    /// heads of Deformable DETR stand there once per decoder layer.
    const SHARING: usize = 8;

    const fn new(file: usize) -> Self {
        Self { file, left: file.saturating_mul(Self::SHARING) }
    }

    /// Takes one tensor's bytes, or says why not.
    fn take(&mut self, name: &str, dtype: ElementType, shape: &[usize]) -> Result<(), String> {
        let file = self.file;
        let bytes = shape
            .iter()
            .try_fold(dtype.size(), |bytes, &side| bytes.checked_mul(side))
            .filter(|&bytes| bytes <= file)
            .ok_or_else(|| {
                format!("{name} of shape {shape:?} is larger than the whole file of {file} bytes")
            })?;
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            format!(
                "up to {name}, the tensors take more than {} times the file's {file} bytes",
                Self::SHARING
            )
        })?;
        Ok(())
    }
}

fn element_type(dtype: DType) -> Option<ElementType> {
    Some(match dtype {
        DType::Bool => ElementType::Bool,
        DType::U8 => ElementType::U8,
        DType::I8 => ElementType::I8,
        DType::I16 => ElementType::I16,
        DType::I32 => ElementType::I32,
        DType::I64 => ElementType::I64,
        DType::F16 => ElementType::F16,
        DType::BF16 => ElementType::BF16,
        DType::F32 => ElementType::F32,
        DType::F64 => ElementType::F64,
        #[allow(unreachable_patterns)] // the reader may learn further types
        _ => return None,
    })
}

/// `torch.save` stores its entries uncompressed; a compressed one can only be a bomb or another
/// kind of archive.
fn refuse_compressed(path: &Path) -> Result<(), WeightsError> {
    let file = File::open(path).map_err(|error| WeightsError::io(path, error))?;
    let mut archive =
        zip::ZipArchive::new(file).map_err(|error| WeightsError::corrupt(path, error))?;
    for index in 0..archive.len() {
        let entry =
            archive.by_index_raw(index).map_err(|error| WeightsError::corrupt(path, error))?;
        if entry.compression() != zip::CompressionMethod::Stored {
            return Err(WeightsError::NotAModel {
                path: path.to_owned(),
                reason: format!(
                    "a zip archive with compressed entries (number {index}), which torch.save never writes"
                ),
            });
        }
    }
    Ok(())
}

/// Refuses an archive with bytes after its end record and that record's comment.
fn refuse_trailing(path: &Path, bytes: &[u8]) -> Result<(), WeightsError> {
    /// Length of the record up to and including the length of its comment.
    const RECORD: usize = 22;
    let record = memchr::memmem::rfind(bytes, b"PK\x05\x06").and_then(|at| {
        let comment = bytes.get(at + RECORD - 2..at + RECORD)?;
        Some(at + RECORD + usize::from(u16::from_le_bytes([comment[0], comment[1]])))
    });
    match record {
        Some(end) if end == bytes.len() => Ok(()),
        Some(end) if end < bytes.len() => Err(WeightsError::corrupt(
            path,
            format_args!("{} bytes follow the end of the archive", bytes.len() - end),
        )),
        _ => {
            Err(WeightsError::corrupt(path, "the archive's end is missing: the file is truncated"))
        }
    }
}

/// Compares every entry of a zip archive with its check sum: the reader of tensors does not.
/// PyTorch can be told to leave the sums out; it then writes 0.
pub(super) fn check_sums(path: &Path, bytes: &[u8]) -> Result<(), WeightsError> {
    if !bytes.starts_with(b"PK") {
        return Ok(());
    }
    let damaged = |error: &dyn std::fmt::Display| WeightsError::corrupt(path, error);
    let mut archive =
        zip::ZipArchive::new(io::Cursor::new(bytes)).map_err(|error| damaged(&error))?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| damaged(&error))?;
        if entry.crc32() != 0 {
            io::copy(&mut entry, &mut io::sink())
                .map_err(|error| damaged(&format_args!("entry {index}: {error}")))?;
        }
    }
    Ok(())
}

/// Finds the settings of the pickled `args` namespace that no tensor's shape shows. The bytes are
/// only searched for "key, then small constant": nothing is unpickled.
fn scan_args(bytes: &[u8]) -> TrainingArgs {
    let number = |key: &[u8]| match *value_after(bytes, key)? {
        [b'K', n, ..] => Some(usize::from(n)),
        [b'M', low, high, ..] => Some(usize::from(u16::from_le_bytes([low, high]))),
        _ => None,
    };
    // No model has none of these; whatever the zero is, it is not the setting.
    let number = |key: &[u8]| number(key).filter(|&n| n > 0);
    TrainingArgs {
        nheads: number(b"nheads"),
        num_queries: number(b"num_queries"),
        dilation: value_after(bytes, b"dilation").and_then(|value| match value.first() {
            Some(0x88) => Some(true),
            Some(0x89) => Some(false),
            _ => None,
        }),
    }
}

/// Returns the bytes after a pickled unicode string and the instruction that memoises it.
fn value_after<'a>(bytes: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut pickled = vec![b'X'];
    pickled.extend(u32::try_from(key.len()).ok()?.to_le_bytes());
    pickled.extend(key);
    let at = memchr::memmem::find(bytes, &pickled)? + pickled.len();
    match bytes.get(at)? {
        b'q' => bytes.get(at + 2..),
        b'r' => bytes.get(at + 5..),
        _ => bytes.get(at..),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_arguments_are_found() {
        let pickled = b"X\x06\0\0\0nheadsq\x01K\x04X\x0b\0\0\0num_queriesr\0\x01\0\0M\x2c\x01\
                        X\x08\0\0\0dilation\x88u.";
        let found = scan_args(pickled);
        let expected =
            TrainingArgs { nheads: Some(4), dilation: Some(true), num_queries: Some(300) };
        assert_eq!(found, expected);
        assert_eq!(scan_args(b"X\x06\0\0\0nheadsq\x01N"), TrainingArgs::default());
        assert_eq!(scan_args(b"X\x0b\0\0\0num_queriesr"), TrainingArgs::default());
        for zero in [&b"X\x06\0\0\0nheadsq\x01K\0u."[..], b"X\x06\0\0\0nheadsq\x01M\0\0u."] {
            assert_eq!(scan_args(zero), TrainingArgs::default());
        }
    }
}
