//! From the bytes of an ONNX file back to nodes and constants. Only what this crate writes is read.

use std::collections::BTreeMap;

use prost::Message;

use crate::ExportError;
use crate::array::{Array, Values};
use crate::graph::{Attribute, Node};
use crate::proto::{
    AttributeProto, DimensionValue, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};

/// Names of the attributes that are written.
const ATTRIBUTES: [&str; 23] = [
    "align_corners",
    "axes",
    "axis",
    "batch_dims",
    "ceil_mode",
    "dilations",
    "end",
    "epsilon",
    "group",
    "keepdims",
    "kernel_shape",
    "largest",
    "mode",
    "name",
    "namespace",
    "padding_mode",
    "pads",
    "perm",
    "sorted",
    "start",
    "strides",
    "to",
    "value",
];

/// A call of an operator, as a file has it.
pub(crate) struct Call {
    pub(crate) op: String,
    /// The call; its `op` and `domain` are empty.
    pub(crate) node: Node,
}

/// The parts of a file that are needed to compute its outputs.
pub(crate) struct DecodedFile {
    pub(crate) calls: Vec<Call>,
    pub(crate) constants: BTreeMap<String, Array>,
    pub(crate) input: String,
    /// Lengths of the input; `None` for the number of images where that is open.
    pub(crate) input_dims: Vec<Option<usize>>,
    pub(crate) outputs: Vec<String>,
}

fn wrong(place: &str, reason: &str) -> ExportError {
    ExportError::Check { reason: format!("{place}: {reason}") }
}

/// Reads a file.
///
/// # Errors
/// Bytes that are no such file.
pub(crate) fn decode(bytes: &[u8]) -> Result<DecodedFile, ExportError> {
    let model = ModelProto::decode(bytes).map_err(|error| wrong("file", &error.to_string()))?;
    let graph = model.graph.ok_or_else(|| wrong("file", "it has no graph"))?;
    let [input] = &graph.input[..] else { return Err(wrong("file", "it has not one input")) };
    let mut constants = BTreeMap::new();
    for tensor in &graph.initializer {
        constants.insert(tensor.name.clone(), array(tensor)?);
    }
    Ok(DecodedFile {
        calls: graph.node.iter().map(call).collect::<Result<_, _>>()?,
        constants,
        input: input.name.clone(),
        input_dims: dims(input),
        outputs: graph.output.into_iter().map(|output| output.name).collect(),
    })
}

fn dims(port: &ValueInfoProto) -> Vec<Option<usize>> {
    let shape = port.kind.as_ref().and_then(|kind| kind.tensor_type.as_ref()?.shape.as_ref());
    let dims = shape.map(|shape| shape.dim.as_slice()).unwrap_or_default();
    dims.iter()
        .map(|dim| match dim.value {
            Some(DimensionValue::Value(len)) => usize::try_from(len).ok(),
            _ => None,
        })
        .collect()
}

fn call(proto: &NodeProto) -> Result<Call, ExportError> {
    let attributes = proto.attribute.iter().map(|proto| {
        let known = ATTRIBUTES.into_iter().find(|name| *name == proto.name);
        // The plugin's version is the only text that changes nothing.
        let name = known.or_else(|| (proto.name == "version").then_some("version"));
        let name = name.ok_or_else(|| wrong(&proto.name, "the attribute is unknown"))?;
        Ok((name, attribute(proto)?))
    });
    let output = proto.output.last().ok_or_else(|| wrong(&proto.name, "it has no output"))?;
    Ok(Call {
        op: proto.op_type.clone(),
        node: Node {
            op: "",
            domain: "",
            inputs: proto.input.clone(),
            output: output.clone(),
            attributes: attributes.collect::<Result<_, ExportError>>()?,
        },
    })
}

fn attribute(proto: &AttributeProto) -> Result<Attribute, ExportError> {
    Ok(match proto {
        AttributeProto { i: Some(number), .. } => Attribute::Int(*number),
        AttributeProto { f: Some(number), .. } => Attribute::Float(*number),
        AttributeProto { t: Some(tensor), .. } => Attribute::Array(array(tensor)?),
        AttributeProto { s: Some(text), .. } => {
            Attribute::Text(String::from_utf8_lossy(text).into_owned())
        }
        AttributeProto { ints, .. } => Attribute::Ints(ints.clone()),
    })
}

fn array(tensor: &TensorProto) -> Result<Array, ExportError> {
    let dims = tensor.dims.iter().map(|&len| usize::try_from(len)).collect::<Result<Vec<_>, _>>();
    let dims = dims.map_err(|_| wrong(&tensor.name, "a negative length"))?;
    let bytes = &tensor.raw_data;
    // Numbers of `TensorProto.DataType`.
    let values = match tensor.data_type {
        1 => Values::F32(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        3 => Values::I8(bytes.iter().map(|b| b.cast_signed()).collect()),
        6 => Values::I32(bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect()),
        7 => Values::I64(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        9 => Values::Bool(bytes.iter().map(|&b| b != 0).collect()),
        10 => Values::F16(bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect()),
        _ => return Err(wrong(&tensor.name, "its type is unknown")),
    };
    if dims.iter().product::<usize>() == values.len() {
        Ok(Array { dims, values })
    } else {
        Err(wrong(&tensor.name, "its numbers do not fill its shape"))
    }
}
