use core::fmt;
use std::net::SocketAddr;

/// What a session's datagrams travel in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP, where each is behind its length: see [`Deframer`](super::Deframer).
    Tcp,
}

impl Protocol {
    /// That of a candidate, in whatever case it is written (RFC 8839 §5.1); `None` for those that nothing is sent over here.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Udp, Self::Tcp].into_iter().find(|protocol| name.eq_ignore_ascii_case(protocol.as_str()))
    }

    /// `udp` or `tcp`, as candidates say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// An address, a port, and the protocol whose port it is (RFC 8445 §4): one port of UDP and one of TCP that have the same number are
/// two, and who has shown a password from the one may not be at the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransportAddress {
    /// The protocol.
    pub protocol: Protocol,
    /// Address and port.
    pub socket: SocketAddr,
}

impl TransportAddress {
    /// One of UDP.
    #[must_use]
    pub const fn udp(socket: SocketAddr) -> Self {
        Self { protocol: Protocol::Udp, socket }
    }

    /// One of TCP.
    #[must_use]
    pub const fn tcp(socket: SocketAddr) -> Self {
        Self { protocol: Protocol::Tcp, socket }
    }
}

impl fmt::Display for TransportAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.socket, self.protocol.as_str())
    }
}
