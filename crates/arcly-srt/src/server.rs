//! The server: SRT callers publish MPEG-TS to an engine, and are sent it.
//!
//! ```no_run
//! # async fn run() -> arcly_core::Result<()> {
//! use arcly_core::Engine;
//! use arcly_srt::{Server, ServerConfig};
//! use tokio_util::sync::CancellationToken;
//!
//! let engine = Engine::builder().build();
//! let server = Server::bind("0.0.0.0:8890".parse().expect("an address"), ServerConfig::default())?;
//! server.run(engine.context(CancellationToken::new())).await
//! # }
//! ```
//!
//! What a caller wants stands in its [`StreamId`]. It is asked for before the connection is made, so that a refusal has a
//! code: 1400 for a stream id that says nothing, 1401 without the right credentials, 1403, 1404 for a stream that is not
//! there, 1405 for both ways at once, 1409 for one that is published. A passphrase is checked before that, so that nobody
//! takes a stream over with a wrong one. Who has to wait for a stream is connected after a second, and is disconnected if
//! it does not come.
//!
//! | bound | value |
//! |---|---|
//! | callers that nothing has authorised yet, in all and from one address | [`ServerConfig::max_unauthorized`], [`ServerConfig::max_unauthorized_per_address`] |
//! | connections | [`ServerConfig::max_connections`] |
//! | passphrases that are tried at a time | half of the cores |

mod session;
mod table;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arcly_core::contract::auth::{Action, ActionSet, NameRule};
use arcly_core::contract::observe::EngineEvent;
use arcly_core::net::{Admission, Gate};
use arcly_core::{CloseReason, InboundProtocol, IngestContext, Result, StreamKey};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::session::Session;
use self::table::Table;
pub use self::table::{ConnectionInfo, ServerStatistics};
use crate::config::Config;
use crate::crypto::CryptoConfig;
use crate::socket::{Caller, Incoming, Socket, Watch};
use crate::wire::RejectReason;
#[cfg(doc)]
use crate::wire::StreamId;

const PROTOCOL: &str = "srt";
/// Connections that are still there so long after the end are dropped.
const DRAIN: Duration = Duration::from_secs(3);

/// What a [`Server`] keeps to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// What each connection keeps to. With [`Config::crypto`] every caller has to know the passphrase.
    pub connection: Config,
    /// Streams whose callers have to know another passphrase; the first that fits counts.
    pub passphrases: Vec<StreamPassphrase>,
    /// What those ask for who have no stream id; without, they are refused.
    pub default_stream_id: Option<String>,
    /// Connections at one time.
    pub max_connections: usize,
    /// Callers that nothing has authorised yet.
    pub max_unauthorized: usize,
    /// The same from one address.
    pub max_unauthorized_per_address: usize,
}

/// The passphrase of some streams.
#[derive(Clone, Debug)]
pub struct StreamPassphrase {
    /// Of which.
    pub streams: NameRule,
    /// To publish them, to play them, or both.
    pub actions: ActionSet,
    /// The passphrase; `None` for connections in the clear.
    pub crypto: Option<CryptoConfig>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            connection: Config::default(),
            passphrases: Vec::new(),
            default_stream_id: None,
            max_connections: 10_000,
            max_unauthorized: 2_048,
            max_unauthorized_per_address: 64,
        }
    }
}

impl ServerConfig {
    /// What a connection keeps to that is to carry a stream.
    fn connection_for(&self, key: &StreamKey, action: Action) -> Config {
        let mut config = self.connection.clone();
        let fits = |one: &&StreamPassphrase| one.actions.contains(action) && one.streams.covers(key);
        if let Some(own) = self.passphrases.iter().find(fits) {
            config.crypto.clone_from(&own.crypto);
        }
        config
    }
}

/// An SRT listener.
#[derive(Debug)]
pub struct Server {
    /// Until it runs.
    socket: Mutex<Option<Socket>>,
    local: SocketAddr,
    config: Arc<ServerConfig>,
    watch: Watch,
    table: Arc<Table>,
}

/// What the callers of a running server have in common.
#[derive(Debug)]
struct Shared {
    config: Arc<ServerConfig>,
    context: IngestContext,
    table: Arc<Table>,
    /// Turns at the hashes that passphrases cost.
    unwrapping: Semaphore,
}

impl Shared {
    async fn until_shutdown(&self, work: impl Future<Output = CloseReason>) -> CloseReason {
        self.context.shutdown.run_until_cancelled(work).await.unwrap_or(CloseReason::Shutdown)
    }
}

