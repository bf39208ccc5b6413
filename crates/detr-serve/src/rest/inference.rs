//! The Open Inference Protocol, version 2, over REST, with its extensions for binary tensors and model repositories.

use std::io::Write;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Time;
use super::input::{blocking, json_response, parse_json};
use crate::app::App;
use crate::body::{self, Encoding};
use crate::error::RequestError;
use crate::inference::{
    EXTENSIONS, INPUTS, InferRequest, InferResponse, InputData, InputTensor, OutputTensor,
    PLATFORM, SERVER_NAME, infer, outputs_of,
};
use crate::request_options::RequestOptions;

/// The header with the length of the JSON before binary tensors.
const JSON_LENGTH: &str = "inference-header-content-length";

/// Answers `GET /v2`.
pub(super) async fn server() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    json_response(&json!({ "name": SERVER_NAME, "version": version, "extensions": EXTENSIONS }))
}

/// The parts of a path below `/v2/models`.
#[derive(Debug, Deserialize)]
pub(super) struct ModelPath {
    name: String,
    version: Option<String>,
}

/// Answers with the description of a model.
pub(super) async fn metadata(
    State(app): State<Arc<App>>,
    Path(target): Path<ModelPath>,
) -> Result<Response, RequestError> {
    let model = app.models.find(&target.name, target.version.as_deref())?;
    let inputs: Vec<Value> = INPUTS.iter().map(crate::inference::TensorInfo::json).collect();
    let outputs: Vec<Value> = outputs_of(&model).map(crate::inference::TensorInfo::json).collect();
    let classes: Vec<&str> =
        model.engine.classes().categories().map(|class| class.name.as_str()).collect();
    Ok(json_response(&json!({
        "name": model.name,
        "versions": app.models.versions(&model.name),
        "platform": PLATFORM,
        "inputs": inputs,
        "outputs": outputs,
        "classes": classes,
        "threshold": model.engine.threshold(),
        "max_detections": model.engine.max_detections(),
    })))
}

/// Answers with the configuration of a model, as Triton's clients ask for it.
pub(super) async fn config(
    State(app): State<Arc<App>>,
    Path(target): Path<ModelPath>,
) -> Result<Response, RequestError> {
    let model = app.models.find(&target.name, target.version.as_deref())?;
    let tensor = |info: &crate::inference::TensorInfo| {
        let kind = if info.datatype == "BYTES" { "STRING" } else { info.datatype };
        json!({ "name": info.name, "data_type": format!("TYPE_{kind}"), "dims": info.shape })
    };
    let inputs: Vec<Value> = INPUTS.iter().map(tensor).collect();
    let outputs: Vec<Value> = outputs_of(&model).map(tensor).collect();
    Ok(json_response(&json!({
        "name": model.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        // The first side of the shapes is the number of pictures already.
        "max_batch_size": 0,
        "input": inputs,
        "output": outputs,
    })))
}

/// Answers whether a model can be asked.
pub(super) async fn model_ready(
    State(app): State<Arc<App>>,
    Path(target): Path<ModelPath>,
) -> Result<Response, RequestError> {
    app.models.find(&target.name, target.version.as_deref())?;
    app.check_ready()?;
    Ok(().into_response())
}

/// Answers with the list of models.
pub(super) async fn index(State(app): State<Arc<App>>) -> Response {
    let line = |entry: crate::models::ModelEntry| {
        let state = if entry.unavailable.is_none() { "READY" } else { "UNAVAILABLE" };
        let reason = entry.unavailable.unwrap_or_default();
        json!({ "name": entry.name, "version": entry.version, "state": state, "reason": reason })
    };
    let lines: Vec<Value> = app.models.index().into_iter().map(line).collect();
    json_response(&Value::Array(lines))
}

