//! Reads ONNX files, with messages of its own: names and field numbers are those of `onnx/onnx.proto`.

use std::collections::BTreeMap;

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(int64, tag = "1")]
    pub(super) ir_version: i64,
    #[prost(message, required, tag = "7")]
    pub(super) graph: Graph,
    #[prost(message, repeated, tag = "8")]
    pub(super) opset_import: Vec<Opset>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Opset {
    #[prost(string, tag = "1")]
    pub(super) domain: String,
    #[prost(int64, tag = "2")]
    pub(super) version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub(super) input: Vec<Port>,
    #[prost(message, repeated, tag = "12")]
    pub(super) output: Vec<Port>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub(super) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) output: Vec<String>,
    #[prost(string, tag = "4")]
    pub(super) op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) attribute: Vec<Attribute>,
    #[prost(string, tag = "7")]
    pub(super) domain: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) s: Vec<u8>,
    #[prost(int32, tag = "20")]
    pub(super) kind: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    pub(super) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    #[prost(string, tag = "8")]
    pub(super) name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub(super) raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Port {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, required, tag = "2")]
    kind: Type,
}

#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, required, tag = "1")]
    tensor: TensorType,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(message, required, tag = "2")]
    shape: Shape,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, Message)]
struct Dim {
    #[prost(int64, tag = "1")]
    value: i64,
    #[prost(string, tag = "2")]
    param: String,
}

impl Model {
    /// Reads a file.
    pub(super) fn read(bytes: &[u8]) -> Self {
        Self::decode(bytes).unwrap()
    }

    /// Nodes by operator.
    pub(super) fn counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for node in &self.graph.node {
            *counts.entry(node.op_type.as_str()).or_default() += 1;
        }
        counts
    }

    /// Names and shapes of inputs and outputs, as `inputs batch,3,64,64`.
    pub(super) fn ports(&self) -> Vec<String> {
        let dim = |dim: &Dim| match dim.param.as_str() {
            "" => dim.value.to_string(),
            name => name.to_owned(),
        };
        let ports = self.graph.input.iter().chain(&self.graph.output);
        ports
            .map(|port| {
                let dims: Vec<String> = port.kind.tensor.shape.dim.iter().map(dim).collect();
                format!("{} {}", port.name, dims.join(","))
            })
            .collect()
    }

    /// Returns an initializer by name.
    pub(super) fn initializer(&self, name: &str) -> Option<&Tensor> {
        self.graph.initializer.iter().find(|tensor| tensor.name == name)
    }

    /// Checks that every value is made once and before it is read, and that every initializer and node is needed.
    #[track_caller]
    pub(super) fn check_order(&self) {
        let graph = &self.graph;
        let mut made: Vec<&str> = graph.input.iter().map(|port| port.name.as_str()).collect();
        made.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
        let mut read: Vec<&str> = graph.output.iter().map(|port| port.name.as_str()).collect();
        for node in &graph.node {
            for input in &node.input {
                assert!(made.contains(&input.as_str()), "{input} is read by {}", node.op_type);
                read.push(input);
            }
            for output in &node.output {
                assert!(!made.contains(&output.as_str()), "{output} is made twice");
                made.push(output);
            }
        }
        for value in made {
            assert!(read.contains(&value) || value.ends_with("_scores"), "nothing reads {value}");
        }
    }
}
