//! What can be tuned, and every bound with its reason.

use core::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::crypto::CryptoConfig;
use crate::filter::FilterConfig;
use crate::wire::{GroupExtension, HEADER_BYTES, MAX_STREAM_ID, SeqNumber, SrtVersion, UDP_HEADERS};

/// Bytes of a packet with the headers of IP and UDP. A smaller one could not carry a handshake; a larger one would need
/// jumbo frames all the way.
pub const MSS: RangeInclusive<u32> = 76..=1_500;
/// Packets in flight. libsrt's default is the upper bound: 34 MB, 270 Mbit/s at a second.
pub const FLOW_WINDOW: RangeInclusive<u32> = 32..=25_600;
/// How long packets are kept before they are delivered. Below, nothing can be repeated; above, a peer could make this side
/// hold what it likes.
pub const LATENCY: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(8);
/// Bytes of packets that are received and not delivered.
pub const MAX_RECEIVE_BYTES: usize = 32 << 20;
/// Bytes of a message that has begun and not ended, and of one that is sent, outside of live mode.
pub const MAX_PENDING_MESSAGE: usize = 1 << 20;
/// Payload of a packet unless it is said otherwise: seven MPEG-TS packets.
pub const LIVE_PAYLOAD: usize = 1_316;

/// What is carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransmissionMode {
    /// Messages of one packet each, delivered with the spacing that they were sent with, and dropped when it is too late
    /// for them.
    #[default]
    Live,
    /// A stream of bytes (`STREAM`), all of which arrive.
    File,
    /// Messages of up to [`MAX_PENDING_MESSAGE`] bytes, all of which arrive, in the order that they were sent in (libsrt's
    /// file mode with its message API).
    Messages,
}

impl TransmissionMode {
    /// The name of its congestion control in a handshake.
    #[must_use]
    pub const fn congestion_control(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::File | Self::Messages => "file",
        }
    }

    /// Everything arrives, whenever that is.
    pub(crate) fn is_file(self) -> bool {
        self != Self::Live
    }
}

/// How fast packets may be sent in live mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bandwidth {
    /// As fast as they come.
    Unlimited,
    /// So many bytes in a second, repetitions and headers among them.
    Max {
        /// Bytes in a second.
        bytes_per_second: u64,
    },
    /// So much more than the input's rate.
    Input {
        /// The input's rate; `None` measures it.
        bytes_per_second: Option<u64>,
        /// How much more, for repetitions: percent.
        overhead_percent: u32,
    },
}

impl Default for Bandwidth {
    /// libsrt's default: a gigabit.
    fn default() -> Self {
        Self::Max { bytes_per_second: 125_000_000 }
    }
}

/// What a connection is told by the group that it belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Membership {
    /// What the peer is told.
    pub(crate) extension: GroupExtension,
    /// When the clock of all members was at 0, so that a message has the same time stamp on each.
    pub(crate) epoch: Instant,
    /// What a member that is accepted begins with.
    pub(crate) seq: SeqNumber,
}

