//! Packets of a session's media to tracks and frames, and frames to packets that all readers share.
//!
//! ```text
//!   datagrams of medium 0 ──► lane 0: Receiver ► Depacketizer ► codec ► decode times ┐
//!   datagrams of medium 1 ──► lane 1: …                                              ├─► one timeline ──► MediaEvent
//!   sender reports, RTP-Info, arrival ──► how far the lanes are apart ───────────────┘
//!   frames ──► Packetizer ──► derived log ──► one reader's bytes
//! ```
//!
//! **Times.** RTP has presentation times only; decode times of pictures that are reordered are derived
//! ([`DtsDeriver`](arcly_codec::reorder::DtsDeriver)). Each lane's clock starts at a random offset. How far two lanes are apart is said by
//! sender reports; else by the `RTP-Info` of an RTSP session ([`MediaReceiver::set_common_moment`]); else by when their first packets
//! arrived. Reports that are further than [`MAX_DISAGREEMENT`] from that are not believed.
//!
//! **Losses.** A unit that lacks a part is not passed on. What comes behind it is flagged [`CORRUPT`](arcly_core::FrameFlags::CORRUPT) up to the
//! next keyframe, which is asked for at most once per [`MIN_REQUEST_INTERVAL`]. Before the first keyframe nothing is passed on.
//!
//! **Guarantees.** Decode times never decrease on a track. Events wait for the other lanes at most [`START_WAIT`], and for one that
//! holds what came first at most [`START_HOLD`](crate::session::START_HOLD) more; no more than [`MAX_HELD_FRAMES`] and
//! [`MAX_HELD_BYTES`] wait.

mod lane;
mod packetizer;
mod receiver;

pub use packetizer::{
    INTERLEAVED_HEADER, Interleaved, Numbering, Packetizer, PacketizerOptions, Reports, interleaved,
    sender_report,
};
pub use receiver::{Event, LaneCounters, LaneSpec, MediaReceiver, MediaReceiverOptions};

use std::time::Duration;

use arcly_core::TimeDelta;

/// How long the first frames wait for all tracks to be known.
pub const START_WAIT: Duration = Duration::from_secs(1);
/// How long they wait for what says how far the tracks are apart, once all are known.
pub const SYNC_WAIT: Duration = Duration::from_millis(250);
/// Bytes of frames that wait for that.
pub const MAX_HELD_BYTES: usize = 16 << 20;
/// Frames that wait for that: each may keep a whole datagram, however small it is.
pub const MAX_HELD_FRAMES: usize = 4_096;
/// Reports that disagree more than this with when packets arrived, or with the reports before, are wrong.
pub const MAX_DISAGREEMENT: TimeDelta = TimeDelta::from_millis(30_000);
/// Tracks that drift apart by more than this, by what reports say, are brought together.
pub const RESYNC: TimeDelta = TimeDelta::from_millis(40);
/// A unit that is not whole is given up when nothing came for so long.
pub const REASSEMBLY_TIMEOUT: Duration = Duration::from_secs(2);
/// A keyframe is asked for at most once in this time.
pub const MIN_REQUEST_INTERVAL: Duration = Duration::from_millis(500);
/// Datagrams in a row that are no packets after which a peer does not speak RTP.
pub const MAX_BAD_PACKETS: u32 = 64;
