//! Frames to packets that all viewers of a stream share.
//!
//! ```text
//!   log of frames ──► Packetizer ──► derived log of RtpFrame ──► each viewer: headers, encryption
//! ```
//!
//! The payloads of a frame's packets are made once and shared by reference; what is a viewer's own is the header in front of them
//! and the encryption.
//!
//! **Pictures that are shown in another order than they are decoded in** (B-frames) have no place in WebRTC: receivers show what
//! they decode, at once. Those that nothing else refers to are left out here, once for all viewers. If others refer to them they
//! are sent as they are, receivers show some pictures in the wrong order, and the log says once what to do about it.
//!
//! **Data** (KLV and the like) go over data channels: a frame is one message, which is the frame's one packet here, made once for
//! all viewers like the others. One that is longer than [`MAX_MESSAGE_BYTES`] has none, and is counted where it would have been sent.
//!
//! **Pictures that lack a part**, or refer to one that does ([`CORRUPT`](FrameFlags::CORRUPT)), are left out up to the next keyframe: a
//! receiver that gets all packets has no way to know that something is missing in them.

use std::sync::Arc;

use arcly_core::derived;
use arcly_core::log::{LogItem, Skip};
use arcly_core::track::TrackMask;
use arcly_core::{FrameFlags, MediaFrame, StreamKey, Timestamp, TrackId, TrackKind, TrackSet};
use arcly_rtp::payload::{self, PacketSink};
use arcly_rtp::sdp::formats;

use crate::session::MAX_MESSAGE_BYTES;

/// Bytes of payload in a packet: with the header, its extensions, the authentication tag and the headers of IPv6 and UDP it is
/// below 1 280, which every path takes (RFC 8200 §5).
pub const PAYLOAD_BYTES: usize = 1_120;

/// The payload of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpPayload {
    /// The marker bit.
    pub marker: bool,
    /// How far its timestamp is behind the frame's.
    pub ticks: u32,
    /// The bytes.
    pub data: Arc<[u8]>,
}

/// A frame as packets without headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpFrame {
    /// The track of the frame.
    pub track: TrackId,
    /// Its decode time.
    pub dts: Timestamp,
    /// Its presentation time, which is what timestamps are made of.
    pub pts: Timestamp,
    /// Its flags.
    pub flags: FrameFlags,
    /// Its packets, in order.
    pub packets: Box<[RtpPayload]>,
}

impl LogItem for RtpFrame {
    type Context = TrackSet;
    fn track(&self) -> TrackId {
        self.track
    }
    fn dts(&self) -> Timestamp {
        self.dts
    }
    fn flags(&self) -> FrameFlags {
        self.flags
    }
    fn size(&self) -> usize {
        let cost = size_of::<RtpPayload>() + 2 * size_of::<usize>();
        let packets = self.packets.iter().map(|packet| packet.data.len().saturating_add(cost));
        packets.fold(size_of::<Self>() + derived::ENTRY_COST, usize::saturating_add)
    }
}

/// One track.
struct Lane {
    track: TrackId,
    is_video: bool,
    payload: payload::Packetizer,
    /// The latest presentation time so far.
    latest: Option<Timestamp>,
    /// Something that pictures refer to was left out, until the next keyframe.
    damaged: bool,
}

impl Lane {
    /// Whether a picture is whole, and all that it refers to.
    fn is_whole(&mut self, flags: FrameFlags) -> bool {
        let corrupt = flags.contains(FrameFlags::CORRUPT);
        if corrupt && !flags.contains(FrameFlags::DISPOSABLE) {
            self.damaged = true;
        } else if !corrupt && flags.contains(FrameFlags::KEYFRAME) {
            self.damaged = false;
        }
        !corrupt && !self.damaged
    }
}

/// Makes a derived log of [`RtpFrame`]s: what [`into_derived`](arcly_core::Subscription::into_derived) takes.
pub struct Packetizer {
    stream: StreamKey,
    lanes: Vec<Lane>,
    data: TrackMask,
    explained: bool,
}

