//! The check of a file that has just been made, from its bytes: every node reads what was made before it, and the type
//! that its operator gives its output, by the definitions of ONNX, is the one that the model had when it was recorded.

use std::collections::HashMap;

use prost::Message;

use crate::ExportError;
use crate::array::{Dim, Element, ValueType};
use crate::graph::{Graph, broadcast};
use crate::msda;
use crate::proto::{
    AttributeProto, DimensionValue, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};

/// Longest vector whose numbers are read: shapes, axes and the like.
const LONGEST: usize = 64;

/// A number of a vector that is a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Known(i64),
    /// A length of so many elements for each image.
    Batch(usize),
}

/// The facts that are known about the values of a file.
#[derive(Default)]
struct Values {
    types: HashMap<String, ValueType>,
    /// The numbers of short vectors.
    vectors: HashMap<String, Vec<Length>>,
}

/// Checks the bytes of a file against the graph that it was made of.
///
/// # Errors
/// The first contradiction.
pub(crate) fn check(bytes: &[u8], graph: &Graph) -> Result<(), ExportError> {
    let model = ModelProto::decode(bytes)
        .map_err(|error| ExportError::Check { reason: error.to_string() })?;
    let proto = model.graph.as_ref().ok_or_else(|| wrong("file", "it has no graph"))?;
    let domains: Vec<&str> = model.opset_import.iter().map(|set| set.domain.as_str()).collect();
    let mut values = Values::default();
    for input in &proto.input {
        values.insert(&input.name, port_type(input)?)?;
    }
    for tensor in &proto.initializer {
        values.initializer(tensor)?;
    }
    for node in &proto.node {
        if !domains.contains(&node.domain.as_str()) {
            return Err(wrong(&node.name, "its set of operators is not imported"));
        }
        let found = values.infer(node).map_err(|reason| wrong(&node.name, &reason))?;
        let name = node.output.last().ok_or_else(|| wrong(&node.name, "it has no output"))?;
        let recorded = &graph.types[name];
        if found != *recorded {
            let reason =
                format!("{} gives {found:?}, but the model had {recorded:?}", node.op_type);
            return Err(wrong(&node.name, &reason));
        }
        for output in &node.output {
            values.insert(output, found.clone())?;
        }
    }
    outputs(proto, &values)
}

fn wrong(place: &str, reason: &str) -> ExportError {
    ExportError::Check { reason: format!("{place}: {reason}") }
}

fn outputs(proto: &GraphProto, values: &Values) -> Result<(), ExportError> {
    for output in &proto.output {
        let found = values.types.get(&output.name);
        let found = found.ok_or_else(|| wrong(&output.name, "no node makes this output"))?;
        if *found != port_type(output)? {
            return Err(wrong(&output.name, "its type is not the one that is stated"));
        }
    }
    Ok(())
}

fn element(code: i32) -> Option<Element> {
    use Element::{Bool, F16, F32, I8, I32, I64};
    [F32, F16, I64, I32, I8, Bool].into_iter().find(|element| element.code() == code)
}

fn port_type(port: &ValueInfoProto) -> Result<ValueType, ExportError> {
    let missing = || wrong(&port.name, "its type is not complete");
    let tensor = port.kind.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let tensor = tensor.ok_or_else(missing)?;
    let shape = tensor.shape.as_ref().ok_or_else(missing)?;
    let dims = shape.dim.iter().map(|dim| match dim.value.as_ref()? {
        DimensionValue::Value(len) => usize::try_from(*len).ok().map(Dim::Fixed),
        DimensionValue::Param(name) => {
            let each = name.strip_suffix("batch")?;
            let each = each.strip_suffix('*').map_or(Some(1), |each| each.parse().ok())?;
            Some(Dim::Batch(each))
        }
    });
    let dims = dims.collect::<Option<Vec<_>>>().ok_or_else(missing)?;
    Ok(ValueType { element: element(tensor.elem_type).ok_or_else(missing)?, dims })
}

impl Values {
    fn insert(&mut self, name: &str, kind: ValueType) -> Result<(), ExportError> {
        match self.types.insert(name.to_owned(), kind) {
            None => Ok(()),
            Some(_) => Err(wrong(name, "it is made twice")),
        }
    }

