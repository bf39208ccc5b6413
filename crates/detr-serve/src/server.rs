//! The life of a server: it listens, warms up, serves, and drains.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::app::App;
use crate::auth::Tokens;
use crate::error::RunError;
use crate::grpc;
use crate::log::LogRequest;
use crate::models::{ModelSource, Models};
use crate::options::ServeOptions;
use crate::rest::{self, Client};
use crate::tls::Tls;
use crate::worker::Worker;

/// The pause after a connection could not be taken, mostly because files ran out.
const PAUSE: Duration = Duration::from_millis(20);

/// The most calls of one connection at a time, over gRPC.
const CALLS_OF_CONNECTION: u32 = 256;

/// The phases of a server's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// It was told to stop, and still takes requests.
    Lingering,
    /// It takes no more connections, and ends those that are idle.
    Closing,
}

/// The protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http,
    Grpc,
}

/// A server that listens already.
pub struct Server {
    app: Arc<App>,
    http: TcpListener,
    grpc: Option<TcpListener>,
    tls: Option<Arc<Tls>>,
    phase: watch::Sender<Phase>,
}

/// A handle by which signals reach a server.
#[derive(Clone)]
pub struct Control {
    app: Arc<App>,
    tls: Option<Arc<Tls>>,
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

    /// Reads the certificate and all models again and puts them in place of the old ones, each once it works. What
    /// cannot be read stays as it was, and comes back as a message. Requests go on meanwhile.
    #[must_use]
    pub fn reload(&self) -> Vec<String> {
        let mut failed = Vec::new();
        if let Some(Err(reason)) = self.tls.as_ref().map(|tls| tls.reload()) {
            failed.push(format!("the certificate stays as it was: {reason}"));
        }
        let models = self.app.models.reload_all().into_iter();
        failed.extend(
            models.map(|(name, reason)| format!("the model `{name}` stays as it was: {reason}")),
        );
        failed
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
        let tls = options.tls.clone().map(Tls::new).transpose().map_err(RunError::Options)?;
        let http = listen(options.address)?;
        let grpc = options.grpc_address.map(listen).transpose()?;
        let (phase, _) = watch::channel(Phase::Serving);
        let app = Arc::new(App::new(models, options, tokens, log));
        Ok(Self { app, http, grpc, tls: tls.map(Arc::new), phase })
    }

    /// Returns the address with the port that was taken.
    ///
    /// # Errors
    /// A socket that is broken.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Returns the address of gRPC with the port that was taken.
    ///
    /// # Errors
    /// A socket that is broken.
    pub fn grpc_address(&self) -> io::Result<Option<SocketAddr>> {
        self.grpc.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Returns a handle for signals.
    #[must_use]
    pub fn control(&self) -> Control {
        Control { app: Arc::clone(&self.app), tls: self.tls.clone(), phase: self.phase.clone() }
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
        let Self { app, http, grpc, tls, phase } = self;
        let listeners = Listeners {
            http: tokio::net::TcpListener::from_std(http)?,
            grpc: grpc.map(tokio::net::TcpListener::from_std).transpose()?,
        };
        let most = app.options.limits.connections.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(most));
        let service = Service {
            app: Arc::clone(&app),
            router: rest::router(&app),
            tls,
            phase: phase.subscribe(),
            places: Arc::clone(&places),
        };
        let mut lingering = phase.subscribe();
        let told = lingering.wait_for(|phase| *phase >= Phase::Lingering);
        service.take_until(&listeners, told).await;
        let lost = app.device.lost().is_some();
        let linger = if lost { Duration::ZERO } else { app.options.linger };
        service.take_until(&listeners, sleep(linger)).await;
        // Connections that the system has already made would be reset.
        while let Some((protocol, accepted)) = listeners.accept().now_or_never() {
            service.take(protocol, accepted).await;
        }
        drop(listeners);
        phase.send_replace(Phase::Closing);
        let all = u32::try_from(most).unwrap_or(u32::MAX);
        let done = timeout(app.options.drain, places.acquire_many(all)).await;
        let left = if done.is_ok() { 0 } else { most - places.available_permits() };
        Ok(left)
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|error| RunError::Listen { address: address.to_string(), error })
}

