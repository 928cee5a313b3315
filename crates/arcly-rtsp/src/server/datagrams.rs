//! RTP and RTCP in datagrams: two sockets that all sessions share.
//!
//! What arrives is known by where it comes from ([`routes`](super::routes)). Anything else is counted and dropped.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use arcly_core::clock;
use arcly_core::egress::udp::{Burst, UdpSocket};
use bytes::Bytes;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::sync::mpsc;

use super::DatagramCounters;
use super::routes::{Port, Routes};
use crate::wire::PortPair;

/// Datagrams of one session that it has not looked at; more are lost, as they would be in a full socket.
const INBOX: usize = 1_024;
/// What the operating system holds of datagrams for all sessions together; it may allow less.
const SOCKET_BUFFER: usize = 4 << 20;
/// The longest datagram.
const MAX_DATAGRAM: usize = 64 << 10;

/// A datagram of a session.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) medium: usize,
    pub(super) control: bool,
    pub(super) packet: Bytes,
}

/// Who takes the datagrams of a route.
#[derive(Debug)]
struct Taker {
    inbox: mpsc::Sender<Datagram>,
    medium: usize,
}

/// A socket for RTP and one for RTCP.
#[derive(Clone, Debug)]
pub(super) struct Sockets {
    rtp: Arc<UdpSocket>,
    rtcp: Arc<UdpSocket>,
}

impl Sockets {
    /// Takes over two sockets that are bound.
    pub(super) fn new(rtp: std::net::UdpSocket, rtcp: std::net::UdpSocket) -> io::Result<Self> {
        for socket in [&rtp, &rtcp] {
            let socket = SockRef::from(socket);
            let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
            let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        }
        Ok(Self { rtp: Arc::new(UdpSocket::new(rtp)?), rtcp: Arc::new(UdpSocket::new(rtcp)?) })
    }

    pub(super) fn socket(&self, control: bool) -> &Arc<UdpSocket> {
        if control { &self.rtcp } else { &self.rtp }
    }

    /// Sends a control packet.
    pub(super) fn send_control(&self, to: SocketAddr, packet: &[u8]) {
        let mut burst = Burst::default();
        if burst.push(packet) {
            // One that is lost on the way is as good as one that is lost here.
            let _ = self.rtcp.try_send(in_family(&self.rtcp, to), &mut burst);
        }
    }
}

/// The server's sockets for datagrams.
#[derive(Debug)]
pub(super) struct Ports {
    sockets: Sockets,
    routes: Mutex<Routes<Taker>>,
    /// Datagrams from where no session is.
    foreign: AtomicU64,
    /// Datagrams that a session did not look at in time.
    overrun: AtomicU64,
}

impl Ports {
    /// Takes over two sockets that are bound.
    pub(super) fn new(rtp: std::net::UdpSocket, rtcp: std::net::UdpSocket) -> io::Result<Self> {
        Ok(Self {
            sockets: Sockets::new(rtp, rtcp)?,
            routes: Mutex::default(),
            foreign: AtomicU64::new(0),
            overrun: AtomicU64::new(0),
        })
    }

    /// The ports that clients are told.
    pub(super) fn numbers(&self) -> io::Result<PortPair> {
        let Sockets { rtp, rtcp } = &self.sockets;
        Ok(PortPair { rtp: rtp.local_addr()?.port(), rtcp: rtcp.local_addr()?.port() })
    }

    /// What became of datagrams that no session has looked at, and how often one went on from another port.
    pub(super) fn counters(&self) -> DatagramCounters {
        DatagramCounters {
            bad_source: self.foreign.load(Ordering::Relaxed),
            overrun: self.overrun.load(Ordering::Relaxed),
            moved: self.routes.lock().moved(),
        }
    }

    /// Receives until it is dropped.
    pub(super) async fn receive(&self) {
        let Sockets { rtp, rtcp } = &self.sockets;
        tokio::join!(self.receive_on(rtp, false), self.receive_on(rtcp, true));
    }

    async fn receive_on(&self, socket: &UdpSocket, control: bool) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let received =
                socket.recv(&mut buffer, |from, datagram| self.route(control, from, datagram)).await;
            if let Err(error) = received {
                // An answer to something that was sent; the socket goes on.
                tracing::debug!(%error, "a datagram was lost");
                tokio::task::yield_now().await;
            }
        }
    }

    fn route(&self, control: bool, from: SocketAddr, datagram: &[u8]) {
        let mut routes = self.routes.lock();
        let Some(taker) = routes.find(clock::now(), (control, canonical(from)), datagram) else {
            self.foreign.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let packet = Bytes::copy_from_slice(datagram);
        if taker.inbox.try_send(Datagram { medium: taker.medium, control, packet }).is_err() {
            self.overrun.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What clients are sent from.
    pub(super) const fn sockets(&self) -> &Sockets {
        &self.sockets
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An address as that socket can send to it: IPv4 ones are mapped where it is an IPv6 one.
pub(super) fn in_family(socket: &UdpSocket, to: SocketAddr) -> SocketAddr {
    let v6 = socket.local_addr().is_ok_and(|local| local.is_ipv6());
    match to.ip() {
        IpAddr::V4(v4) if v6 => SocketAddr::new(v4.to_ipv6_mapped().into(), to.port()),
        _ => to,
    }
}

/// What an [`Inbox`] takes.
#[derive(Debug)]
struct Share {
    medium: usize,
    control: bool,
    port: Port,
}

/// A session's share of the sockets: its datagrams come here, until it is dropped.
#[derive(Debug)]
pub(super) struct Inbox {
    ports: Arc<Ports>,
    address: IpAddr,
    shares: Vec<Share>,
    receiver: mpsc::Receiver<Datagram>,
}

impl Inbox {
    /// Takes what comes from `address` and the ports of each medium; `None` when one of them is taken.
    pub(super) fn open(ports: &Arc<Ports>, address: IpAddr, media: &[(usize, PortPair)]) -> Option<Self> {
        let (sender, receiver) = mpsc::channel(INBOX);
        let (address, now) = (address.to_canonical(), clock::now());
        let mut inbox = Self { ports: Arc::clone(ports), address, shares: Vec::new(), receiver };
        for &(medium, pair) in media {
            for (control, port) in [(false, pair.rtp), (true, pair.rtcp)] {
                let place = (control, SocketAddr::new(address, port));
                let taker = Taker { inbox: sender.clone(), medium };
                let opened = ports.routes.lock().open(now, place, taker);
                inbox.shares.push(Share { medium, control, port: opened? });
            }
        }
        Some(inbox)
    }

    /// The port that a medium's reports come from now, which may be another than its client named.
    pub(super) fn control_port(&self, medium: usize) -> Option<u16> {
        let share = self.shares.iter().find(|share| share.medium == medium && share.control)?;
        Some(share.port.load(Ordering::Relaxed))
    }

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Datagram> {
        match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(datagram)) => Poll::Ready(datagram),
            _ => Poll::Pending,
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut routes = self.ports.routes.lock();
        for Share { control, port, .. } in &self.shares {
            routes.close((*control, SocketAddr::new(self.address, port.load(Ordering::Relaxed))));
        }
    }
}
