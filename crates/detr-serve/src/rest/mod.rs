//! The routes over HTTP, and what all of them go through: ids, tokens, log, metrics.

mod frames;
mod health;
mod inference;
mod input;
mod mlflow;
mod page;
mod plain;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::App;
use crate::body::discard;
use crate::error::RequestError;
use crate::log::RequestRecord;

/// The address of the client, as the connection knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client(pub(crate) SocketAddr);

/// The header with the id of a request.
const REQUEST_ID: &str = "x-request-id";
/// The longest id of a client that is taken.
const LONGEST_ID: usize = 128;

/// Makes the routes.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let mut open = Router::new()
        .route("/", get(page::page))
        .route("/openapi.json", get(page::openapi))
        .route("/ping", get(health::ready))
        .route("/health", get(health::ready))
        .route("/version", get(health::version))
        .route("/v2/health/live", get(health::live))
        .route("/v2/health/ready", get(health::ready));
    let further = &app.options.further_routes;
    if let Some(path) = &further.health {
        open = open.route(path, get(health::ready));
    }
    let mut guarded = Router::new()
        .route("/detect", post(plain::detect))
        .route("/metrics", get(health::metrics))
        .route("/invocations", post(mlflow::invocations))
        .route("/v1/models", get(mlflow::models_v1))
        .route("/v1/models/{name}", get(mlflow::model_v1).post(mlflow::predict_v1))
        .route("/v2", get(inference::server))
        .route("/v2/repository/index", post(inference::index))
        .route("/v2/repository/models/{name}/load", post(inference::load))
        .route("/v2/repository/models/{name}/unload", post(inference::unload));
    for model in ["/v2/models/{name}", "/v2/models/{name}/versions/{version}"] {
        guarded = guarded
            .route(model, get(inference::metadata))
            .route(&format!("{model}/ready"), get(inference::model_ready))
            .route(&format!("{model}/config"), get(inference::config))
            .route(&format!("{model}/infer"), post(inference::infer_route));
    }
    if let Some(path) = &further.predict {
        guarded = guarded.route(path, post(mlflow::invocations));
    }
    let guarded = guarded.route_layer(from_fn_with_state(Arc::clone(app), authenticate));
    open.merge(guarded)
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(|_| {
            RequestError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the server has a fault; it is in its log",
            )
            .into_response()
        }))
        .layer(from_fn_with_state(Arc::clone(app), around))
        .with_state(Arc::clone(app))
}

async fn unknown(request: Request) -> RequestError {
    discard(request.into_body()).await;
    RequestError::not_found("there is nothing here\nhint: /openapi.json lists what there is")
        .closing()
}

async fn wrong_method(request: Request) -> RequestError {
    discard(request.into_body()).await;
    RequestError::new(StatusCode::METHOD_NOT_ALLOWED, "another method is wanted here").closing()
}

async fn authenticate(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Response> {
    match app.tokens.check(request.headers()) {
        Ok(()) => Ok(next.run(request).await),
        Err(error) => {
            discard(request.into_body()).await;
            let mut response = error.closing().into_response();
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
            Err(response)
        }
    }
}

/// Gives every request an id and a time, and tells log and metrics about it.
async fn around(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let time = app.time();
    request.extensions_mut().insert(time);
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let id = match given {
        Some(id) if is_id(id) => id.to_owned(),
        _ => app.next_id(),
    };
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let client = request.extensions().get::<Client>().map(|client| client.0);
    let parent = parent_of(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    if app.is_draining() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let (status, elapsed) = (response.status().as_u16(), time.elapsed());
    app.metrics.request(&route, status, elapsed);
    if let Some(log) = &app.log {
        let stages = response.headers().get("server-timing").and_then(|value| value.to_str().ok());
        log(&RequestRecord {
            id: &id,
            method: method.as_str(),
            path: &path,
            route: &route,
            parent: parent.as_deref(),
            stages,
            client,
            status,
            time: elapsed,
        });
    }
    response
}

/// Returns the header by which clients tell whose part a request is.
pub(crate) fn parent_of(headers: &HeaderMap) -> Option<String> {
    headers.get("traceparent")?.to_str().ok().map(str::to_owned)
}

/// Returns whether a text may be taken for an id: it comes back in a header and in the log.
fn is_id(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The extension that [`around`] adds.
type Time = Extension<crate::app::RequestTime>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_has_every_route() {
        let description: serde_json::Value = serde_json::from_str(page::OPENAPI).unwrap();
        let described: BTreeSet<&str> =
            description["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        // The router does not tell its routes, so they are read from above.
        let source = include_str!("mod.rs").split("mod tests").next().unwrap();
        let quoted = |call: &'static str| {
            source.split(call).skip(1).filter_map(|rest| rest.split('"').next())
        };
        let models = ["/v2/models/{name}", "/v2/models/{name}/versions/{version}"];
        let mut routes: BTreeSet<String> = quoted(".route(\"").map(str::to_owned).collect();
        assert!(routes.len() > 15);
        for model in models {
            assert!(source.contains(&format!("\"{model}\"")));
            routes.insert(model.to_owned());
            routes.extend(quoted("format!(\"{model}").map(|rest| format!("{model}{rest}")));
        }
        let routes: BTreeSet<&str> = routes.iter().map(String::as_str).collect();
        assert_eq!(routes, described);
    }
}
