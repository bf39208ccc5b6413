//! Writes models as ONNX files, for ONNX Runtime, `TensorRT` and `DeepStream`. A file is made of a recording of the model's
//! own forward pass: this crate has no second description of any model, only a table of what each operation is in ONNX.
//!
//! - `capture`: records the forward pass with Burn's capture device
//! - `lowering`: from recordings to a graph; `table` is the table of operations, and deformable attention, which has
//!   three ways, is in `msda`
//! - `graph`: nodes and constants while a graph is made; `fold` evaluates what is constant, `simplify` takes short cuts
//! - `half_precision`: turns a graph into one that computes in f16
//! - [`int8`]: turns a graph into one that computes in int8, with ranges found on pictures
//! - `check`: shapes and types of the written file, worked out anew from its nodes
//! - [`Evaluator`]: computes what is in a file, operator by operator
//! - `file`, `decode`, `proto`: the bytes of a file
//! - [`deepstream`]: the texts that `DeepStream` and `trtexec` want beside it

mod array;
mod capture;
mod check;
mod compare;
mod decode;
pub mod deepstream;
mod error;
mod evaluator;
mod file;
mod fold;
mod graph;
mod half_precision;
pub mod int8;
mod lowering;
mod msda;
mod proto;
mod simplify;
mod table;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use burn::tensor::Device;
use detr_model::{Model, ModelConfig};
use detr_types::{ImageSize, PreprocessSpec};

use capture::{Recording, trace};
pub use compare::{Difference, Reference, noise};
pub use error::ExportError;
pub use evaluator::{Evaluator, OutputValues};
pub use file::MAX_BYTES;
use int8::{ActivationRanges, QuantisedLayer};
pub use msda::MsdaLowering;

/// Versions of ONNX's operators that can be written.
pub const OPSETS: RangeInclusive<i64> = 16..=20;

/// The number of images of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Any number, chosen when the graph runs.
    Any,
    /// Always so many.
    Fixed(usize),
}

/// Mean and standard deviation of every channel, in units of the largest value of a pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    /// The value that is subtracted.
    pub mean: [f32; 3],
    /// Divisor.
    pub std: [f32; 3],
}

/// The settings of an export.
#[derive(Clone, Copy, Debug)]
pub struct ExportOptions {
    /// Images of a call.
    pub batch: Batch,
    /// Size of every image.
    pub size: ImageSize,
    /// Version of ONNX's operators.
    pub opset: i64,
    /// The form in which deformable attention is written.
    pub msda: MsdaLowering,
    /// Appends scores, labels and boxes in pixels of the input.
    pub postprocess: bool,
    /// Takes pixels from 0 to 255 and normalises them in the graph.
    pub normalise: Option<Normalisation>,
    /// Computes convolutions and products of matrices in half precision, and stores their weights in it.
    pub fp16: bool,
}

/// An input or output of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its lengths; `batch` stands for the number of images.
    pub dims: Vec<String>,
}

/// A model as a graph of ONNX's operators, before it is a file.
#[derive(Debug)]
pub struct OnnxGraph(graph::Graph);

/// An ONNX file that has not been written yet.
#[derive(Clone, Debug)]
pub struct OnnxFile {
    /// The file.
    pub bytes: Vec<u8>,
    /// Nodes by operator.
    pub nodes: BTreeMap<&'static str, usize>,
    /// Numbers in all initializers.
    pub parameters: usize,
    /// The input.
    pub input: Port,
    /// The outputs in their order.
    pub outputs: Vec<Port>,
}

impl Batch {
    /// Reads a number of images, -1 standing for any.
    ///
    /// # Errors
    /// Neither -1 nor at least 1.
    pub fn from_number(number: i64) -> Result<Self, ExportError> {
        match usize::try_from(number) {
            Ok(images @ 1..) => Ok(Self::Fixed(images)),
            _ if number == -1 => Ok(Self::Any),
            _ => Err(ExportError::Batch { found: number }),
        }
    }
}

impl ExportOptions {
    /// Returns the usual settings for images of this size: any number of them, opset 17, nothing but the model.
    #[must_use]
    pub const fn new(size: ImageSize) -> Self {
        Self {
            batch: Batch::Any,
            size,
            opset: 17,
            msda: MsdaLowering::Gather,
            postprocess: false,
            normalise: None,
            fp16: false,
        }
    }

