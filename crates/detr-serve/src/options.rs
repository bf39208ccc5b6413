//! The settings of a server.

use std::net::SocketAddr;
use std::time::Duration;

use detr_data::DecodeOptions;

use crate::tls::TlsFiles;

/// The settings of a server. Times are wall-clock times.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The address to listen on; port 0 takes any that is free.
    pub address: SocketAddr,
    /// The address at which gRPC is spoken, if it is.
    pub grpc_address: Option<SocketAddr>,
    /// The files by which connections are encrypted, if they are.
    pub tls: Option<TlsFiles>,
    /// The way in which batches are made.
    pub batching: Batching,
    /// The bounds of what is accepted.
    pub limits: RequestLimits,
    /// The time that a request may take, from its head to its answer. It counts the time in the queue.
    pub deadline: Duration,
    /// The most time that requests in progress have after the server was told to stop.
    pub drain: Duration,
    /// The time for which new requests are accepted after the server was told to stop, for load balancers that learn
    /// of it late. Readiness is gone at once.
    pub linger: Duration,
    /// Whether the device can be used after a failure of a prediction, as the CPU can.
    pub device_survives: bool,
    /// Whether clients may load and unload models.
    pub model_control: bool,
    /// Further paths of the health check and of the predictions of MLflow's protocol, as Vertex AI names them.
    pub further_routes: FurtherRoutes,
}

/// The way in which pictures of several requests become one batch.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// The most pictures of a batch, at least 1.
    pub most: usize,
    /// The longest time that a picture waits for others of its size while the device is idle.
    pub delay: Duration,
    /// The most pictures that wait for the device.
    pub queue: usize,
}

/// The bounds of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Bytes of a body, as sent and after decompression.
    pub body_bytes: usize,
    /// Pictures of a request.
    pub images: usize,
    /// The way in which pictures are decoded, with its limits.
    pub decoding: DecodeOptions,
    /// Bytes of bodies and decoded pictures of all requests together.
    pub memory_bytes: usize,
    /// Open connections; further ones are closed at once.
    pub connections: usize,
    /// The longest time for the head of a request, for which an idle connection stays open, too.
    pub head_time: Duration,
    /// The longest time for the body of a request.
    pub body_time: Duration,
}

/// Further paths.
#[derive(Clone, Debug, Default)]
pub struct FurtherRoutes {
    /// A path that answers as `/health` does.
    pub health: Option<String>,
    /// A path that answers as `/invocations` does.
    pub predict: Option<String>,
}
