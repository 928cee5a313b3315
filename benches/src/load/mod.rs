//! An independent, cheap load generator, and what scenarios are made of.
//!
//! ```text
//!   feeder thread ──RTMP──▶ server process ──any protocol──▶ audience thread
//!   puts a marker into       its CPU time, memory and         reads into one buffer, looks at the marker
//!   each frame               system calls are what counts     of every frame that every reader gets
//! ```
//!
//! | module | |
//! |---|---|
//! | [`Clip`], [`Shape`] | the stream that is published, without end |
//! | [`Marker`] | which frame it is and when it was sent, on a clock that all processes share: an SEI message in pictures, the first bytes of a sound |
//! | [`Peer`] | a protocol's client: [`RtmpPeer`], [`HttpFlvPeer`], [`RtspPeer`], [`LlHlsPeer`]; nothing of arcly's is used, so that its mistakes show |
//! | [`Feeder`], [`Audience`] | publishers, and readers by the thousand, on an epoll loop each |
//! | [`Protocol`], [`Stage`] | how readers read, and a server with a publisher for them |
//! | [`Program`] | what is measured: arcly, nginx-rtmp, and the floors, [`rawfan`](rawfan()) and [`rawhls`](rawhls()) |
//! | [`scenario`], [`play`] | command line, rounds, medians, report |
//!
//! A protocol joins in with a [`Peer`], a [`Protocol`] and a file in `scenarios/`.

mod audience;
mod chunks;
mod clip;
mod feeder;
mod flv;
mod hls;
mod marker;
mod peer;
pub mod play;
mod rawfan;
mod rawhls;
mod rtmp;
mod rtsp;
pub mod scenario;
mod server;
mod stage;

pub use audience::{Audience, Group, MakePeer, Report as AudienceReport};
pub use chunks::put_message;
pub use clip::{AUDIO, Clip, Frame, HEAD, Position, Shape, Tag, UUID, VIDEO};
pub use feeder::{Feeder, Pace, Plan};
pub use flv::{HttpFlvPeer, RawFlvPeer};
pub use hls::LlHlsPeer;
pub use marker::{MARKER, Marker, clock_ns};
pub use peer::Peer;
pub use rawfan::{Format, rawfan, rawsink};
pub use rawhls::rawhls;
pub use rtmp::{RawRtmpPeer, Role, RtmpPeer};
pub use rtsp::RtspPeer;
pub use server::{Program, Running, arcly, cpu_of};
pub use stage::{Protocol, Stage};
