use core::num::NonZeroU16;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arcly_core::contract::observe::{EngineEvent, Observer};
use arcly_core::egress::udp::UdpSocket;
use arcly_core::net::{Admission, Gate};
use arcly_core::{ClientInfo, CloseReason, StreamKey};
use bytes::Bytes;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::line::Line;
use super::sources::{Owners, Sources};
use super::task::Task;
use crate::config::{Addresses, ServerConfig};
use crate::session::{Identity, SessionStats};
use crate::wire::{BindingRequest, Credentials, Kind, OfferError, Protocol, Role, TransportAddress};

/// Datagrams that a session has not looked at.
pub const INBOX: usize = 512;
/// Bytes that the kernel may hold for the socket in each direction.
const SOCKET_BUFFER: usize = 4 << 20;
/// Commands that a session has not looked at.
const COMMANDS: usize = 8;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Sessions at the moment.
    pub sessions: u64,
    /// Datagrams that belong to no session.
    pub foreign: u64,
    /// Datagrams that their session did not look at in time.
    pub overrun: u64,
    /// Datagrams that their session has dropped: wrong, or from where nobody has shown the password.
    pub dropped: u64,
    /// Keyframes that viewers have asked for.
    pub keyframe_requests: u64,
    /// Datagrams for peers over TCP whose connection had no room for them.
    pub unsent: u64,
    /// Connections for which there was no room among those over which nobody has shown a password.
    pub refused: u64,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    foreign: AtomicU64,
    pub(super) overrun: AtomicU64,
    pub(super) unsent: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) keyframe_requests: AtomicU64,
}

/// A session that is there at the moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionInfo {
    /// WHIP or WHEP.
    pub role: Role,
    /// The stream that it publishes or plays.
    pub stream: StreamKey,
    /// Who the peer is.
    pub client: ClientInfo,
    /// The number of the reader that a viewer is ([`ReaderState::id`](arcly_core::subscriber::ReaderState::id)).
    pub reader: Option<u64>,
    /// What was counted of it, as it was a second ago at most.
    pub stats: SessionStats,
}

/// What somebody outside wants of a session.
#[derive(Debug)]
pub(crate) enum Control {
    /// An ICE restart; the answer to it.
    Restart(Credentials, oneshot::Sender<Result<String, OfferError>>),
    /// The peer has said good-bye over HTTP.
    Close,
}

/// A datagram for a session.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) from: TransportAddress,
    pub(super) datagram: Bytes,
    /// The way back, where it came over a connection whose peer has not shown the password yet.
    pub(super) line: Option<Line>,
}

/// What is known of a session outside of its task.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Nobody can guess it: who knows it may act on the session.
    pub(crate) id: String,
    pub(crate) role: Role,
    pub(crate) stream: StreamKey,
    pub(crate) client: ClientInfo,
    reader: Option<u64>,
    pub(super) inbox: mpsc::Sender<Arrival>,
    pub(crate) control: mpsc::Sender<Control>,
    pub(crate) state: Mutex<State>,
}

/// What of a session's ICE its HTTP side has to know.
#[derive(Debug)]
pub(crate) struct State {
    /// This side's user name fragment, which is the entity tag, too.
    pub(crate) fragment: String,
    /// Candidates that the peer has sent.
    pub(crate) candidates: usize,
    /// The last restart.
    pub(crate) restarted: Option<Instant>,
    /// The peer has ended it over HTTP: it is there for nobody any more.
    pub(crate) is_deleted: bool,
    /// What was counted of it.
    pub(super) stats: SessionStats,
}

/// The task's ends of an entry's channels.
pub(super) struct Ends {
    pub(super) inbox: mpsc::Receiver<Arrival>,
    pub(super) control: mpsc::Receiver<Control>,
}

#[derive(Debug, Default)]
struct Index {
    by_id: HashMap<String, Arc<Entry>>,
    by_fragment: HashMap<String, Arc<Entry>>,
    by_source: Sources<Entry>,
    /// Those that are being opened.
    opening: usize,
    /// What was counted of those that are over.
    past: SessionStats,
}

/// A place that is kept for a session until it is there, or nothing comes of it.
pub(crate) struct Opening {
    hub: Arc<Hub>,
    admission: Option<Admission>,
}

impl Opening {
    /// What a session keeps until its peer has connected.
    pub(super) fn into_admission(mut self) -> Option<Admission> {
        self.admission.take()
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut index = self.hub.index.lock();
        index.opening = index.opening.saturating_sub(1);
    }
}

/// What all sessions have in common.
pub(crate) struct Hub {
    socket: UdpSocket,
    local: SocketAddr,
    /// Where connections are taken, if they are.
    listener: OnceLock<SocketAddr>,
    config: ServerConfig,
    identity: Identity,
    /// Addresses of this machine on the ways out of it.
    own: Vec<IpAddr>,
    index: Mutex<Index>,
    gate: Arc<Gate>,
    /// Connections over which nobody has shown a password yet.
    lines: Arc<Gate>,
    pub(super) tally: Tally,
    pub(super) shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl core::fmt::Debug for Hub {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Hub").field("local", &self.local).finish_non_exhaustive()
    }
}

