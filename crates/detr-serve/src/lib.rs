//! A server that detects objects in pictures: `POST /detect` with the JSON of `detr predict --json`, MLflow's scoring
//! protocol, and the Open Inference Protocol over REST and gRPC.
//!
//! Requests come in through tokio and axum ([`rest`](self)), pictures are decoded in tokio's blocking pool, wait in one
//! bounded [`queue`](self), and one thread owns the device and takes batches of equal sizes from it. A result never
//! depends on the other pictures of its batch. Nothing here prints, exits or catches signals: the program that runs a
//! [`Server`] does, through its [`Control`].

mod app;
mod auth;
mod base64_text;
mod body;
mod engine;
mod error;
#[cfg(test)]
#[allow(clippy::unwrap_used)] // helpers of tests are tests, too
mod fake;
mod grpc;
mod inference;
mod log;
mod metrics;
mod models;
mod options;
mod predict;
mod queue;
mod request_options;
mod rest;
mod server;
mod tls;
mod worker;

pub use auth::Tokens;
pub use error::RunError;
pub use log::{LogRequest, RequestRecord};
pub use models::{LoadModel, ModelSource};
pub use options::{Batching, FurtherRoutes, RequestLimits, ServeOptions};
pub use server::{Control, Server};
pub use tls::TlsFiles;
