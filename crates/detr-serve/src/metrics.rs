//! Counters and histograms for Prometheus.

use std::time::Duration;

use detr_detect::StageTimes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The labels of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    /// The pattern of the path, such as `/v2/models/{name}/infer`.
    route: String,
    status: u16,
}

/// The labels of a picture.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PictureLabels {
    model: String,
    outcome: &'static str,
}

/// The labels of a stage of a prediction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: &'static str,
}

/// All numbers that `/metrics` tells.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_time: Histogram,
    pictures: Family<PictureLabels, Counter>,
    stages: Family<StageLabels, Histogram, fn() -> Histogram>,
    batch: Histogram,
    queue_length: Gauge,
}

/// Returns bounds from a tenth of a millisecond to half a minute.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.5, 15))
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::<RequestLabels, Counter>::default();
        registry.register("detr_requests", "Requests by route and status", requests.clone());
        let request_time = seconds();
        registry.register(
            "detr_request_seconds",
            "Time from the head of a request to its answer",
            request_time.clone(),
        );
        let pictures = Family::<PictureLabels, Counter>::default();
        registry.register("detr_pictures", "Pictures by model and outcome", pictures.clone());
        let stages =
            Family::<StageLabels, Histogram, _>::new_with_constructor(seconds as fn() -> Histogram);
        registry.register(
            "detr_stage_seconds",
            "Time of the stages of a prediction: queue and decode by picture, infer and postprocess by batch",
            stages.clone(),
        );
        let batch = Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
        registry.register("detr_batch_pictures", "Pictures of a batch", batch.clone());
        let queue_length = Gauge::default();
        registry.register(
            "detr_queue_length",
            "Pictures that wait for the device",
            queue_length.clone(),
        );
        Self { registry, requests, request_time, pictures, stages, batch, queue_length }
    }

    /// Returns all numbers in the text format of `OpenMetrics`.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    pub(crate) fn request(&self, route: &str, status: u16, time: Duration) {
        let labels = RequestLabels { route: route.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
        self.request_time.observe(time.as_secs_f64());
    }

    pub(crate) fn picture(&self, model: &str, outcome: &'static str) {
        let labels = PictureLabels { model: model.to_owned(), outcome };
        self.pictures.get_or_create(&labels).inc();
    }

    pub(crate) fn decoded(&self, time: Duration) {
        self.stage("decode", time);
    }

    pub(crate) fn queued(&self, time: Duration) {
        self.stage("queue", time);
    }

    pub(crate) fn stages(&self, times: StageTimes) {
        self.stage("infer", times.resize + times.backbone + times.transformer);
        self.stage("postprocess", times.postprocess);
    }

    pub(crate) fn batch(&self, pictures: usize) {
        #[allow(clippy::cast_precision_loss)] // batches are small
        self.batch.observe(pictures as f64);
    }

    pub(crate) fn queue_length(&self, pictures: usize) {
        self.queue_length.set(i64::try_from(pictures).unwrap_or(i64::MAX));
    }

    fn stage(&self, stage: &'static str, time: Duration) {
        self.stages.get_or_create(&StageLabels { stage }).observe(time.as_secs_f64());
    }
}
