//! The graph of an ONNX file while it is made. Nodes are added in the order of the computation; one whose inputs are
//! constants becomes a constant, one that was there before is used again, and one that changes nothing is left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::array::{Array, Dim, Element, ValueType, signed};
use crate::fold;

/// Constants up to this size are kept once, however often they are made.
const SMALL: usize = 4096;

/// Operators that only move elements, so that a constant made of a parameter keeps the parameter's name.
const LAYOUT: [&str; 4] = ["Reshape", "Transpose", "Slice", "Cast"];

/// An argument of a node that is no tensor of the graph.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Attribute {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Text(String),
    Array(Array),
}

/// The arguments of a node by name.
pub(crate) type Attributes = Vec<(&'static str, Attribute)>;

/// A call of an operator with one output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) op: &'static str,
    /// The operator's set: empty for ONNX's own.
    pub(crate) domain: &'static str,
    pub(crate) inputs: Vec<String>,
    pub(crate) output: String,
    pub(crate) attributes: Attributes,
}

/// A graph.
#[derive(Debug)]
pub(crate) struct Graph {
    /// The version of ONNX's operators.
    pub(crate) opset: i64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) constants: BTreeMap<String, Array>,
    pub(crate) types: BTreeMap<String, ValueType>,
    pub(crate) input: String,
    pub(crate) outputs: Vec<String>,
    /// The node that makes a value.
    producers: HashMap<String, usize>,
    /// Nodes and small constants that are there, by what they are.
    known: HashMap<String, String>,
    /// The parameter that a constant was cut out of.
    origins: HashMap<String, String>,
    next: usize,
}

/// Returns a number among the attributes of a node.
pub(crate) fn attribute_int(attributes: &[(&'static str, Attribute)], name: &str) -> Option<i64> {
    attributes.iter().find_map(|(own, value)| match value {
        Attribute::Int(value) if *own == name => Some(*value),
        _ => None,
    })
}

/// Returns a list of numbers among the attributes of a node.
pub(crate) fn attribute_ints<'a>(
    attributes: &'a [(&'static str, Attribute)],
    name: &str,
) -> Option<&'a [i64]> {
    attributes.iter().find_map(|(own, value)| match value {
        Attribute::Ints(values) if *own == name => Some(values.as_slice()),
        _ => None,
    })
}

impl Graph {
    /// Makes a graph with one input and no nodes.
    pub(crate) fn new(opset: i64, input: &str, input_type: ValueType) -> Self {
        Self {
            opset,
            nodes: Vec::new(),
            constants: BTreeMap::new(),
            types: BTreeMap::from([(input.to_owned(), input_type)]),
            input: input.to_owned(),
            outputs: Vec::new(),
            producers: HashMap::new(),
            known: HashMap::new(),
            origins: HashMap::new(),
            next: 0,
        }
    }

    /// Returns the dimensions of a value.
    pub(crate) fn dims(&self, value: &str) -> Vec<Dim> {
        self.types[value].dims.clone()
    }

    /// Adds a parameter under its own name.
    pub(crate) fn parameter(&mut self, name: &str, array: Array) {
        self.origins.insert(name.to_owned(), name.to_owned());
        self.insert_constant(name.to_owned(), array);
    }

    /// Adds a constant.
    pub(crate) fn constant(&mut self, array: Array) -> String {
        let key = (array.values.len() <= SMALL).then(|| format!("{array:?}"));
        if let Some(name) = key.as_ref().and_then(|key| self.known.get(key)) {
            return name.clone();
        }
        let name = self.fresh("c");
        if let Some(key) = key {
            self.known.insert(key, name.clone());
        }
        self.insert_constant(name.clone(), array);
        name
    }

    /// Adds a vector of whole numbers.
    pub(crate) fn i64s(&mut self, values: impl IntoIterator<Item = i64>) -> String {
        self.constant(Array::i64s(values))
    }

