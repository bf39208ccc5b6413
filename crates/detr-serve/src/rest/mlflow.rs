//! MLflow's scoring protocol, which `SageMaker` and Vertex AI speak, too, and `KServe`'s first version.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use detr_infer::writers::{ImageResult, failure_json, result_json};
use serde_json::{Value, json};

use super::Time;
use super::frames::{self, error_code, parse_csv, parse_instances, parse_invocation};
use super::input::{blocking, content_type, is_picture, json_response, parse_form, parse_json};
use crate::app::App;
use crate::body;
use crate::error::RequestError;
use crate::predict::{Answer, Content, Picture, Task, predict};
use crate::request_options::RequestOptions;

/// An error in MLflow's form: `{"error_code", "message"}`, or a text where MLflow sends one.
pub(super) struct MlflowError(RequestError);

impl From<RequestError> for MlflowError {
    fn from(error: RequestError) -> Self {
        Self(error)
    }
}

impl IntoResponse for MlflowError {
    fn into_response(self) -> Response {
        let error = self.0;
        match error.status {
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                error.with_body("text/plain; charset=utf-8", error.message.clone())
            }
            StatusCode::GATEWAY_TIMEOUT => {
                let text = "Request processing time exceeded limit".to_owned();
                error.with_body("text/plain; charset=utf-8", text)
            }
            status => {
                let body = json!({ "error_code": error_code(status), "message": error.message });
                error.with_body("application/json", body.to_string())
            }
        }
    }
}

/// Answers `/invocations` with `{"predictions": [..]}`, a row for each picture.
pub(super) async fn invocations(
    State(app): State<Arc<App>>,
    time: Time,
    request: Request,
) -> Result<Response, MlflowError> {
    let (parts, incoming) = request.into_parts();
    if let Err(error) = check_type(&parts.headers) {
        body::discard(incoming).await;
        return Err(error.closing().into());
    }
    let body = body::read(&app, &parts.headers, incoming).await?;
    let (pictures, choice) = read(&app, &parts.headers, body.bytes.clone()).await?;
    drop(body);
    let model = app.models.first()?;
    let answers = predict(&app, Task { model, pictures, choice, time: time.0 }).await?;
    Ok(predictions(answers)?)
}

/// Answers `POST /v1/models/NAME:predict`.
pub(super) async fn predict_v1(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
    time: Time,
    request: Request,
) -> Result<Response, RequestError> {
    let (parts, incoming) = request.into_parts();
    let model = match target.strip_suffix(":predict") {
        Some(name) => app.models.find(name, None),
        None => Err(RequestError::not_found(
            "there is nothing here\nhint: POST /v1/models/NAME:predict",
        )),
    };
    let model = match model {
        Ok(model) => model,
        Err(error) => {
            body::discard(incoming).await;
            return Err(error.closing());
        }
    };
    let body = body::read(&app, &parts.headers, incoming).await?;
    let bytes = body.bytes.clone();
    let parse = move || parse_json(&bytes).and_then(parse_instances);
    let (pictures, choice) = blocking(parse).await?;
    drop(body);
    let answers = predict(&app, Task { model, pictures, choice, time: time.0 }).await?;
    predictions(answers)
}

/// Answers `GET /v1/models`.
pub(super) async fn models_v1(State(app): State<Arc<App>>) -> Response {
    json_response(&json!({ "models": app.models.names() }))
}

/// Answers `GET /v1/models/NAME`.
pub(super) async fn model_v1(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, RequestError> {
    app.models.find(&name, None)?;
    Ok(json_response(&json!({ "name": name, "ready": app.check_ready().is_ok() })))
}

/// Checks the type before the body is read; of parameters MLflow knows `charset=utf-8` only.
fn check_type(headers: &HeaderMap) -> Result<(), RequestError> {
    let unknown = |what: &str| {
        RequestError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "{what}; this takes application/json, text/csv, image/*, application/octet-stream and \
                 multipart/form-data"
            ),
        )
    };
    let Some(kind) = content_type(headers) else {
        return Err(unknown("there is no Content-Type"));
    };
    match kind.as_str() {
        "application/json" | "text/csv" => {
            let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let strange = value.unwrap_or("").split(';').skip(1).any(|parameter| {
                let parameter = parameter.trim().replace('"', "");
                !parameter.is_empty() && !parameter.eq_ignore_ascii_case("charset=utf-8")
            });
            if strange { Err(unknown("the only parameter may be charset=utf-8")) } else { Ok(()) }
        }
        "multipart/form-data" => Ok(()),
        kind if is_picture(kind) => Ok(()),
        _ => Err(unknown("the Content-Type is not known here")),
    }
}

async fn read(
    app: &App,
    headers: &HeaderMap,
    bytes: Bytes,
) -> Result<frames::Request, RequestError> {
    match content_type(headers).as_deref() {
        Some("application/json") => {
            blocking(move || parse_json(&bytes).and_then(parse_invocation)).await
        }
        Some("text/csv") => {
            blocking(move || Ok((parse_csv(&bytes)?, RequestOptions::default()))).await
        }
        Some("multipart/form-data") => parse_form(headers, bytes, app.options.limits.images).await,
        _ => {
            let picture = Picture { name: "image".to_owned(), content: Content::File(bytes) };
            Ok((vec![picture], RequestOptions::default()))
        }
    }
}

/// Returns the answer; a picture that failed has its error in its row, and if all failed the request did.
fn predictions(answers: Vec<Answer>) -> Result<Response, RequestError> {
    if answers.iter().all(|answer| answer.found.is_err()) {
        let first = answers.first();
        let fault = first.and_then(|answer| Some((&answer.name, answer.found.as_ref().err()?)));
        let message = fault.map_or_else(String::new, |(name, fault)| format!("{name}: {fault}"));
        return Err(RequestError::bad(message));
    }
    let rows: Vec<Value> = answers
        .into_iter()
        .map(|Answer { name, found }| match found {
            Ok(found) => {
                let size = found.size();
                result_json(&ImageResult { file: name, size, detections: found.detections })
            }
            Err(fault) => failure_json(&name, &fault),
        })
        .collect();
    Ok(json_response(&json!({ "predictions": rows })))
}
