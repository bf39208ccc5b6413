//! The Open Inference Protocol, version 2, over gRPC.

mod infer;
mod messages;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::server::Grpc;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::app::{App, RequestTime};
use crate::body;
use crate::error::RequestError;
use crate::inference::{EXTENSIONS, INPUTS, PLATFORM, SERVER_NAME, TensorInfo, outputs_of};
use crate::log::RequestRecord;
use crate::rest::parent_of;
use messages::{
    Empty, HealthCheckResponse, ModelIndex, ModelInferRequest, ModelMetadataResponse, ModelRequest,
    RepositoryIndexResponse, RepositoryRequest, ServerMetadataResponse, StateResponse,
    TensorMetadata,
};

/// The service of the protocol.
const INFERENCE: &str = "/inference.GRPCInferenceService/";
/// The service of gRPC's own health checks.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// The longest deadline of a client that is heeded.
const LONGEST_TIMEOUT: Duration = Duration::from_hours(24);

/// Answers a call, and tells log and metrics about it.
pub(crate) async fn call(
    app: Arc<App>,
    client: SocketAddr,
    request: Request<hyper::body::Incoming>,
) -> Response<tonic::body::Body> {
    let mut time = app.time();
    if let Some(timeout) = timeout_of(request.headers()) {
        time.deadline = time.deadline.min(time.started + timeout);
    }
    let path = request.uri().path().to_owned();
    let (id, parent) = (app.next_id(), parent_of(request.headers()));
    // A call that panics resets its stream alone: each has a task of its own.
    let work = answer(Arc::clone(&app), time, &path, request.map(Body::new));
    let response = match tokio::time::timeout_at(time.deadline.into(), work).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => status(&error).into_http(),
        Err(_) => status(&RequestError::deadline()).into_http(),
    };
    // A status in the head is a refusal; calls that go well have theirs in the trailer.
    let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
    let (as_http, elapsed) = (http_status(code).as_u16(), time.elapsed());
    let route = if method_of(&path).is_some() { &path[..] } else { "none" };
    app.metrics.request(route, as_http, elapsed);
    if let Some(log) = &app.log {
        let client = Some(client);
        log(&RequestRecord {
            id: &id,
            method: "POST",
            path: &path,
            route,
            parent: parent.as_deref(),
            stages: None,
            client,
            status: as_http,
            time: elapsed,
        });
    }
    response
}

/// A call of the services.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    HealthCheck,
    ServerLive,
    ServerReady,
    ServerMetadata,
    ModelReady,
    ModelMetadata,
    ModelInfer,
    RepositoryIndex,
    RepositoryModelLoad,
    RepositoryModelUnload,
}

fn method_of(path: &str) -> Option<Method> {
    if path.strip_prefix(HEALTH) == Some("Check") {
        return Some(Method::HealthCheck);
    }
    Some(match path.strip_prefix(INFERENCE)? {
        "ServerLive" => Method::ServerLive,
        "ServerReady" => Method::ServerReady,
        "ServerMetadata" => Method::ServerMetadata,
        "ModelReady" => Method::ModelReady,
        "ModelMetadata" => Method::ModelMetadata,
        "ModelInfer" => Method::ModelInfer,
        "RepositoryIndex" => Method::RepositoryIndex,
        "RepositoryModelLoad" => Method::RepositoryModelLoad,
        "RepositoryModelUnload" => Method::RepositoryModelUnload,
        _ => return None,
    })
}

async fn answer(
    app: Arc<App>,
    time: RequestTime,
    path: &str,
    request: Request<Body>,
) -> Result<Response<tonic::body::Body>, RequestError> {
    let (parts, incoming) = request.into_parts();
    let Some(method) = method_of(path) else {
        return Ok(Status::unimplemented("there is no such call").into_http());
    };
    let is_open = matches!(method, Method::HealthCheck | Method::ServerLive | Method::ServerReady);
    if !is_open {
        app.tokens.check(&parts.headers)?;
    }
    let body = body::read(&app, &parts.headers, incoming).await?;
    // The call holds the share of the memory until it is answered.
    let _memory = body.memory;
    let request = Request::from_parts(parts, Body::from(body.bytes));
    let limit = app.options.limits.body_bytes;
    Ok(match method {
        Method::HealthCheck => {
            let status = if app.check_ready().is_ok() { 1 } else { 2 };
            let respond = async move |_: Empty| Ok(HealthCheckResponse { status });
            unary(limit, request, respond).await
        }
        Method::ServerLive => {
            let fine = app.check_live().is_ok();
            unary(limit, request, async move |_: Empty| Ok(StateResponse { fine })).await
        }
        Method::ServerReady => {
            let fine = app.check_ready().is_ok();
            unary(limit, request, async move |_: Empty| Ok(StateResponse { fine })).await
        }
        Method::ServerMetadata => {
            unary(limit, request, async move |_: Empty| Ok(server_metadata())).await
        }
        Method::ModelReady => {
            let respond = async move |request: ModelRequest| {
                let fine = find(&app, &request).is_ok() && app.check_ready().is_ok();
                Ok(StateResponse { fine })
            };
            unary(limit, request, respond).await
        }
        Method::ModelMetadata => {
            let respond = async move |request: ModelRequest| model_metadata(&app, &request);
            unary(limit, request, respond).await
        }
        Method::ModelInfer => {
            let respond = async move |mut request: ModelInferRequest| {
                let id = std::mem::take(&mut request.id);
                let request = infer::read(request)?;
                Ok(infer::write(crate::inference::infer(&app, request, time).await?, id))
            };
            unary(limit, request, respond).await
        }
        Method::RepositoryIndex => {
            unary(limit, request, async move |_: Empty| Ok(repository(&app))).await
        }
        Method::RepositoryModelLoad => {
            let respond = async move |RepositoryRequest { model_name }| {
                app.check_control(&model_name)?;
                let models = Arc::clone(&app.models);
                let load = move || models.reload(&model_name);
                let done = tokio::task::spawn_blocking(load).await;
                done.unwrap_or_else(|_| Err(RequestError::bad("the model cannot be read")))?;
                Ok(Empty {})
            };
            unary(limit, request, respond).await
        }
        Method::RepositoryModelUnload => {
            let respond = async move |RepositoryRequest { model_name }| {
                app.check_control(&model_name)?;
                app.models.unload(&model_name);
                Ok(Empty {})
            };
            unary(limit, request, respond).await
        }
    })
}

