//! Pictures and options in bodies and queries, for several protocols.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::base64_text;
use crate::error::RequestError;
use crate::predict::{Content, Picture};
use crate::request_options::RequestOptions;

/// The type of a body without its parameters, in lower case.
pub(super) fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = value.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    (!kind.is_empty()).then_some(kind)
}

/// Returns whether a body of this type is a picture.
pub(super) fn is_picture(kind: &str) -> bool {
    kind.starts_with("image/")
        || kind == "application/octet-stream"
        || kind == "application/x-image"
}

/// The options in a query.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// The least score.
    pub(super) threshold: Option<f32>,
    /// The most detections of a picture.
    pub(super) max_detections: Option<usize>,
    /// Whether objects get masks.
    #[serde(default)]
    pub(super) masks: Flag,
    /// The form of an annotated picture that is wanted in place of JSON.
    pub(super) annotated: Option<String>,
    /// The name of a model.
    pub(super) model: Option<String>,
    /// The version of the model.
    pub(super) version: Option<String>,
    /// The name of a picture that is the whole body.
    pub(super) file: Option<String>,
}

/// A choice in a query: `1`, `true` or nothing after the name for yes.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(super) struct Flag(pub(super) bool);

impl TryFrom<String> for Flag {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "" | "1" | "true" => Ok(Self(true)),
            "0" | "false" => Ok(Self(false)),
            _ => Err("expected true or false".to_owned()),
        }
    }
}

impl Query {
    pub(super) fn choice(&self) -> RequestOptions {
        let Self { threshold, max_detections, masks, .. } = *self;
        RequestOptions { threshold, max_detections, masks: masks.0, output: false }
    }
}

/// Answers with a value.
pub(super) fn json_response(value: &Value) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], value.to_string()).into_response()
}

/// Parses in the blocking pool: base64 of megabytes takes milliseconds.
pub(super) async fn blocking<T: Send + 'static>(
    parse: impl FnOnce() -> Result<T, RequestError> + Send + 'static,
) -> Result<T, RequestError> {
    let parsed = tokio::task::spawn_blocking(parse).await;
    parsed.unwrap_or_else(|_| Err(RequestError::bad("the body cannot be read")))
}

/// Reads a value as JSON. Depth is bounded by the parser.
pub(super) fn parse_json(bytes: &[u8]) -> Result<Value, RequestError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let hint = if bytes.is_empty() { "\nhint: the body is empty" } else { "" };
        RequestError::bad(format!("the body is not JSON: {error}{hint}"))
    })
}

/// Makes a picture of a value: base64, or an object that has it in `b64`, with a name in `file` or `name`.
pub(super) fn picture_of(value: &Value, name: String) -> Picture {
    let (text, name) = match value {
        Value::String(text) => (Some(text.as_str()), name),
        Value::Object(object) => {
            let text = |key: &&str| object.get(*key)?.as_str();
            let given = ["file", "name"].iter().find_map(text).map(str::to_owned);
            (["b64", "image", "data"].iter().find_map(text), given.unwrap_or(name))
        }
        _ => (None, name),
    };
    let Some(text) = text else {
        let fault = "a picture is a text in base64 or {\"b64\": TEXT}".to_owned();
        return Picture { name, content: Content::Fault(fault) };
    };
    let content = match base64_text::decode(text) {
        Ok(bytes) => Content::File(bytes.into()),
        Err(fault) => Content::Fault(fault),
    };
    Picture { name, content }
}

/// Returns the name of a picture that the client gave none.
pub(super) fn position_name(index: usize) -> String {
    format!("image-{index}")
}

/// Reads a form: every file is a picture, and texts are options.
pub(super) async fn parse_form(
    headers: &HeaderMap,
    bytes: Bytes,
    most: usize,
) -> Result<(Vec<Picture>, RequestOptions), RequestError> {
    let wrong =
        |error: multer::Error| RequestError::bad(format!("the form cannot be read: {error}"));
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(kind.unwrap_or("")).map_err(wrong)?;
    let stream = http_body_util::BodyStream::new(http_body_util::Full::new(bytes));
    let stream = futures_util::StreamExt::filter_map(stream, |frame| {
        std::future::ready(frame.map(|frame| frame.into_data().ok()).transpose())
    });
    let mut form = multer::Multipart::new(stream, boundary);
    let mut pictures = Vec::new();
    let mut options = serde_json::Map::new();
    while let Some(field) = form.next_field().await.map_err(wrong)? {
        let name = field.name().unwrap_or("").to_owned();
        let file = field.file_name().map(str::to_owned);
        let is_file =
            file.is_some() || field.content_type().is_some_and(|kind| kind.type_() == "image");
        let content = field.bytes().await.map_err(wrong)?;
        if is_file || matches!(name.as_str(), "image" | "images" | "file" | "files") {
            if pictures.len() >= most {
                return Err(RequestError::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("more than {most} pictures\nhint: send them in several requests"),
                ));
            }
            let name = file.unwrap_or_else(|| position_name(pictures.len()));
            pictures.push(Picture { name, content: Content::File(content) });
        } else {
            let text = std::str::from_utf8(&content).unwrap_or("").trim();
            let value = serde_json::from_str(text).unwrap_or(Value::Null);
            options.insert(name, value);
        }
    }
    Ok((pictures, RequestOptions::from_json(&Value::Object(options), "the form")?))
}
