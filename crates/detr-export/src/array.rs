//! Constant tensors, and the types of tensors, as ONNX knows them.

/// The type of the elements of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Element {
    F32,
    F16,
    I64,
    I32,
    I8,
    Bool,
}

/// The numbers of a constant, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    F32(Vec<f32>),
    /// The bits of half-precision numbers.
    F16(Vec<u16>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    I8(Vec<i8>),
    Bool(Vec<bool>),
}

/// A constant tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) dims: Vec<usize>,
    pub(crate) values: Values,
}

/// The length of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dim {
    /// A length that is always the same.
    Fixed(usize),
    /// A length of so many elements for each image of the batch, whose size is known when the graph runs.
    Batch(usize),
}

/// The type of a tensor of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueType {
    pub(crate) element: Element,
    pub(crate) dims: Vec<Dim>,
}

impl Element {
    /// Returns the number of the type in ONNX files (`TensorProto.DataType`).
    pub(crate) const fn code(self) -> i32 {
        match self {
            Self::F32 => 1,
            Self::I8 => 3,
            Self::I32 => 6,
            Self::I64 => 7,
            Self::Bool => 9,
            Self::F16 => 10,
        }
    }

    /// Returns the bytes of an element.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Bool | Self::I8 => 1,
            Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }
}

impl Values {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::I8(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }

    pub(crate) const fn element(&self) -> Element {
        match self {
            Self::F32(_) => Element::F32,
            Self::F16(_) => Element::F16,
            Self::I64(_) => Element::I64,
            Self::I32(_) => Element::I32,
            Self::I8(_) => Element::I8,
            Self::Bool(_) => Element::Bool,
        }
    }

    /// Returns the elements at these places, in this order.
    pub(crate) fn pick(&self, places: impl Iterator<Item = usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(places.map(|place| values[place]).collect()),
            Self::F16(values) => Self::F16(places.map(|place| values[place]).collect()),
            Self::I64(values) => Self::I64(places.map(|place| values[place]).collect()),
            Self::I32(values) => Self::I32(places.map(|place| values[place]).collect()),
            Self::I8(values) => Self::I8(places.map(|place| values[place]).collect()),
            Self::Bool(values) => Self::Bool(places.map(|place| values[place]).collect()),
        }
    }

    /// Returns the numbers as ONNX stores them.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F16(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::I64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::I32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::I8(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Bool(values) => values.iter().map(|&value| u8::from(value)).collect(),
        }
    }
}

impl Array {
    /// Makes a vector of floating-point numbers with these dimensions.
    pub(crate) fn f32(values: Vec<f32>, dims: &[usize]) -> Self {
        Self { dims: dims.to_vec(), values: Values::F32(values) }
    }

    /// Makes a vector of whole numbers.
    pub(crate) fn i64s(values: impl IntoIterator<Item = i64>) -> Self {
        let values: Vec<i64> = values.into_iter().collect();
        Self { dims: vec![values.len()], values: Values::I64(values) }
    }

    /// Makes a number without dimensions.
    pub(crate) fn scalar(value: f32) -> Self {
        Self::f32(vec![value], &[])
    }

    /// Returns the type of the constant.
    pub(crate) fn value_type(&self) -> ValueType {
        ValueType {
            element: self.values.element(),
            dims: self.dims.iter().map(|&len| Dim::Fixed(len)).collect(),
        }
    }

    /// Returns the numbers of a vector of whole numbers.
    pub(crate) fn as_i64(&self) -> Option<&[i64]> {
        match &self.values {
            Values::I64(values) => Some(values),
            _ => None,
        }
    }
}

impl Dim {
    /// Returns the dimension that is so long in a trace of two images and in one of three.
    pub(crate) fn of_pair(two: usize, three: usize) -> Option<Self> {
        if two == three {
            return Some(Self::Fixed(two));
        }
        let each = two / 2;
        (each > 0 && two == 2 * each && three == 3 * each).then_some(Self::Batch(each))
    }

    /// Returns the length as a file names it: `batch` stands for the number of images.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Fixed(len) => len.to_string(),
            Self::Batch(1) => "batch".to_owned(),
            Self::Batch(each) => format!("{each}*batch"),
        }
    }

    /// Returns the length if it is always the same.
    pub(crate) const fn fixed(self) -> Option<usize> {
        match self {
            Self::Fixed(len) => Some(len),
            Self::Batch(_) => None,
        }
    }

    /// Returns the product of two lengths; `None` if both depend on the batch.
    pub(crate) const fn times(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Fixed(a), Self::Fixed(b)) => Some(Self::Fixed(a * b)),
            (Self::Fixed(a), Self::Batch(b)) | (Self::Batch(a), Self::Fixed(b)) => {
                Some(Self::Batch(a * b))
            }
            (Self::Batch(_), Self::Batch(_)) => None,
        }
    }
}

/// Converts a length to the type of ONNX's numbers.
#[allow(clippy::cast_possible_wrap)] // lengths of tensors in memory
pub(crate) const fn signed(len: usize) -> i64 {
    len as i64
}
