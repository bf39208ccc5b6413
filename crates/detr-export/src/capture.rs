//! Records the forward pass of a model with Burn's capture device, which notes operations instead of computing them. So
//! an exported file is made of the same code as every prediction.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};

use burn::backend::capture::{CaptureBackend, CapturedGraph, TensorId};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn_ir::OperationIr;
use detr_model::nested::Padding;
use detr_model::postprocess::ScoreActivation;
use detr_model::weights::named_parameters;
use detr_model::{Model, NestedTensor};
use detr_ops::record;
use detr_types::ImageSize;

use crate::{ExportError, Normalisation};

/// Pairs of query and class that post-processing keeps, as the published numbers do.
const MOST_ANSWERS: usize = 100;

/// The settings of a recording.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recording {
    pub(crate) images: usize,
    pub(crate) size: ImageSize,
    pub(crate) activation: ScoreActivation,
    pub(crate) postprocess: bool,
    pub(crate) normalise: Option<Normalisation>,
}

/// A recorded forward pass.
pub(crate) struct Trace {
    /// Operations in the order of the computation.
    pub(crate) operations: Vec<OperationIr>,
    /// The numbers of parameters and other constants.
    pub(crate) values: BTreeMap<TensorId, TensorData>,
    /// Official names of the parameters.
    pub(crate) parameters: HashMap<TensorId, String>,
    pub(crate) input: TensorId,
    /// Names and values of the outputs.
    pub(crate) outputs: Vec<(&'static str, TensorId)>,
}

/// Outputs with their names, in the order of the file. An output stays readable when something else is made of it.
#[derive(Default)]
struct Outputs {
    ids: Vec<(&'static str, TensorId)>,
    /// Handles that keep operations from taking an output over.
    kept: Vec<Box<dyn Any>>,
}

impl Outputs {
    fn float<const D: usize>(&mut self, name: &'static str, x: &Tensor<D>) {
        self.ids.extend(float_id(x).map(|id| (name, id)));
        self.kept.push(Box::new(x.clone()));
    }