/// Says that a connection is over when it is dropped, so that exactly one event is sent for each, even when its task
/// panics.
struct Report {
    shared: Arc<Shared>,
    remote: SocketAddr,
    reason: CloseReason,
}

impl Report {
    /// Says why.
    fn close(mut self, reason: CloseReason) {
        self.reason = reason;
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let Self { remote, reason, .. } = self;
        tracing::info!(peer = %remote, %reason, "an SRT connection has ended");
        self.shared.context.observer.on_event(&EngineEvent::SessionClosed {
            protocol: PROTOCOL,
            remote: Some(*remote),
            reason: *reason,
        });
    }
}

impl Server {
    /// Listens on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// The address cannot be listened on.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(address: SocketAddr, config: ServerConfig) -> io::Result<Self> {
        Self::from_socket(UdpSocket::bind(address)?, config)
    }

    /// Listens on a socket that is bound already.
    ///
    /// # Errors
    /// The operating system does not take it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn from_socket(socket: UdpSocket, config: ServerConfig) -> io::Result<Self> {
        let socket = Socket::listen_on(socket)?;
        Ok(Self {
            local: socket.local_addr(),
            watch: socket.watch(),
            socket: Mutex::new(Some(socket)),
            config: Arc::new(config),
            table: Arc::default(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What has been counted, of everything and of each connection that carries a stream. Nothing once it has ended.
    /// Cancel safe.
    pub async fn statistics(&self) -> ServerStatistics {
        let Some(all) = self.watch.statistics().await else { return ServerStatistics::default() };
        self.table.describe(*all)
    }

    /// Serves until `context.shutdown` fires and every connection has been told so; once. Dropping the future drops the
    /// connections.
    ///
    /// # Errors
    /// The socket has failed, or has been served already.
    pub async fn run(&self, context: IngestContext) -> Result<()> {
        let gone = || io::Error::other("the socket is gone").into();
        let Some(mut socket) = self.socket.lock().take() else { return Err(gone()) };
        let shutdown = context.shutdown.clone();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            config: Arc::clone(&self.config),
            context,
            table: Arc::clone(&self.table),
            unwrapping: Semaphore::new((cores / 2).max(1)),
        });
        let gate = Gate::new(self.config.max_unauthorized, self.config.max_unauthorized_per_address);
        let places = Arc::new(Semaphore::new(self.config.max_connections));
        let mut connections = JoinSet::new();
        let ended = loop {
            let caller = tokio::select! {
                caller = socket.next_caller() => caller,
                Some(ended) = connections.join_next() => {
                    log_panic(&ended);
                    continue;
                }
                () = shutdown.cancelled() => break Ok(()),
            };
            match caller {
                Some(Caller::Asks(incoming)) => start(&mut connections, &shared, (&gate, &places), incoming),
                Some(Caller::Refused { remote, reason }) => {
                    drop(Report { shared: Arc::clone(&shared), remote: canonical(remote), reason });
                }
                None => break Err(gone()),
            }
        };
        let all_gone = async {
            tokio::join!(socket.close(), async { while connections.join_next().await.is_some() {} });
        };
        if tokio::time::timeout(DRAIN, all_gone).await.is_err() {
            tracing::warn!("connections are dropped that did not end by themselves");
        }
        ended
    }
}

/// Gives a caller its task, if there is a place for it.
fn start(
    connections: &mut JoinSet<()>,
    shared: &Arc<Shared>,
    (gate, places): (&Arc<Gate>, &Arc<Semaphore>),
    incoming: Incoming,
) {
    let remote = canonical(incoming.remote());
    let report = Report { shared: Arc::clone(shared), remote, reason: CloseReason::Internal };
    let admission: Option<Admission> = gate.enter(remote.ip());
    let (Ok(place), Some(admission)) = (Arc::clone(places).try_acquire_owned(), admission) else {
        incoming.reject(RejectReason::OVERLOAD);
        report.close(CloseReason::Overloaded);
        return;
    };
    let session = Session { shared: Arc::clone(shared), incoming, remote, admission };
    connections.spawn(async move {
        let reason = session.run().await;
        report.close(reason);
        drop(place);
    });
}

/// A listener on `::` knows IPv4 peers as `::ffff:a.b.c.d`; nobody else does.
fn canonical(remote: SocketAddr) -> SocketAddr {
    SocketAddr::new(remote.ip().to_canonical(), remote.port())
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
        PROTOCOL
    }

    async fn serve(self: Arc<Self>, context: IngestContext) -> Result<()> {
        self.run(context).await
    }
}