    fn initializer(&mut self, tensor: &TensorProto) -> Result<(), ExportError> {
        let kind = tensor_type(tensor).ok_or_else(|| wrong(&tensor.name, "its type is unknown"))?;
        let numbers = tensor.dims.iter().product::<i64>();
        let expected = usize::try_from(numbers).ok().map(|count| count * kind.element.bytes());
        if expected != Some(tensor.raw_data.len()) {
            return Err(wrong(&tensor.name, "its numbers do not fill its shape"));
        }
        if kind.element == Element::I64 && tensor.raw_data.len() <= LONGEST * 8 {
            let (numbers, _) = tensor.raw_data.as_chunks::<8>();
            let numbers = numbers.iter().map(|bytes| Length::Known(i64::from_le_bytes(*bytes)));
            self.vectors.insert(tensor.name.clone(), numbers.collect());
        }
        self.insert(&tensor.name, kind)
    }

    /// Returns the numbers of a vector that are the same for every batch.
    fn numbers(&self, node: &NodeProto, index: usize) -> Result<Vec<i64>, String> {
        let vector = node.input.get(index).and_then(|name| self.vectors.get(name));
        let vector = vector.ok_or_else(|| format!("input {index} is no short constant"))?;
        vector
            .iter()
            .map(|length| match length {
                Length::Known(number) => Ok(*number),
                Length::Batch(_) => Err(format!("input {index} depends on the batch")),
            })
            .collect()
    }

    /// Returns the lengths of a shape that is computed or constant.
    fn lengths(&self, node: &NodeProto, index: usize) -> Result<&[Length], String> {
        let vector = node.input.get(index).and_then(|name| self.vectors.get(name));
        vector.map(Vec::as_slice).ok_or_else(|| format!("input {index} is no shape"))
    }

