//! The server: listens, and runs one [`ServerSession`](crate::ServerSession) per connection against an engine.
//!
//! ```no_run
//! # async fn run() -> arcly_core::Result<()> {
//! use arcly_core::Engine;
//! use arcly_rtmp::{Server, ServerConfig};
//! use tokio_util::sync::CancellationToken;
//!
//! let engine = Engine::builder().build();
//! let server = Server::bind("0.0.0.0:1935", ServerConfig::default()).await?;
//! server.run(engine.context(CancellationToken::new())).await
//! # }
//! ```

mod connection;
mod lane;
mod pace;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arcly_core::egress::Egress;
use arcly_core::net::{Admission, Gate, SessionReport};
use arcly_core::{CloseReason, InboundProtocol, IngestContext, Result, clock};
use async_trait::async_trait;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::ServerConfig;
use crate::io::{SendBuffer, tune};
use connection::Connection;
use pace::{Crowd, Park};

/// The longest pause of a listener that cannot accept (F45): no file descriptors, mostly.
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);
const MIN_ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Time beyond the drain after which connections that are still there are dropped.
const DRAIN_MARGIN: Duration = Duration::from_millis(1_500);

/// An RTMP or RTMPS listener.
pub struct Server {
    listener: TcpListener,
    config: ServerConfig,
    /// Workers of somebody else.
    egress: Option<Arc<Egress>>,
    #[cfg(feature = "tls")]
    tls: Option<tokio_rustls::TlsAcceptor>,
}

impl core::fmt::Debug for Server {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// What all connections of a server have in common.
struct Shared {
    context: IngestContext,
    session: Arc<crate::config::SessionConfig>,
    egress: Arc<Egress>,
    drain: Duration,
    publishers: Crowd,
    shutdown: Shutdown,
}

/// The end of the server, for its connections. Each looks at the flag whenever it runs, and waits for the token besides: to ask
/// the token each time would take a lock that they all share.
#[derive(Default)]
struct Shutdown {
    has_begun: AtomicBool,
    token: CancellationToken,
}

impl Shutdown {
    fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
        self.token.cancel();
    }

    fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }
}

type Report = SessionReport<Shared>;

impl Server {
    /// Listens on an address; port 0 takes a free one. Cancel safe.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn bind(address: impl ToSocketAddrs, config: ServerConfig) -> io::Result<Self> {
        Ok(Self::from_listener(TcpListener::bind(address).await?, config))
    }

    /// Serves a listener that is there already.
    #[must_use]
    pub fn from_listener(listener: TcpListener, config: ServerConfig) -> Self {
        Self {
            listener,
            config,
            egress: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The same server with TLS on every connection: RTMPS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, config: Arc<tokio_rustls::rustls::ServerConfig>) -> Self {
        self.tls = Some(config.into());
        self
    }

    /// The same server on workers that are there already: all servers of a program are to share one worker per core.
    #[must_use]
    pub fn with_egress(mut self, egress: Arc<Egress>) -> Self {
        self.egress = Some(egress);
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    const fn protocol(&self) -> &'static str {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return "rtmps";
        }
        "rtmp"
    }

    /// Serves until `context.shutdown` fires and every connection has been told so. Dropping the future drops the
    /// connections.
    ///
    /// # Errors
    /// None at present: what can fail fails for one connection, and a listener that cannot accept waits and tries
    /// again.
    pub async fn run(&self, context: IngestContext) -> Result<()> {
        let shutdown = context.shutdown.clone();
        let egress = self.egress.clone().unwrap_or_else(|| {
            Arc::new(Egress::start(self.config.egress_workers).with_tick(self.config.tick))
        });
        let shared = Arc::new(Shared {
            context,
            session: Arc::new(self.config.session.clone()),
            egress,
            drain: self.config.drain,
            publishers: Crowd::default(),
            shutdown: Shutdown::default(),
        });
        let gate = Gate::new(self.config.max_unauthorized, self.config.max_unauthorized_per_address);
        let places = Arc::new(Semaphore::new(self.config.max_connections));
        let mut connections = JoinSet::new();
        let mut pause = MIN_ACCEPT_PAUSE;
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(ended) = connections.join_next() => {
                    log_panic(&ended);
                    continue;
                }
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, remote)) => {
                    pause = MIN_ACCEPT_PAUSE;
                    // A listener on `::` knows IPv4 peers as `::ffff:a.b.c.d`; nobody else does.
                    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
                    self.start(&mut connections, &shared, &gate, &places, stream, remote);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_ACCEPT_PAUSE);
                }
            }
        }
        shared.shutdown.begin();
        // Nobody is to wait in a backlog that nobody looks at any more. Elsewhere than on Linux this does nothing.
        let _ = SockRef::from(&self.listener).shutdown(std::net::Shutdown::Both);
        let all_gone = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.config.drain + DRAIN_MARGIN, all_gone).await.is_err() {
            tracing::warn!("connections are dropped that did not end by themselves");
        }
        Ok(())
    }

    /// Gives a new connection its task, if there is a place for it.
    fn start(
        &self,
        connections: &mut JoinSet<()>,
        shared: &Arc<Shared>,
        gate: &Arc<Gate>,
        places: &Arc<Semaphore>,
        stream: TcpStream,
        remote: SocketAddr,
    ) {
        let protocol = self.protocol();
        let observer = Arc::clone(&shared.context.observer);
        let mut report = Report::new(Arc::clone(shared), observer, protocol, remote);
        let (Ok(place), Some(admission)) = (Arc::clone(places).try_acquire_owned(), gate.enter(remote.ip()))
        else {
            report.reason = CloseReason::Overloaded;
            tracing::debug!(peer = %remote, "no room");
            return;
        };
        tune(&stream);
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls.clone() {
            connections.spawn(async move {
                serve_tls(tls, stream, admission, &mut report).await;
                drop(place);
            });
            return;
        }
        connections.spawn(async move {
            serve(stream.into_split(), admission, &mut report).await;
            drop(place);
        });
    }
}

/// Runs a session over a pair of halves, and notes how it ended.
async fn serve<R, W>(halves: (R, W), admission: Admission, report: &mut Report)
where
    R: AsyncRead + Park<W> + Unpin + Send,
    W: AsyncWrite + SendBuffer + Unpin + Send + 'static,
{
    let Report { shared, remote, protocol, .. } = report;
    let connection = Connection::new(Arc::clone(shared), *remote, protocol, admission, halves, clock::now());
    report.reason = match connection {
        Ok(connection) => connection.serve().await,
        Err(error) => {
            tracing::error!(%error, "no randomness");
            CloseReason::Io
        }
    };
}

#[cfg(feature = "tls")]
async fn serve_tls(
    tls: tokio_rustls::TlsAcceptor,
    stream: TcpStream,
    admission: Admission,
    report: &mut Report,
) {
    // The TLS handshake is on the session's own clock: both together have the one deadline.
    let setup = report.shared.session.timeouts.setup;
    match tokio::time::timeout(setup, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve(tokio::io::split(stream), admission, report).await,
        Ok(Err(error)) => {
            tracing::info!(peer = %report.remote, %error, "TLS handshake failed");
            report.reason = crate::io::tls_reason(&error);
        }
        Err(_) => report.reason = CloseReason::Timeout(arcly_core::Phase::Handshake),
    }
}

fn log_panic(ended: &core::result::Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a session panicked; it alone has ended");
    }
}

#[async_trait]
impl InboundProtocol for Server {
    fn name(&self) -> &'static str {
        self.protocol()
    }

    async fn serve(self: Arc<Self>, context: IngestContext) -> Result<()> {
        self.run(context).await
    }
}
