//! The state that all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::auth::Tokens;
use crate::error::RequestError;
use crate::log::LogRequest;
use crate::metrics::Metrics;
use crate::models::Models;
use crate::options::ServeOptions;
use crate::queue::Queue;
use crate::worker::DeviceState;

/// The number of bytes that a permit of [`App::memory`] stands for.
const MEMORY_UNIT: usize = 1 << 10;

/// The state of a server.
pub(crate) struct App {
    pub(crate) models: Arc<Models>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) device: Arc<DeviceState>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) options: ServeOptions,
    pub(crate) tokens: Tokens,
    pub(crate) log: Option<LogRequest>,
    /// The memory for bodies and pictures, in units.
    pub(crate) memory: Arc<Semaphore>,
    /// One permit for every picture that is decoded at a time.
    pub(crate) decoders: Arc<Semaphore>,
    /// Whether the server was told to stop.
    draining: AtomicBool,
    /// The part of request ids that differs between processes.
    process_id: u64,
    requests: AtomicU64,
}

/// The time of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestTime {
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
}

impl App {
    pub(crate) fn new(
        models: Models,
        options: ServeOptions,
        tokens: Tokens,
        log: Option<LogRequest>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let units = (options.limits.memory_bytes / MEMORY_UNIT).min(Semaphore::MAX_PERMITS);
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let nanos = since_epoch.map_or(0, |time| time.as_nanos());
        #[allow(clippy::cast_possible_truncation)] // the low bits are those that differ
        let process_id = nanos as u64 ^ u64::from(std::process::id()).rotate_left(40);
        Self {
            models: Arc::new(models),
            queue: Arc::new(Queue::new(options.batching)),
            device: Arc::default(),
            metrics: Arc::new(Metrics::new()),
            options,
            tokens,
            log,
            memory: Arc::new(Semaphore::new(units)),
            decoders: Arc::new(Semaphore::new(cores)),
            draining: AtomicBool::new(false),
            process_id,
            requests: AtomicU64::new(0),
        }
    }

    /// Returns an id that no other request has.
    pub(crate) fn next_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}-{number:08x}", self.process_id)
    }

    /// Makes readiness fail from now on.
    pub(crate) fn begin_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Returns whether the server was told to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Checks that the process does its work, though maybe not yet.
    pub(crate) fn check_live(&self) -> Result<(), RequestError> {
        match self.device.lost() {
            None => Ok(()),
            Some(reason) => Err(RequestError::new(
                axum::http::StatusCode::SERVICE_UNAVAILABLE,
                format!("the device failed: {reason}"),
            )),
        }
    }

    /// Checks that requests should be sent here.
    pub(crate) fn check_ready(&self) -> Result<(), RequestError> {
        self.check_live()?;
        if self.is_draining() {
            return Err(RequestError::busy("the server is stopping"));
        }
        if !self.device.is_warm() {
            return Err(RequestError::busy("the models are not warm yet"));
        }
        Ok(())
    }

    /// Checks that clients may load and unload models, and that there is one of this name.
    pub(crate) fn check_control(&self, model: &str) -> Result<(), RequestError> {
        if !self.options.model_control {
            return Err(RequestError::new(
                axum::http::StatusCode::FORBIDDEN,
                "clients may not load and unload models\nhint: start the server with --model-control, or send it SIGHUP",
            ));
        }
        if self.models.names().contains(&model) {
            return Ok(());
        }
        Err(RequestError::not_found("there is no such model"))
    }

    /// Returns the time of a request that begins now.
    pub(crate) fn time(&self) -> RequestTime {
        let started = Instant::now();
        RequestTime { started, deadline: started + self.options.deadline }
    }

    /// Takes memory for some bytes, if there is enough.
    pub(crate) fn reserve(
        &self,
        bytes: usize,
    ) -> Result<tokio::sync::OwnedSemaphorePermit, RequestError> {
        let units = u32::try_from(bytes.div_ceil(MEMORY_UNIT)).unwrap_or(u32::MAX);
        Arc::clone(&self.memory).try_acquire_many_owned(units).map_err(|_| {
            RequestError::busy(
                "the requests in progress hold all memory that they may\nhint: try again later; --memory sets the bound",
            )
        })
    }
}

impl RequestTime {
    /// Returns the time since the request began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