    /// Works out the type of a node's output from those of its inputs.
    fn infer(&mut self, node: &NodeProto) -> Result<ValueType, String> {
        let inputs: Vec<ValueType> = node
            .input
            .iter()
            .map(|name| {
                self.types
                    .get(name)
                    .cloned()
                    .ok_or_else(|| format!("`{name}` is not made before it"))
            })
            .collect::<Result<_, _>>()?;
        let input = |index: usize| {
            inputs.get(index).ok_or_else(|| format!("{} has no input {index}", node.op_type))
        };
        let first = input(0)?.clone();
        let float = |dims: Vec<Dim>| ValueType { element: first.element, dims };
        match node.op_type.as_str() {
            "Relu" | "Sigmoid" | "Neg" | "Abs" | "Sqrt" | "Exp" | "Log" | "Sin" | "Cos"
            | "Floor" | "Reciprocal" | "Not" | "Softmax" | "CumSum" | "Identity" | "Clip" => {
                Ok(first)
            }
            "LayerNormalization" => {
                let last = first.dims.last().copied();
                if inputs[1..].iter().all(|part| part.dims.last().copied() == last) {
                    Ok(first)
                } else {
                    Err("scale or shift has another width".to_owned())
                }
            }
            "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Pow" | "Max" | "Min" | "And" | "Or" => {
                let second = input(1)?;
                if first.element != second.element {
                    return Err("operands of different types".to_owned());
                }
                if node.op_type == "Mul" && first.element == Element::I64 {
                    self.multiply(node);
                }
                Ok(float(joined(&first.dims, &second.dims)?))
            }
            "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Equal" => {
                let dims = joined(&first.dims, &input(1)?.dims)?;
                Ok(ValueType { element: Element::Bool, dims })
            }
            "Where" => {
                let (a, b) = (input(1)?, input(2)?);
                let dims = joined(&joined(&first.dims, &a.dims)?, &b.dims)?;
                if first.element == Element::Bool && a.element == b.element {
                    Ok(ValueType { element: a.element, dims })
                } else {
                    Err("operands of different types".to_owned())
                }
            }
            "Cast" => {
                let to = int(node, "to")?;
                let element = i32::try_from(to).ok().and_then(element);
                Ok(ValueType { element: element.ok_or("unknown type")?, dims: first.dims })
            }
            "MatMul" | "Conv" if input(1)?.element != first.element => {
                Err("operands of different types".to_owned())
            }
            "MatMul" => Ok(float(product(&first.dims, &input(1)?.dims)?)),
            "Conv" => Ok(float(convolution(node, &first.dims, &input(1)?.dims)?)),
            "MaxPool" => {
                let [b, c, h, w] = first.dims[..] else { return Err("no map".to_owned()) };
                let [h, w] = window(node, [h, w])?;
                Ok(float(vec![b, c, h, w]))
            }
            "Shape" => {
                let lengths = first.dims.iter().map(|dim| match *dim {
                    Dim::Fixed(len) => Length::Known(crate::array::signed(len)),
                    Dim::Batch(each) => Length::Batch(each),
                });
                let start = usize::try_from(int(node, "start")?).map_err(|_| "negative start")?;
                let end = usize::try_from(int(node, "end")?).map_err(|_| "negative end")?;
                let lengths: Vec<Length> = lengths.skip(start).take(end - start).collect();
                let dims = vec![Dim::Fixed(lengths.len())];
                self.vectors.insert(node.output[0].clone(), lengths);
                Ok(ValueType { element: Element::I64, dims })
            }
            "Reshape" => Ok(float(reshaped(&first.dims, self.lengths(node, 1)?)?)),
            "Expand" => Ok(float(joined(&first.dims, &dims_of(self.lengths(node, 1)?)?)?)),
            "ConstantOfShape" => {
                let dims = dims_of(self.lengths(node, 0)?)?;
                let value = attribute(node, "value")?.t.as_ref().and_then(tensor_type);
                Ok(ValueType { element: value.ok_or("no value")?.element, dims })
            }
            "Transpose" => {
                let perm = axes(&attribute(node, "perm")?.ints, first.dims.len())?;
                Ok(float(perm.iter().map(|&axis| first.dims[axis]).collect()))
            }
            "Concat" => self.concat(node, &inputs),
            "Slice" => self.slice(node, first),
            "Gather" => {
                let axis = axis(int(node, "axis")?, first.dims.len())?;
                let parts = [&first.dims[..axis], &input(1)?.dims, &first.dims[axis + 1..]];
                Ok(float(parts.concat()))
            }
            "GatherElements" => Ok(float(input(1)?.dims.clone())),
            "GatherND" => {
                let (batch, indices) = (int(node, "batch_dims")?, &input(1)?.dims);
                let batch = axis(batch, first.dims.len())?;
                let [own @ .., Dim::Fixed(picked)] = &indices[..] else {
                    return Err("indices without a last axis".to_owned());
                };
                if own[..batch] != first.dims[..batch] {
                    return Err("indices of another batch".to_owned());
                }
                Ok(float([own, &first.dims[batch + picked..]].concat()))
            }
            "GridSample" => {
                let ([b, c, ..], [gb, h, w, _]) = (&first.dims[..], &input(1)?.dims[..]) else {
                    return Err("no map or no grid".to_owned());
                };
                if b == gb {
                    Ok(float(vec![*b, *c, *h, *w]))
                } else {
                    Err("a grid of another batch".to_owned())
                }
            }
            "ReduceSum" | "ReduceMean" | "ReduceMax" => {
                let list = match node.input.len() {
                    1 => attribute(node, "axes")?.ints.clone(),
                    _ => self.numbers(node, 1)?,
                };
                let mut dims = first.dims.clone();
                for axis in axes(&list, dims.len())? {
                    dims[axis] = Dim::Fixed(1);
                }
                Ok(float(dims))
            }
            "ArgMax" => {
                let mut dims = first.dims.clone();
                let axis = axis(int(node, "axis")?, dims.len())?;
                dims[axis] = Dim::Fixed(1);
                Ok(ValueType { element: Element::I64, dims })
            }
            "TopK" => {
                let mut dims = first.dims.clone();
                let axis = axis(int(node, "axis")?, dims.len())?;
                let k = self.numbers(node, 1)?.first().and_then(|&k| usize::try_from(k).ok());
                dims[axis] = Dim::Fixed(k.ok_or("no k")?);
                Ok(ValueType { element: Element::I64, dims })
            }
            "Tile" => {
                let times = self.numbers(node, 1)?;
                let dims = first.dims.iter().zip(times).map(|(dim, times)| {
                    usize::try_from(times).ok().and_then(|times| dim.times(Dim::Fixed(times)))
                });
                Ok(float(dims.collect::<Option<_>>().ok_or("negative repeats")?))
            }
            "QuantizeLinear" => self.quantized(node, &first, Element::F32, Element::I8),
            "DequantizeLinear" => self.quantized(node, &first, Element::I8, Element::F32),
            msda::PLUGIN => {
                let [b, _, m, d] = first.dims[..] else { return Err("values".to_owned()) };
                let q = input(3)?.dims.get(1).copied().ok_or("no queries")?;
                if [input(1)?.element, input(2)?.element] != [Element::I32; 2] {
                    return Err("sizes of the levels are not of 32 bits".to_owned());
                }
                Ok(float(vec![b, q, m.times(d).ok_or("heads")?]))
            }
            other => Err(format!("operator {other} is unknown")),
        }
    }