    fn int<const D: usize>(&mut self, name: &'static str, x: &Tensor<D, Int>) {
        let id = x.clone().try_into_primitive::<CaptureBackend>().ok().map(|x| x.id());
        self.ids.extend(id.map(|id| (name, id)));
        self.kept.push(Box::new(x.clone()));
    }
}

fn float_id<const D: usize>(x: &Tensor<D>) -> Option<TensorId> {
    x.clone().try_into_primitive::<CaptureBackend>().ok().map(|x| x.id())
}

/// Records a forward pass on images without padding. `device` is the model's.
///
/// # Errors
/// Burn refuses the recording.
pub(crate) fn trace(
    model: &Model,
    recording: Recording,
    device: &Device,
) -> Result<Trace, ExportError> {
    let ImageSize { height, width } = recording.size;
    let shape = [recording.images, 3, height as usize, width as usize];
    let pixels = Tensor::<4>::zeros(shape, (device, DType::F32));
    let names = named_parameters(model);
    let capture = Device::capture();
    let mut parameters = HashMap::new();
    let mut boundary = None;
    // Everything that touches the capture device has to happen in here.
    let captured = capture.capture_scope(|scope| {
        let pixels = pixels.to_device(&capture);
        let input = float_id(&pixels);
        let model = model.clone().to_device(&capture);
        let mut ids = ParameterIds::default();
        model.visit(&mut ids);
        parameters = ids.0.into_iter().zip(names.iter().map(|known| known.name.clone())).collect();
        let mut outputs = Outputs::default();
        forward(&model, recording, pixels, &mut outputs);
        boundary = input.map(|input| (input, outputs.ids.clone()));
        scope.complete(input, outputs.ids.iter().map(|(_, id)| *id))
    });
    let refused = |reason: String| ExportError::Capture { reason };
    let CapturedGraph { graph, values } = captured.map_err(|error| refused(error.to_string()))?;
    let (_, outputs) = boundary.ok_or_else(|| refused("its input is on another device".into()))?;
    let [input] = graph.inputs[..] else {
        return Err(refused(format!("{} inputs", graph.inputs.len())));
    };
    let outputs = outputs.iter().map(|(name, _)| *name).zip(graph.outputs).collect();
    Ok(Trace { operations: graph.operations, values, parameters, input, outputs })
}

/// The identifiers of all parameters, in the order of the module.
#[derive(Default)]
struct ParameterIds(Vec<TensorId>);

impl ModuleVisitor for ParameterIds {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.extend(float_id(&param.val()));
    }
}

fn forward(model: &Model, recording: Recording, pixels: Tensor<4>, outputs: &mut Outputs) {
    let pixels = match recording.normalise {
        Some(normalisation) => normalise(pixels, normalisation),
        None => pixels,
    };
    let output = model.forward(NestedTensor { pixels, padding: Padding::None });
    let logits = last_layer(&output.pred_logits);
    let boxes = last_layer(&output.pred_boxes);
    outputs.float("pred_logits", &logits);
    outputs.float("pred_boxes", &boxes);
    let masks = output.mask_features.as_ref().and_then(|features| model.batch_masks(features));
    if let Some(masks) = masks {
        outputs.float("pred_masks", &masks);
    }
    if recording.postprocess {
        postprocess(logits, &boxes, recording, outputs);
    }
}

/// Scales pixels from 0 to 255 and normalises them, as everyone who calls the model does before.
fn normalise(pixels: Tensor<4>, Normalisation { mean, std }: Normalisation) -> Tensor<4> {
    let device = pixels.device();
    let channels = |values: [f32; 3]| {
        Tensor::<4>::from_data(
            TensorData::new(values.to_vec(), [1, 3, 1, 1]),
            (&device, DType::F32),
        )
    };
    (pixels - channels(mean.map(|mean| mean * 255.0))) / channels(std.map(|std| std * 255.0))
}

/// Returns the last layer of `[layers, B, Q, _]`.
fn last_layer(x: &Tensor<4>) -> Tensor<3> {
    let layers = x.dims()[0];
    x.clone().slice_dim(0, layers - 1..layers).squeeze_dim::<3>(0)
}

/// Adds scores, labels and boxes `(x1, y1, x2, y2)` in pixels of the input: one answer for each query under a softmax,
/// the best pairs of query and class under sigmoids.
fn postprocess(logits: Tensor<3>, boxes: &Tensor<3>, recording: Recording, outputs: &mut Outputs) {
    let [b, q, columns] = logits.dims();
    let boxes = to_pixels(boxes, recording.size);
    let (scores, labels, boxes) = match recording.activation {
        ScoreActivation::Softmax => {
            let classes = softmax(logits, 2).slice_dim(2, 0..columns - 1);
            let (scores, labels) = classes.max_dim_with_indices(2);
            (scores.squeeze_dim::<2>(2), labels.squeeze_dim::<2>(2), boxes)
        }
        ScoreActivation::Sigmoid => {
            let k = MOST_ANSWERS.min(q * columns);
            let scores = sigmoid(logits).reshape([b, q * columns]);
            let Some(pairs) = record::top_k(&scores, k) else { return };
            #[allow(clippy::cast_possible_wrap)] // classes of a model
            let (labels, queries) = (
                pairs.clone().remainder_scalar(columns as i64),
                pairs.clone().div_scalar(columns as i64),
            );
            let rows = queries.reshape([b, k, 1]).expand([b, k, 4]);
            (scores.gather(1, pairs), labels, boxes.gather(1, rows))
        }
    };
    outputs.float("scores", &scores);
    outputs.int("labels", &labels);
    outputs.float("boxes", &boxes);
}

/// Centre and size, relative, to corners in pixels.
#[allow(clippy::cast_precision_loss)] // sides of images
fn to_pixels(boxes: &Tensor<3>, ImageSize { height, width }: ImageSize) -> Tensor<3> {
    let device = boxes.device();
    let part = |from: usize| boxes.clone().slice_dim(2, from..from + 2);
    let (centre, half) = (part(0), part(2) * 0.5);
    let corners = Tensor::cat(vec![centre.clone() - half.clone(), centre + half], 2);
    let (w, h) = (width as f32, height as f32);
    corners * Tensor::<3>::from_data([[[w, h, w, h]]], (&device, DType::F32))
}
