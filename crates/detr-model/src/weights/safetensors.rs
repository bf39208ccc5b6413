//! Safetensors files, memory-mapped.

use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, View};

use super::state_dict::ElementType;
use super::{StateDict, StoredTensor, WeightsError};

/// Indexes the tensors of a file; their bytes stay where they are.
pub(super) fn read(path: &Path, map: &Arc<Mmap>) -> Result<StateDict, WeightsError> {
    let (header, metadata) =
        SafeTensors::read_metadata(map).map_err(|error| WeightsError::corrupt(path, error))?;
    let data_start = header + size_of::<u64>();
    let mut state = StateDict::default();
    for (name, info) in metadata.tensors() {
        let dtype = element_type(info.dtype).ok_or_else(|| {
            WeightsError::corrupt(
                path,
                format_args!("{name} has element type {:?}, which no model uses", info.dtype),
            )
        })?;
        let (from, to) = info.data_offsets;
        let (from, to) = (data_start + from, data_start + to);
        let bytes = info.shape.iter().try_fold(dtype.size(), |n, &side| n.checked_mul(side));
        if to > map.len() || from > to || bytes != Some(to - from) {
            return Err(WeightsError::corrupt(
                path,
                format_args!(
                    "{name} should be bytes {from} to {to}, but the file has {}",
                    map.len()
                ),
            ));
        }
        let shape = info.shape.clone();
        state.insert(name.as_str(), StoredTensor::mapped(dtype, shape, map, from..to));
    }
    Ok(state)
}

/// Writes the bytes of a safetensors file with these tensors, in their stored types.
///
/// # Errors
/// Tensors of a mapped file that cannot be read any more.
pub fn to_bytes(state: &StateDict) -> Result<Vec<u8>, WeightsError> {
    serialize(state, Path::new("tensors"))
}

/// Writes the bytes of a safetensors file with these tensors, in their stored types. `path` is
/// where the tensors are read from, for messages.
pub(super) fn serialize(state: &StateDict, path: &Path) -> Result<Vec<u8>, WeightsError> {
    let mut views = Vec::with_capacity(state.len());
    for (name, tensor) in state.iter() {
        let bytes = tensor
            .bytes()
            .map_err(|error| WeightsError::corrupt(path, format_args!("{name}: {error}")))?;
        views.push((
            name,
            TensorToWrite { dtype: tensor.dtype, shape: tensor.shape.clone(), data: bytes },
        ));
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize(views, Some(metadata))
        .map_err(|error| WeightsError::corrupt(path, error))
}

/// A tensor on its way into a file.
struct TensorToWrite {
    dtype: ElementType,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl View for TensorToWrite {
    fn dtype(&self) -> Dtype {
        match self.dtype {
            ElementType::Bool => Dtype::BOOL,
            ElementType::U8 => Dtype::U8,
            ElementType::I8 => Dtype::I8,
            ElementType::I16 => Dtype::I16,
            ElementType::I32 => Dtype::I32,
            ElementType::I64 => Dtype::I64,
            ElementType::F16 => Dtype::F16,
            ElementType::BF16 => Dtype::BF16,
            ElementType::F32 => Dtype::F32,
            ElementType::F64 => Dtype::F64,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.data).into()
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

fn element_type(dtype: Dtype) -> Option<ElementType> {
    Some(match dtype {
        Dtype::BOOL => ElementType::Bool,
        Dtype::U8 => ElementType::U8,
        Dtype::I8 => ElementType::I8,
        Dtype::I16 => ElementType::I16,
        Dtype::I32 => ElementType::I32,
        Dtype::I64 => ElementType::I64,
        Dtype::F16 => ElementType::F16,
        Dtype::BF16 => ElementType::BF16,
        Dtype::F32 => ElementType::F32,
        Dtype::F64 => ElementType::F64,
        _ => return None,
    })
}