impl Hub {
    pub(super) fn new(socket: std::net::UdpSocket, config: ServerConfig) -> io::Result<Self> {
        let raw = SockRef::from(&socket);
        // As much as the operating system allows: keyframes of many publishers come at once.
        let _ = raw.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = raw.set_send_buffer_size(SOCKET_BUFFER);
        let socket = UdpSocket::new(socket)?;
        Ok(Self {
            local: socket.local_addr()?,
            socket,
            identity: Identity::generate()?,
            own: own_addresses(),
            index: Mutex::default(),
            listener: OnceLock::new(),
            gate: Gate::new(config.max_pending, config.max_pending_per_address),
            lines: Gate::new(config.max_pending, config.max_pending_per_address),
            tally: Tally::default(),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            config,
        })
    }

    pub(super) const fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    pub(super) const fn local(&self) -> SocketAddr {
        self.local
    }

    pub(crate) const fn config(&self) -> &ServerConfig {
        &self.config
    }

    pub(crate) const fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn counters(&self) -> Counters {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            sessions: self.index.lock().by_id.len() as u64,
            foreign: count(&self.tally.foreign),
            overrun: count(&self.tally.overrun),
            dropped: count(&self.tally.dropped),
            keyframe_requests: count(&self.tally.keyframe_requests),
            unsent: count(&self.tally.unsent),
            refused: count(&self.tally.refused),
        }
    }

    /// What was counted of all sessions, those that are over among them.
    pub(super) fn stats(&self) -> SessionStats {
        let index = self.index.lock();
        let mut sum = index.past;
        index.by_id.values().for_each(|entry| sum.add(&entry.state.lock().stats));
        sum
    }

    /// The sessions that are there.
    pub(super) fn sessions(&self) -> Vec<SessionInfo> {
        let info = |entry: &Arc<Entry>| SessionInfo {
            role: entry.role,
            stream: entry.stream.clone(),
            client: entry.client.clone(),
            reader: entry.reader,
            stats: entry.state.lock().stats,
        };
        self.index.lock().by_id.values().map(info).collect()
    }

    /// What peers are told to send to: what is configured, or where the socket is; where it is everywhere, where the peer has
    /// reached this machine by HTTP, and the machine's own addresses.
    pub(crate) fn addresses(&self, reached: &[IpAddr]) -> Addresses {
        let seen = || reached.iter().chain(&self.own).copied().collect();
        let addresses: Vec<IpAddr> =
            match (self.config.announced.is_empty(), self.local.ip().is_unspecified()) {
                (false, _) => self.config.announced.clone(),
                (true, false) => vec![self.local.ip()],
                (true, true) => seen(),
            };
        let of = |local: SocketAddr| {
            let port = self.config.announced_port.map_or(local.port(), NonZeroU16::get);
            let usable = move |ip: &&IpAddr| !local.is_ipv4() || ip.to_canonical().is_ipv4();
            addresses.iter().filter(usable).map(move |ip| SocketAddr::new(*ip, port))
        };
        let listener = self.listener.get().copied();
        Addresses::new(of(self.local)).with_tcp(listener.into_iter().flat_map(of))
    }

    /// Connections are taken there from now on.
    pub(super) fn listens(&self, listener: SocketAddr) {
        self.listener.get_or_init(|| listener);
    }

    /// A place for a connection from there that has not shown a password yet; `None` when there is none, or nobody takes one any more.
    pub(super) fn enter_line(&self, address: IpAddr) -> Option<Admission> {
        self.lines.enter(address).filter(|_| !self.shutdown.is_cancelled())
    }

    /// Runs something that the end waits for.
    pub(super) fn track(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// A datagram belongs to no session.
    pub(super) fn count_foreign(&self) {
        self.tally.foreign.fetch_add(1, Ordering::Relaxed);
    }

    /// The session that a check names.
    pub(super) fn named(&self, fragment: &str) -> Option<Arc<Entry>> {
        self.index.lock().by_fragment.get(fragment).cloned()
    }

    /// A place for a session of a peer at that address; `None` when there is none.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Opening> {
        let admission = self.gate.enter(address)?;
        let mut index = self.index.lock();
        if index.by_id.len().saturating_add(index.opening) >= self.config.max_sessions
            || self.shutdown.is_cancelled()
        {
            return None;
        }
        index.opening = index.opening.saturating_add(1);
        drop(index);
        Some(Opening { hub: Arc::clone(self), admission: Some(admission) })
    }

    /// Begins a session: where its task is told things, and what it is told things by.
    pub(super) fn register(
        &self,
        (role, stream): (Role, StreamKey),
        (client, reader): (ClientInfo, Option<u64>),
        fragment: &str,
    ) -> io::Result<(Arc<Entry>, Ends)> {
        let (sender, inbox) = mpsc::channel(INBOX);
        let (commands, control) = mpsc::channel(COMMANDS);
        let stats = SessionStats::default();
        let state =
            State { fragment: fragment.to_owned(), candidates: 0, restarted: None, is_deleted: false, stats };
        let id = session_id()?;
        let state = Mutex::new(state);
        let entry =
            Arc::new(Entry { id, role, stream, client, reader, inbox: sender, control: commands, state });
        let mut index = self.index.lock();
        index.by_id.insert(entry.id.clone(), Arc::clone(&entry));
        index.by_fragment.insert(fragment.to_owned(), Arc::clone(&entry));
        drop(index);
        Ok((entry, Ends { inbox, control }))
    }

    /// A session has new credentials: checks with the old ones are nobody's any more.
    pub(super) fn rename(&self, entry: &Arc<Entry>, fragment: &str) {
        let before = core::mem::replace(&mut entry.state.lock().fragment, fragment.to_owned());
        let mut index = self.index.lock();
        index.by_fragment.remove(&before);
        index.by_fragment.insert(fragment.to_owned(), Arc::clone(entry));
    }

    /// Datagrams from that address of UDP are that session's, too.
    pub(super) fn add_source(&self, entry: &Arc<Entry>, source: SocketAddr) {
        self.index.lock().by_source.claim(source, entry);
    }

    /// They are not any more.
    pub(super) fn remove_sources(&self, entry: &Entry, sources: impl Iterator<Item = TransportAddress>) {
        let mut index = self.index.lock();
        let of_udp = sources.filter(|source| source.protocol == Protocol::Udp);
        of_udp.for_each(|source| index.by_source.release(source.socket, entry));
    }

    /// A session is over.
    pub(super) fn remove(&self, entry: &Entry, sources: &[TransportAddress]) {
        let fragment = entry.state.lock().fragment.clone();
        let mut index = self.index.lock();
        if index.by_id.remove(&entry.id).is_some() {
            index.past.add(&entry.state.lock().stats);
        }
        index.by_fragment.remove(&fragment);
        drop(index);
        self.remove_sources(entry, sources.iter().copied());
    }

    /// The session of that id.
    pub(crate) fn session(&self, id: &str) -> Option<Arc<Entry>> {
        self.index.lock().by_id.get(id).cloned()
    }

    /// Hands a datagram to the session that it belongs to.
    pub(super) fn dispatch(&self, from: SocketAddr, datagram: &[u8]) {
        // A socket on `::` knows IPv4 peers as `::ffff:a.b.c.d`; nobody else does.
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let entries = match Kind::of(datagram) {
            Some(Kind::Stun) => BindingRequest::decode(datagram)
                .ok()
                .and_then(|request| self.named(request.local))
                .into_iter()
                .collect(),
            Some(kind) => self.index.lock().by_source.of(from, kind == Kind::Dtls && begins_anew(datagram)),
            None => Owners::new(),
        };
        if entries.is_empty() {
            self.count_foreign();
        }
        for entry in entries {
            let datagram = Bytes::copy_from_slice(datagram);
            let arrival = Arrival { from: TransportAddress::udp(from), datagram, line: None };
            if entry.inbox.try_send(arrival).is_err() {
                self.tally.overrun.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Runs a session in a task of its own, and says when it is over.
    pub(super) fn spawn(self: &Arc<Self>, task: Task, observer: Arc<dyn Observer>) {
        let (protocol, remote) = (task.entry().client.protocol, task.entry().client.remote);
        let report = Report { observer, protocol, remote, reason: CloseReason::Internal };
        self.tasks.spawn(async move {
            let mut report = report;
            report.reason = task.run().await;
        });
    }

    /// Ends all sessions, and waits until they have.
    pub(super) async fn close(&self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Where a peer's address is to be given to the kernel: a socket on `::` knows no other form of IPv4 addresses.
    pub(super) fn to_socket(&self, to: SocketAddr) -> SocketAddr {
        match (self.local, to.ip()) {
            (SocketAddr::V6(_), IpAddr::V4(ip)) => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        }
    }
}

/// Says that a session is over when it is dropped, so that exactly one event is sent for each, even when its task panics.
struct Report {
    observer: Arc<dyn Observer>,
    protocol: &'static str,
    remote: Option<SocketAddr>,
    reason: CloseReason,
}

impl Drop for Report {
    fn drop(&mut self) {
        let Self { protocol, remote, reason, .. } = *self;
        self.observer.on_event(&EngineEvent::SessionClosed { protocol, remote, reason });
    }
}

/// True for a record of a handshake from its beginning, which nothing protects yet (RFC 6347 §4.1: epoch 0).
fn begins_anew(record: &[u8]) -> bool {
    record.get(3..5) == Some(&[0, 0])
}

/// 128 random bits.
fn session_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Where this machine's datagrams to the world would come from; nothing is sent.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    let ways: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 1).into()),
    ];
    let own = |(any, world): (IpAddr, IpAddr)| {
        let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
        socket.connect((world, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    ways.into_iter().filter_map(own).collect()
}
