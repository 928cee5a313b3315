//! RTP and RTCP, sans-IO: what RTSP and WebRTC stand on.
//!
//! | room | what is in it |
//! |---|---|
//! | [`wire`] | bytes and values: packets, header extensions, control packets |
//! | [`session`] | one stream of packets, received: order, sources, reports, the sender's clock |
//! | [`payload`] | what packets make of frames, and the other way |
//! | [`sdp`] | session descriptions, and what they say of tracks |
//! | [`media`] | all of it together: the packets of a session to tracks and frames, frames to packets that all readers share |
//!
//! ```text
//!   datagrams ──► RtpPacket ──► Receiver ──► Depacketizer ──► units ──► MediaReceiver ──► MediaEvent
//!                 RtcpPacket ──┘  (order, sources, clock)              (decode times, lip-sync)
//!   frames ──► payload::Packetizer ──► payloads
//!          ──► media::Packetizer ──► derived log ──► one reader's bytes
//! ```
//!
//! Nothing here knows a socket, a runtime or a clock: time is an argument, and whoever owns the sockets drives it.
//!
//! Guarantees: no panic on any input; everything that a peer can make grow has a named bound.
//!
//! What is deliberately not here: SRTP, ICE, congestion control and retransmission, which WebRTC's stack brings; and RTSP.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use arcly_core::Timescale;
//! use arcly_rtp::payload::{Depacketizer, Encoding, Payload};
//! use arcly_rtp::session::{Delivery, Receiver};
//! use arcly_rtp::wire::RtpPacket;
//! use bytes::Bytes;
//!
//! // A coded slice of H.264 alone in a packet, with the marker: an access unit.
//! let datagram = Bytes::from_static(&[0x80, 0xE0, 0, 1, 0, 0, 0x0B, 0xB8, 0, 0, 0, 7, 0x65, 0x88, 1]);
//! let mut receiver = Receiver::new(Timescale::MPEG, &[96], Duration::from_millis(200));
//! receiver.handle_packet(Instant::now(), RtpPacket::decode(&datagram)?);
//!
//! let mut depacketizer = Depacketizer::new(&Encoding::H264, 90_000, 0);
//! let mut units = Vec::new();
//! while let Some(Delivery::Packet(packet)) = receiver.poll() {
//!     let payload = Payload { ticks: packet.ticks, marker: packet.header.marker, data: packet.payload };
//!     depacketizer.push(&payload, &mut units)?;
//! }
//! assert_eq!(units[0].data[..], [0, 0, 0, 3, 0x65, 0x88, 1]);
//! # Ok::<(), arcly_core::wire::DecodeError>(())
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

pub mod media;
pub mod payload;
pub mod sdp;
pub mod session;
pub mod wire;
