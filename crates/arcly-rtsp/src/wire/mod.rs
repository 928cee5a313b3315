//! Text and bytes to typed messages and back: no I/O, no clock, no state but a decoder's buffer.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 2326 | §4 messages, §5 general headers, §6 requests, §7 responses | [`message`] |
//! | RFC 7826 | §5.2 tolerance between messages | [`decoder`] |
//! | RFC 2326 | §10.12 embedded binary data | [`decoder`], [`interleaved`] |
//! | RFC 2326 | §12.39 Transport | [`transport`] |
//! | RFC 4567 | §3.1 `a=key-mgmt`, §4.2 KeyMgmt | [`key_mgmt`] |
//! | QuickTime, ONVIF | RTSP through HTTP and WebSockets | [`tunnel`] |
//! | | §12.29 Range, §12.34 Scale, §12.35 Speed | [`range`] |
//! | | §12.33 RTP-Info | [`rtp_info`] |
//! | RFC 7616, RFC 7617 | Digest, Basic | [`authorization`] |
//!
//! Every decoder either returns a value or says which field was wrong; none panics, and none allocates by a length that a
//! peer declared.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)
)]

pub mod authorization;
pub mod decoder;
pub mod interleaved;
pub mod key_mgmt;
pub mod message;
pub mod range;
pub mod rtp_info;
pub mod transport;
pub mod tunnel;

pub use decoder::{Decoder, Item, MessageLimits};
pub use interleaved::Frame;
pub use key_mgmt::KeyMgmt;
pub use message::{Headers, Method, Protocol, Request, Response, Status, Version};
pub use transport::{Cast, LowerTransport, PortPair, Profile, Transport, TransportMode};