    /// Adds a node, or what it comes to where that is known.
    pub(crate) fn node(
        &mut self,
        op: &'static str,
        inputs: &[&str],
        attributes: Attributes,
        output: ValueType,
    ) -> String {
        if let Some(constant) = self.fold(op, inputs, &attributes) {
            return constant;
        }
        self.add("", op, inputs, attributes, output)
    }

    /// Adds a node of another set of operators.
    pub(crate) fn foreign_node(
        &mut self,
        domain: &'static str,
        op: &'static str,
        inputs: &[&str],
        attributes: Attributes,
        output: ValueType,
    ) -> String {
        self.add(domain, op, inputs, attributes, output)
    }

    fn add(
        &mut self,
        domain: &'static str,
        op: &'static str,
        inputs: &[&str],
        attributes: Attributes,
        output: ValueType,
    ) -> String {
        let key = format!("{op} {inputs:?} {attributes:?}");
        if let Some(name) = self.known.get(&key) {
            return name.clone();
        }
        let name = self.fresh("v");
        let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
        self.known.insert(key, name.clone());
        self.producers.insert(name.clone(), self.nodes.len());
        self.types.insert(name.clone(), output);
        self.nodes.push(Node { op, domain, inputs, output: name.clone(), attributes });
        name
    }

    fn fold(&mut self, op: &str, inputs: &[&str], attributes: &Attributes) -> Option<String> {
        let arrays: Option<Vec<&Array>> =
            inputs.iter().map(|&input| self.constants.get(input)).collect();
        let array = fold::evaluate(op, &arrays?, attributes)?;
        let origin = if LAYOUT.contains(&op) { self.origins.get(inputs[0]).cloned() } else { None };
        let Some(origin) = origin else { return Some(self.constant(array)) };
        let key = format!("{op} {inputs:?} {attributes:?}");
        if let Some(name) = self.known.get(&key) {
            return Some(name.clone());
        }
        let name = self.fresh(&format!("{origin}."));
        self.known.insert(key, name.clone());
        self.origins.insert(name.clone(), origin);
        self.insert_constant(name.clone(), array);
        Some(name)
    }

    fn insert_constant(&mut self, name: String, array: Array) {
        self.types.insert(name.clone(), array.value_type());
        self.constants.insert(name, array);
    }

