use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io;
use std::time::Instant;

use arcly_core::log::{Progress, Read};
use arcly_core::{CloseReason, DerivedSubscriber, Result};
use bytes::{Bytes, BytesMut};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::{Pacer, UdpUrl};
use crate::ts::Packetizer;

/// Sends a stream over the network, paced.
#[derive(Debug)]
pub struct Sender {
    socket: UdpSocket,
    datagram_len: usize,
    pacer: Pacer,
    /// Packets of a datagram that is not full yet.
    partial: BytesMut,
}

impl Sender {
    /// Opens a socket to where the URL leads.
    ///
    /// # Errors
    /// The name cannot be resolved, or the system refuses.
    pub async fn connect(url: &UdpUrl) -> io::Result<Self> {
        let mut found = tokio::net::lookup_host((url.host.as_str(), url.port)).await?;
        let to = found
            .next()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{url}: no address")))?;
        let socket = UdpSocket::from_std(open(to, url)?.into())?;
        socket.connect(to).await?;
        Ok(Self { socket, datagram_len: url.datagram_len, pacer: Pacer::new(), partial: BytesMut::new() })
    }

    /// Sends a stream until it ends.
    ///
    /// Frames go out as they come, their packets spread as the [`Pacer`] says. The last datagram of a batch may be
    /// short: nothing waits for the next frame.
    ///
    /// Cancel safe: a dropped call has sent what it has sent.
    ///
    /// # Errors
    /// The reader is ended, or the socket fails for another reason than that nobody listens.
    pub async fn run(&mut self, mut reader: DerivedSubscriber<Packetizer>) -> Result<CloseReason> {
        let mut batch = Vec::new();
        loop {
            let progress = reader.next_batch(&mut batch).await?;
            let packets = batch.drain(..).filter_map(|read| match read {
                Read::Item(packet) => Some(packet.bytes.clone()),
                Read::Context(_) | Read::Skipped(_) => None,
            });
            let packets: Vec<Bytes> = packets.collect();
            self.send(&packets).await?;
            if let Progress::Ended(reason) = progress {
                return Ok(reason);
            }
        }
    }

    /// Sends whole packets.
    ///
    /// # Errors
    /// The socket fails for another reason than that nobody listens.
    pub async fn send(&mut self, parts: &[Bytes]) -> io::Result<()> {
        let bytes = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.len() as u64));
        self.pacer.arrived(Instant::now(), bytes);
        for part in parts {
            let mut rest: &[u8] = part;
            while !rest.is_empty() {
                let room = self.datagram_len.saturating_sub(self.partial.len());
                let (now, later) = rest.split_at_checked(room).unwrap_or((rest, &[]));
                self.partial.extend_from_slice(now);
                rest = later;
                if self.partial.len() >= self.datagram_len {
                    self.flush().await?;
                }
            }
        }
        if self.partial.is_empty() { Ok(()) } else { self.flush().await }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let at = self.pacer.send_at(Instant::now(), self.partial.len() as u64);
        if at > Instant::now() {
            tokio::time::sleep_until(at.into()).await;
        }
        let datagram = self.partial.split();
        match self.socket.send(&datagram).await {
            // Nobody listens there yet, or any more: the next datagram may find somebody.
            Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => Err(error),
            _ => Ok(()),
        }
    }
}

fn open(to: SocketAddr, url: &UdpUrl) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if let Some(buffer) = url.buffer {
        let _ = socket.set_send_buffer_size(buffer);
    }
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    socket.bind(
        &SocketAddr::new(url.interface.filter(|ip| ip.is_ipv4() == to.is_ipv4()).unwrap_or(any), 0).into(),
    )?;
    match (to.ip(), url.interface) {
        (IpAddr::V4(group), interface) if group.is_multicast() => {
            socket.set_multicast_ttl_v4(url.ttl.into())?;
            if let Some(IpAddr::V4(interface)) = interface {
                socket.set_multicast_if_v4(&interface)?;
            }
        }
        (IpAddr::V6(group), _) if group.is_multicast() => socket.set_multicast_hops_v6(url.ttl.into())?,
        _ => {}
    }
    Ok(socket)
}
