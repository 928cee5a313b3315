//! What can be tuned, and every bound with its reason.

use core::num::NonZeroU16;
use std::net::{IpAddr, SocketAddr};

use crate::session::Timeouts;
use crate::wire::{Protocol, TransportAddress};

/// Addresses that an answer names of each protocol: those of a machine in several networks, in both families.
pub const MAX_ADDRESSES: usize = 16;

/// Where peers are told to send to, and where their datagrams come to.
///
/// Behind a translator of addresses the two differ: what is announced is what the world knows. This side sends no checks of its
/// own, so that all that counts of an address here is its family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
}

impl Addresses {
    /// These, for UDP: at most [`MAX_ADDRESSES`], each once, and none that nobody can send to.
    #[must_use]
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self { udp: Self::usable(addresses), tcp: Vec::new() }
    }

    /// And these, where connections are taken, for those whose network lets no UDP through.
    #[must_use]
    pub fn with_tcp(self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self { tcp: Self::usable(addresses), ..self }
    }

    /// And this end of a connection that this side has opened. Of each family the last one counts, whichever connection something comes
    /// over: the agent goes by where it comes from.
    pub(crate) fn add_tcp(&mut self, local: SocketAddr) {
        self.tcp.retain(|address| address.is_ipv4() != local.is_ipv4());
        self.tcp.push(local);
    }

    fn usable(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let mut found: Vec<SocketAddr> = Vec::new();
        for address in addresses {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            let usable =
                !address.ip().is_unspecified() && !address.ip().is_multicast() && address.port() != 0;
            if usable && !found.contains(&address) && found.len() < MAX_ADDRESSES {
                found.push(address);
            }
        }
        found
    }

    /// What is announced, best first.
    pub fn announced(&self) -> impl Iterator<Item = TransportAddress> {
        let udp = self.udp.iter().copied().map(TransportAddress::udp);
        udp.chain(self.tcp.iter().copied().map(TransportAddress::tcp))
    }

    /// True when peers could not be told anything.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.udp.is_empty() && self.tcp.is_empty()
    }

    /// The address that a datagram from `from` counts as having come to; `None` when there is none of its protocol and family.
    #[must_use]
    pub fn of_family(&self, from: TransportAddress) -> Option<SocketAddr> {
        let own = if from.protocol == Protocol::Udp { &self.udp } else { &self.tcp };
        own.iter().find(|address| address.is_ipv4() == from.socket.is_ipv4()).copied()
    }
}

/// A server that helps peers behind translators of addresses to be reached; told to them in `Link` headers (RFC 9725 §4.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:`, `stuns:`, `turn:` or `turns:`.
    pub url: String,
    /// For `turn:`.
    pub username: Option<String>,
    /// For `turn:`.
    pub credential: Option<String>,
}

/// What a server keeps to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Sessions at one time.
    pub max_sessions: usize,
    /// Sessions at one time whose peer has not answered from the network yet: an offer costs its sender next to nothing.
    pub max_pending: usize,
    /// The same of one address.
    pub max_pending_per_address: usize,
    /// How long peers may take, and be silent.
    pub timeouts: Timeouts,
    /// Addresses to announce, in place of those that can be seen from here.
    pub announced: Vec<IpAddr>,
    /// The port to announce in place of the socket's.
    pub announced_port: Option<NonZeroU16>,
    /// Servers that peers are told of.
    pub ice_servers: Vec<IceServer>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            max_sessions: 10_000,
            max_pending: 1_024,
            max_pending_per_address: 32,
            timeouts: Timeouts::default(),
            announced: Vec::new(),
            announced_port: None,
            ice_servers: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_can_be_sent_to() {
        let texts = [
            "0.0.0.0:1",
            "192.0.2.1:8189",
            "[::ffff:192.0.2.1]:8189",
            "224.0.0.1:1",
            "[2001:db8::1]:8189",
            "192.0.2.2:0",
        ];
        let addresses = Addresses::new(texts.map(|text| text.parse().unwrap()));
        assert_eq!(addresses.announced().count(), 2);
        let udp = |text: &str| TransportAddress::udp(text.parse().unwrap());
        let of = |text: &str| addresses.of_family(udp(text)).unwrap().to_string();
        assert_eq!(of("127.0.0.1:5"), "192.0.2.1:8189");
        assert_eq!(of("[::1]:5"), "[2001:db8::1]:8189");
        assert_eq!(Addresses::new([]).of_family(udp("127.0.0.1:5")), None);
        let tcp = TransportAddress::tcp("127.0.0.1:5".parse().unwrap());
        assert_eq!(addresses.of_family(tcp), None, "connections are not taken");
        let both = addresses.with_tcp(["192.0.2.1:443", "0.0.0.0:443"].map(|text| text.parse().unwrap()));
        assert_eq!(both.of_family(tcp).unwrap().to_string(), "192.0.2.1:443");
        assert_eq!(both.announced().last().unwrap().to_string(), "192.0.2.1:443/tcp");
        let many = (0..99).map(|port| SocketAddr::new([192, 0, 2, 1].into(), 1 + port));
        assert_eq!(Addresses::new(many).announced().count(), MAX_ADDRESSES);
    }
}
