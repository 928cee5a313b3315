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
//! **Pictures in spatial layers** (VP9) are made packets of once with all of them, and once for each that may be the highest: who has no room
//! for all is sent a smaller picture, which is as whole.
//!
//! **Pictures that lack a part**, or refer to one that does ([`CORRUPT`](FrameFlags::CORRUPT)), are left out up to the next keyframe: a
//! receiver that gets all packets has no way to know that something is missing in them.

use std::sync::Arc;

use arcly_codec::vpx::{Vp9Layers, put_superframe_index, superframe};
use arcly_core::derived;
use arcly_core::log::{LogItem, Skip};
use arcly_core::track::TrackMask;
use arcly_core::{FrameFlags, MediaFrame, StreamKey, Timestamp, TrackId, TrackKind, TrackSet};
use arcly_rtp::payload::{self, Encoding, PacketSink};
use arcly_rtp::sdp::formats;
use bytes::BytesMut;

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
    /// The packets of the same picture without its highest spatial layers, the lowest alone first; empty where it has but one.
    pub lower: Box<[Box<[RtpPayload]>]>,
}

impl RtpFrame {
    /// The packets of the picture with its spatial layers up to that one, and what is lower where it has fewer.
    #[must_use]
    pub fn packets_of(&self, layer: u8) -> &[RtpPayload] {
        self.lower.get(usize::from(layer)).unwrap_or(&self.packets)
    }

    /// The bytes of the picture with its spatial layers up to each of them.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = u64> {
        let bytes = |packets: &[RtpPayload]| packets.iter().map(|packet| packet.data.len() as u64).sum();
        self.lower.iter().map(|packets| &**packets).chain([&*self.packets]).map(bytes)
    }
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
        let packets = self.lower.iter().flatten().chain(&self.packets);
        let packets = packets.map(|packet| packet.data.len().saturating_add(cost));
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
    /// What has to be known of VP9's frames to show others of their layers.
    layers: Vp9Layers,
    is_vp9: bool,
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

    /// The packets of a picture without its highest spatial layers: of those that are left the highest is shown.
    fn lower(&mut self, frame: &MediaFrame) -> Box<[Box<[RtpPayload]>]> {
        if !frame.flags.contains(FrameFlags::SPATIAL_LAYERS) {
            if self.is_vp9 {
                self.layers.follow(&frame.payload);
            }
            return Box::default();
        }
        let frames = superframe(&frame.payload).unwrap_or_default();
        let mut all: Vec<Box<[RtpPayload]>> = Vec::new();
        let (mut hidden, mut ends) = (BytesMut::new(), Vec::new());
        for layer in frames {
            let mut data = hidden.clone();
            // The state is that before the frame, which is followed once.
            self.layers.put(layer, true, &mut data);
            let end = data.len();
            hidden.extend_from_slice(layer);
            if !ends.is_empty() {
                put_superframe_index(&[&ends[..], &[end][..]].concat(), &mut data);
            }
            ends.push(hidden.len());
            let mut sink = Payloads::default();
            let picture = MediaFrame { payload: data.freeze(), ..frame.clone() };
            if self.payload.packetize(&picture, &mut sink).is_err() {
                return Box::default();
            }
            all.push(sink.0.into());
        }
        // With the last of them it is the whole picture.
        all.pop();
        all.into()
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
            let is_vp9 = format.encoding == Encoding::Vp9;
            let payload = payload::Packetizer::new(format.encoding, format.config, PAYLOAD_BYTES);
            let known = before.iter().find(|lane| lane.track == track);
            let (latest, damaged, layers) =
                known.map_or_else(Default::default, |lane| (lane.latest, lane.damaged, lane.layers));
            self.lanes.push(Lane { track, is_video, payload, latest, damaged, layers, is_vp9 });
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
            let lower = lane.lower(frame);
            out.push(RtpFrame { track, dts, pts, flags, packets: sink.0.into(), lower });
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
    RtpFrame { track, dts, pts, flags, packets: packet.into_iter().collect(), lower: Box::default() }
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
