//! The Open Inference Protocol, version 2, without its transport: tensors in, a task for the queue, and tensors
//! out.

mod input;
mod output;

use serde_json::{Value, json};

use crate::app::{App, RequestTime};
use crate::error::RequestError;
use crate::models::Model;
use crate::predict::{Task, predict};
use crate::request_options::RequestOptions;

pub(crate) use input::{InputData, InputTensor};
pub(crate) use output::OutputTensor;

/// The name of the server in its description.
pub(crate) const SERVER_NAME: &str = "detr";
/// The extensions of the protocol that the server knows.
pub(crate) const EXTENSIONS: [&str; 3] =
    ["binary_tensor_data", "model_configuration", "model_repository"];
/// The name of the platform of every model.
pub(crate) const PLATFORM: &str = "detr";

/// A request in no transport's form.
pub(crate) struct InferRequest {
    pub(crate) model: String,
    pub(crate) version: Option<String>,
    pub(crate) inputs: Vec<InputTensor>,
    /// The names of the outputs that are wanted; [`OUTPUTS`] if empty.
    pub(crate) outputs: Vec<String>,
    pub(crate) choice: RequestOptions,
}

/// An answer in no transport's form.
pub(crate) struct InferResponse {
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) outputs: Vec<OutputTensor>,
}

/// Answers a request.
pub(crate) async fn infer(
    app: &App,
    request: InferRequest,
    time: RequestTime,
) -> Result<InferResponse, RequestError> {
    let InferRequest { model, version, inputs, outputs, mut choice } = request;
    let version = version.filter(|version| !version.is_empty());
    let model = app.models.find(&model, version.as_deref())?;
    output::check_names(&outputs)?;
    choice.masks |= outputs.iter().any(|name| name == output::MASKS);
    choice.output = outputs.iter().any(|name| output::is_prediction(name));
    let limits = app.options.limits;
    let pictures = tokio::task::spawn_blocking(move || input::pictures(inputs, &limits))
        .await
        .unwrap_or_else(|_| Err(RequestError::bad("the inputs cannot be read")))?;
    let task = Task { model: std::sync::Arc::clone(&model), pictures, choice, time };
    let answers = predict(app, task).await?;
    let outputs = output::tensors(answers, &outputs, choice)?;
    Ok(InferResponse { model: model.name.clone(), version: model.version.clone(), outputs })
}

/// A tensor as a model's description names it.
pub(crate) struct TensorInfo {
    pub(crate) name: &'static str,
    pub(crate) datatype: &'static str,
    pub(crate) shape: &'static [i64],
}

/// The inputs: a request has one of the two.
pub(crate) const INPUTS: [TensorInfo; 2] = [
    TensorInfo { name: input::IMAGE, datatype: "BYTES", shape: &[-1] },
    TensorInfo { name: input::PIXELS, datatype: "UINT8", shape: &[-1, -1, -1, 3] },
];

/// The outputs that come when none is named.
const OUTPUTS: [TensorInfo; 7] = [
    TensorInfo { name: "num_detections", datatype: "INT32", shape: &[-1] },
    TensorInfo { name: "boxes", datatype: "FP32", shape: &[-1, -1, 4] },
    TensorInfo { name: "scores", datatype: "FP32", shape: &[-1, -1] },
    TensorInfo { name: "labels", datatype: "INT64", shape: &[-1, -1] },
    TensorInfo { name: "names", datatype: "BYTES", shape: &[-1, -1] },
    TensorInfo { name: "image_sizes", datatype: "INT64", shape: &[-1, 2] },
    TensorInfo { name: "errors", datatype: "BYTES", shape: &[-1] },
];

/// The outputs that come when they are asked for by name: the predictions of the last layer, and the masks of models with
/// a mask head.
const FURTHER_OUTPUTS: [TensorInfo; 3] = [
    TensorInfo { name: output::LOGITS, datatype: "FP32", shape: &[-1, -1, -1] },
    TensorInfo { name: output::BOXES, datatype: "FP32", shape: &[-1, -1, 4] },
    TensorInfo { name: output::MASKS, datatype: "BYTES", shape: &[-1, -1] },
];

/// Returns all outputs of a model.
pub(crate) fn outputs_of(model: &Model) -> impl Iterator<Item = &'static TensorInfo> {
    let has_masks = model.engine.has_masks();
    let fits = move |info: &&TensorInfo| has_masks || info.name != output::MASKS;
    OUTPUTS.iter().chain(FURTHER_OUTPUTS.iter().filter(fits))
}

impl TensorInfo {
    pub(crate) fn json(&self) -> Value {
        json!({ "name": self.name, "datatype": self.datatype, "shape": self.shape })
    }
}