impl core::fmt::Debug for Packetizer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Packetizer({} lanes)", self.lanes.len())
    }
}

impl Packetizer {
    /// A packetizer of that stream that has seen nothing.
    #[must_use]
    pub const fn new(stream: StreamKey) -> Self {
        Self { stream, lanes: Vec::new(), data: TrackMask::NONE, explained: false }
    }

    fn explain(&mut self) {
        if !core::mem::replace(&mut self.explained, true) {
            tracing::warn!(
                stream = %self.stream,
                "pictures are referred to by others and shown out of order (B-frames, b-pyramid): WebRTC viewers see a picture that \
                 jumps; encode without B-frames (x264: -bf 0, or tune zerolatency), or without references to them (b-pyramid=none)"
            );
        }
    }
}

impl derived::Packetizer for Packetizer {
    type Item = RtpFrame;

    fn headers(&mut self, tracks: &Arc<TrackSet>) -> Arc<TrackSet> {
        let before = core::mem::take(&mut self.lanes);
        self.data =
            tracks.iter().filter(|track| track.kind() == TrackKind::Data).map(|track| track.id).collect();
        for (track, format) in formats(tracks).into_iter().filter(|(track, _)| !self.data.contains(*track)) {
            let is_video = tracks.get(track).is_some_and(|track| track.kind() == TrackKind::Video);
            let payload = payload::Packetizer::new(format.encoding, format.config, PAYLOAD_BYTES);
            let known = before.iter().find(|lane| lane.track == track);
            let (latest, damaged) = known.map_or((None, false), |lane| (lane.latest, lane.damaged));
            self.lanes.push(Lane { track, is_video, payload, latest, damaged });
        }
        Arc::clone(tracks)
    }

    fn packetize(&mut self, frame: &MediaFrame, out: &mut Vec<RtpFrame>) {
        if self.data.contains(frame.track) {
            out.push(message(frame));
            return;
        }
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.track == frame.track) else { return };
        if lane.is_video && !lane.is_whole(frame.flags) {
            return;
        }
        let is_late = lane.is_video && lane.latest.is_some_and(|latest| frame.pts < latest);
        if is_late && frame.flags.contains(FrameFlags::DISPOSABLE) {
            return;
        }
        if !is_late || frame.is_keyframe() {
            lane.latest = Some(frame.pts);
        }
        let mut sink = Payloads::default();
        // What is not in canonical form has nothing that a packet could hold; the kernel's own demuxers do not make it.
        let packed = lane.payload.packetize(frame, &mut sink);
        if packed.is_ok() && !sink.0.is_empty() {
            let MediaFrame { track, dts, pts, flags, .. } = *frame;
            out.push(RtpFrame { track, dts, pts, flags, packets: sink.0.into() });
        }
        if is_late && !frame.is_keyframe() {
            self.explain();
        }
    }

    fn skipped(&mut self, _: &Skip) {
        self.lanes.iter_mut().for_each(|lane| (lane.latest, lane.damaged) = (None, false));
    }
}

/// A frame of data.
fn message(frame: &MediaFrame) -> RtpFrame {
    let payload = Some(&frame.payload[..]).filter(|payload| payload.len() <= MAX_MESSAGE_BYTES);
    let packet = payload.map(|payload| RtpPayload { marker: true, ticks: 0, data: payload.into() });
    let MediaFrame { track, dts, pts, flags, .. } = *frame;
    RtpFrame { track, dts, pts, flags, packets: packet.into_iter().collect() }
}

#[derive(Default)]
struct Payloads(Vec<RtpPayload>);

impl PacketSink for Payloads {
    fn packet(&mut self, marker: bool, ticks: u32, parts: &[&[u8]]) {
        let data: Arc<[u8]> = match parts {
            [one] => Arc::from(*one),
            // The length is known beforehand, so that this allocates once.
            _ => parts.concat().into(),
        };
        self.0.push(RtpPayload { marker, ticks, data });
    }
}
