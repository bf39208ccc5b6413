//! Computes the outputs of an exported file from its bytes, operator by operator, by the definitions of ONNX. It checks
//! what was written and finds the ranges of values for INT8; it is not made to be fast. Simple operators are computed
//! here on the host, products and convolutions by Burn's own operations, none by the code of the models.

mod operators;
mod tensors;

use std::collections::HashMap;

use burn::tensor::Device;

use crate::ExportError;
use crate::array::{Array, Element, Values};
use crate::decode::{Call, DecodedFile, decode};
use crate::graph::{Attribute, attribute_int};
use operators::to_half;

/// An exported file that is ready to be computed.
pub struct Evaluator {
    file: DecodedFile,
    constants: HashMap<String, Value>,
    /// Values that no later call reads, by the index of the call.
    done: Vec<Vec<String>>,
    device: Device,
}

/// An output of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputValues {
    /// Its name.
    pub name: String,
    /// Its lengths.
    pub dims: Vec<usize>,
    /// Its numbers, row by row.
    pub values: Vec<f32>,
}

/// A tensor while a file is computed. Numbers in half precision are held as f32 and rounded after every operator.
#[derive(Clone, Debug)]
struct Value {
    array: Array,
    is_half: bool,
}

impl Value {
    fn new(array: Array) -> Self {
        match array.values {
            Values::F16(bits) => {
                let values = bits.iter().map(|&bits| half::f16::from_bits(bits).to_f32());
                Self { array: Array::f32(values.collect(), &array.dims), is_half: true }
            }
            _ => Self { array, is_half: false },
        }
    }
}

impl Evaluator {
    /// Reads a file; products and convolutions are computed on `device`.
    ///
    /// # Errors
    /// Bytes that are no file of this crate.
    pub fn new(bytes: &[u8], device: &Device) -> Result<Self, ExportError> {
        let mut file = decode(bytes)?;
        let mut last = HashMap::new();
        for (index, call) in file.calls.iter().enumerate() {
            for value in call.node.inputs.iter().chain([&call.node.output]) {
                last.insert(value.clone(), index);
            }
        }
        let mut done = vec![Vec::new(); file.calls.len()];
        for (value, index) in last {
            if !file.outputs.contains(&value) {
                done[index].push(value);
            }
        }
        let constants = std::mem::take(&mut file.constants);
        let constants = constants.into_iter().map(|(name, array)| (name, Value::new(array)));
        Ok(Self { constants: constants.collect(), file, done, device: device.clone() })
    }

    /// Computes all outputs. `pixels` are the input of so many images, row by row.
    ///
    /// # Errors
    /// Pixels that are no input of the file, and operators that cannot be computed.
    ///
    /// # Panics
    /// If the device fails at work, as every operation of Burn does.
    pub fn run(&self, pixels: Vec<f32>, images: usize) -> Result<Vec<OutputValues>, ExportError> {
        self.run_watched(pixels, images, &mut |_, _| ())
    }

    /// Computes all outputs and shows every value on the way to `watch`, with its name.
    pub(crate) fn run_watched(
        &self,
        pixels: Vec<f32>,
        images: usize,
        watch: &mut dyn FnMut(&str, &Array),
    ) -> Result<Vec<OutputValues>, ExportError> {
        let dims: Vec<usize> =
            self.file.input_dims.iter().map(|len| len.unwrap_or(images)).collect();
        if dims.first() != Some(&images) || dims.iter().product::<usize>() != pixels.len() {
            let reason = format!("{} numbers of {images} images for {dims:?}", pixels.len());
            return Err(ExportError::Check { reason });
        }
        let input = Value::new(Array::f32(pixels, &dims));
        watch(&self.file.input, &input.array);
        let mut values = HashMap::from([(self.file.input.as_str(), input)]);
        for (call, done) in self.file.calls.iter().zip(&self.done) {
            let value = self.call(call, &values).ok_or_else(|| ExportError::Check {
                reason: format!("{} of {} cannot be computed", call.op, call.node.output),
            })?;
            watch(&call.node.output, &value.array);
            values.insert(&call.node.output, value);
            for name in done {
                values.remove(name.as_str());
            }
        }
        let output = |name: &String| {
            let array = values.get(name.as_str()).map(|value| &value.array);
            let floats = array.and_then(|array| Some((array, operators::as_floats(array)?)));
            let (array, values) = floats.ok_or_else(|| ExportError::Check {
                reason: format!("{name}: no node makes this output"),
            })?;
            Ok(OutputValues { name: name.clone(), dims: array.dims.clone(), values })
        };
        self.file.outputs.iter().map(output).collect()
    }

    fn call(&self, call: &Call, values: &HashMap<&str, Value>) -> Option<Value> {
        let inputs: Vec<&Value> = call
            .node
            .inputs
            .iter()
            .map(|name| values.get(name.as_str()).or_else(|| self.constants.get(name)))
            .collect::<Option<_>>()?;
        let arrays: Vec<&Array> = inputs.iter().map(|value| &value.array).collect();
        let attributes = &call.node.attributes;
        let to = attribute_int(attributes, "to");
        let array = match call.op.as_str() {
            "Cast" if to == Some(Element::F16.code().into()) => {
                operators::as_floats(arrays[0]).map(|values| Array::f32(values, &arrays[0].dims))
            }
            "Cast" if Some(i64::from(arrays[0].values.element().code())) == to => {
                Some(arrays[0].clone())
            }
            op => self.evaluate(op, &arrays, attributes),
        }?;
        let is_half = match call.op.as_str() {
            "Cast" => to == Some(Element::F16.code().into()),
            _ => inputs[0].is_half && array.values.element() == Element::F32,
        };
        Some(Value { array: if is_half { to_half(array) } else { array }, is_half })
    }

    fn evaluate(
        &self,
        op: &str,
        inputs: &[&Array],
        attributes: &[(&'static str, Attribute)],
    ) -> Option<Array> {
        tensors::evaluate(op, inputs, attributes, &self.device)
            .or_else(|| operators::evaluate(op, inputs, attributes))
            .or_else(|| crate::fold::evaluate(op, inputs, attributes))
    }
}

#[cfg(test)]
mod tests;