    /// Works out the type of the output of a conversion to or from eight bits: one scale, or one for every index of an
    /// axis, and zero points of as many elements.
    fn quantized(
        &self,
        node: &NodeProto,
        x: &ValueType,
        from: Element,
        to: Element,
    ) -> Result<ValueType, String> {
        let [scale, zero] = [1, 2].map(|index| {
            let kind = node.input.get(index).and_then(|name| self.types.get(name));
            kind.ok_or_else(|| format!("it has no input {index}"))
        });
        let (scale, zero) = (scale?, zero?);
        if [x.element, scale.element, zero.element] != [from, Element::F32, Element::I8] {
            return Err("operands of other types".to_owned());
        }
        let fits = match scale.dims[..] {
            [] => true,
            [len] => x.dims[axis(int(node, "axis")?, x.dims.len())?] == len,
            _ => false,
        };
        if fits && scale.dims == zero.dims {
            Ok(ValueType { element: to, dims: x.dims.clone() })
        } else {
            Err("scales of another shape".to_owned())
        }
    }

    fn multiply(&mut self, node: &NodeProto) {
        let vector = |index: usize| node.input.get(index).and_then(|name| self.vectors.get(name));
        let product = match (vector(0).map(Vec::as_slice), vector(1).map(Vec::as_slice)) {
            (Some(&[Length::Batch(each)]), Some(&[Length::Known(times)])) => {
                usize::try_from(times).ok().map(|times| Length::Batch(each * times))
            }
            _ => None,
        };
        if let (Some(product), Some(name)) = (product, node.output.first()) {
            self.vectors.insert(name.clone(), vec![product]);
        }
    }

    fn concat(&mut self, node: &NodeProto, inputs: &[ValueType]) -> Result<ValueType, String> {
        let first = &inputs[0];
        let axis = axis(int(node, "axis")?, first.dims.len())?;
        let mut total = 0;
        for part in inputs {
            let fits = part.element == first.element
                && part.dims.len() == first.dims.len()
                && (0..part.dims.len()).all(|a| a == axis || part.dims[a] == first.dims[a]);
            if !fits {
                return Err("parts that do not fit each other".to_owned());
            }
            total += part.dims[axis].fixed().ok_or("parts along the batch")?;
        }
        let vectors: Option<Vec<Vec<Length>>> =
            node.input.iter().map(|name| self.vectors.get(name).cloned()).collect();
        if let Some(vectors) = vectors.filter(|_| first.element == Element::I64) {
            self.vectors.insert(node.output[0].clone(), vectors.concat());
        }
        let mut dims = first.dims.clone();
        dims[axis] = Dim::Fixed(total);
        Ok(ValueType { element: first.element, dims })
    }

    fn slice(&self, node: &NodeProto, mut x: ValueType) -> Result<ValueType, String> {
        let [starts, ends, list, steps] = [1, 2, 3, 4].map(|index| self.numbers(node, index));
        let (starts, ends, steps) = (starts?, ends?, steps?);
        for (at, axis) in axes(&list?, x.dims.len())?.into_iter().enumerate() {
            let len = x.dims[axis].fixed().ok_or("a part of the batch")?;
            let [start, end, step] = [starts[at], ends[at], steps[at]].map(usize::try_from);
            let (Ok(start), Ok(end), Ok(step @ 1..)) = (start, end, step) else {
                return Err("a slice that goes backwards".to_owned());
            };
            if start >= end || end > len {
                return Err(format!("a slice from {start} to {end} of {len}"));
            }
            x.dims[axis] = Dim::Fixed((end - start).div_ceil(step));
        }
        Ok(x)
    }
}

fn tensor_type(tensor: &TensorProto) -> Option<ValueType> {
    let dims = tensor.dims.iter().map(|&len| usize::try_from(len).ok().map(Dim::Fixed));
    Some(ValueType { element: element(tensor.data_type)?, dims: dims.collect::<Option<_>>()? })
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Result<&'a AttributeProto, String> {
    let found = node.attribute.iter().find(|attribute| attribute.name == name);
    found.ok_or_else(|| format!("it has no attribute {name}"))
}

fn int(node: &NodeProto, name: &str) -> Result<i64, String> {
    attribute(node, name)?.i.ok_or_else(|| format!("attribute {name} is no number"))
}

/// Returns an axis by its number, which counts from the end if it is negative.
fn axis(number: i64, rank: usize) -> Result<usize, String> {
    let index = match usize::try_from(number) {
        Ok(index) => Some(index),
        Err(_) => {
            usize::try_from(number.unsigned_abs()).ok().and_then(|back| rank.checked_sub(back))
        }
    };
    index.filter(|&index| index < rank).ok_or_else(|| format!("axis {number} of {rank}"))
}

