//! The server: listens, and runs one [`ServerSession`](crate::ServerSession) per connection against an engine.
//!
//! ```no_run
//! # async fn run() -> arcly_core::Result<()> {
//! use arcly_core::Engine;
//! use arcly_rtsp::{Server, ServerConfig};
//! use tokio_util::sync::CancellationToken;
//!
//! let engine = Engine::builder().build();
//! let server = Server::bind("0.0.0.0:8554", ServerConfig::default()).await?;
//! let server = server.with_udp("0.0.0.0:8000", "0.0.0.0:8001").await?;
//! server.run(engine.context(CancellationToken::new())).await
//! # }
//! ```

mod connection;
mod datagrams;
mod guard;
mod multicast;
mod routes;
mod scatter;
mod tunnel;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::egress::Egress;
use arcly_core::net::{Admission, Gate, SessionReport, tune};
use arcly_core::{CloseReason, InboundProtocol, IngestContext, Result, StreamKey, clock};
use async_trait::async_trait;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Multicast, ServerConfig};
use crate::wire::PortPair;
use crate::wire::authorization::Nonces;
use connection::Connection;
use datagrams::Ports;
use multicast::Groups;
use tunnel::{Tunnels, enter};

/// The longest pause of a listener that cannot accept (F45): no file descriptors, mostly.
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);
const MIN_ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Time after which connections that are still there are dropped when the server goes down.
const DRAIN: Duration = Duration::from_millis(2_500);

/// An RTSP or RTSPS listener.
pub struct Server {
    listener: TcpListener,
    config: ServerConfig,
    /// Workers of somebody else.
    egress: Option<Arc<Egress>>,
    ports: Option<Arc<Ports>>,
    /// They are another server's, which receives on them.
    is_guest: bool,
    groups: Option<Arc<Groups>>,
    #[cfg(feature = "tls")]
    tls: Option<tokio_rustls::TlsAcceptor>,
}

impl core::fmt::Debug for Server {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// What a server's sockets for datagrams have not passed on, or from elsewhere than before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatagramCounters {
    /// Datagrams that came from where no session is (T37).
    pub bad_source: u64,
    /// Datagrams that their session did not look at in time.
    pub overrun: u64,
    /// Times that a client's datagrams went on from another port, as a translation of addresses on their way has it.
    pub moved: u64,
}

/// What all connections of a server have in common.
struct Shared {
    context: IngestContext,
    config: ServerConfig,
    session: Arc<crate::config::SessionConfig>,
    egress: Arc<Egress>,
    ports: Option<(Arc<Ports>, PortPair)>,
    groups: Option<Arc<Groups>>,
    nonces: Nonces,
    tunnels: Tunnels,
    /// What numbers of packets are made of, with the name of their stream.
    numbers: std::hash::RandomState,
    shutdown: CancellationToken,
}

impl Shared {
    /// What the packets of a stream are numbered under.
    fn key(&self, stream: &StreamKey) -> u64 {
        use std::hash::BuildHasher as _;
        self.numbers.hash_one(stream)
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
            ports: None,
            is_guest: false,
            groups: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The same server with TLS on every connection: RTSPS.
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

    /// The same server with RTP and RTCP in datagrams, on two sockets that all sessions share. Without them clients are
    /// offered the connection itself only.
    ///
    /// # Errors
    /// An address cannot be used.
    pub async fn with_udp(self, rtp: impl ToSocketAddrs, rtcp: impl ToSocketAddrs) -> io::Result<Self> {
        let rtp = tokio::net::UdpSocket::bind(rtp).await?.into_std()?;
        let rtcp = tokio::net::UdpSocket::bind(rtcp).await?.into_std()?;
        self.with_udp_sockets(rtp, rtcp)
    }

    /// The same on sockets that are bound already.
    ///
    /// # Errors
    /// They cannot be set up.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn with_udp_sockets(
        mut self,
        rtp: std::net::UdpSocket,
        rtcp: std::net::UdpSocket,
    ) -> io::Result<Self> {
        self.ports = Some(Arc::new(Ports::new(rtp, rtcp)?));
        Ok(self)
    }

    /// The same on sockets that are bound already.
    ///
    /// # Errors
    /// The operating system does not take them.
    pub fn with_datagrams(mut self, rtp: std::net::UdpSocket, rtcp: std::net::UdpSocket) -> io::Result<Self> {
        for socket in [&rtp, &rtcp] {
            socket.set_nonblocking(true)?;
        }
        self.ports = Some(Arc::new(Ports::new(rtp, rtcp)?));
        Ok(self)
    }

