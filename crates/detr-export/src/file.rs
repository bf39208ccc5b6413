//! From a graph to the bytes of an ONNX file.

use prost::Message;

use crate::array::{Array, Dim, ValueType, signed};
use crate::graph::{Attribute, Graph, Node};
use crate::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::{ExportError, msda};

/// The largest file that protobuf can hold.
pub const MAX_BYTES: usize = i32::MAX as usize;

/// Writes a graph as a file.
///
/// # Errors
/// The file would be too large.
pub(crate) fn encode(graph: &Graph) -> Result<Vec<u8>, ExportError> {
    // The numbers are most of it, and are not copied only to be refused.
    let numbers =
        graph.constants.values().map(|array| array.values.len() * array.values.element().bytes());
    refuse_large(numbers.sum())?;
    let model = model(graph);
    refuse_large(model.encoded_len())?;
    Ok(model.encode_to_vec())
}

fn refuse_large(bytes: usize) -> Result<(), ExportError> {
    if bytes > MAX_BYTES { Err(ExportError::TooLarge { bytes }) } else { Ok(()) }
}

/// Returns the version of the file format that goes with a version of the operators.
pub(crate) const fn ir_version(opset: i64) -> i64 {
    if opset >= 19 { 9 } else { 8 }
}

fn model(graph: &Graph) -> ModelProto {
    let mut opset_import = vec![OperatorSetIdProto { domain: String::new(), version: graph.opset }];
    if graph.nodes.iter().any(|node| node.domain == msda::PLUGIN_DOMAIN) {
        let domain = msda::PLUGIN_DOMAIN.to_owned();
        opset_import.push(OperatorSetIdProto { domain, version: graph.opset });
    }
    ModelProto {
        ir_version: ir_version(graph.opset),
        producer_name: "detr".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(GraphProto {
            node: graph
                .nodes
                .iter()
                .enumerate()
                .map(|(index, node)| node_proto(index, node))
                .collect(),
            name: "detr".to_owned(),
            initializer: graph
                .constants
                .iter()
                .map(|(name, array)| tensor_proto(name, array))
                .collect(),
            input: vec![value_info(graph, &graph.input)],
            output: graph.outputs.iter().map(|name| value_info(graph, name)).collect(),
        }),
        opset_import,
    }
}

/// Returns the outputs of a node. Only the indices of `TopK` are read.
pub(crate) fn outputs(node: &Node) -> Vec<String> {
    match node.op {
        "TopK" => vec![format!("{}_scores", node.output), node.output.clone()],
        _ => vec![node.output.clone()],
    }
}

fn node_proto(index: usize, node: &Node) -> NodeProto {
    NodeProto {
        input: node.inputs.clone(),
        output: outputs(node),
        name: format!("{}_{index}", node.op),
        op_type: node.op.to_owned(),
        attribute: node.attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
        domain: node.domain.to_owned(),
    }
}

fn attribute(name: &str, value: &Attribute) -> AttributeProto {
    let mut proto = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
    // Numbers of `AttributeProto.AttributeType`.
    match value {
        Attribute::Float(value) => (proto.f, proto.kind) = (Some(*value), 1),
        Attribute::Int(value) => (proto.i, proto.kind) = (Some(*value), 2),
        Attribute::Text(text) => (proto.s, proto.kind) = (Some(text.as_bytes().to_vec()), 3),
        Attribute::Array(array) => (proto.t, proto.kind) = (Some(tensor_proto("", array)), 4),
        Attribute::Ints(values) => (proto.ints, proto.kind) = (values.clone(), 7),
    }
    proto
}

fn tensor_proto(name: &str, array: &Array) -> TensorProto {
    TensorProto {
        dims: array.dims.iter().map(|&len| signed(len)).collect(),
        data_type: array.values.element().code(),
        name: name.to_owned(),
        raw_data: array.values.to_bytes(),
    }
}

fn value_info(graph: &Graph, name: &str) -> ValueInfoProto {
    let ValueType { element, dims } = &graph.types[name];
    let dim = dims.iter().map(|dim| DimensionProto { value: Some(dimension(*dim)) }).collect();
    ValueInfoProto {
        name: name.to_owned(),
        kind: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: element.code(),
                shape: Some(TensorShapeProto { dim }),
            }),
        }),
    }
}

fn dimension(dim: Dim) -> DimensionValue {
    match dim {
        Dim::Fixed(len) => DimensionValue::Value(signed(len)),
        Dim::Batch(_) => DimensionValue::Param(dim.text()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_protobuf_cannot_hold_are_refused() {
        assert!(refuse_large(MAX_BYTES).is_ok());
        let error = refuse_large(MAX_BYTES + 1).unwrap_err().to_string();
        assert!(error.contains("2147483648 bytes") && error.contains("hint: "), "{error}");
    }

    #[test]
    fn an_attribute_of_zero_is_written() {
        let bytes = attribute("axis", &Attribute::Int(0)).encode_to_vec();
        // Name, number and kind, each with its field number.
        assert_eq!(bytes, [10, 4, b'a', b'x', b'i', b's', 24, 0, 160, 1, 2]);
    }
}
