//! Requests that are refused, and servers that cannot start or end badly.

use std::io;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A server that cannot start, or that ended because its device failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {error}\nhint: give another --port, or 0 for any that is free"
    )]
    Listen {
        /// The address.
        address: String,
        /// The reason.
        error: io::Error,
    },
    /// A thread or a timer of the server cannot be made.
    #[error("the server cannot start: {0}")]
    Start(io::Error),
    /// The device failed, so nothing can be detected any more.
    #[error(
        "the device failed, and the server stopped: {0}\nhint: start it again, or use --backend flex"
    )]
    Device(String),
    /// Requests that were not done when the time to drain was over.
    #[error("{connections} connections were not done in time\nhint: give more --drain")]
    Unfinished {
        /// Their number.
        connections: usize,
    },
    /// A setting that cannot work.
    #[error("{0}")]
    Options(String),
}

/// A request that gets no result, in no protocol's form yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestError {
    pub(crate) status: StatusCode,
    /// The reason; it may end in a line `hint: ...`.
    pub(crate) message: String,
    /// Seconds after which the client may try again.
    pub(crate) retry_after: Option<u64>,
    /// Whether the rest of the request is not read, so that the connection must end.
    pub(crate) closes: bool,
}

impl RequestError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None, closes: false }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self { closes: true, ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, message) }
    }

    /// Refuses for now.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    pub(crate) fn deadline() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "the request was not done within its deadline\nhint: send fewer pictures at once, or start the server with \
             a longer --deadline",
        )
    }

    /// Closes the connection after the answer, since the rest of the request was not read.
    pub(crate) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Returns `{"error", "hint"}`, the form of all protocols but MLflow's.
    pub(crate) fn json(&self) -> Value {
        match self.message.split_once("\nhint: ") {
            Some((error, hint)) => json!({ "error": error, "hint": hint }),
            None => json!({ "error": self.message }),
        }
    }

    /// Makes an answer with another body.
    pub(crate) fn with_body(&self, content_type: &'static str, body: String) -> Response {
        let content_type = HeaderValue::from_static(content_type);
        let mut response =
            (self.status, [(header::CONTENT_TYPE, content_type)], body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if self.closes {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl IntoResponse for RequestError {
    fn into_response(self) -> Response {
        self.with_body("application/json", self.json().to_string() + "\n")
    }
}