/// Reads a model again. Its place on disk is that of the command line; a client cannot name another.
pub(super) async fn load(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, RequestError> {
    app.check_control(&name)?;
    let models = Arc::clone(&app.models);
    blocking(move || models.reload(&name)).await?;
    Ok(json_response(&json!({})))
}

/// Takes a model out of service.
pub(super) async fn unload(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, RequestError> {
    app.check_control(&name)?;
    app.models.unload(&name);
    Ok(json_response(&json!({})))
}

/// Answers a request for a model.
pub(super) async fn infer_route(
    State(app): State<Arc<App>>,
    Path(target): Path<ModelPath>,
    time: Time,
    request: Request,
) -> Result<Response, RequestError> {
    let (parts, incoming) = request.into_parts();
    if let Err(error) = app.models.find(&target.name, target.version.as_deref()) {
        body::discard(incoming).await;
        return Err(error.closing());
    }
    let body = body::read(&app, &parts.headers, incoming).await?;
    let length = json_length(&parts.headers)?;
    let bytes = body.bytes.clone();
    let parsed = blocking(move || parse(target, &bytes, length)).await?;
    let ParsedRequest { request, id, binary } = parsed;
    drop(body);
    let response = infer(&app, request, time.0).await?;
    let encoding = Encoding::accepted(&parts.headers);
    blocking(move || write(response, id, &binary, encoding)).await
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, RequestError> {
    let Some(value) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length
        .map(Some)
        .ok_or_else(|| RequestError::bad("Inference-Header-Content-Length: expected a number"))
}

/// A request, and the form that its answer shall have.
struct ParsedRequest {
    request: InferRequest,
    id: Option<String>,
    binary: BinaryOutputs,
}

/// The outputs that are wanted as bytes behind the JSON.
#[derive(Default)]
struct BinaryOutputs {
    all: bool,
    /// Outputs that say it for themselves.
    named: Vec<(String, bool)>,
}

impl BinaryOutputs {
    fn wants(&self, name: &str) -> bool {
        let named = self.named.iter().find(|(named, _)| named == name);
        named.map_or(self.all, |(_, binary)| *binary)
    }
}

fn parse(
    target: ModelPath,
    bytes: &Bytes,
    length: Option<usize>,
) -> Result<ParsedRequest, RequestError> {
    let length = length.unwrap_or(bytes.len());
    if length > bytes.len() {
        return Err(RequestError::bad(format!(
            "Inference-Header-Content-Length: {length}, but the body has {} bytes",
            bytes.len()
        )));
    }
    let Value::Object(mut object) = parse_json(&bytes[..length])? else {
        return Err(RequestError::bad("expected an object with `inputs`"));
    };
    let mut tail = bytes.slice(length..);
    let id = match object.remove("id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id),
        Some(_) => return Err(RequestError::bad("id: expected a text")),
    };
    let Some(Value::Array(inputs)) = object.remove("inputs") else {
        return Err(RequestError::bad("inputs: expected an array of tensors"));
    };
    let inputs = inputs
        .into_iter()
        .enumerate()
        .map(|(index, input)| tensor(input, index, &mut tail))
        .collect::<Result<Vec<_>, _>>()?;
    if !tail.is_empty() {
        return Err(RequestError::bad(format!(
            "{} bytes behind the tensors belong to none",
            tail.len()
        )));
    }
    let mut binary = BinaryOutputs::default();
    let mut outputs = Vec::new();
    match object.remove("outputs") {
        None | Some(Value::Null) => {}
        Some(Value::Array(wanted)) => {
            for (index, output) in wanted.iter().enumerate() {
                let name = output["name"].as_str().ok_or_else(|| {
                    RequestError::bad(format!("outputs[{index}].name: expected a text"))
                })?;
                if let Some(own) = output["parameters"]["binary_data"].as_bool() {
                    binary.named.push((name.to_owned(), own));
                }
                outputs.push(name.to_owned());
            }
        }
        Some(_) => return Err(RequestError::bad("outputs: expected an array")),
    }
    let mut choice = RequestOptions::default();
    if let Some(parameters) = object.remove("parameters").filter(|value| !value.is_null()) {
        let Value::Object(mut parameters) = parameters else {
            return Err(RequestError::bad("parameters: expected an object"));
        };
        if let Some(value) = parameters.remove("binary_data_output") {
            binary.all = value.as_bool().ok_or_else(|| {
                RequestError::bad("parameters.binary_data_output: expected true or false")
            })?;
        }
        choice = RequestOptions::from_json(&Value::Object(parameters), "parameters")?;
    }
    let ModelPath { name: model, version } = target;
    Ok(ParsedRequest {
        request: InferRequest { model, version, inputs, outputs, choice },
        id,
        binary,
    })
}

/// Reads a tensor, and takes its bytes from those behind the JSON where they are there.
fn tensor(value: Value, index: usize, tail: &mut Bytes) -> Result<InputTensor, RequestError> {
    let wrong = |field: &str, expected: &str| {
        RequestError::bad(format!("inputs[{index}].{field}: expected {expected}"))
    };
    let Value::Object(mut object) = value else {
        return Err(RequestError::bad(format!("inputs[{index}]: expected an object")));
    };
    let text = |object: &Map<String, Value>, key: &str| {
        object
            .get(key)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| wrong(key, "a text"))
    };
    let (name, datatype) = (text(&object, "name")?, text(&object, "datatype")?);
    let shape = object.get("shape").and_then(Value::as_array);
    let shape: Option<Vec<i64>> = shape.and_then(|shape| shape.iter().map(Value::as_i64).collect());
    let shape = shape.ok_or_else(|| wrong("shape", "an array of whole numbers"))?;
    let data = object.remove("data");
    let size = object.get("parameters").and_then(|parameters| parameters.get("binary_data_size"));
    let data = match (size, data) {
        (None, Some(data)) => InputData::Json(data),
        (None, None) => return Err(wrong("data", "an array, or parameters.binary_data_size")),
        (Some(_), Some(_)) => return Err(wrong("data", "nothing beside binary_data_size")),
        (Some(size), None) => {
            let size = size.as_u64().and_then(|size| usize::try_from(size).ok());
            let size = size.filter(|size| *size <= tail.len());
            let size = size.ok_or_else(|| {
                wrong("parameters.binary_data_size", "a number of bytes that the body has")
            })?;
            InputData::Raw(tail.split_to(size))
        }
    };
    Ok(InputTensor { name, datatype, shape, data })
}

/// Writes the JSON of an answer, and the bytes of the tensors that are wanted so behind it.
fn write(
    response: InferResponse,
    id: Option<String>,
    binary: &BinaryOutputs,
    encoding: Encoding,
) -> Result<Response, RequestError> {
    let InferResponse { model, version, outputs } = response;
    let mut tail = Vec::new();
    let mut described = Vec::with_capacity(outputs.len());
    for OutputTensor { name, shape, data } in outputs {
        let datatype = data.datatype();
        described.push(if binary.wants(name) {
            let before = tail.len();
            data.write_raw(&mut tail);
            let parameters = json!({ "binary_data_size": tail.len() - before });
            json!({ "name": name, "datatype": datatype, "shape": shape, "parameters": parameters })
        } else {
            json!({ "name": name, "datatype": datatype, "shape": shape, "data": data.json() })
        });
    }
    let any_binary = described.iter().any(|tensor| tensor.get("parameters").is_some());
    let mut answer = json!({ "model_name": model, "model_version": version });
    if let Some(id) = id {
        answer["id"] = id.into();
    }
    answer["outputs"] = described.into();
    let mut bytes = answer.to_string().into_bytes();
    let length = bytes.len();
    bytes.extend(tail);
    let kind = if any_binary { "application/octet-stream" } else { "application/json" };
    let failed =
        |_| RequestError::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be compressed");
    let (bytes, coding) = match encoding {
        Encoding::None => (bytes, None),
        Encoding::Gzip => {
            let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
            let written = writer.write_all(&bytes).and_then(|()| writer.finish());
            (written.map_err(failed)?, Some("gzip"))
        }
        Encoding::Deflate => {
            let mut writer = ZlibEncoder::new(Vec::new(), Compression::fast());
            let written = writer.write_all(&bytes).and_then(|()| writer.finish());
            (written.map_err(failed)?, Some("deflate"))
        }
    };
    let mut response =
        ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], bytes).into_response();
    let headers = response.headers_mut();
    if any_binary {
        headers.insert(JSON_LENGTH, length.into());
    }
    if let Some(coding) = coding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(
        json: &str,
        tail: &[u8],
        length: Option<usize>,
    ) -> Result<ParsedRequest, RequestError> {
        let target = ModelPath { name: "m".into(), version: None };
        let bytes = [json.as_bytes(), tail].concat();
        parse(target, &bytes.into(), length)
    }

    #[test]
    fn bytes_behind_the_json_go_to_their_tensors() {
        let json = r#"{"id": "7", "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1],
            "parameters": {"binary_data_size": 5}}], "outputs": [{"name": "boxes",
            "parameters": {"binary_data": false}}, {"name": "scores"}],
            "parameters": {"binary_data_output": true, "threshold": 0.25}}"#;
        let found = parsed(json, b"\x01\0\0\0a", Some(json.len())).unwrap();
        let InputData::Raw(bytes) = &found.request.inputs[0].data else { panic!("not raw") };
        assert_eq!((&bytes[..], found.id.as_deref()), (&b"\x01\0\0\0a"[..], Some("7")));
        assert_eq!(found.request.outputs, ["boxes", "scores"]);
        assert_eq!(found.request.choice.threshold, Some(0.25));
        assert!(!found.binary.wants("boxes") && found.binary.wants("scores"));
    }

    #[test]
    fn requests_that_contradict_themselves_are_refused() {
        let input = |rest: &str| {
            format!(
                r#"{{"inputs": [{{"name": "image", "datatype": "BYTES", "shape": [1]{rest}}}]}}"#
            )
        };
        let deep = "[".repeat(150_000);
        for (json, tail, length, part) in [
            (input(r#", "data": ["YQ=="]"#), &b""[..], Some(1_000_000), "but the body has"),
            (input(r#", "data": ["YQ=="]"#), b"more", None, "not JSON"),
            (input(r#", "parameters": {"binary_data_size": 9}"#), b"", None, "binary_data_size"),
            (input(r#", "parameters": {"binary_data_size": -1}"#), b"", None, "binary_data_size"),
            (
                input(r#", "parameters": {"binary_data_size": 0}, "data": []"#),
                b"",
                None,
                "nothing beside",
            ),
            (input(""), b"", None, "binary_data_size"),
            (r#"{"inputs": {}}"#.into(), b"", None, "inputs: expected"),
            (r#"{"inputs": [1]}"#.into(), b"", None, "inputs[0]"),
            (r#"{"inputs": [{"name": 1}]}"#.into(), b"", None, "inputs[0].name"),
            (r#"{"inputs": [{"name": "a"}]}"#.into(), b"", None, "inputs[0].datatype"),
            (
                r#"{"inputs": [{"name": "a", "datatype": "b", "shape": [1.5]}]}"#.into(),
                b"",
                None,
                "shape",
            ),
            (r#"{"inputs": [], "id": 7}"#.into(), b"", None, "id: "),
            (r#"{"inputs": [], "outputs": {}}"#.into(), b"", None, "outputs: "),
            (r#"{"inputs": [], "outputs": [{}]}"#.into(), b"", None, "outputs[0].name"),
            (r#"{"inputs": [], "parameters": []}"#.into(), b"", None, "parameters: "),
            (
                r#"{"inputs": [], "parameters": {"binary_data_output": 1}}"#.into(),
                b"",
                None,
                "true or",
            ),
            (r#"{"inputs": [], "parameters": {"what": 1}}"#.into(), b"", None, "no option `what`"),
            ("[]".into(), b"", None, "expected an object"),
            (String::new(), b"", None, "empty"),
            (deep.clone(), b"", None, "recursion limit"),
            (format!(r#"{{"inputs": {deep}"#), b"", None, "recursion limit"),
        ] {
            let error = parsed(&json, tail, length).err().unwrap();
            let start: String = json.chars().take(80).collect();
            assert!(error.message.contains(part), "{start}: {}", error.message);
            assert_eq!(error.status, StatusCode::BAD_REQUEST);
        }
        let json = input(r#", "data": ["YQ=="]"#);
        let error = parsed(&json, b"more", Some(json.len())).err().unwrap();
        assert!(error.message.contains("4 bytes behind"), "{}", error.message);
    }
}