/// Reads the message of a call, and writes that of its answer.
async fn unary<Asked, Answered, Answering>(
    limit: usize,
    request: Request<Body>,
    respond: impl FnOnce(Asked) -> Answering,
) -> Response<tonic::body::Body>
where
    Asked: Message + Default + Send + 'static,
    Answered: Message + Send + 'static,
    Answering: Future<Output = Result<Answered, RequestError>>,
{
    // The service is called once.
    let mut respond = Some(respond);
    let service = service_fn(move |request: tonic::Request<Asked>| {
        let respond = respond.take();
        async move {
            match respond {
                Some(respond) => match respond(request.into_inner()).await {
                    Ok(answer) => Ok(tonic::Response::new(answer)),
                    Err(error) => Err(status(&error)),
                },
                None => Err(Status::internal("the call was answered already")),
            }
        }
    });
    Grpc::new(ProstCodec::<Answered, Asked>::default())
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(limit)
        .unary(service, request)
        .await
}

fn find(app: &App, request: &ModelRequest) -> Result<Arc<crate::models::Model>, RequestError> {
    let version = Some(request.version.as_str()).filter(|version| !version.is_empty());
    app.models.find(&request.name, version)
}

fn server_metadata() -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: SERVER_NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).into(),
    }
}

fn model_metadata(
    app: &App,
    request: &ModelRequest,
) -> Result<ModelMetadataResponse, RequestError> {
    let model = find(app, request)?;
    let tensor = |info: &TensorInfo| TensorMetadata {
        name: info.name.to_owned(),
        datatype: info.datatype.to_owned(),
        shape: info.shape.to_vec(),
    };
    Ok(ModelMetadataResponse {
        name: model.name.clone(),
        versions: app.models.versions(&model.name),
        platform: PLATFORM.to_owned(),
        inputs: INPUTS.iter().map(tensor).collect(),
        outputs: outputs_of(&model).map(tensor).collect(),
    })
}

fn repository(app: &App) -> RepositoryIndexResponse {
    let model = |entry: crate::models::ModelEntry| ModelIndex {
        state: if entry.unavailable.is_none() { "READY" } else { "UNAVAILABLE" }.to_owned(),
        name: entry.name,
        version: entry.version,
        reason: entry.unavailable.unwrap_or_default(),
    };
    RepositoryIndexResponse { models: app.models.index().into_iter().map(model).collect() }
}

/// Makes a status of an error. HTTP's numbers become the codes that [gRPC's table] has for them, and those that it
/// lacks the nearest.
///
/// [gRPC's table]: https://github.com/grpc/grpc/blob/master/doc/statuscodes.md
fn status(error: &RequestError) -> Status {
    let code = match error.status {
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::PAYLOAD_TOO_LARGE => Code::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => Code::DeadlineExceeded,
        status if status.is_server_error() => Code::Internal,
        _ => Code::InvalidArgument,
    };
    Status::new(code, error.message.clone())
}

/// Returns the status under which log and metrics count a code.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::ResourceExhausted => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Reads the header `grpc-timeout`: up to eight digits and a unit. One that cannot be read is passed over.
fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(timeout.min(LONGEST_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn deadlines_of_clients_are_read() {
        for (text, expected) in [
            ("2S", Some(2_000)),
            ("150m", Some(150)),
            ("99999999H", Some(86_400_000)),
            ("3000u", Some(3)),
            ("", None),
            ("S", None),
            ("123456789S", None),
            ("-1S", None),
            ("1X", None),
            ("1\u{e9}", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_bytes(text.as_bytes()).unwrap());
            let found = timeout_of(&headers).map(|time| time.as_millis());
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!(timeout_of(&HeaderMap::new()), None);
    }

    #[test]
    fn refusals_keep_their_kind() {
        for (status_, code) in [
            (StatusCode::BAD_REQUEST, Code::InvalidArgument),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument),
            (StatusCode::UNAUTHORIZED, Code::Unauthenticated),
            (StatusCode::NOT_FOUND, Code::NotFound),
            (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
            (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal),
        ] {
            assert_eq!(status(&RequestError::new(status_, "a")).code(), code);
        }
        for known in ["ServerLive", "ModelInfer", "RepositoryIndex"] {
            assert!(method_of(&format!("{INFERENCE}{known}")).is_some());
        }
        assert!(method_of("/grpc.health.v1.Health/Check").is_some());
        assert!(method_of("/inference.GRPCInferenceService/Other").is_none());
        assert!(method_of("/").is_none());
    }
}
