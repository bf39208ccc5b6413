//! `POST /detect`: pictures in, the JSON of `detr predict --json` or an annotated picture out.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use detr_infer::draw::{draw_detections, encode_png};
use detr_infer::palette::Palette;
use detr_infer::writers::{ImageResult, array_json, failure_json, result_json};
use serde_json::Value;

use super::Time;
use super::input::{
    Query, blocking, content_type, is_picture, parse_form, parse_json, picture_of, position_name,
};
use crate::app::App;
use crate::body;
use crate::error::RequestError;
use crate::predict::{Answer, Content, Picture, Task, Times, predict};
use crate::request_options::RequestOptions;

/// Detects in the pictures of a request.
pub(super) async fn detect(
    State(app): State<Arc<App>>,
    time: Time,
    query: Result<axum::extract::Query<Query>, axum::extract::rejection::QueryRejection>,
    request: Request,
) -> Result<Response, RequestError> {
    let query = match query {
        Ok(query) => query.0,
        Err(error) => {
            body::discard(request.into_body()).await;
            return Err(RequestError::bad(format!("the query: {}", error.body_text())).closing());
        }
    };
    let annotated = match query.annotated.as_deref() {
        None => false,
        Some("png") => true,
        Some(_) => {
            body::discard(request.into_body()).await;
            return Err(RequestError::bad("annotated: expected png").closing());
        }
    };
    let (parts, incoming) = request.into_parts();
    let body = body::read(&app, &parts.headers, incoming).await?;
    let (pictures, choice) =
        read_pictures(&app, &parts.headers, &query, body.bytes.clone()).await?;
    drop(body);
    let model = match &query.model {
        Some(name) => app.models.find(name, query.version.as_deref())?,
        None => app.models.first()?,
    };
    if annotated && pictures.len() != 1 {
        return Err(RequestError::bad("annotated: send one picture"));
    }
    let choice = choice.or(query.choice());
    let answers = predict(&app, Task { model, pictures, choice, time: time.0 }).await?;
    if annotated { annotate(answers).await } else { Ok(as_json(answers)) }
}

async fn read_pictures(
    app: &App,
    headers: &HeaderMap,
    query: &Query,
    bytes: bytes::Bytes,
) -> Result<(Vec<Picture>, RequestOptions), RequestError> {
    match content_type(headers).as_deref() {
        Some("multipart/form-data") => parse_form(headers, bytes, app.options.limits.images).await,
        Some("application/json") => {
            blocking(move || parse_json(&bytes).and_then(|value| pictures_of(&value))).await
        }
        Some(kind) if is_picture(kind) => {
            let name = query.file.clone().unwrap_or_else(|| "image".to_owned());
            Ok((vec![Picture { name, content: Content::File(bytes) }], RequestOptions::default()))
        }
        _ => Err(RequestError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the Content-Type is not known here\nhint: send image/*, multipart/form-data or application/json",
        )),
    }
}

/// Reads `{"image": PICTURE}` or `{"images": [PICTURE, ..]}`, with options beside it.
fn pictures_of(value: &Value) -> Result<(Vec<Picture>, RequestOptions), RequestError> {
    let Value::Object(object) = value else {
        return Err(RequestError::bad("expected an object with `image` or `images`"));
    };
    let mut options = serde_json::Map::new();
    let mut pictures = Vec::new();
    for (key, value) in object {
        match (key.as_str(), value) {
            ("image", value) => pictures.push(picture_of(value, "image".to_owned())),
            ("images", Value::Array(values)) => {
                let values = values.iter().enumerate();
                pictures
                    .extend(values.map(|(index, value)| picture_of(value, position_name(index))));
            }
            ("images", _) => return Err(RequestError::bad("images: expected an array")),
            (_, value) => {
                options.insert(key.clone(), value.clone());
            }
        }
    }
    Ok((pictures, RequestOptions::from_json(&Value::Object(options), "the request")?))
}

/// Returns the array that `detr predict --json` prints; a picture that failed has its error in its place.
fn as_json(answers: Vec<Answer>) -> Response {
    let mut times = Times::default();
    let any_good = answers.iter().any(|answer| answer.found.is_ok());
    let values: Vec<Value> = answers
        .into_iter()
        .map(|Answer { name, found }| match found {
            Ok(found) => {
                times = found.times;
                let size = found.size();
                result_json(&ImageResult { file: name, size, detections: found.detections })
            }
            Err(fault) => failure_json(&name, &fault),
        })
        .collect();
    let status = if any_good { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let kind = HeaderValue::from_static("application/json");
    let mut response =
        (status, [(header::CONTENT_TYPE, kind)], array_json(&values)).into_response();
    add_times(&mut response, times);
    response
}

async fn annotate(answers: Vec<Answer>) -> Result<Response, RequestError> {
    let found = match answers.into_iter().next() {
        Some(Answer { found: Ok(found), .. }) => found,
        Some(Answer { found: Err(fault), .. }) => return Err(RequestError::bad(fault)),
        None => return Err(RequestError::bad("annotated: send one picture")),
    };
    let times = found.times;
    let draw = move || {
        let mut found = found;
        draw_detections(&mut found.picture, &found.detections, &Palette::default());
        let mut png = Vec::new();
        encode_png(&mut png, &found.picture).map(|()| png)
    };
    let failed = || {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        RequestError::new(status, "the picture cannot be drawn")
    };
    let png = tokio::task::spawn_blocking(draw).await.map_err(|_| failed())?;
    let png = png.map_err(|_| failed())?;
    let kind = HeaderValue::from_static("image/png");
    let mut response = ([(header::CONTENT_TYPE, kind)], png).into_response();
    add_times(&mut response, times);
    Ok(response)
}

/// Tells the times of the last picture in the header `Server-Timing`, which browsers show.
fn add_times(response: &mut Response, times: Times) {
    let Times { queue, infer, postprocess } = times;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "queue;dur={queue:.2}, infer;dur={infer:.2}, postprocess;dur={postprocess:.2}"
    );
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert("server-timing", value);
    }
}
