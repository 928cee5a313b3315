//! SRT over a UDP socket: messages in, messages out, as many connections as there are.
//!
//! ```text
//!   Peer ──send──▶ outbox ─┐                       ┌─▶ inbox ──recv──▶ Peer
//!   Peer …                 ├─▶ driver: Connections ┤                   Peer …
//!   Incoming ◀── requests ─┘    │  timers, Listener └─▶ datagrams, in bursts
//!                               └─ one task for one UDP socket
//! ```
//!
//! One task drives all connections of a socket: it receives as many datagrams as the kernel hands over at once, sends those
//! for one peer in one call where the kernel cuts them (UDP GSO), and keeps one heap of deadlines. It ends, closing what is
//! open, once the [`Socket`] and every [`Peer`] and [`Incoming`] is dropped.
//!
//! A group of connections ([`Socket::call_group`]) is one [`Peer`], and one [`Incoming`] to who accepts it: the first of its
//! connections asks, and what is decided holds for the others, which have to ask for the same.
//!
//! ```no_run
//! use arcly_srt::{Config, socket::Socket};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mut socket = Socket::listen("0.0.0.0:8890".parse()?)?;
//! while let Some(incoming) = socket.accept().await {
//!     let peer = incoming.accept(Config::default()).await?;
//!     tokio::spawn(async move {
//!         while let Ok(message) = peer.recv().await {
//!             println!("{} bytes", message.payload.len());
//!         }
//!     });
//! }
//! # Ok(()) }
//! ```
//!
//! | bound | value |
//! |---|---|
//! | messages that are received and not taken | [`MAX_INBOX`]; then delivery stops, and in live mode what is late is dropped |
//! | messages that are to be sent and not taken by the connection | [`MAX_OUTBOX`]; then [`Peer::send`] waits |
//! | requests that nobody has accepted | [`MAX_PENDING`] |

mod bonds;
mod caller;
mod carrier;
mod driver;
mod ids;
mod peer;
mod slot;
mod timers;
mod watch;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use arcly_core::egress::udp;
use socket2::SockRef;
use tokio::sync::{mpsc, oneshot};

pub use caller::{Caller, Incoming};
#[cfg(feature = "ts")]
pub(crate) use peer::Ending;
pub use peer::{MAX_INBOX, MAX_OUTBOX, Peer};
pub use watch::{SocketStatistics, Watch};

use self::driver::{Command, Driver, How, Knock};
use self::peer::Shared;
use crate::config::Config;
use crate::crypto::Entropy;
use crate::error::SessionError;
use crate::session::{Listener, MAX_PENDING};
use crate::wire::GroupKind;

/// Bytes that the system is asked to buffer in each direction: a second of 32 Mbit/s.
const BUFFER: usize = 4 << 20;

/// A UDP socket with any number of connections.
#[derive(Debug)]
pub struct Socket {
    commands: mpsc::UnboundedSender<Command>,
    requests: mpsc::Receiver<Knock>,
    local: SocketAddr,
}

