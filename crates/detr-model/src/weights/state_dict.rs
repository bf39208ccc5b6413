//! The named tensors of a file: shapes and types are at hand, bytes are read when asked for.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};
use memmap2::Mmap;

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum ElementType {
    Bool,
    U8,
    I8,
    I16,
    I32,
    I64,
    F16,
    BF16,
    F32,
    F64,
}

impl ElementType {
    /// Returns the size of an element in bytes.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// Returns whether elements are floating point numbers.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }
}

/// A tensor that has not been read yet.
#[derive(Clone)]
pub struct StoredTensor {
    /// Element type.
    pub dtype: ElementType,
    /// Shape, row-major.
    pub shape: Vec<usize>,
    source: Source,
}

#[derive(Clone)]
enum Source {
    /// Part of a memory-mapped file.
    Mapped(Arc<Mmap>, Range<usize>),
    /// A tensor of a pickle, possibly strided.
    Pickled(Arc<pytorch_reader::Tensor>),
    /// Bytes that were made in memory.
    Owned(Arc<Vec<u8>>),
    /// Tensors of one type, joined along the first axis.
    Joined(Vec<StoredTensor>),
    /// Numbers of the weight recipe.
    Recipe { name: String, seed: u64 },
}

impl StoredTensor {
    pub(super) fn mapped(
        dtype: ElementType,
        shape: Vec<usize>,
        map: &Arc<Mmap>,
        range: Range<usize>,
    ) -> Self {
        Self { dtype, shape, source: Source::Mapped(Arc::clone(map), range) }
    }

    pub(super) fn pickled(dtype: ElementType, tensor: pytorch_reader::Tensor) -> Self {
        Self { dtype, shape: tensor.shape().to_vec(), source: Source::Pickled(Arc::new(tensor)) }
    }

    pub(super) fn recipe(name: &str, shape: Vec<usize>, seed: u64) -> Self {
        Self {
            dtype: ElementType::F32,
            shape,
            source: Source::Recipe { name: name.to_owned(), seed },
        }
    }

    /// Creates a tensor of f32 numbers in memory.
    ///
    /// # Panics
    /// If the shape does not hold as many elements.
    #[must_use]
    pub fn from_f32(values: &[f32], shape: Vec<usize>) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "elements and shape differ");
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: ElementType::F32, shape, source: Source::Owned(Arc::new(bytes)) }
    }

    /// Joins tensors of one type along the first axis; none if their types or other axes differ.
    pub(super) fn join(parts: Vec<Self>) -> Option<Self> {
        let first = parts.first()?;
        let (dtype, tail) = (first.dtype, first.shape.get(1..)?.to_vec());
        let fits = |part: &Self| part.dtype == dtype && part.shape.get(1..) == Some(&tail[..]);
        if !parts.iter().all(fits) {
            return None;
        }
        let rows = parts.iter().map(|part| part.shape[0]).sum();
        let shape = std::iter::once(rows).chain(tail).collect();
        Some(Self { dtype, shape, source: Source::Joined(parts) })
    }

    /// Returns the number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Reads the elements as little-endian bytes, row-major.
    ///
    /// # Errors
    /// The file cannot be read, or ends early.
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        match &self.source {
            Source::Mapped(map, range) => Ok(map[range.clone()].to_vec()),
            Source::Pickled(tensor) => tensor.read(),
            Source::Owned(bytes) => Ok(bytes.as_ref().clone()),
            Source::Joined(parts) => {
                let mut bytes = Vec::with_capacity(self.elements() * self.dtype.size());
                for part in parts {
                    bytes.extend(part.bytes()?);
                }
                Ok(bytes)
            }
            Source::Recipe { .. } => {
                Ok(self.to_f32()?.iter().flat_map(|value| value.to_le_bytes()).collect())
            }
        }
    }

    /// Returns whether another tensor has the same type, shape and bits.
    pub(super) fn same_bits(&self, other: &Self) -> io::Result<bool> {
        if self.dtype != other.dtype || self.shape != other.shape {
            return Ok(false);
        }
        match (&self.source, &other.source) {
            (Source::Mapped(a, x), Source::Mapped(b, y)) => Ok(a[x.clone()] == b[y.clone()]),
            _ => Ok(self.bytes()? == other.bytes()?),
        }
    }

    /// Reads the elements as f32, row-major; f64 is rounded, integers are converted.
    ///
    /// # Errors
    /// The file cannot be read, or ends early.
    pub fn to_f32(&self) -> io::Result<Vec<f32>> {
        match &self.source {
            Source::Mapped(map, range) => Ok(decode(&map[range.clone()], self.dtype)),
            Source::Pickled(tensor) => Ok(decode(&tensor.read()?, self.dtype)),
            Source::Owned(bytes) => Ok(decode(bytes, self.dtype)),
            Source::Joined(parts) => {
                let mut values = Vec::with_capacity(self.elements());
                for part in parts {
                    values.extend(part.to_f32()?);
                }
                Ok(values)
            }
            Source::Recipe { name, seed } => Ok(super::recipe_weight(name, &self.shape, *seed)),
        }
    }
}

