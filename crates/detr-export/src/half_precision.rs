//! Half precision: convolutions and products of matrices are computed in f16, with their weights, and what rounding
//! would spoil in f32. Inputs and outputs stay f32.

use std::collections::{BTreeMap, HashMap, HashSet};

use half::f16;

use crate::array::{Array, Element, Values};
use crate::graph::{Attribute, Graph, Node};

/// Operators that are computed in half precision.
const HALF: [&str; 3] = ["Conv", "MatMul", "GatherND"];

/// Operators that are computed in the precision that their inputs come in.
const FOLLOWING: [&str; 10] = [
    "Add",
    "Mul",
    "Relu",
    "MaxPool",
    "Reshape",
    "Transpose",
    "Concat",
    "Slice",
    "Expand",
    "Identity",
];

/// Parameters of layers that stay in f32: places to read at, and the last heads, whose coordinates would be off by a
/// third of a pixel.
const EXACT: [&str; 8] = [
    "sampling_offsets",
    "reference_points",
    "class_embed",
    "bbox_embed",
    "linear_class",
    "linear_bbox",
    "enc_output",
    "pos_trans",
];

/// Turns a finished graph into one that computes in half precision.
pub(crate) fn convert(graph: &mut Graph) {
    let mut halves = Halves::default();
    for node in std::mem::take(&mut graph.nodes) {
        halves.node(graph, node);
    }
    // An output that was computed in half precision gets its name back as f32.
    for output in graph.outputs.clone() {
        halves.single(graph, &output);
    }
    graph.nodes = std::mem::take(&mut halves.nodes);
    graph.constants = halves.constants(graph);
    let made: HashSet<&String> = graph.nodes.iter().map(|node| &node.output).collect();
    let input = graph.input.clone();
    graph.types.retain(|name, _| {
        made.contains(name) || graph.constants.contains_key(name) || *name == input
    });
}

#[derive(Default)]
struct Halves {
    nodes: Vec<Node>,
    /// Values that are computed in half precision.
    computed: HashSet<String>,
    /// Names of values in half precision, computed or converted.
    half: HashMap<String, String>,
    /// Values that are computed in half precision and were converted to f32 under their own names.
    widened: HashSet<String>,
    /// Constants that are read in half precision.
    half_constants: BTreeMap<String, Array>,
    /// Constants that are read as they are.
    plain_constants: HashSet<String>,
}

/// Returns whether a node reads a parameter of a layer that stays in f32.
fn is_exact(node: &Node) -> bool {
    node.inputs.iter().any(|input| EXACT.iter().any(|part| input.contains(part)))
}

fn is_float(graph: &Graph, value: &str) -> bool {
    graph.types[value].element == Element::F32
}

impl Halves {
    fn node(&mut self, graph: &mut Graph, mut node: Node) {
        let floats: Vec<usize> =
            (0..node.inputs.len()).filter(|&index| is_float(graph, &node.inputs[index])).collect();
        let fits = floats.iter().all(|&index| fits(graph, &node.inputs[index]));
        let computed = |index: &&usize| !graph.constants.contains_key(&node.inputs[**index]);
        let mut inputs = floats.iter().filter(computed).peekable();
        let follows = FOLLOWING.contains(&node.op)
            && inputs.peek().is_some()
            && inputs.all(|&index| self.computed.contains(&node.inputs[index]));
        let is_half = is_float(graph, &node.output)
            && fits
            && !is_exact(&node)
            && (HALF.contains(&node.op) || follows);
        for index in 0..node.inputs.len() {
            let input = node.inputs[index].clone();
            node.inputs[index] = match (floats.contains(&index), is_half) {
                (true, true) => self.halved(graph, &input),
                (true, false) => self.single(graph, &input),
                (false, _) => {
                    self.plain_constants.insert(input.clone());
                    input
                }
            };
        }
        if is_half {
            let own = node.output.clone();
            let name = format!("{own}_half");
            let mut kind = graph.types[&own].clone();
            kind.element = Element::F16;
            graph.types.insert(name.clone(), kind);
            self.half.insert(own.clone(), name.clone());
            self.computed.insert(own);
            node.output = name;
        }
        self.nodes.push(node);
    }

    /// Returns a value in half precision.
    fn halved(&mut self, graph: &mut Graph, value: &str) -> String {
        if let Some(name) = self.half.get(value) {
            return name.clone();
        }
        if let Some(Array { dims, values: Values::F32(values) }) = graph.constants.get(value) {
            let values = values.iter().map(|value| f16::from_f32(*value).to_bits()).collect();
            let array = Array { dims: dims.clone(), values: Values::F16(values) };
            self.half_constants.insert(value.to_owned(), array);
            return value.to_owned();
        }
        let name = format!("{value}_half");
        let mut kind = graph.types[value].clone();
        kind.element = Element::F16;
        graph.types.insert(name.clone(), kind);
        self.nodes.push(cast_node(value, &name, Element::F16));
        self.half.insert(value.to_owned(), name.clone());
        name
    }

    /// Returns a value in f32, under its own name.
    fn single(&mut self, graph: &Graph, value: &str) -> String {
        if graph.constants.contains_key(value) {
            self.plain_constants.insert(value.to_owned());
        } else if self.computed.contains(value) && self.widened.insert(value.to_owned()) {
            self.nodes.push(cast_node(&self.half[value], value, Element::F32));
        }
        value.to_owned()
    }

    /// Returns all constants that are read. One that is read in both precisions has its name in half precision, and the
    /// other copy a name of its own.
    fn constants(&mut self, graph: &mut Graph) -> BTreeMap<String, Array> {
        let mut constants = BTreeMap::new();
        for name in &self.plain_constants {
            let Some(array) = graph.constants.remove(name) else { continue };
            let is_both = self.half_constants.contains_key(name);
            let name = if is_both { format!("{name}_float") } else { name.clone() };
            graph.types.insert(name.clone(), array.value_type());
            constants.insert(name, array);
        }
        for (name, array) in std::mem::take(&mut self.half_constants) {
            let float = format!("{name}_float");
            if constants.contains_key(&float) {
                for node in &mut graph.nodes {
                    let reads_half = graph.types[&node.output].element == Element::F16;
                    for input in node.inputs.iter_mut().filter(|input| **input == name) {
                        if !reads_half {
                            float.clone_into(input);
                        }
                    }
                }
            }
            graph.types.insert(name.clone(), array.value_type());
            constants.insert(name, array);
        }
        constants
    }
}

fn cast_node(from: &str, to: &str, element: Element) -> Node {
    Node {
        op: "Cast",
        domain: "",
        inputs: vec![from.to_owned()],
        output: to.to_owned(),
        attributes: vec![("to", Attribute::Int(element.code().into()))],
    }
}

/// Returns whether all numbers of a constant can be half-precision ones.
fn fits(graph: &Graph, value: &str) -> bool {
    match graph.constants.get(value).map(|array| &array.values) {
        Some(Values::F32(values)) => values.iter().all(|value| f16::from_f32(*value).is_finite()),
        _ => true,
    }
}
