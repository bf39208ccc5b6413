//! Requests of `detr serve` as spans for OpenTelemetry. Where they go, the standard's environment variables say, such as
//! `OTEL_EXPORTER_OTLP_ENDPOINT`.

use std::collections::HashMap;
use std::io::Read;
use std::time::SystemTime;

use detr_serve::RequestRecord;
use detr_types::env;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span, SpanKind, Status, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

/// The largest answer of a collector that is read, in bytes.
const LONGEST_ANSWER: u64 = 1 << 20;

/// A sender of spans. Those that wait are sent when it is dropped.
pub(crate) struct SpanSender {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl SpanSender {
    /// Makes a sender whose thread sends spans every few seconds.
    pub(crate) fn new() -> Result<Self, String> {
        let exporter = SpanExporter::builder().with_http().with_http_client(UreqClient::new());
        let exporter = exporter.build().map_err(|error| format!("OpenTelemetry: {error}"))?;
        let resource = Resource::builder()
            .with_attributes([
                KeyValue::new("service.name", service_name()),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            ])
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("detr-serve");
        Ok(Self { provider, tracer })
    }

    /// Sends a request as a span that has ended now. Its parent is the one that the client told.
    pub(crate) fn send(&self, record: &RequestRecord<'_>) {
        let end = SystemTime::now();
        let mut attributes = vec![
            KeyValue::new("http.request.method", record.method.to_owned()),
            KeyValue::new("http.route", record.route.to_owned()),
            KeyValue::new("url.path", record.path.to_owned()),
            KeyValue::new("http.response.status_code", i64::from(record.status)),
            KeyValue::new("detr.request_id", record.id.to_owned()),
        ];
        if let Some(client) = record.client {
            attributes.push(KeyValue::new("client.address", client.ip().to_string()));
        }
        if let Some(stages) = record.stages {
            attributes.push(KeyValue::new("detr.stages", stages.to_owned()));
        }
        let mut span = self
            .tracer
            .span_builder(format!("{} {}", record.method, record.route))
            .with_kind(SpanKind::Server)
            .with_start_time(end.checked_sub(record.time).unwrap_or(end))
            .with_attributes(attributes)
            .start_with_context(&self.tracer, &parent(record.parent));
        if record.status >= 500 {
            span.set_status(Status::error("the request failed"));
        }
        span.end_with_timestamp(end);
    }
}

impl Drop for SpanSender {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!("OpenTelemetry: {error}");
        }
    }
}

fn service_name() -> String {
    let name = std::env::var(env::OTEL_SERVICE_NAME).ok().filter(|name| !name.is_empty());
    name.unwrap_or_else(|| "detr-serve".to_owned())
}

/// Reads the header `traceparent` of the W3C.
fn parent(header: Option<&str>) -> Context {
    let entry = header.map(|header| ("traceparent".to_owned(), header.to_owned()));
    let carrier: HashMap<String, String> = entry.into_iter().collect();
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier)
}

/// A client that blocks its thread, which is the exporter's own.
#[derive(Debug)]
struct UreqClient(ureq::Agent);

impl UreqClient {
    fn new() -> Self {
        Self(ureq::Agent::config_builder().http_status_as_error(false).build().into())
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let response = self.0.run(Request::from_parts(parts, &body[..]))?;
        let (parts, body) = response.into_parts();
        let mut bytes = Vec::new();
        body.into_reader().take(LONGEST_ANSWER).read_to_end(&mut bytes)?;
        Ok(Response::from_parts(parts, bytes.into()))
    }
}

impl HttpClient for UreqClient {
    fn send_bytes<'client, 'sending>(
        &'client self,
        request: Request<Bytes>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sending>>
    where
        'client: 'sending,
        Self: 'sending,
    {
        Box::pin(std::future::ready(self.send(request)))
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceContextExt;

    use super::*;

    #[test]
    fn parents_are_those_of_the_header() {
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let found = parent(Some(header));
        assert_eq!(found.span().span_context().span_id().to_string(), "b7ad6b7169203331");
        for header in [None, Some("other"), Some("00-0-0-01")] {
            assert!(!parent(header).span().span_context().is_valid(), "{header:?}");
        }
    }
}
