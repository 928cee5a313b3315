//! Bytes and values: packets, header extensions, and control packets.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 3550 | §5.1 fixed header, §5.3.1 extension | [`RtpPacket`] |
//! | RFC 8285 | §4.2 one-byte, §4.3 two-byte extension elements | [`Extension`] |
//! | RFC 3550 | §6 control packets | [`rtcp`] |
//! | RFC 2198 | §3 redundant blocks, block headers | [`Red`] |
//! | RFC 5761 | §4 telling RTP and RTCP apart on one port | [`is_rtcp`] |
//!
//! Guarantees: no panic; payloads and data are slices of what came in, not copies; nothing is allocated by what a field
//! says before the bytes for it were seen.

mod extension;
mod ntp;
mod packet;
mod red;
pub mod rtcp;

pub use extension::{Elements, Extension};
pub use ntp::NtpTime;
pub use packet::{HEADER_BYTES, Header, MAX_CSRC, RtpPacket};
pub use red::{MAX_RED_BLOCK_BYTES, MAX_RED_BLOCKS, MAX_RED_OFFSET, Red, RedBlock};

/// True when a datagram on a port that both share is RTCP and not RTP (RFC 5761 §4).
#[must_use]
pub fn is_rtcp(datagram: &[u8]) -> bool {
    datagram.get(1).is_some_and(|kind| (192..=223).contains(kind))
}