    /// The same server with the sockets for datagrams of another one, which has to run: RTSPS beside RTSP, for packets that are
    /// protected.
    #[must_use]
    pub fn with_udp_of(mut self, other: &Self) -> Self {
        self.ports.clone_from(&other.ports);
        self.is_guest = true;
        self
    }

    /// The same server, sending streams to multicast groups where clients ask for it: each once, however many receive it.
    ///
    /// # Errors
    /// There is no such interface.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn with_multicast(mut self, config: Multicast) -> io::Result<Self> {
        self.groups = Some(Groups::new(config)?);
        Ok(self)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The ports for datagrams, when it has any.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn udp_ports(&self) -> io::Result<Option<PortPair>> {
        self.ports.as_ref().map(|ports| ports.numbers()).transpose()
    }

    /// What was dropped of the datagrams that came.
    #[must_use]
    pub fn datagram_counters(&self) -> DatagramCounters {
        self.ports.as_ref().map(|ports| ports.counters()).unwrap_or_default()
    }

    const fn protocol(&self) -> &'static str {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return "rtsps";
        }
        "rtsp"
    }

    fn shared(&self, context: IngestContext) -> io::Result<Arc<Shared>> {
        let shutdown = context.shutdown.clone();
        let egress = self.egress.clone().unwrap_or_else(|| {
            Arc::new(Egress::start(self.config.egress_workers).with_tick(self.config.tick))
        });
        let ports = match &self.ports {
            Some(ports) => Some((Arc::clone(ports), ports.numbers()?)),
            None => None,
        };
        Ok(Arc::new(Shared {
            context,
            session: Arc::new(self.config.session.clone()),
            config: self.config.clone(),
            egress,
            ports,
            groups: self.groups.clone(),
            tunnels: Tunnels::default(),
            nonces: Nonces::new(&random()?, clock::now()),
            numbers: std::hash::RandomState::new(),
            shutdown,
        }))
    }

    /// Serves until `context.shutdown` fires and every connection has been told so. Dropping the future drops the
    /// connections.
    ///
    /// # Errors
    /// The operating system has no randomness. Anything else that can fail fails for one connection, and a listener that
    /// cannot accept waits and tries again.
    pub async fn run(&self, context: IngestContext) -> Result<()> {
        let shared = self.shared(context)?;
        let shutdown = shared.shutdown.clone();
        let gate = Gate::new(self.config.max_unauthorized, self.config.max_unauthorized_per_address);
        let places = Arc::new(Semaphore::new(self.config.max_connections));
        let mut connections = JoinSet::new();
        let mut pause = MIN_ACCEPT_PAUSE;
        let mut datagrams = core::pin::pin!(receive(shared.ports.as_ref().filter(|_| !self.is_guest)));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(ended) = connections.join_next() => {
                    log_panic(&ended);
                    continue;
                }
                () = &mut datagrams => continue,
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
        // Nobody is to wait in a backlog that nobody looks at any more. Elsewhere than on Linux this does nothing.
        let _ = SockRef::from(&self.listener).shutdown(std::net::Shutdown::Both);
        let all_gone = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, all_gone).await.is_err() {
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
            enter(stream.into_split(), admission, &mut report, clock::now()).await;
            drop(place);
        });
    }
}

/// Never completes.
async fn receive(ports: Option<&(Arc<Ports>, PortPair)>) {
    match ports {
        Some((ports, _)) => ports.receive().await,
        None => core::future::pending().await,
    }
}

/// Runs a session over a pair of halves, and notes how it ended.
async fn serve<R, W>(halves: (R, W), admission: Admission, report: &mut Report, since: Instant)
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let Report { shared, remote, protocol, .. } = report;
    let connection = Connection::new(Arc::clone(shared), (*remote, protocol), admission, halves, since);
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
    let (since, setup) = (clock::now(), report.shared.session.timeouts.setup);
    match tokio::time::timeout(setup, tls.accept(stream)).await {
        Ok(Ok(stream)) => enter(tokio::io::split(stream), admission, report, since).await,
        Ok(Err(error)) => {
            tracing::info!(peer = %report.remote, %error, "TLS handshake failed");
            report.reason = tls_reason(&error);
        }
        Err(_) => report.reason = CloseReason::Timeout(arcly_core::Phase::Handshake),
    }
}

/// Why a TLS handshake failed.
#[cfg(feature = "tls")]
fn tls_reason(error: &io::Error) -> CloseReason {
    use tokio_rustls::rustls::Error;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => CloseReason::Unsupported,
        Some(_) => CloseReason::Malformed,
        None => arcly_core::net::close_reason(error, false),
    }
}

/// Random bytes from the operating system.
fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
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

#[cfg(test)]
mod tests;
