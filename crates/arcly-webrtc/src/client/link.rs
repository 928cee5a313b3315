//! One session with a server: drives a machine over a UDP socket of its own, and over connections where that does not get through.

use core::pin::pin;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use arcly_core::egress::udp::{Burst, RECEIVE_BYTES, UdpSocket};
use arcly_core::{CloseReason, Phase, Publisher, clock};
use bytes::Bytes;
use socket2::{Domain, SockRef, Socket, Type};
use tokio_util::sync::CancellationToken;

use super::line::{Arrival, Lines};
use super::source::{Next, Source};
use crate::config::Addresses;
use crate::server::own_addresses;
use crate::session::{Output, Published, Transport, Viewed, WhepSession, WhipSession};
use crate::wire::{Kind, Protocol, TransportAddress};

/// Bytes that the kernel may hold for the socket in each direction.
const SOCKET_BUFFER: usize = 4 << 20;
/// How long is waited after an error of the socket, which mostly is somebody else's.
const PAUSE: Duration = Duration::from_millis(10);

/// What is asked of either machine.
trait Machine {
    type Event;
    fn transport(&self) -> &Transport;
    fn transport_mut(&mut self) -> &mut Transport;
    fn handle_datagram(&mut self, now: Instant, from: TransportAddress, datagram: &[u8]);
    fn close(&mut self, reason: CloseReason);
    fn poll_output(&mut self) -> Output<Self::Event>;
}

macro_rules! machine {
    ($name:ident, $event:ident) => {
        impl Machine for $name {
            type Event = $event;
            fn transport(&self) -> &Transport {
                self.transport()
            }
            fn transport_mut(&mut self) -> &mut Transport {
                self.transport_mut()
            }
            fn handle_datagram(&mut self, now: Instant, from: TransportAddress, datagram: &[u8]) {
                self.handle_datagram(now, from, datagram);
            }
            fn close(&mut self, reason: CloseReason) {
                self.close(reason);
            }
            fn poll_output(&mut self) -> Output<$event> {
                self.poll_output()
            }
        }
    };
}
machine!(WhipSession, Published);
machine!(WhepSession, Viewed);

/// What a machine wants of its owner.
enum Step<E> {
    Event(E),
    Wait(Instant),
    /// It is over, and everything has been said.
    Over(CloseReason),
}

/// What has happened to a session from outside.
enum Activity<T> {
    Received,
    Timer,
    Shutdown,
    Owner(T),
}

/// A UDP socket with what is on its way through it, and connections.
pub(super) struct Link {
    socket: UdpSocket,
    local: SocketAddr,
    burst: Burst,
    to: Option<SocketAddr>,
    buffer: Box<[u8]>,
    lines: Lines,
    /// Where the last datagram went that was no check: that is how media are exchanged.
    carrier: Option<TransportAddress>,
    /// What one call has received, and the machine has not got yet.
    inbox: VecDeque<Arrival>,
    /// Where checks may go: an answer to one from elsewhere would be a check, too.
    may_reach: fn(IpAddr) -> bool,
}