impl std::fmt::Debug for StoredTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}{:?}", self.dtype, self.shape)
    }
}

fn decode(bytes: &[u8], dtype: ElementType) -> Vec<f32> {
    fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| f(*chunk)).collect()
    }
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // documented rounding
    match dtype {
        ElementType::Bool | ElementType::U8 => each::<1>(bytes, |[b]| f32::from(b)),
        ElementType::I8 => each::<1>(bytes, |b| f32::from(i8::from_le_bytes(b))),
        ElementType::I16 => each::<2>(bytes, |b| f32::from(i16::from_le_bytes(b))),
        ElementType::I32 => each::<4>(bytes, |b| i32::from_le_bytes(b) as f32),
        ElementType::I64 => each::<8>(bytes, |b| i64::from_le_bytes(b) as f32),
        ElementType::F16 => each::<2>(bytes, |b| f16::from_le_bytes(b).to_f32()),
        ElementType::BF16 => each::<2>(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        ElementType::F32 => each::<4>(bytes, f32::from_le_bytes),
        ElementType::F64 => each::<8>(bytes, |b| f64::from_le_bytes(b) as f32),
    }
}

/// Tensors by name.
#[derive(Clone, Debug, Default)]
pub struct StateDict {
    tensors: BTreeMap<String, StoredTensor>,
}

impl StateDict {
    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: StoredTensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) -> Option<StoredTensor> {
        self.tensors.remove(name)
    }

    /// Returns a tensor by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    /// Returns the shape of a tensor, if there is one of that name.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.get(name).map(|tensor| tensor.shape.as_slice())
    }

    /// Returns one side of a tensor's shape, if there is such a tensor with so many axes.
    pub(crate) fn side(&self, name: &str, axis: usize) -> Option<usize> {
        self.shape(name)?.get(axis).copied()
    }

    /// Counts the consecutive indices, from 0, for which there is a tensor of that name.
    pub(crate) fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..self.len()).take_while(|&i| self.get(&name(i)).is_some()).count()
    }

    /// Returns the names and tensors in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StoredTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Returns the number of tensors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Returns whether there are no tensors.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Returns the number of elements of all tensors.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.tensors.values().map(StoredTensor::elements).sum()
    }

    /// Keeps the tensors whose name the function maps to a new one.
    #[must_use]
    pub fn rename(self, name: impl Fn(&str) -> Option<String>) -> Self {
        let tensors = self
            .tensors
            .into_iter()
            .filter_map(|(old, tensor)| Some((name(&old)?, tensor)))
            .collect();
        Self { tensors }
    }
}

/// Makes a state dict of recipe tensors for these names and shapes. The numbers are made when read.
#[must_use]
pub fn recipe_state_dict(expected: &[(String, Vec<usize>)], seed: u64) -> StateDict {
    let mut state = StateDict::default();
    for (name, shape) in expected {
        state.insert(name.as_str(), StoredTensor::recipe(name, shape.clone(), seed));
    }
    state
}
