use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::io;
use std::time::Instant;

use arcly_core::{MediaEvent, StreamError};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::UdpUrl;
use crate::ts::{Demuxer, DemuxerOptions};

/// A sender that sends nothing for so long may be replaced by another.
pub const SENDER_SILENCE: Duration = Duration::from_secs(2);
/// Bytes that the system is asked to buffer, unless the URL says it: a second of 32 Mbit/s.
const BUFFER: usize = 4 << 20;
/// Bytes of the largest datagram.
const MAX_DATAGRAM: usize = 65_535;

/// Takes a stream from the network.
///
/// One task at a time; what is held is one datagram and what the [`Demuxer`] holds.
#[derive(Debug)]
pub struct Receiver {
    socket: UdpSocket,
    source: Option<IpAddr>,
    /// Whoever sends, and when it last did.
    sender: Option<(SocketAddr, Instant)>,
    options: DemuxerOptions,
    demuxer: Demuxer,
    datagram: Vec<u8>,
    foreign: u64,
}

impl Receiver {
    /// Binds the socket, and joins the group if the address is one.
    ///
    /// Must be called within a runtime.
    ///
    /// # Errors
    /// The host is a name, or the system refuses.
    pub fn bind(url: &UdpUrl) -> io::Result<Self> {
        let ip = match (url.ip(), url.host.is_empty()) {
            (Some(ip), _) => ip,
            (None, true) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            (None, false) => {
                let what =
                    format!("{url}: to receive, the host must be an address of this machine or a group");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
        };
        let socket = open(ip, url)?;
        let options = DemuxerOptions { program: url.program };
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            source: url.source,
            sender: None,
            options,
            demuxer: Demuxer::new(options),
            datagram: vec![0; MAX_DATAGRAM],
            foreign: 0,
        })
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Who sends.
    #[must_use]
    pub fn sender(&self) -> Option<SocketAddr> {
        self.sender.map(|(sender, _)| sender)
    }

    /// Datagrams of others, which were dropped.
    #[must_use]
    pub const fn foreign(&self) -> u64 {
        self.foreign
    }

    /// The demuxer, for its counters.
    #[must_use]
    pub const fn demuxer(&self) -> &Demuxer {
        &self.demuxer
    }

    /// Ends the stream: what waited for more comes out, as it is. [`reset`](Self::reset) begins another.
    pub fn finish(&mut self) -> impl Iterator<Item = MediaEvent> {
        // What is no transport stream has nothing more to give.
        let _ = self.demuxer.finish();
        core::iter::from_fn(|| self.demuxer.poll_event())
    }

    /// Forgets the stream and its sender: the next datagram begins another.
    pub fn reset(&mut self) {
        self.demuxer = Demuxer::new(self.options);
        self.sender = None;
    }

    /// The next event. Waits for as long as nothing comes.
    ///
    /// Cancel safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// The socket fails, or what comes is no transport stream; after the latter [`reset`](Self::reset) is needed.
    pub async fn next(&mut self) -> Result<MediaEvent, StreamError> {
        loop {
            if let Some(event) = self.demuxer.poll_event() {
                return Ok(event);
            }
            let (len, from) = self.socket.recv_from(&mut self.datagram).await?;
            if self.accepts(from, Instant::now()) {
                self.demuxer.push(self.datagram.get(..len).unwrap_or_default())?;
            }
        }
    }

    fn accepts(&mut self, from: SocketAddr, now: Instant) -> bool {
        let is_source = self.source.is_none_or(|source| source.to_canonical() == from.ip().to_canonical());
        let is_sender = self.sender.is_none_or(|(sender, last)| {
            sender == from || now.saturating_duration_since(last) >= SENDER_SILENCE
        });
        if !is_source || !is_sender {
            self.foreign = self.foreign.saturating_add(1);
            return false;
        }
        if self.sender.is_some_and(|(sender, _)| sender != from) {
            self.demuxer = Demuxer::new(self.options);
        }
        self.sender = Some((from, now));
        true
    }
}

fn open(ip: IpAddr, url: &UdpUrl) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(SocketAddr::new(ip, url.port)), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // More than the system allows is cut down by it, which is no reason to fail.
    let _ = socket.set_recv_buffer_size(url.buffer.unwrap_or(BUFFER));
    if ip.is_multicast() {
        // Several programs of a machine may listen to one group.
        socket.set_reuse_address(true)?;
    }
    // Bound to the group, so that datagrams for other groups on the port stay out.
    socket.bind(&SocketAddr::new(ip, url.port).into())?;
    match ip {
        IpAddr::V4(group) if group.is_multicast() => {
            let interface = match url.interface {
                Some(IpAddr::V4(interface)) => interface,
                _ => Ipv4Addr::UNSPECIFIED,
            };
            match url.source {
                Some(IpAddr::V4(source)) => socket.join_ssm_v4(&source, &group, &interface)?,
                _ => socket.join_multicast_v4(&group, &interface)?,
            }
        }
        // The interface is chosen by the route; a source filter is applied to what comes.
        IpAddr::V6(group) if group.is_multicast() => socket.join_multicast_v6(&group, 0)?,
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    Ok(socket)
}