impl Socket {
    /// A socket to call from, which takes no callers.
    ///
    /// # Errors
    /// The address cannot be had.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(local: SocketAddr) -> io::Result<Self> {
        Self::start(UdpSocket::bind(local)?, None)
    }

    /// A socket that takes callers: [`accept`](Self::accept).
    ///
    /// # Errors
    /// The address cannot be had.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn listen(local: SocketAddr) -> io::Result<Self> {
        Self::listen_on(UdpSocket::bind(local)?)
    }

    /// The same on a socket that is bound already.
    ///
    /// # Errors
    /// The operating system does not take it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn listen_on(socket: UdpSocket) -> io::Result<Self> {
        let mut secret = [0; 32];
        os_entropy().fill(&mut secret);
        Self::start(socket, Some(Listener::new(Instant::now(), secret)))
    }

    fn start(socket: UdpSocket, listener: Option<Listener>) -> io::Result<Self> {
        let options = SockRef::from(&socket);
        // More than the system allows is cut down by it, which is no reason to fail.
        _ = options.set_recv_buffer_size(BUFFER);
        _ = options.set_send_buffer_size(BUFFER);
        let socket = udp::UdpSocket::new(socket)?;
        let local = socket.local_addr()?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let (waiting, requests) = mpsc::channel(MAX_PENDING);
        tokio::spawn(Driver::new(socket, listener, inbox, waiting).run());
        Ok(Self { commands, requests, local })
    }

    /// Where it is bound.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Calls a listener, and waits for its answer: at most [`Config::connect_timeout`]. Dropping the call gives it up.
    ///
    /// # Errors
    /// It refuses, or does not answer; the configuration cannot be used; or the socket has failed.
    pub async fn call(&self, remote: SocketAddr, config: Config) -> Result<Peer, SessionError> {
        self.open(How::Call, remote, config).await
    }

    /// Meets a peer that does the same, and waits for it: at most [`Config::connect_timeout`]. Dropping the call gives it
    /// up.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn rendezvous(&self, remote: SocketAddr, config: Config) -> Result<Peer, SessionError> {
        self.open(How::Rendezvous, remote, config).await
    }

    /// Calls a listener over several paths, and waits for the first of them. The addresses are the listener's, each with the
    /// path's weight: in a backup group the one with the greatest is used. They share this socket; which way
    /// datagrams to each of them go is the system's routing.
    ///
    /// # Errors
    /// As [`call`](Self::call): no path leads to the listener; or there are more than
    /// [`MAX_MEMBERS`](crate::session::MAX_MEMBERS).
    pub async fn call_group(
        &self,
        kind: GroupKind,
        paths: &[(SocketAddr, u16)],
        config: Config,
    ) -> Result<Peer, SessionError> {
        let (done, connected) = oneshot::channel();
        _ = self.commands.send(Command::Bond { kind, paths: paths.to_vec(), config: Box::new(config), done });
        let shared = connected.await.unwrap_or(Err(SessionError::Closed))?;
        Ok(Peer::new(shared, self.commands.clone()))
    }

    async fn open(&self, how: How, remote: SocketAddr, config: Config) -> Result<Peer, SessionError> {
        let (done, connected) = oneshot::channel();
        _ = self.commands.send(Command::Open { how, remote, config: Box::new(config), done });
        let shared = connected.await.unwrap_or(Err(SessionError::Closed))?;
        Ok(Peer::new(shared, self.commands.clone()))
    }

    /// Waits for the next caller; `None` once the socket has failed, and of a socket that takes none. Cancel safe.
    pub async fn accept(&mut self) -> Option<Incoming> {
        loop {
            if let Caller::Asks(incoming) = self.next_caller().await? {
                return Some(incoming);
            }
        }
    }

    /// The same, and hears of callers, too, that were refused because of what they sent. Cancel safe.
    pub async fn next_caller(&mut self) -> Option<Caller> {
        Some(match self.requests.recv().await? {
            Knock::Request(request) => Caller::Asks(Incoming::new(request, self.commands.clone())),
            Knock::Refused(remote, reason) => Caller::Refused { remote, reason },
        })
    }

    /// What tells how the socket and its connections do, for as long as they are there.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::new(self.commands.downgrade())
    }

    /// Takes no more callers, and returns once everything has been sent: when every [`Peer`] and [`Incoming`] has been
    /// dropped, too. Cancel safe.
    pub async fn close(self) {
        let Self { commands, mut requests, .. } = self;
        drop(commands);
        // They refuse whoever waits; the driver lets go of its end last of all.
        while requests.recv().await.is_some() {}
    }
}

/// Random bytes from the operating system.
fn os_entropy() -> Box<dyn Entropy> {
    Box::new(|out: &mut [u8]| getrandom::fill(out).expect("the operating system has random bytes"))
}

/// What ends a wait for a driver that is gone.
type Opened = oneshot::Sender<Result<std::sync::Arc<Shared>, SessionError>>;
