//! What a client's datagrams travel in.

use std::net::SocketAddr;

use arcly_webrtc::wire::{Deframer, frame};
use bytes::{Bytes, BytesMut};
use str0m::Candidate;
use str0m::net::{Protocol, TcpType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::LOCALHOST;

pub(crate) enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream, Deframer),
}

impl Wire {
    pub(crate) async fn udp() -> Self {
        Self::Udp(UdpSocket::bind((LOCALHOST, 0)).await.unwrap())
    }

    pub(crate) async fn tcp(to: SocketAddr) -> Self {
        Self::Tcp(TcpStream::connect(to).await.unwrap(), Deframer::default())
    }

    pub(crate) fn local(&self) -> SocketAddr {
        match self {
            Self::Udp(socket) => socket.local_addr().unwrap(),
            Self::Tcp(stream, _) => stream.local_addr().unwrap(),
        }
    }

    pub(crate) fn carrier(&self) -> Protocol {
        if matches!(self, Self::Udp(_)) { Protocol::Udp } else { Protocol::Tcp }
    }

    pub(crate) fn candidate(&self) -> Candidate {
        match self {
            Self::Udp(_) => Candidate::host(self.local(), "udp").unwrap(),
            Self::Tcp(..) => {
                Candidate::builder().tcp().host(self.local()).tcptype(TcpType::Active).build().unwrap()
            }
        }
    }

    /// Sends a datagram; over a connection there is one place that it can go to.
    pub(crate) async fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        match self {
            Self::Udp(socket) => _ = socket.send_to(datagram, to).await.unwrap(),
            Self::Tcp(stream, _) => {
                assert_eq!(to, stream.peer_addr().unwrap());
                let mut bytes = BytesMut::new();
                assert!(frame(datagram, &mut bytes));
                stream.write_all(&bytes).await.unwrap();
            }
        }
    }

    /// The next datagram; `None` where a connection is closed. Cancel safe.
    pub(crate) async fn receive(&mut self) -> Option<(SocketAddr, Bytes)> {
        let mut buffer = [0; 2_000];
        match self {
            Self::Udp(socket) => {
                let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
                Some((from, Bytes::copy_from_slice(&buffer[..len])))
            }
            Self::Tcp(stream, deframer) => loop {
                if let Some(datagram) = deframer.poll_datagram().unwrap() {
                    return Some((stream.peer_addr().unwrap(), datagram));
                }
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return None,
                    Ok(len) => deframer.handle_bytes(&buffer[..len]),
                }
            },
        }
    }
}
