//! The life of a server: it listens, warms up, serves, and drains.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::app::App;
use crate::auth::Tokens;
use crate::error::RunError;
use crate::log::LogRequest;
use crate::models::{ModelSource, Models};
use crate::options::ServeOptions;
use crate::rest::{self, Client};
use crate::worker::Worker;

/// The pause after a connection could not be taken, mostly because files ran out.
const PAUSE: Duration = Duration::from_millis(20);

/// The phases of a server's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// It was told to stop, and still takes requests.
    Lingering,
    /// It takes no more connections, and ends those that are idle.
    Closing,
}

/// A server that listens already.
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
    phase: watch::Sender<Phase>,
}

/// A handle by which signals reach a server.
#[derive(Clone)]
pub struct Control {
    app: Arc<App>,
    phase: watch::Sender<Phase>,
}

impl Control {
    /// Tells the server to stop: readiness is gone at once, requests in progress are finished.
    pub fn stop(&self) {
        self.app.begin_draining();
        self.phase.send_if_modified(|phase| {
            let first = *phase == Phase::Serving;
            if first {
                *phase = Phase::Lingering;
            }
            first
        });
    }

    /// Returns whether the server was told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.app.is_draining()
    }

    /// Reads all models again and puts them in place of the old ones, each once it works. Those that cannot be read
    /// stay as they were, and come back by name with the reason. Requests go on meanwhile.
    #[must_use]
    pub fn reload(&self) -> Vec<(String, String)> {
        self.app.models.reload_all()
    }
}

impl Server {
    /// Listens. Requests are taken by [`Server::run`].
    ///
    /// # Errors
    /// An address that cannot be used, no model, or two of one name.
    pub fn bind(
        sources: Vec<ModelSource>,
        options: ServeOptions,
        tokens: Tokens,
        log: Option<LogRequest>,
    ) -> Result<Self, RunError> {
        let models = Models::new(sources).map_err(RunError::Options)?;
        let address = options.address;
        let listen = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener =
            listen().map_err(|error| RunError::Listen { address: address.to_string(), error })?;
        let (phase, _) = watch::channel(Phase::Serving);
        Ok(Self { app: Arc::new(App::new(models, options, tokens, log)), listener, phase })
    }

    /// Returns the address with the port that was taken.
    ///
    /// # Errors
    /// A socket that is broken.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns a handle for signals.
    #[must_use]
    pub fn control(&self) -> Control {
        Control { app: Arc::clone(&self.app), phase: self.phase.clone() }
    }

    /// Warms the models up, calls `ready`, and serves until it is told to stop.
    ///
    /// # Errors
    /// A server that cannot start, a device that fails, or requests that were not done when the time to drain was
    /// over.
    pub fn run(self, ready: impl FnOnce() + Send + 'static) -> Result<(), RunError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_io()
            .enable_time()
            .thread_name("serve")
            .build()
            .map_err(RunError::Start)?;
        let app = Arc::clone(&self.app);
        let worker = Worker {
            queue: Arc::clone(&app.queue),
            device: Arc::clone(&app.device),
            metrics: Arc::clone(&app.metrics),
            survives: app.options.device_survives,
        };
        let (models, control) = (Arc::clone(&app.models), self.control());
        let work = move || worker.run(&models, ready, || control.stop());
        let worker = std::thread::Builder::new().name("device".to_owned()).spawn(work);
        let worker = worker.map_err(RunError::Start)?;
        let unfinished = runtime.block_on(self.serve());
        app.queue.close();
        // Decoders that nobody waits for any more do not hold the end up.
        runtime.shutdown_background();
        if unfinished.as_ref().is_ok_and(|count| *count == 0) {
            // It ends once the queue is empty, which it is.
            drop(worker.join());
        }
        if let Some(reason) = app.device.lost() {
            return Err(RunError::Device(reason));
        }
        match unfinished.map_err(RunError::Start)? {
            0 => Ok(()),
            connections => Err(RunError::Unfinished { connections }),
        }
    }

    /// Serves until the server has stopped, and returns the number of connections that were not done.
    async fn serve(self) -> io::Result<usize> {
        let Self { app, listener, phase } = self;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let most = app.options.limits.connections.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(most));
        let service = Service {
            router: rest::router(&app),
            phase: phase.subscribe(),
            places: Arc::clone(&places),
            head_time: app.options.limits.head_time,
        };
        let mut lingering = phase.subscribe();
        let told = lingering.wait_for(|phase| *phase >= Phase::Lingering);
        let mut told = std::pin::pin!(told);
        loop {
            let accept = std::pin::pin!(listener.accept());
            match select(accept, told.as_mut()).await {
                Either::Left((accepted, _)) => service.take(accepted).await,
                Either::Right(_) => break,
            }
        }
        let lost = app.device.lost().is_some();
        let linger = if lost { Duration::ZERO } else { app.options.linger };
        let mut over = std::pin::pin!(sleep(linger));
        loop {
            let accept = std::pin::pin!(listener.accept());
            match select(accept, over.as_mut()).await {
                Either::Left((accepted, _)) => service.take(accepted).await,
                Either::Right(_) => break,
            }
        }
        // Connections that the system has already made would be reset.
        while let Some(accepted) = listener.accept().now_or_never() {
            service.take(accepted).await;
        }
        drop(listener);
        phase.send_replace(Phase::Closing);
        let all = u32::try_from(most).unwrap_or(u32::MAX);
        let done = timeout(app.options.drain, places.acquire_many(all)).await;
        let left = if done.is_ok() { 0 } else { most - places.available_permits() };
        Ok(left)
    }
}

/// Everything that a connection needs.
struct Service {
    router: axum::Router,
    phase: watch::Receiver<Phase>,
    places: Arc<Semaphore>,
    head_time: Duration,
}

impl Service {
    /// Serves a connection in a task of its own. One too many is closed.
    async fn take(&self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("a connection cannot be taken: {error}");
                sleep(PAUSE).await;
                return;
            }
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::warn!("a connection too many is closed");
            return;
        };
        // Answers are written whole; waiting for more to send only delays them.
        drop(stream.set_nodelay(true));
        let service = TowerToHyperService::new(self.router.clone());
        let with_client = move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Client(client));
            hyper::service::Service::call(&service, request)
        };
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.head_time);
        let service = hyper::service::service_fn(with_client);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut phase = self.phase.clone();
        tokio::spawn(async move {
            let _place = place;
            let mut connection = std::pin::pin!(connection);
            let closing = std::pin::pin!(async {
                // The lock of the phase must not be held on.
                drop(phase.wait_for(|phase| *phase == Phase::Closing).await);
            });
            let ended = match select(connection.as_mut(), closing).await {
                Either::Left((ended, _)) => ended,
                Either::Right(_) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!("{client}: {error}");
            }
        });
    }
}
