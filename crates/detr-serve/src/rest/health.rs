//! The state of the server.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::error::RequestError;

/// Answers that requests should be sent here, or why not.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Result<Response, RequestError> {
    app.check_ready()?;
    Ok(fine())
}

/// Answers that the process need not be started again, or why it should.
pub(super) async fn live(State(app): State<Arc<App>>) -> Result<Response, RequestError> {
    app.check_live()?;
    Ok(fine())
}

/// Answers with the version of the program.
pub(super) async fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Answers with all numbers for Prometheus.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    app.metrics.queue_length(app.queue.len());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], app.metrics.text()).into_response()
}

/// Returns the answer of MLflow's health checks.
fn fine() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], "\n").into_response()
}