impl Link {
    /// Takes a port, in both families where there are two.
    pub(super) fn bind(may_reach: fn(IpAddr) -> bool) -> io::Result<Self> {
        let socket = bind_dual().or_else(|_| std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        let raw = SockRef::from(&socket);
        // As much as the operating system allows.
        let _ = raw.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = raw.set_send_buffer_size(SOCKET_BUFFER);
        let local = socket.local_addr()?;
        Ok(Self {
            socket: UdpSocket::new(socket)?,
            local,
            burst: Burst::default(),
            to: None,
            buffer: vec![0; RECEIVE_BYTES].into(),
            lines: Lines::new(&[], Duration::ZERO, clock::now()),
            carrier: None,
            inbox: VecDeque::new(),
            may_reach,
        })
    }

    /// Where the server is: connections to it are opened when `delay` has passed and no check has been answered.
    pub(super) fn may_connect(&mut self, candidates: &[TransportAddress], delay: Duration) {
        self.lines = Lines::new(candidates, delay, clock::now());
    }

    /// Where this side is, as far as can be seen from here: one address of each family, as the socket does not say which one a
    /// datagram has come to. `reached` is where the server was reached from.
    pub(super) fn addresses(&self, reached: IpAddr) -> Addresses {
        let all = Addresses::new(
            [reached].into_iter().chain(own_addresses()).map(|ip| SocketAddr::new(ip, self.local.port())),
        );
        let sockets = || all.announced().map(|address| address.socket);
        let first = |is_v4| sockets().find(|socket| socket.is_ipv4() == is_v4);
        let v6 = first(false).filter(|_| self.local.is_ipv6());
        Addresses::new([first(true), v6].into_iter().flatten())
    }

    /// Publishes what the server sends, until one of the three ends it; says why.
    pub(super) async fn pull(
        &mut self,
        mut session: WhipSession,
        publisher: &mut Publisher,
        stall: Duration,
        shutdown: &CancellationToken,
    ) -> CloseReason {
        let mut heard = clock::now();
        loop {
            let wake = match self.step(&mut session).await {
                Step::Over(reason) => return reason,
                Step::Event(Published::Media(media)) => {
                    heard = clock::now();
                    if let Err(error) = publisher.handle(media) {
                        session.close(error.reason());
                    }
                    continue;
                }
                Step::Event(Published::Level(track, level)) => {
                    publisher.handle_level(track, level);
                    continue;
                }
                Step::Event(Published::Connected) => {
                    heard = clock::now();
                    continue;
                }
                Step::Event(_) => continue,
                Step::Wait(at) => at,
            };
            if self.take_one(&mut session) {
                continue;
            }
            let stalled = heard.checked_add(stall).filter(|_| session.transport().is_connected());
            let wake = stalled.map_or(wake, |at| wake.min(at));
            let owner = async {
                tokio::select! {
                    reason = publisher.revoked() => Err(reason),
                    tracks = publisher.keyframe_requested_of() => Ok(tracks),
                }
            };
            match self.wait(wake, owner, shutdown).await {
                Activity::Received => {}
                Activity::Owner(Err(reason)) => session.close(reason),
                Activity::Owner(Ok(tracks)) => session.request_keyframes(clock::now(), tracks),
                Activity::Timer if stalled.is_some_and(|at| at <= clock::now()) => {
                    session.close(CloseReason::Timeout(Phase::Idle));
                }
                Activity::Timer => session.handle_timeout(clock::now()),
                Activity::Shutdown => session.close(CloseReason::Shutdown),
            }
        }
    }

    /// Sends what `source` reads, until one of the three ends it; says why.
    pub(super) async fn push(
        &mut self,
        mut session: WhepSession,
        source: &mut Source,
        shutdown: &CancellationToken,
    ) -> CloseReason {
        loop {
            let wake = match self.step(&mut session).await {
                Step::Over(reason) => return reason,
                Step::Event(Viewed::KeyframeRequest(tracks)) => {
                    source.request_keyframe(tracks);
                    continue;
                }
                Step::Event(_) => continue,
                Step::Wait(at) => at,
            };
            if self.take_one(&mut session) {
                continue;
            }
            let flows = session.transport().is_connected();
            match self.wait(wake, source.next(flows), shutdown).await {
                Activity::Received => {}
                Activity::Owner(Next::Frame(frame)) => session.send(clock::now(), &frame),
                Activity::Owner(Next::Tracks(tracks)) => match source.choose(&mut session, &tracks) {
                    Ok(()) => {}
                    Err(reason) => session.close(reason),
                },
                Activity::Owner(Next::Ended(reason)) => session.close(reason),
                Activity::Timer => session.handle_timeout(clock::now()),
                Activity::Shutdown => session.close(CloseReason::Shutdown),
            }
        }
    }

    /// Takes everything that is to be sent out of the machine, up to the next thing that its owner is told.
    async fn step<M: Machine>(&mut self, machine: &mut M) -> Step<M::Event> {
        loop {
            match machine.poll_output() {
                Output::Event(event) => return Step::Event(event),
                Output::Transmit { to, datagram } => {
                    if Kind::of(&datagram) != Some(Kind::Stun) {
                        self.carrier = Some(to);
                    }
                    if to.protocol == Protocol::Tcp {
                        self.lines.send(to.socket, datagram);
                        continue;
                    }
                    let to = to.socket;
                    if self.to == Some(to) && self.burst.push(&datagram) {
                        continue;
                    }
                    self.flush().await;
                    self.to = Some(to);
                    // An empty burst takes anything that a socket does.
                    let _ = self.burst.push(&datagram);
                }
                Output::Wait(at) => {
                    self.flush().await;
                    if let Some(reason) = machine.transport().closed() {
                        self.lines.finish().await;
                        return Step::Over(reason);
                    }
                    let next = self.lines.attend(clock::now(), machine.transport(), self.carrier);
                    return Step::Wait(next.map_or(at, |next| at.min(next)));
                }
            }
        }
    }

    async fn flush(&mut self) {
        let Some(to) = self.to.filter(|_| !self.burst.is_empty()) else { return };
        let to = match (self.local, to.ip()) {
            // A socket on `::` knows no other form of IPv4 addresses.
            (SocketAddr::V6(_), IpAddr::V4(ip)) => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        };
        // A datagram that cannot be sent is one that is lost.
        if let Err(error) = self.socket.send(to, &mut self.burst).await {
            tracing::trace!(%error, %to, "a datagram was not sent");
        }
    }

    /// Tells the machine one of the things that have come from the network.
    fn take_one(&mut self, machine: &mut impl Machine) -> bool {
        let now = clock::now();
        match self.inbox.pop_front() {
            None => return false,
            Some(Arrival::Datagram(from, datagram)) => machine.handle_datagram(now, from, &datagram),
            Some(Arrival::Opened(local)) => machine.transport_mut().handle_connection(now, local),
            Some(Arrival::Lost(to, reason)) => {
                self.lines.forget(now, to);
                // There is no other way: those that were not used are closed.
                if machine.transport().is_connected() && self.carrier == Some(TransportAddress::tcp(to)) {
                    machine.close(reason);
                }
            }
        }
        true
    }

    /// Waits for one thing to happen. Cancel safe, as all of it is.
    async fn wait<T>(
        &mut self,
        wake: Instant,
        owner: impl Future<Output = T>,
        shutdown: &CancellationToken,
    ) -> Activity<T> {
        let Self { socket, buffer, inbox, lines, may_reach, .. } = self;
        let mut sleep = pin!(tokio::time::sleep_until(wake.into()));
        let arrival = tokio::select! {
            () = receive(socket, buffer, inbox, *may_reach) => None,
            arrival = lines.next() => Some(arrival),
            it = owner => return Activity::Owner(it),
            () = &mut sleep => return Activity::Timer,
            () = shutdown.cancelled() => return Activity::Shutdown,
        };
        inbox.extend(arrival);
        lines.take(inbox);
        Activity::Received
    }
}

/// Takes what has come over UDP from where the server may be. Cancel safe.
async fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
    inbox: &mut VecDeque<Arrival>,
    may_reach: fn(IpAddr) -> bool,
) {
    let received = socket.recv(buffer, |from, datagram| {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if may_reach(from.ip()) {
            inbox.push_back(Arrival::Datagram(TransportAddress::udp(from), Bytes::copy_from_slice(datagram)));
        }
    });
    if let Err(error) = received.await {
        // A server that is gone is told by the error of the next call.
        tracing::debug!(%error, "the socket of a WebRTC client");
        tokio::time::sleep(PAUSE).await;
    }
}

fn bind_dual() -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    socket.set_only_v6(false)?;
    socket.bind(&SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0).into())?;
    Ok(socket.into())
}