fn axes(numbers: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    numbers.iter().map(|&number| axis(number, rank)).collect()
}

/// Returns the shape of two operands, which have to fit each other.
fn joined(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, String> {
    let dims = broadcast(a, b);
    let fits = |own: &[Dim]| {
        let skipped = dims.len() - own.len();
        own.iter().zip(&dims[skipped..]).all(|(own, dim)| *own == Dim::Fixed(1) || own == dim)
    };
    if fits(a) && fits(b) { Ok(dims) } else { Err(format!("operands {a:?} and {b:?}")) }
}

fn product(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, String> {
    let ([left @ .., rows, inner], [right @ .., other, columns]) = (a, b) else {
        return Err("operands that are no matrices".to_owned());
    };
    if inner != other {
        return Err(format!("a product of {a:?} and {b:?}"));
    }
    let mut dims = joined(left, right)?;
    dims.extend([*rows, *columns]);
    Ok(dims)
}

fn convolution(node: &NodeProto, x: &[Dim], weight: &[Dim]) -> Result<Vec<Dim>, String> {
    let (&[b, c, h, w], &[outputs, inputs, ..]) = (x, weight) else {
        return Err("no map or no weights".to_owned());
    };
    let groups = usize::try_from(int(node, "group")?).map_err(|_| "groups")?;
    if inputs.times(Dim::Fixed(groups)) != Some(c) {
        return Err("weights for other channels".to_owned());
    }
    let [h, w] = window(node, [h, w])?;
    Ok(vec![b, outputs, h, w])
}

/// Rows and columns after a window has moved over a map.
fn window(node: &NodeProto, sides: [Dim; 2]) -> Result<[Dim; 2], String> {
    let list = |name: &str| -> Result<Vec<usize>, String> {
        let numbers = attribute(node, name)?.ints.iter().map(|&n| usize::try_from(n));
        numbers.collect::<Result<_, _>>().map_err(|_| format!("negative {name}"))
    };
    let [kernel, strides] = [list("kernel_shape")?, list("strides")?];
    let [pads, dilations] = [list("pads")?, list("dilations")?];
    let mut moved = sides;
    for axis in 0..2 {
        let side = sides[axis].fixed().ok_or("a map whose sides depend on the batch")?;
        let padded = side + pads[axis] + pads[axis + 2];
        let span = dilations[axis] * (kernel[axis] - 1) + 1;
        let steps = padded.checked_sub(span).ok_or("a window that is larger than the map")?;
        moved[axis] = Dim::Fixed(steps / strides[axis] + 1);
    }
    Ok(moved)
}

fn dims_of(lengths: &[Length]) -> Result<Vec<Dim>, String> {
    let dims = lengths.iter().map(|length| match *length {
        Length::Known(len) => usize::try_from(len).map(Dim::Fixed),
        Length::Batch(each) => Ok(Dim::Batch(each)),
    });
    dims.collect::<Result<_, _>>().map_err(|_| "a negative length".to_owned())
}

/// Returns the dimensions after a change of shape, in which one length may be left to be worked out.
fn reshaped(x: &[Dim], lengths: &[Length]) -> Result<Vec<Dim>, String> {
    let count = |dims: &[Dim]| {
        let fixed = dims.iter().map(|dim| match *dim {
            Dim::Fixed(len) | Dim::Batch(len) => len,
        });
        let batches = dims.iter().filter(|dim| dim.fixed().is_none()).count();
        (fixed.product::<usize>(), batches)
    };
    let known: Vec<Length> =
        lengths.iter().copied().filter(|&length| length != Length::Known(-1)).collect();
    let (total, batches) = count(x);
    let (given, taken) = count(&dims_of(&known)?);
    let rest = match batches.checked_sub(taken) {
        Some(0) if given > 0 => Dim::Fixed(total / given),
        Some(1) if given > 0 => Dim::Batch(total / given),
        _ => return Err("another number of images".to_owned()),
    };
    let dims: Vec<Dim> = lengths
        .iter()
        .map(|&length| match length {
            Length::Known(-1) => Ok(rest),
            length => dims_of(&[length]).map(|dims| dims[0]),
        })
        .collect::<Result<_, _>>()?;
    if count(&dims) == (total, batches) {
        Ok(dims)
    } else {
        Err(format!("{x:?} has another number of elements than {lengths:?}"))
    }
}