    fn fresh(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}{}", self.next)
    }

    /// Returns the node that makes a value.
    pub(crate) fn producer(&self, value: &str) -> Option<&Node> {
        self.producers.get(value).map(|&index| &self.nodes[index])
    }

    /// Makes a type with the elements of a value.
    pub(crate) fn like(&self, value: &str, dims: Vec<Dim>) -> ValueType {
        ValueType { element: self.types[value].element, dims }
    }

    /// Adds an operator that keeps the shape and type of its first input.
    pub(crate) fn keep(
        &mut self,
        op: &'static str,
        inputs: &[&str],
        attributes: Attributes,
    ) -> String {
        let output = self.types[inputs[0]].clone();
        self.node(op, inputs, attributes, output)
    }

    /// Adds an operator that broadcasts two operands.
    pub(crate) fn binary(&mut self, op: &'static str, a: &str, b: &str) -> String {
        let b = &self.as_vector(b, self.types[a].dims.len());
        let dims = broadcast(&self.types[a].dims, &self.types[b].dims);
        let output = self.like(a, dims);
        self.node(op, &[a, b], Vec::new(), output)
    }

    /// Returns a constant vector without the axes of length 1 that broadcasting adds anyway.
    fn as_vector(&mut self, name: &str, rank: usize) -> String {
        let dims = self.dims(name);
        match dims.split_last() {
            Some((&last, ones))
                if self.constants.contains_key(name)
                    && dims.len() <= rank
                    && ones.iter().all(|&dim| dim == Dim::Fixed(1)) =>
            {
                self.reshape(name, vec![last])
            }
            _ => name.to_owned(),
        }
    }

    /// Makes the number of images times `each`, as a vector of one.
    fn batch(&mut self, each: usize) -> String {
        let one = ValueType { element: Element::I64, dims: vec![Dim::Fixed(1)] };
        let range = vec![("start", Attribute::Int(0)), ("end", Attribute::Int(1))];
        let input = self.input.clone();
        let images = self.add("", "Shape", &[&input], range, one);
        if each == 1 {
            return images;
        }
        let each = self.i64s([signed(each)]);
        self.binary("Mul", &images, &each)
    }

    /// Makes a shape as a vector.
    pub(crate) fn shape(&mut self, dims: &[Dim]) -> String {
        if let Some(fixed) = dims.iter().map(|dim| dim.fixed()).collect::<Option<Vec<_>>>() {
            return self.i64s(fixed.into_iter().map(signed));
        }
        let parts: Vec<String> = dims
            .iter()
            .map(|dim| match dim {
                Dim::Fixed(len) => self.i64s([signed(*len)]),
                Dim::Batch(each) => self.batch(*each),
            })
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let output = ValueType { element: Element::I64, dims: vec![Dim::Fixed(dims.len())] };
        self.node("Concat", &parts, vec![("axis", Attribute::Int(0))], output)
    }

    /// Gives a value another shape.
    pub(crate) fn reshape(&mut self, x: &str, dims: Vec<Dim>) -> String {
        if self.types[x].dims == dims {
            return x.to_owned();
        }
        if let Some(node) = self.producer(x).filter(|node| node.op == "Reshape") {
            let before = node.inputs[0].clone();
            return self.reshape(&before, dims);
        }
        if let Some(value) = self.unflatten(x, &dims) {
            return value;
        }
        let unknown = dims.iter().filter(|dim| dim.fixed().is_none()).count();
        let shape = if unknown == 1 {
            // The one length that depends on the batch is what is left.
            self.i64s(dims.iter().map(|dim| dim.fixed().map_or(-1, signed)))
        } else {
            self.shape(&dims)
        };
        let output = self.like(x, dims);
        self.node("Reshape", &[x, &shape], Vec::new(), output)
    }

    /// Repeats a value along axes of length 1.
    pub(crate) fn expand(&mut self, x: &str, dims: Vec<Dim>) -> String {
        let own = self.dims(x);
        if own == dims {
            return x.to_owned();
        }
        // A length of 1 keeps that of the input.
        let offset = dims.len() - own.len();
        let wanted: Vec<Dim> = dims
            .iter()
            .enumerate()
            .map(|(axis, &dim)| match axis.checked_sub(offset) {
                Some(axis) if own[axis] == dim => Dim::Fixed(1),
                _ => dim,
            })
            .collect();
        let shape = self.shape(&wanted);
        let output = self.like(x, dims);
        self.node("Expand", &[x, &shape], Vec::new(), output)
    }

    /// Changes the order of the axes.
    pub(crate) fn transpose(&mut self, x: &str, perm: &[usize]) -> String {
        if perm.iter().enumerate().all(|(axis, &from)| axis == from) {
            return x.to_owned();
        }
        if let Some(node) = self.producer(x).filter(|node| node.op == "Transpose") {
            let before = node.inputs[0].clone();
            let first = attribute_ints(&node.attributes, "perm").unwrap_or_default().to_vec();
            let both: Vec<usize> =
                perm.iter().filter_map(|&axis| usize::try_from(first[axis]).ok()).collect();
            return self.transpose(&before, &both);
        }
        let own = self.dims(x);
        let output = self.like(x, perm.iter().map(|&axis| own[axis]).collect());
        let perm = perm.iter().map(|&axis| signed(axis)).collect();
        self.node("Transpose", &[x], vec![("perm", Attribute::Ints(perm))], output)
    }

    /// Joins values along an axis.
    pub(crate) fn concat(&mut self, parts: &[&str], axis: usize, output: ValueType) -> String {
        if let [one] = parts {
            (*one).to_owned()
        } else {
            let axis = vec![("axis", Attribute::Int(signed(axis)))];
            self.node("Concat", parts, axis, output)
        }
    }

    /// Takes a range of every axis: start, end and step, where it is not all of it.
    pub(crate) fn slice(
        &mut self,
        x: &str,
        ranges: &[Option<[usize; 3]>],
        output: ValueType,
    ) -> String {
        let mut cut = ranges.iter().enumerate().filter_map(|(axis, range)| Some((axis, (*range)?)));
        let first = cut.next();
        let Some((axis, [start, end, step])) = first else { return x.to_owned() };
        if cut.next().is_none()
            && step == 1
            && let Some(part) = self.slice_through(x, axis, [start, end])
        {
            return part;
        }
        let all: Vec<(usize, [usize; 3])> =
            ranges.iter().enumerate().filter_map(|(axis, range)| Some((axis, (*range)?))).collect();
        let vectors = [
            self.i64s(all.iter().map(|(_, [start, ..])| signed(*start))),
            self.i64s(all.iter().map(|(_, [_, end, _])| signed(*end))),
            self.i64s(all.iter().map(|(axis, _)| signed(*axis))),
            self.i64s(all.iter().map(|(_, [.., step])| signed(*step))),
        ];
        let [starts, ends, axes, steps] = &vectors;
        self.node("Slice", &[x, starts, ends, axes, steps], Vec::new(), output)
    }

    /// Adds an operator that works along axes and keeps them with length 1.
    pub(crate) fn reduce(&mut self, op: &'static str, x: &str, axes: &[usize]) -> String {
        let mut dims = self.dims(x);
        for &axis in axes {
            dims[axis] = Dim::Fixed(1);
        }
        let output = self.like(x, dims);
        let list: Vec<i64> = axes.iter().map(|&axis| signed(axis)).collect();
        // The axes became an input with version 18, but for sums, which had it before.
        if op == "ReduceSum" || self.opset >= 18 {
            let axes = self.i64s(list);
            return self.node(op, &[x, &axes], vec![("keepdims", Attribute::Int(1))], output);
        }
        let attributes = vec![("axes", Attribute::Ints(list)), ("keepdims", Attribute::Int(1))];
        self.node(op, &[x], attributes, output)
    }

    /// Converts the elements of a value.
    pub(crate) fn cast(&mut self, x: &str, element: Element) -> String {
        if self.types[x].element == element {
            return x.to_owned();
        }
        let output = ValueType { element, dims: self.dims(x) };
        self.node("Cast", &[x], vec![("to", Attribute::Int(element.code().into()))], output)
    }

    /// Adds the choice of the largest elements of every row, of which only the indices are read.
    pub(crate) fn top_k_indices(&mut self, x: &str, k: &str, output: ValueType) -> String {
        let attributes = vec![
            ("axis", Attribute::Int(-1)),
            ("largest", Attribute::Int(1)),
            ("sorted", Attribute::Int(1)),
        ];
        self.node("TopK", &[x, k], attributes, output)
    }

    /// Gives an output of the graph its name.
    pub(crate) fn output(&mut self, value: &str, name: &str) {
        let named = self.keep_identity(value);
        self.rename(&named, name);
        self.outputs.push(name.to_owned());
    }

    /// Returns a value that nothing else needs under its name: the value itself, or a copy of a constant or input.
    fn keep_identity(&mut self, value: &str) -> String {
        if self.producers.contains_key(value) && !self.outputs.iter().any(|output| output == value)
        {
            return value.to_owned();
        }
        let output = self.types[value].clone();
        self.add("", "Identity", &[value], Vec::new(), output)
    }

    fn rename(&mut self, from: &str, to: &str) {
        for node in &mut self.nodes {
            for name in node.inputs.iter_mut().chain([&mut node.output]) {
                if name == from {
                    to.clone_into(name);
                }
            }
        }
        if let Some(kind) = self.types.remove(from) {
            self.types.insert(to.to_owned(), kind);
        }
        if let Some(array) = self.constants.remove(from) {
            self.constants.insert(to.to_owned(), array);
        }
        if let Some(index) = self.producers.remove(from) {
            self.producers.insert(to.to_owned(), index);
        }
    }

    /// Removes what no output needs, and names what is left: a constant that is all that is left of a parameter has the
    /// parameter's name, several are numbered, and everything else is numbered in the order of the nodes.
    pub(crate) fn finish(&mut self) {
        let mut needed: BTreeSet<String> = self.outputs.iter().cloned().collect();
        let mut kept = Vec::with_capacity(self.nodes.len());
        for node in std::mem::take(&mut self.nodes).into_iter().rev() {
            if needed.contains(&node.output) {
                needed.extend(node.inputs.iter().cloned());
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
        self.constants.retain(|name, _| needed.contains(name));
        let input = self.input.clone();
        self.types.retain(|name, _| needed.contains(name) || *name == input);
        let mut names = self.final_names();
        for node in &mut self.nodes {
            for name in node.inputs.iter_mut().chain([&mut node.output]) {
                if let Some(new) = names.get(name) {
                    new.clone_into(name);
                }
            }
        }
        let mut renamed = |name: String| names.remove(&name).unwrap_or(name);
        let types = std::mem::take(&mut self.types);
        let constants = std::mem::take(&mut self.constants);
        let pairs: Vec<(String, ValueType)> = types.into_iter().collect();
        let arrays: HashMap<String, Array> = constants.into_iter().collect();
        let mut arrays = arrays;
        for (name, kind) in pairs {
            let array = arrays.remove(&name);
            let name = renamed(name);
            if let Some(array) = array {
                self.constants.insert(name.clone(), array);
            }
            self.types.insert(name, kind);
        }
        self.producers =
            self.nodes.iter().enumerate().map(|(i, node)| (node.output.clone(), i)).collect();
    }

    /// New names by old ones.
    fn final_names(&self) -> HashMap<String, String> {
        let mut pieces: BTreeMap<&str, usize> = BTreeMap::new();
        for name in self.constants.keys() {
            if let Some(origin) = self.origins.get(name) {
                *pieces.entry(origin).or_default() += 1;
            }
        }
        let mut names = HashMap::new();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let values = self.nodes.iter().flat_map(|node| node.inputs.iter().chain([&node.output]));
        for value in values {
            if !seen.insert(value) || *value == self.input || self.outputs.contains(value) {
                continue;
            }
            let name = match self.origins.get(value) {
                Some(origin) if pieces.get(origin.as_str()) == Some(&1) => origin.clone(),
                Some(origin) => format!("{origin}.{}", count(&mut counts, origin)),
                None if self.constants.contains_key(value) => {
                    format!("constant_{}", count(&mut counts, "constant"))
                }
                None => format!("value_{}", count(&mut counts, "value")),
            };
            names.insert(value.clone(), name);
        }
        names
    }

    /// Returns the numbers in all constants.
    pub(crate) fn constant_elements(&self) -> usize {
        self.constants.values().map(|array| array.values.len()).sum()
    }
}

/// Counts up from 0.
fn count(counts: &mut BTreeMap<String, usize>, what: &str) -> usize {
    let next = counts.entry(what.to_owned()).or_default();
    *next += 1;
    *next - 1
}

/// Returns the shape of two operands that are broadcast against each other.
pub(crate) fn broadcast(a: &[Dim], b: &[Dim]) -> Vec<Dim> {
    let rank = a.len().max(b.len());
    let at = |dims: &[Dim], axis: usize| {
        (axis + dims.len()).checked_sub(rank).map_or(Dim::Fixed(1), |axis| dims[axis])
    };
    (0..rank)
        .map(|axis| match at(a, axis) {
            Dim::Fixed(1) => at(b, axis),
            dim => dim,
        })
        .collect()
}
