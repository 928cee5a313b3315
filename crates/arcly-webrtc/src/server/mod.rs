//! The server: one UDP socket, and a task for each session on it; and one listener for connections of peers whose network lets no UDP
//! through.
//!
//! ```no_run
//! # async fn run() -> arcly_core::Result<()> {
//! use arcly_core::Engine;
//! use arcly_webrtc::{Server, ServerConfig};
//! use tokio_util::sync::CancellationToken;
//!
//! let engine = Engine::builder().build();
//! let context = engine.context(CancellationToken::new());
//! let server = Server::bind("0.0.0.0:8189".parse().expect("an address"), ServerConfig::default())?;
//! let endpoint = server.endpoint(&context); // to be mounted in an HTTP server
//! server.run(context).await
//! # }
//! ```
//!
//! ```text
//!   datagram ──► a check (STUN)?  ──► by the user name fragment that it names ──┐
//!            └─► anything else    ──► by the address that it came from ─────────┴─► inbox of a session's task
//! ```
//!
//! An address belongs to a session from when a check from there has shown that it knows the session's password, which takes it from no
//! other; what comes from elsewhere is dropped here, and has cost a look into a table. A connection belongs to the session that its first check names, once one
//! of its checks has shown the same; until then it has nothing but its place among the strangers.
//!
//! | bound | value |
//! |---|---|
//! | datagrams that a session has not looked at | [`INBOX`], then they are dropped and counted |
//! | datagrams that wait for a connection | [`OUTBOX`], then they are lost and counted |
//! | connections that have shown no password, in all and of one address | as many as sessions that have not connected, for [`Timeouts::ice`](crate::session::Timeouts::ice); the others are refused and counted |
//! | a connection that takes nothing | [`STALL`]; once its session is over [`FLUSH`](arcly_core::net::FLUSH) |
//! | sessions, those not connected yet, and those of one address | [`ServerConfig`] |
//! | addresses of one session; those whose connections are closed | [`MAX_SOURCES`](crate::session::MAX_SOURCES); [`MAX_FORGOTTEN`](crate::session::MAX_FORGOTTEN) from one ICE restart to the next |

mod hub;
mod line;
mod sources;
mod task;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arcly_core::{IngestContext, Result};
use tokio::net::TcpListener;

use crate::config::ServerConfig;
use crate::http::Endpoint;
pub use crate::line::{OUTBOX, STALL};
use crate::session::SessionStats;
#[cfg(feature = "client")]
pub(crate) use hub::own_addresses;
pub(crate) use hub::{Control, Entry, Hub, Opening};
pub use hub::{Counters, INBOX, SessionInfo};
pub(crate) use task::Side;

/// Sessions that are still there so long after the end are dropped.
const DRAIN: Duration = Duration::from_secs(2);
/// Bytes of what the kernel hands over at once.
const RECEIVE_BYTES: usize = 64 << 10;
/// How long is waited after an error of the socket, which mostly is somebody else's.
const PAUSE: Duration = Duration::from_millis(10);

/// WebRTC on one UDP port, and one of TCP where there is a listener. Sessions come by HTTP: see [`endpoint`](Self::endpoint).
#[derive(Debug)]
pub struct Server {
    hub: Arc<Hub>,
    listener: Option<TcpListener>,
}

impl Server {
    /// Takes a port; 0 is a free one.
    ///
    /// # Errors
    /// The address cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(address: SocketAddr, config: ServerConfig) -> io::Result<Self> {
        Self::from_socket(UdpSocket::bind(address)?, config)
    }

    /// The same on a socket that is bound.
    ///
    /// # Errors
    /// It cannot be set up, or the operating system has no randomness.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn from_socket(socket: UdpSocket, config: ServerConfig) -> io::Result<Self> {
        Ok(Self { hub: Arc::new(Hub::new(socket, config)?), listener: None })
    }

    /// Takes connections as well, for peers whose network lets no UDP through (RFC 6544), and names the listener in answers behind the
    /// UDP port. Of a server that announces a port this is the same for both.
    ///
    /// # Errors
    /// The listener does not know where it is bound.
    pub fn with_tcp(self, listener: TcpListener) -> io::Result<Self> {
        self.hub.listens(listener.local_addr()?);
        Ok(Self { listener: Some(listener), ..self })
    }

    /// Where it is bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.hub.local()
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.hub.counters()
    }

    /// What was counted of all sessions so far, those that are over among them. What has no sum, the round trip for example, is empty.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        self.hub.stats()
    }

    /// The sessions that are there at the moment, in no order.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.hub.sessions()
    }

    /// WHIP and WHEP for an engine, given its context. Sessions run as long as [`run`](Self::run) does.
    #[must_use]
    pub fn endpoint(&self, context: &IngestContext) -> Endpoint {
        Endpoint::new(Arc::clone(&self.hub), context)
    }

    /// Hands datagrams to the sessions until `context.shutdown` fires and each has said good-bye.
    ///
    /// # Errors
    /// None at the moment; a socket that fails is tried again.
    pub async fn run(&self, context: IngestContext) -> Result<()> {
        let mut buffer = vec![0; RECEIVE_BYTES];
        let receive = async {
            loop {
                let received =
                    self.hub.socket().recv(&mut buffer, |from, datagram| self.hub.dispatch(from, datagram));
                if let Err(error) = received.await {
                    // A peer that is gone is told by the error of the next call, and is nothing of this one's.
                    tracing::debug!(%error, "the WebRTC socket");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        let accept = async {
            match &self.listener {
                Some(listener) => line::accept(&self.hub, listener).await,
                None => core::future::pending().await,
            }
        };
        tokio::select! {
            () = receive => {}
            () = accept => {}
            () = context.shutdown.cancelled() => {}
        }
        if tokio::time::timeout(DRAIN, self.hub.close()).await.is_err() {
            tracing::warn!("WebRTC sessions are dropped that did not end by themselves");
        }
        Ok(())
    }
}