/// The ports at which connections come in.
struct Listeners {
    http: tokio::net::TcpListener,
    grpc: Option<tokio::net::TcpListener>,
}

type Accepted = io::Result<(TcpStream, SocketAddr)>;

impl Listeners {
    async fn accept(&self) -> (Protocol, Accepted) {
        let http = std::pin::pin!(self.http.accept());
        let grpc = std::pin::pin!(async {
            match &self.grpc {
                Some(grpc) => grpc.accept().await,
                None => std::future::pending().await,
            }
        });
        match select(http, grpc).await {
            Either::Left((accepted, _)) => (Protocol::Http, accepted),
            Either::Right((accepted, _)) => (Protocol::Grpc, accepted),
        }
    }
}

/// Everything that a connection needs.
#[derive(Clone)]
struct Service {
    app: Arc<App>,
    router: axum::Router,
    tls: Option<Arc<Tls>>,
    phase: watch::Receiver<Phase>,
    places: Arc<Semaphore>,
}

impl Service {
    /// Takes connections until something happens.
    async fn take_until(&self, listeners: &Listeners, end: impl Future) {
        let mut end = std::pin::pin!(end);
        loop {
            let accept = std::pin::pin!(listeners.accept());
            match select(accept, end.as_mut()).await {
                Either::Left(((protocol, accepted), _)) => self.take(protocol, accepted).await,
                Either::Right(_) => return,
            }
        }
    }

    /// Serves a connection in a task of its own. One too many is closed.
    async fn take(&self, protocol: Protocol, accepted: Accepted) {
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
        let service = self.clone();
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = service.serve(protocol, stream, client).await {
                tracing::debug!("{client}: {error}");
            }
        });
    }

    /// Serves a connection to its end.
    async fn serve(
        self,
        protocol: Protocol,
        stream: TcpStream,
        client: SocketAddr,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let Some(tls) = &self.tls else { return self.speak(protocol, stream, client).await };
        let acceptor = match protocol {
            Protocol::Http => tls.http(),
            Protocol::Grpc => tls.grpc(),
        };
        let head_time = self.app.options.limits.head_time;
        let stream = timeout(head_time, acceptor.accept(stream)).await??;
        self.speak(protocol, stream, client).await
    }

    async fn speak(
        self,
        protocol: Protocol,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        client: SocketAddr,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let (stream, limits) = (TokioIo::new(stream), self.app.options.limits);
        match protocol {
            Protocol::Http => {
                let service = TowerToHyperService::new(self.router);
                let with_client = move |mut request: hyper::Request<hyper::body::Incoming>| {
                    request.extensions_mut().insert(Client(client));
                    hyper::service::Service::call(&service, request)
                };
                let mut builder = http1::Builder::new();
                builder.timer(TokioTimer::new()).header_read_timeout(limits.head_time);
                let connection = builder.serve_connection(stream, service_fn(with_client));
                finish(connection, self.phase).await.map_err(Into::into)
            }
            Protocol::Grpc => {
                let app = self.app;
                let call = move |request| {
                    let app = Arc::clone(&app);
                    async move { Ok::<_, Infallible>(grpc::call(app, client, request).await) }
                };
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder
                    .timer(TokioTimer::new())
                    .max_concurrent_streams(CALLS_OF_CONNECTION)
                    // A client that is gone without a word is found by these.
                    .keep_alive_interval(limits.head_time)
                    .keep_alive_timeout(limits.head_time);
                let connection = builder.serve_connection(stream, service_fn(call));
                finish(connection, self.phase).await.map_err(Into::into)
            }
        }
    }
}

/// Serves a connection to its end; once the server closes, it takes no more requests.
async fn finish<C: GracefulConnection>(
    connection: C,
    mut phase: watch::Receiver<Phase>,
) -> Result<(), C::Error> {
    let mut connection = std::pin::pin!(connection);
    let closing = std::pin::pin!(async {
        // The lock of the phase must not be held on.
        drop(phase.wait_for(|phase| *phase == Phase::Closing).await);
    });
    match select(connection.as_mut(), closing).await {
        Either::Left((ended, _)) => ended,
        Either::Right(_) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}