    fn validate(&self, config: &ModelConfig) -> Result<(), ExportError> {
        if !OPSETS.contains(&self.opset) {
            return Err(ExportError::Opset { found: self.opset });
        }
        if self.batch == Batch::Fixed(0) {
            return Err(ExportError::Batch { found: 0 });
        }
        let ImageSize { height, width } = self.size;
        let most = config.max_image_side().unwrap_or(PreprocessSpec::MAX_EDGE);
        if [height, width].iter().any(|side| !(1..=most).contains(side)) {
            let reason = format!("a side has 1 to {most} pixels in this model");
            return Err(ExportError::Size { height, width, reason });
        }
        Ok(())
    }
}

/// Makes an ONNX file of a model on `device`. The input is `inputs`, `[B, 3, H, W]`; the outputs are `pred_logits`
/// `[B, Q, C]` before any activation, `pred_boxes` `[B, Q, 4]` (centre and size, relative), and `pred_masks`
/// `[B, Q, H/4, W/4]` where the model has a mask head; all of the last layer of the decoder. The same model and options
/// always make the same bytes.
///
/// # Errors
/// Options that the model cannot be exported with, and whatever keeps it from becoming a file; see [`ExportError`].
///
/// # Panics
/// If the device fails at work, as every operation of Burn does.
pub fn export(
    model: &Model,
    config: &ModelConfig,
    options: &ExportOptions,
    device: &Device,
) -> Result<OnnxFile, ExportError> {
    OnnxGraph::record(model, config, options, device)?.file()
}

impl OnnxGraph {
    /// Records a model on `device`.
    ///
    /// # Errors
    /// Options that the model cannot be exported with, and whatever keeps it from becoming a graph.
    ///
    /// # Panics
    /// If the device fails at work, as every operation of Burn does.
    pub fn record(
        model: &Model,
        config: &ModelConfig,
        options: &ExportOptions,
        device: &Device,
    ) -> Result<Self, ExportError> {
        options.validate(config)?;
        let model = model.clone().fold();
        let record = |images| {
            let recording = Recording {
                images,
                size: options.size,
                activation: config.activation(),
                postprocess: options.postprocess,
                normalise: options.normalise,
            };
            trace(&model, recording, device)
        };
        let mut graph = match options.batch {
            // One image is special to Burn, which leaves out what changes nothing then.
            Batch::Any => lowering::lower(&record(2)?, &record(3)?, options.opset, options.msda)?,
            Batch::Fixed(images) => {
                let trace = record(images)?;
                lowering::lower(&trace, &trace, options.opset, options.msda)?
            }
        };
        if options.fp16 {
            half_precision::convert(&mut graph);
        }
        Ok(Self(graph))
    }

    /// Rounds the weights and inputs of convolutions and linear layers to int8 and tells of each.
    ///
    /// # Errors
    /// Ranges that are not those of this graph's values.
    pub fn quantise(
        mut self,
        ranges: &ActivationRanges,
    ) -> Result<(Self, Vec<QuantisedLayer>), ExportError> {
        let layers = int8::convert(&mut self.0, ranges)?;
        Ok((self, layers))
    }

    /// Returns whether ranges are those of this graph's values.
    #[must_use]
    pub fn fits(&self, ranges: &ActivationRanges) -> bool {
        int8::fits(&self.0, ranges)
    }

    /// Makes the bytes of the file and checks them.
    ///
    /// # Errors
    /// A file that would be too large, or that contradicts the recording.
    pub fn file(&self) -> Result<OnnxFile, ExportError> {
        let graph = &self.0;
        let bytes = file::encode(graph)?;
        check::check(&bytes, graph)?;
        let mut nodes = BTreeMap::new();
        for node in &graph.nodes {
            *nodes.entry(node.op).or_default() += 1;
        }
        let port = |name: &String| Port {
            name: name.clone(),
            dims: graph.dims(name).into_iter().map(array::Dim::text).collect(),
        };
        Ok(OnnxFile {
            nodes,
            parameters: graph.constant_elements(),
            input: port(&graph.input),
            outputs: graph.outputs.iter().map(port).collect(),
            bytes,
        })
    }
}