/// What one connection, or all of a listener's, keep to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What is carried.
    pub mode: TransmissionMode,
    /// How long this side keeps what it receives, at the least: within [`LATENCY`]. The peer may ask for more.
    pub receiver_latency: Duration,
    /// How long the peer is to keep what this side sends, at the least.
    pub peer_latency: Duration,
    /// Bytes of a packet with the headers of IP and UDP: within [`MSS`].
    pub mss: u16,
    /// Bytes of payload in a packet of live mode.
    pub payload_size: usize,
    /// Packets in flight: within [`FLOW_WINDOW`].
    pub flow_window: u32,
    /// Packets that are received and not delivered.
    pub receive_buffer_packets: u32,
    /// Packets that are sent and not acknowledged.
    pub send_buffer_packets: u32,
    /// A peer that has sent nothing for so long is gone.
    pub peer_idle: Duration,
    /// How long a handshake may take.
    pub connect_timeout: Duration,
    /// Drop what is too late (`TLPKTDROP`), in live mode.
    pub too_late_drop: bool,
    /// Repeat loss lists while packets are missing.
    pub periodic_nak: bool,
    /// How fast to send in live mode.
    pub bandwidth: Bandwidth,
    /// How long a connection that is closed goes on sending what it has, outside of live mode.
    pub linger: Duration,
    /// The passphrase, and what to do with it.
    pub crypto: Option<CryptoConfig>,
    /// Refuse a peer that is not encrypted the same way. Without, such a connection is made, and one side cannot read the
    /// other.
    pub require_encryption: bool,
    /// What a caller tells the listener that it wants: at most [`MAX_STREAM_ID`] bytes.
    pub stream_id: Option<String>,
    /// Packets that make up for lost ones.
    pub filter: Option<FilterConfig>,
    /// Peers below are refused.
    pub min_version: SrtVersion,
    /// The group that it belongs to.
    pub(crate) membership: Option<Membership>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: TransmissionMode::Live,
            receiver_latency: Duration::from_millis(120),
            peer_latency: Duration::ZERO,
            mss: 1_500,
            payload_size: LIVE_PAYLOAD,
            flow_window: 25_600,
            receive_buffer_packets: 8_192,
            send_buffer_packets: 8_192,
            peer_idle: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            too_late_drop: true,
            periodic_nak: true,
            bandwidth: Bandwidth::default(),
            linger: Duration::from_secs(10),
            crypto: None,
            require_encryption: true,
            stream_id: None,
            filter: None,
            min_version: SrtVersion::new(1, 3, 0),
            membership: None,
        }
    }
}

impl Config {
    /// The same, with every number within its bounds, and a payload that fits into a packet.
    #[must_use]
    pub fn clamped(mut self) -> Self {
        self.receiver_latency = self.receiver_latency.clamp(*LATENCY.start(), *LATENCY.end());
        self.peer_latency = self.peer_latency.min(*LATENCY.end());
        self.mss = u16::try_from(u32::from(self.mss).clamp(*MSS.start(), *MSS.end())).unwrap_or(1_500);
        self.flow_window = self.flow_window.clamp(*FLOW_WINDOW.start(), *FLOW_WINDOW.end());
        self.receive_buffer_packets =
            self.receive_buffer_packets.clamp(*FLOW_WINDOW.start(), *FLOW_WINDOW.end());
        self.send_buffer_packets = self.send_buffer_packets.clamp(*FLOW_WINDOW.start(), *FLOW_WINDOW.end());
        self.payload_size = self.payload_size.clamp(1, self.max_payload());
        self.stream_id = self.stream_id.filter(|id| id.len() <= MAX_STREAM_ID);
        self
    }

    /// Bytes of payload that fit into a packet of `mss`.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        usize::from(self.mss).saturating_sub(UDP_HEADERS).saturating_sub(HEADER_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s10_s11_s14_numbers_are_brought_within_their_bounds() {
        let wild = Config {
            mss: 31,
            payload_size: 9_000,
            flow_window: u32::MAX,
            receive_buffer_packets: 0,
            receiver_latency: Duration::from_millis(65_535),
            peer_latency: Duration::from_millis(65_535),
            stream_id: Some("x".repeat(513)),
            ..Config::default()
        };
        let tame = wild.clamped();
        assert_eq!((tame.mss, tame.payload_size, tame.flow_window), (76, 32, 25_600));
        assert_eq!(
            (tame.receiver_latency, tame.peer_latency),
            (Duration::from_secs(8), Duration::from_secs(8))
        );
        assert_eq!((tame.receive_buffer_packets, tame.stream_id), (32, None));
        let usual = Config::default().clamped();
        assert_eq!((usual.payload_size, usual.max_payload(), usual.mss), (LIVE_PAYLOAD, 1_456, 1_500));
    }
}
