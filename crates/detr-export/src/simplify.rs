//! Shorter ways to values of a graph: what a slice, a change of shape or a convolution reads need not be what it seems to
//! read, where that was only brought into a form for it.

use crate::array::{Array, Dim, signed};
use crate::graph::{Graph, attribute_int};

/// Operators that work on every element by itself.
const UNARY: [&str; 5] = ["Relu", "Sigmoid", "Neg", "Cast", "Sqrt"];

/// Operators that broadcast two operands.
const BINARY: [&str; 5] = ["Add", "Sub", "Mul", "Div", "MatMul"];

impl Graph {
    /// Returns rows `[N, O]` or `[1, .., O]` in the shape `[.., O]`, where a change of shape comes before operators that
    /// work on every row by itself, such as the heads, which take all decoder layers stacked. `None` if none does.
    pub(crate) fn unflatten(&mut self, x: &str, dims: &[Dim]) -> Option<String> {
        let own = &self.types[x].dims;
        let is_stacked = own.first() == Some(&Dim::Fixed(1)) && own.len() == dims.len() + 1;
        if own.last() != dims.last() || !(own.len() == 2 || is_stacked) {
            return None;
        }
        let rows = &dims[..dims.len() - 1];
        let node = self.producer(x)?.clone();
        let inner = |graph: &mut Self, value: &str| {
            let width = *graph.types[value].dims.last()?;
            let dims = [rows, &[width]].concat();
            graph.unflatten(value, &dims)
        };
        match (node.op, &node.inputs[..]) {
            ("Reshape", [before, _]) => Some(self.reshape(before, dims.to_vec())),
            ("Relu" | "Sigmoid", [before]) => {
                let before = inner(self, before)?;
                Some(self.keep(node.op, &[&before], Vec::new()))
            }
            ("Add" | "Mul", [before, constant]) if self.is_narrow(constant) => {
                let before = inner(self, before)?;
                Some(self.binary(node.op, &before, constant))
            }
            ("MatMul", [before, weight]) if self.constants.contains_key(weight) => {
                let before = inner(self, before)?;
                let output = self.like(&before, dims.to_vec());
                Some(self.node("MatMul", &[&before, weight], Vec::new(), output))
            }
            _ => None,
        }
    }

    /// Returns whether a value is a constant that is the same for every row.
    fn is_narrow(&self, name: &str) -> bool {
        self.constants.get(name).is_some_and(|array| array.dims.len() <= 1)
    }

    /// Returns the part of a value that a slice along one axis takes without the rest being computed: that is possible
    /// where the value is joined of parts, or made element by element of such a value. The last of all decoder layers
    /// is taken this way.
    pub(crate) fn slice_through(
        &mut self,
        x: &str,
        axis: usize,
        [start, end]: [usize; 2],
    ) -> Option<String> {
        let node = self.producer(x)?.clone();
        let dims = self.dims(x);
        let mut cut = dims.clone();
        cut[axis] = Dim::Fixed(end - start);
        let output = self.like(x, cut.clone());
        if node.op == "Concat" {
            if attribute_int(&node.attributes, "axis") != Some(signed(axis)) {
                return None;
            }
            let mut from = 0;
            for part in &node.inputs {
                let len = self.types[part].dims[axis].fixed()?;
                if [from, from + len] == [start, end] {
                    return Some(part.clone());
                }
                from += len;
            }
            return None;
        }
        if axis > 0 || dims.len() < 3 {
            return None;
        }
        if node.op == "Reshape" {
            let before = self.dims(&node.inputs[0]);
            if before.first() != dims.first() {
                return None;
            }
            let part = self.slice_through(&node.inputs[0], 0, [start, end])?;
            return Some(self.reshape(&part, cut));
        }
        let sliced = if UNARY.contains(&node.op) || node.op == "LayerNormalization" {
            1
        } else if BINARY.contains(&node.op) {
            2
        } else {
            return None;
        };
        let mut inputs = node.inputs.clone();
        for input in inputs.iter_mut().take(sliced) {
            let own = self.dims(input);
            if own.len() == dims.len() && own[0] != Dim::Fixed(1) {
                *input = self.slice_through(input, 0, [start, end])?;
            }
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        Some(self.node(node.op, &inputs, node.attributes, output))
    }

    /// Returns the map `[B, C, H, W]` that a value takes every nth row and column of, and both n.
    pub(crate) fn every_nth_cell(&self, x: &str) -> Option<(String, [usize; 2])> {
        let node = self.producer(x).filter(|node| node.op == "Slice")?;
        let [before, starts, ends, axes, steps] = &node.inputs[..] else { return None };
        let numbers = |name: &str| self.constants.get(name).and_then(Array::as_i64);
        let sides: Vec<i64> = self.types[before]
            .dims
            .iter()
            .skip(2)
            .map(|dim| dim.fixed().map_or(-1, signed))
            .collect();
        let is_whole =
            numbers(starts)? == [0, 0] && numbers(axes)? == [2, 3] && numbers(ends)? == sides;
        let &[down, right] = numbers(steps)? else { return None };
        let strides = [usize::try_from(down).ok()?, usize::try_from(right).ok()?];
        is_whole.then(|| (before.clone(), strides))
    }
}
