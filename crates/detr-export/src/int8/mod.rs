//! INT8 by pairs of `QuantizeLinear` and `DequantizeLinear`, as ONNX Runtime and `TensorRT` take them: zero points are
//! zero.
//! Weights of convolutions and linear layers are stored as int8 with a scale for each output channel; what such a layer
//! reads is rounded to int8 with one scale for the tensor, which [`Calibrator`] finds.
//!
//! Layers that say where to read are computed in floating point with weights that are stored as int8. Everything else
//! stays in floating point: normalisations, softmax, products of activations, positions, places to read at, and the last
//! layers of the heads. Large tensors of it are stored in half precision and widened when the file is read, so that they
//! do not outweigh the rest.

mod calibrator;
mod histogram;
mod losses;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use half::f16;

use crate::ExportError;
use crate::array::{Array, Dim, Element, ValueType, Values};
use crate::graph::{Attribute, Graph, Node};

pub use calibrator::Calibrator;
pub use histogram::CalibrationMethod;
pub use losses::{LayerLosses, LossMeter};

/// The largest magnitude of every tensor that is rounded to int8, by its name in the graph.
pub type ActivationRanges = BTreeMap<String, f32>;

/// The largest int8 number that is used, so that both signs have as many.
const LEVELS: f32 = 127.0;

/// Floating-point constants of so many numbers are stored in half precision.
const LARGE: usize = 1024;

/// Parts of the names of parameters whose layers stay in floating point: reference points and the last layers of the
/// heads. The two layers of a box head before its last one are rounded.
const EXACT: [&str; 6] =
    ["reference_points", "class_embed", "linear_class", "pos_trans", "bbox_attention", "out_lay"];

/// The layers that say where to read. Their weights are stored as int8, and they are computed in floating point.
const PLACES: &str = "sampling_offsets";

/// Box heads, whose last layer stays in floating point.
const BOX_HEADS: [&str; 2] = ["bbox_embed", "linear_bbox"];

/// A layer whose weights and input are rounded.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantisedLayer {
    /// The layer by the name of its weights.
    pub name: String,
    /// The largest magnitude of its input that is told apart; `None` where only the weights are rounded.
    pub range: Option<f32>,
    /// The signal-to-noise ratio of the rounded weights in decibel: `10 log10(sum w^2 / sum (w - w')^2)`.
    pub weight_sqnr: f64,
    /// The value that the layer makes, by its name in the graph.
    pub(crate) output: String,
}

/// A layer that can be rounded.
struct Candidate {
    /// The index of its node.
    node: usize,
    input: String,
    /// Whether the input is rounded, too.
    rounds_input: bool,
    weight: String,
    /// The axis of the weights with the output channels.
    axis: usize,
}

fn stays_float(weight: &str) -> bool {
    let is_last_of_boxes =
        || BOX_HEADS.iter().any(|head| weight.contains(head)) && weight.contains("layers.2.");
    EXACT.iter().any(|part| weight.contains(part)) || is_last_of_boxes()
}

/// Returns the layers that are rounded, in the order of the graph.
fn candidates(graph: &Graph) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let [input, weight, ..] = &node.inputs[..] else { continue };
        let Some(array) = graph.constants.get(weight) else { continue };
        let axis = match (node.op, array.dims.len()) {
            ("Conv", 4) => 0,
            ("MatMul", 2) => 1,
            _ => continue,
        };
        let is_float = array.values.element() == Element::F32;
        if is_float && !graph.constants.contains_key(input) && !stays_float(weight) {
            let (input, weight) = (input.clone(), weight.clone());
            let rounds_input = !weight.contains(PLACES);
            found.push(Candidate { node: index, input, rounds_input, weight, axis });
        }
    }
    found
}

/// Returns the names of the values that are rounded.
fn rounded_values(graph: &Graph) -> BTreeSet<String> {
    let layers = candidates(graph).into_iter().filter(|layer| layer.rounds_input);
    layers.map(|layer| layer.input).collect()
}

/// Returns whether ranges are those of a graph's values, all of them positive numbers.
pub(crate) fn fits(graph: &Graph, ranges: &ActivationRanges) -> bool {
    let values = rounded_values(graph);
    values.iter().eq(ranges.keys())
        && ranges.values().all(|range| range.is_finite() && *range >= 0.0)
}

/// Weights as whole numbers, and the scale of every channel.
struct RoundedWeights {
    values: Vec<i8>,
    scales: Vec<f32>,
    sqnr: f64,
}

