//! What a transport is told to send, and what it tells.

use std::sync::Arc;
use std::time::Instant;

use arcly_core::AudioLevel;
use arcly_rtp::wire::RtpPacket;
use arcly_rtp::wire::rtcp::SenderReport;
use bytes::Bytes;

use super::Channel;
use crate::wire::TransportAddress;

/// What a transport tells its owner.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Datagrams that come from there belong to this session from now on.
    Source(TransportAddress),
    /// Media can flow.
    Connected,
    /// A packet of a medium.
    Packet {
        /// The medium, by its place in the answer.
        medium: usize,
        /// The layer, by its place in [`Medium::layers`](crate::session::Medium::layers); 0 where there are none.
        layer: usize,
        /// In the clear, in whatever order it came; what was sent again looks as if it had come the first time.
        packet: RtpPacket,
        /// How loud it is (RFC 6464), where the peer says so.
        level: Option<AudioLevel>,
    },
    /// A sender report of a medium.
    Report {
        /// The medium.
        medium: usize,
        /// The layer.
        layer: usize,
        /// What it says.
        report: SenderReport,
    },
    /// The peer cannot go on without a keyframe of a medium.
    KeyframeRequest {
        /// The medium.
        medium: usize,
    },
    /// Messages can go over a data channel.
    ChannelOpen {
        /// The channel.
        channel: Channel,
        /// It is one that this side has opened.
        is_own: bool,
        /// What it is called, in at most [`MAX_LABEL_BYTES`](super::MAX_LABEL_BYTES) where the peer has opened it.
        label: String,
        /// What is spoken over it, the same.
        protocol: String,
    },
    /// A message came, of at most [`MAX_MESSAGE_BYTES`](super::MAX_MESSAGE_BYTES).
    Message {
        /// Over which channel.
        channel: Channel,
        /// What it says.
        data: Bytes,
    },
    /// A data channel is gone.
    ChannelClosed {
        /// The channel.
        channel: Channel,
    },
}

/// What comes out of a machine of this crate.
#[derive(Debug)]
pub enum Output<E> {
    /// Send this datagram.
    Transmit {
        /// Where to.
        to: TransportAddress,
        /// The datagram.
        datagram: Vec<u8>,
    },
    /// Something happened.
    Event(E),
    /// Nothing more until the next input, or until this instant.
    Wait(Instant),
}

/// A packet to send.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Its payload type.
    pub payload_type: u8,
    /// Its number, from below 2¹⁶ at the first packet.
    pub sequence: u64,
    /// Its timestamp.
    pub timestamp: u32,
    /// The moment that the timestamp stands for, not in the future.
    pub moment: Instant,
    /// The marker bit.
    pub marker: bool,
    /// What is behind the header, shared with everybody who is sent the same.
    pub payload: &'a Arc<[u8]>,
}
