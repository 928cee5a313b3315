//! Datagrams: a pair of ports for each medium, of this side or of a group.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket as StdSocket};
use std::task::{Context, Poll};

use bytes::Bytes;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use crate::session::client::Datagram;
use crate::wire::PortPair;

/// Pairs that are tried before there are none to be had.
const TRIES: usize = 64;
/// What the operating system holds of what has come: a keyframe comes at once.
const RECEIVE_BUFFER: usize = 2 << 20;
/// Bytes of the longest datagram.
const MAX_DATAGRAM: usize = 65_536;
/// Datagrams that are taken before others have their turn.
const AT_ONCE: usize = 64;

struct Pair {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    ports: PortPair,
    /// Where datagrams go; nowhere before the server has said it.
    to: Option<(SocketAddr, SocketAddr)>,
    /// Whom they come from.
    from: IpAddr,
}

/// The ports of one session.
pub(super) struct Ports {
    pairs: Vec<Pair>,
    queue: VecDeque<Datagram>,
    buffer: Box<[u8]>,
    server: IpAddr,
    /// Datagrams of others.
    foreign: u64,
}

impl Ports {
    /// Binds so many pairs, the first of each even (RFC 3550 §11), for datagrams of that server.
    pub(super) fn bind(local: IpAddr, server: IpAddr, count: usize) -> io::Result<Self> {
        let pairs = (0..count).map(|_| Pair::bind(local, server)).collect::<io::Result<_>>()?;
        let buffer = vec![0; MAX_DATAGRAM].into_boxed_slice();
        Ok(Self { pairs, queue: VecDeque::new(), buffer, server, foreign: 0 })
    }

    /// None yet, for datagrams of that server: those of groups come by [`join`](Self::join).
    pub(super) fn none(server: IpAddr) -> Self {
        let buffer = vec![0; MAX_DATAGRAM].into_boxed_slice();
        Self { pairs: Vec::new(), queue: VecDeque::new(), buffer, server, foreign: 0 }
    }

    /// Receives a medium's datagrams from a group, on the interface that the connection is on. Media come in order.
    pub(super) fn join(
        &mut self,
        medium: usize,
        (address, ports): (Ipv4Addr, PortPair),
        source: Option<IpAddr>,
        local: IpAddr,
    ) -> io::Result<()> {
        let interface = match local.to_canonical() {
            IpAddr::V4(local) => local,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        let member = |port| member(address, port, interface);
        let mut pair = Pair::of(member(ports.rtp)?, member(ports.rtcp)?, self.server)?;
        pair.from = source.unwrap_or(self.server);
        match self.pairs.get_mut(medium) {
            Some(known) => *known = pair,
            None => self.pairs.push(pair),
        }
        Ok(())
    }

    pub(super) fn pairs(&self) -> Vec<PortPair> {
        self.pairs.iter().map(|pair| pair.ports).collect()
    }

    /// Datagrams that came from elsewhere, and were not looked at.
    pub(super) const fn foreign(&self) -> u64 {
        self.foreign
    }

    /// Where a medium's datagrams go to and come from.
    pub(super) fn set_peer(&mut self, medium: usize, ports: Option<PortPair>, source: Option<IpAddr>) {
        let Some(pair) = self.pairs.get_mut(medium) else { return };
        // A server behind a translation of addresses names one that it cannot be reached at.
        pair.from = source.unwrap_or(self.server);
        let server = self.server;
        pair.to = ports.map(|ports| ((server, ports.rtp).into(), (server, ports.rtcp).into()));
    }

    pub(super) fn push(&mut self, datagram: Datagram) {
        self.queue.push_back(datagram);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sends what waits; ready when nothing does. What cannot be sent is lost, as datagrams are.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(Datagram { medium, control, payload }) = self.queue.front() {
            let pair = self.pairs.get(*medium).and_then(|pair| Some((pair, pair.to?)));
            if let Some((pair, (rtp, rtcp))) = pair {
                let (socket, to) = if *control { (&pair.rtcp, rtcp) } else { (&pair.rtp, rtp) };
                if socket.poll_send_to(cx, payload, to).is_pending() {
                    return Poll::Pending;
                }
            }
            self.queue.pop_front();
        }
        Poll::Ready(())
    }

    /// Takes what has come, and hands it to `each`; ready when there was something.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>, mut each: impl FnMut(Datagram)) -> Poll<()> {
        let mut taken = 0;
        for (medium, pair) in self.pairs.iter().enumerate() {
            for (control, socket) in [(false, &pair.rtp), (true, &pair.rtcp)] {
                loop {
                    if taken >= AT_ONCE {
                        return Poll::Ready(());
                    }
                    let mut buffer = ReadBuf::new(&mut self.buffer);
                    let Poll::Ready(received) = socket.poll_recv_from(cx, &mut buffer) else { break };
                    taken += 1;
                    match received {
                        Ok(from) if from.ip() == pair.from || from.ip() == self.server => {
                            let payload = Bytes::copy_from_slice(buffer.filled());
                            each(Datagram { medium, control, payload });
                        }
                        Ok(_) => self.foreign += 1,
                        // What was sent could not be delivered: nothing that has come is lost by it.
                        Err(_) => {}
                    }
                }
            }
        }
        if taken > 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A socket that a group's datagrams come to; others on this machine may have one too.
fn member(group: Ipv4Addr, port: u16, interface: Ipv4Addr) -> io::Result<StdSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    // Bound to the group itself, where that can be, so that nothing else comes to that port.
    let bound = socket.bind(&SocketAddr::from((group, port)).into());
    bound.or_else(|_| socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()))?;
    socket.join_multicast_v4(&group, &interface)?;
    Ok(socket.into())
}

impl Pair {
    fn bind(local: IpAddr, server: IpAddr) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        // Kept until a pair is found, so that another port is tried each time.
        let mut odd = Vec::new();
        for _ in 0..TRIES {
            let first = StdSocket::bind((local, 0))?;
            let port = first.local_addr()?.port();
            let other = if port.is_multiple_of(2) { port.checked_add(1) } else { None };
            match other.map(|other| StdSocket::bind((local, other))) {
                Some(Ok(second)) => return Self::of(first, second, server),
                Some(Err(error)) => last = error,
                None => {}
            }
            odd.push(first);
        }
        Err(last)
    }

    fn of(rtp: StdSocket, rtcp: StdSocket, server: IpAddr) -> io::Result<Self> {
        let ports = PortPair { rtp: rtp.local_addr()?.port(), rtcp: rtcp.local_addr()?.port() };
        let _ = SockRef::from(&rtp).set_recv_buffer_size(RECEIVE_BUFFER);
        rtp.set_nonblocking(true)?;
        rtcp.set_nonblocking(true)?;
        Ok(Self {
            rtp: UdpSocket::from_std(rtp)?,
            rtcp: UdpSocket::from_std(rtcp)?,
            ports,
            to: None,
            from: server,
        })
    }
}