#[allow(clippy::cast_possible_truncation)] // clamped to i8
fn round_weights(values: &[f32], dims: &[usize], axis: usize) -> RoundedWeights {
    let (channels, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
    let channel = |at: usize| at / inner % channels;
    let mut most = vec![0.0_f32; channels];
    for (at, value) in values.iter().enumerate() {
        let most = &mut most[channel(at)];
        *most = most.max(value.abs());
    }
    let scales: Vec<f32> = most.into_iter().map(scale_of).collect();
    let mut noise = 0.0;
    let rounded = values.iter().enumerate().map(|(at, &value)| {
        let scale = scales[channel(at)];
        let level = (value / scale).round_ties_even().clamp(-LEVELS, LEVELS);
        noise += f64::from(value - level * scale).powi(2);
        level as i8
    });
    let rounded = rounded.collect();
    let signal = values.iter().map(|&value| f64::from(value).powi(2)).sum();
    RoundedWeights { values: rounded, scales, sqnr: decibel(signal, noise) }
}

/// Returns the scale of a range; a tensor of zeros has any.
fn scale_of(range: f32) -> f32 {
    let scale = range / LEVELS;
    if scale.is_normal() { scale } else { 1.0 }
}

/// Returns a ratio of sums of squares in decibel.
fn decibel(signal: f64, noise: f64) -> f64 {
    10.0 * (signal / noise.max(f64::MIN_POSITIVE)).log10()
}

/// Rounds the layers of a finished graph.
///
/// # Errors
/// Ranges of another graph.
pub(crate) fn convert(
    graph: &mut Graph,
    ranges: &ActivationRanges,
) -> Result<Vec<QuantisedLayer>, ExportError> {
    if !fits(graph, ranges) {
        return Err(ExportError::Ranges);
    }
    let layers: HashMap<usize, Candidate> =
        candidates(graph).into_iter().map(|layer| (layer.node, layer)).collect();
    let others = graph.nodes.iter().enumerate().filter(|(index, _)| !layers.contains_key(index));
    let read_whole = others.flat_map(|(_, node)| node.inputs.iter().cloned()).collect();
    let mut rounding = Rounding { read_whole, ..Rounding::default() };
    for (index, mut node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
        if let Some(layer) = layers.get(&index) {
            let range = layer.rounds_input.then(|| ranges[&layer.input]);
            if let Some(range) = range {
                node.inputs[0] = rounding.activation(graph, &layer.input, range);
            }
            let (weight, sqnr) = rounding.weight(graph, layer)?;
            node.inputs[1] = weight;
            rounding.layers.push(QuantisedLayer {
                name: layer.weight.trim_end_matches(".weight").to_owned(),
                range,
                weight_sqnr: sqnr,
                output: node.output.clone(),
            });
        }
        rounding.nodes.push(node);
    }
    graph.nodes = rounding.nodes;
    drop_unread(graph);
    store_in_half(graph);
    Ok(rounding.layers)
}

#[derive(Default)]
struct Rounding {
    nodes: Vec<Node>,
    layers: Vec<QuantisedLayer>,
    /// Rounded and widened values by the names of the whole ones.
    widened: HashMap<String, String>,
    /// Ratios of rounded weights.
    weights: HashMap<String, f64>,
    /// Values that are read by nodes whose numbers are not rounded.
    read_whole: BTreeSet<String>,
    scales: usize,
}

impl Rounding {
    /// Returns a value that was rounded to int8 and is wide again.
    fn activation(&mut self, graph: &mut Graph, value: &str, range: f32) -> String {
        if let Some(name) = self.widened.get(value) {
            return name.clone();
        }
        let scale = self.scale(graph, Array::scalar(scale_of(range)));
        let zero = zeros(graph, &[]);
        let (small, wide) = (format!("{value}_int8"), format!("{value}_rounded"));
        let dims = graph.dims(value);
        self.push(graph, "QuantizeLinear", [value, &scale, &zero], &small, (Element::I8, &dims));
        self.push(graph, "DequantizeLinear", [&small, &scale, &zero], &wide, (Element::F32, &dims));
        self.widened.insert(value.to_owned(), wide.clone());
        wide
    }

    /// Returns weights that are stored as int8, and the ratio that they kept.
    fn weight(
        &mut self,
        graph: &mut Graph,
        layer: &Candidate,
    ) -> Result<(String, f64), ExportError> {
        let name = &layer.weight;
        if let (Some(wide), Some(sqnr)) = (self.widened.get(name), self.weights.get(name)) {
            return Ok((wide.clone(), *sqnr));
        }
        let Some(Array { dims, values: Values::F32(values) }) = graph.constants.get(name) else {
            return Err(ExportError::Ranges);
        };
        let dims = dims.clone();
        let rounded = round_weights(values, &dims, layer.axis);
        let small = Array { dims: dims.clone(), values: Values::I8(rounded.values) };
        // The name of the parameter goes to the numbers that are stored, unless something reads the whole ones, too.
        let is_read_whole = self.read_whole.contains(name);
        let stored = if is_read_whole { format!("{name}_int8") } else { name.clone() };
        insert(graph, &stored, small);
        let channels = rounded.scales.len();
        let scale = self.scale(graph, Array::f32(rounded.scales, &[channels]));
        let zero = zeros(graph, &[channels]);
        let wide = format!("weight_{}", self.weights.len());
        let dims: Vec<Dim> = dims.into_iter().map(Dim::Fixed).collect();
        let inputs = [stored.as_str(), &scale, &zero];
        self.push(graph, "DequantizeLinear", inputs, &wide, (Element::F32, &dims));
        if let Some(node) = self.nodes.last_mut() {
            node.attributes = vec![("axis", Attribute::Int(crate::array::signed(layer.axis)))];
        }
        self.widened.insert(name.clone(), wide.clone());
        self.weights.insert(name.clone(), rounded.sqnr);
        Ok((wide, rounded.sqnr))
    }

    fn scale(&mut self, graph: &mut Graph, array: Array) -> String {
        let name = format!("scale_{}", self.scales);
        self.scales += 1;
        insert(graph, &name, array);
        name
    }

    fn push(
        &mut self,
        graph: &mut Graph,
        op: &'static str,
        inputs: [&str; 3],
        output: &str,
        (element, dims): (Element, &[Dim]),
    ) {
        graph.types.insert(output.to_owned(), ValueType { element, dims: dims.to_vec() });
        self.nodes.push(Node {
            op,
            domain: "",
            inputs: inputs.map(str::to_owned).to_vec(),
            output: output.to_owned(),
            attributes: Vec::new(),
        });
    }
}

fn insert(graph: &mut Graph, name: &str, array: Array) {
    graph.types.insert(name.to_owned(), array.value_type());
    graph.constants.insert(name.to_owned(), array);
}

/// Returns the zero points of so many channels.
fn zeros(graph: &mut Graph, dims: &[usize]) -> String {
    let count = dims.iter().product();
    let name = if dims.is_empty() { "zero".to_owned() } else { format!("zeros_{count}") };
    if !graph.constants.contains_key(&name) {
        insert(graph, &name, Array { dims: dims.to_vec(), values: Values::I8(vec![0; count]) });
    }
    name
}

/// Removes constants that no node reads any more.
fn drop_unread(graph: &mut Graph) {
    let read: BTreeSet<&String> = graph.nodes.iter().flat_map(|node| &node.inputs).collect();
    let gone: Vec<String> =
        graph.constants.keys().filter(|name| !read.contains(name)).cloned().collect();
    for name in gone {
        graph.constants.remove(&name);
        graph.types.remove(&name);
    }
}

/// Stores large floating-point constants in half precision where that holds them.
fn store_in_half(graph: &mut Graph) {
    let mut casts = Vec::new();
    for (name, array) in &mut graph.constants {
        let Values::F32(values) = &array.values else { continue };
        // Scales of weights stay whole.
        let fits = |value: &f32| f16::from_f32(*value).is_finite();
        if values.len() < LARGE || name.starts_with("scale_") || !values.iter().all(fits) {
            continue;
        }
        let bits = values.iter().map(|value| f16::from_f32(*value).to_bits()).collect();
        array.values = Values::F16(bits);
        let wide = format!("{name}_wide");
        let kind = graph.types[name].clone();
        graph.types.insert(name.clone(), array.value_type());
        graph.types.insert(wide.clone(), kind);
        casts.push(Node {
            op: "Cast",
            domain: "",
            inputs: vec![name.clone()],
            output: wide,
            attributes: vec![("to", Attribute::Int(Element::F32.code().into()))],
        });
    }
    let wide: HashMap<&String, &String> =
        casts.iter().map(|cast| (&cast.inputs[0], &cast.output)).collect();
    for input in graph.nodes.iter_mut().flat_map(|node| &mut node.inputs) {
        if let Some(wide) = wide.get(input) {
            (*wide).clone_into(input);
        }
    }
    graph.nodes.splice(0..0, casts);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_has_a_scale_of_its_own() {
        // Two output channels of a convolution, and the same numbers as columns of a matrix.
        let values = [1.27, -0.01, 254.0, 2.0];
        let rounded = round_weights(&values, &[2, 2, 1, 1], 0);
        assert_eq!(rounded.values, [127, -1, 127, 1]);
        assert_eq!(rounded.scales, [0.01, 2.0]);
        assert!(rounded.sqnr > 100.0);
        let rounded = round_weights(&values, &[2, 2], 1);
        assert_eq!(rounded.scales, [2.0, 2.0 / 127.0]);
        assert_eq!(rounded.values, [1, -1, 127, 127]);
    }

    #[test]
    fn channels_of_zeros_are_kept() {
        let rounded = round_weights(&[0.0, 0.0, 1.0, 1.0], &[2, 2], 0);
        assert_eq!((rounded.values, rounded.scales[0]), (vec![0, 0, 127, 127], 1.0));
    }

    #[test]
    fn last_layers_of_heads_and_places_stay_whole() {
        for name in [
            "class_embed.0.weight",
            "bbox_embed.layers.2.weight",
            "bbox_embed.4.layers.2.weight",
            "transformer.reference_points.weight",
            "linear_bbox.layers.2.weight",
            "mask_head.out_lay.weight",
        ] {
            assert!(stays_float(name), "{name}");
        }
        for name in ["bbox_embed.4.layers.1.weight", "transformer.encoder.layers.2.linear1.weight"]
        {
            assert!(!stays_float(name), "{name}");
        }
    }
}
