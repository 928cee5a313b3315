//! What can be tuned, and every bound with its reason.

use core::fmt;
use core::str::FromStr;
use std::net::Ipv4Addr;
use std::time::Duration;

use arcly_core::egress::Tick;
use arcly_rtp::payload::DEFAULT_MTU;

use crate::wire::MessageLimits;

/// What a [`Server`](crate::Server) keeps to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// What each session keeps to.
    pub session: SessionConfig,
    /// Connections at one time.
    pub max_connections: usize,
    /// Connections that nothing has authorised yet.
    pub max_unauthorized: usize,
    /// The same from one address.
    pub max_unauthorized_per_address: usize,
    /// Tasks that write to players; one per core is the right number. Not used by a server that shares somebody
    /// else's workers ([`Server::with_egress`](crate::Server::with_egress)).
    pub egress_workers: usize,
    /// How often players are written to that do not say `latency=` in their URL; not used by a server that shares
    /// somebody else's workers.
    pub tick: Tick,
    /// Bytes of the RTP packets that are made, their headers included.
    pub mtu: usize,
    /// How fast players over UDP are brought from the last keyframe to the live edge, in percent of real time: their
    /// sockets cannot take a burst.
    pub udp_speed_percent: u32,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            session: SessionConfig::default(),
            max_connections: 65_536,
            max_unauthorized: 2_048,
            max_unauthorized_per_address: 64,
            egress_workers: std::thread::available_parallelism().map_or(1, usize::from),
            tick: Tick::STANDARD,
            mtu: DEFAULT_MTU,
            udp_speed_percent: 400,
        }
    }
}

/// What one session keeps to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionConfig {
    /// What the peer can make the session hold and do.
    pub limits: Limits,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// How clients may prove themselves.
    pub schemes: Schemes,
    /// `Server`: what this program calls itself.
    pub agent: String,
    /// Where clients that ask for a back-channel (ONVIF) are heard: a stream of this name below the one that they play, which
    /// they must be allowed to publish. Without one they are told that there is none.
    pub back_channel: Option<String>,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            schemes: Schemes::default(),
            agent: concat!("arcly/", env!("CARGO_PKG_VERSION")).to_owned(),
            back_channel: None,
        }
    }
}

/// The ways to prove oneself that clients are offered, and the realm that they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Schemes {
    /// `realm`.
    pub realm: String,
    /// Name and password in the clear; what tokens come in, too.
    pub basic: bool,
    /// Digest with MD5 and SHA-256. Only authenticators that know passwords can check it
    /// ([`LoginProof`](arcly_core::contract::auth::LoginProof)): with any other, clients that prefer it are refused
    /// whatever they know.
    pub digest: bool,
}

impl Default for Schemes {
    fn default() -> Self {
        Self { realm: "arcly".to_owned(), basic: true, digest: true }
    }
}

/// What a peer can make a session hold and do.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Messages.
    pub messages: MessageLimits,
    /// Requests in ten seconds. A busy player sends ten.
    pub requests_per_10s: u32,
    /// Logins that were refused before the connection is given up.
    pub logins: u32,
    /// Frames in a row on channels that nobody set up.
    pub stray_frames: u32,
    /// Bytes of answers that the peer has not taken.
    pub backlog_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages: MessageLimits::default(),
            requests_per_10s: 1_000,
            logins: 8,
            stray_frames: 64,
            backlog_bytes: 256 << 10,
        }
    }
}

/// How long anything may take.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Timeouts {
    /// From the connection to an authorised request for a stream, in total.
    pub setup: Duration,
    /// Nothing from a publisher, neither media nor requests.
    pub publisher_idle: Duration,
    /// Nothing from anybody else who is not written to over the connection: what clients are told as the session's
    /// `timeout`.
    pub session: Duration,
    /// What the session's owner waits beyond it, for requests that are on their way.
    pub session_grace: Duration,
    /// The peer takes nothing from its socket.
    pub write_stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            setup: Duration::from_secs(10),
            publisher_idle: Duration::from_secs(10),
            session: Duration::from_secs(55),
            session_grace: Duration::from_secs(5),
            write_stall: arcly_core::egress::STALL,
        }
    }
}

/// How streams are sent to groups ([`Server::with_multicast`](crate::Server::with_multicast)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Multicast {
    /// The groups that streams are given, each one of them.
    pub range: GroupRange,
    /// The port of the first medium's RTP, with RTCP and the further media behind it.
    pub port: u16,
    /// How many routers packets pass; 1 keeps them in the local network.
    pub ttl: u8,
    /// The interface that they go out on, by its address; by the routes unless said.
    pub interface: Option<Ipv4Addr>,
}

impl Default for Multicast {
    fn default() -> Self {
        // RFC 2365 §6.2: what an organisation gives its own groups from.
        let range = GroupRange { base: Ipv4Addr::new(239, 192, 0, 0), bits: 16 };
        Self { range, port: 8_002, ttl: 16, interface: None }
    }
}

/// Groups that follow each other: `239.192.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRange {
    base: Ipv4Addr,
    /// How many bits tell its groups apart.
    bits: u8,
}

impl GroupRange {
    /// How many there are.
    #[must_use]
    pub fn count(self) -> u32 {
        1_u32.checked_shl(self.bits.into()).unwrap_or(u32::MAX)
    }

    /// One of them.
    #[must_use]
    pub fn address(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() | (offset & self.count().saturating_sub(1)))
    }
}

/// A range that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a range of IPv4 multicast groups, such as 239.192.0.0/16")]
pub struct NotGroups;

impl FromStr for GroupRange {
    type Err = NotGroups;

    fn from_str(text: &str) -> Result<Self, NotGroups> {
        let (base, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let base: Ipv4Addr = base.parse().map_err(|_| NotGroups)?;
        let prefix: u8 = prefix.parse().map_err(|_| NotGroups)?;
        // All of 224.0.0.0/4 at the most.
        let bits = 32_u8.checked_sub(prefix).filter(|bits| *bits <= 28).ok_or(NotGroups)?;
        let range = Self { base, bits };
        let is_aligned = base.to_bits() & range.count().saturating_sub(1) == 0;
        if base.is_multicast() && is_aligned { Ok(range) } else { Err(NotGroups) }
    }
}

impl fmt::Display for GroupRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, 32_u8.saturating_sub(self.bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_groups() {
        let range: GroupRange = "239.192.4.0/22".parse().unwrap();
        assert_eq!((range.count(), range.to_string().as_str()), (1_024, "239.192.4.0/22"));
        assert_eq!(range.address(0), Ipv4Addr::new(239, 192, 4, 0));
        assert_eq!(range.address(1_023), Ipv4Addr::new(239, 192, 7, 255));
        assert_eq!("232.1.2.3".parse::<GroupRange>().unwrap().count(), 1);
        assert_eq!("224.0.0.0/4".parse::<GroupRange>().unwrap().count(), 1 << 28);
        for wrong in
            ["", "10.0.0.0/8", "239.192.0.1/16", "224.0.0.0/3", "239.0.0.0/33", "ff02::/16", "239.0.0.0/"]
        {
            assert_eq!(wrong.parse::<GroupRange>(), Err(NotGroups), "{wrong}");
        }
        assert_eq!(Multicast::default().range.to_string(), "239.192.0.0/16");
    }
}
