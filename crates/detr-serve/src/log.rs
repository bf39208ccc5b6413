//! A record of every request, for a log. It holds no query, no body and no header but that of a trace, so no secret.

use std::time::Duration;

use serde::Serialize;

/// A request that was answered.
#[derive(Clone, Debug, Serialize)]
pub struct RequestRecord<'a> {
    /// The id, which the answer has in `X-Request-Id`.
    pub id: &'a str,
    /// The method.
    pub method: &'a str,
    /// The path without its query.
    pub path: &'a str,
    /// The pattern of the path, such as `/v2/models/{name}/infer`, or `none`.
    #[serde(skip)]
    pub route: &'a str,
    /// The header `traceparent` of the request, which says whose part it is.
    #[serde(skip)]
    pub parent: Option<&'a str>,
    /// The times of the stages in the form of the header `Server-Timing`.
    #[serde(skip)]
    pub stages: Option<&'a str>,
    /// The address of the client.
    pub client: Option<std::net::SocketAddr>,
    /// The status of the answer.
    pub status: u16,
    /// The time from the head of the request to its answer, in milliseconds.
    #[serde(rename = "ms", serialize_with = "milliseconds")]
    pub time: Duration,
}

/// Takes the record of a request.
pub type LogRequest = Box<dyn Fn(&RequestRecord<'_>) + Send + Sync>;

fn milliseconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((time.as_secs_f64() * 1e6).round() / 1e3)
}
