use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::track::TrackMask;
use arcly_core::{
    CloseReason, CodecConfig, CodecId, TimeDelta, Timescale, Timestamp, Track, TrackId, TrackKind, TrackSet,
};
use arcly_rtp::media::Numbering;
use arcly_rtp::payload::Encoding;
use arcly_rtp::sdp::{Format, formats};

use super::channels::Outlets;
use super::layers::{LAYER_LABEL, Layers, Picture};
use super::redundancy::Redundancy;
use super::spatial::SpatialLayers;
use super::thinning::{Link, Thinning};
use super::{Event, Medium, Outgoing, Output, SentLayer, SessionStats, Transport};
use crate::media::{RtpFrame, RtpPayload};
use crate::wire::TransportAddress;

/// What is there when a viewer comes is sent at once, and its timestamps say that it took this part of its time: the picture is
/// there at once, and live after a moment, instead of being late for as long as the group of pictures is.
const HURRY: i64 = 20;

/// A stream has nothing that the peer could play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is {codec}, which is not among the codecs of the offer")]
pub struct NoCommonCodec {
    /// What the stream has.
    pub codec: CodecId,
}

/// What comes out of a [`WhepSession`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Viewed {
    /// Datagrams that come from there belong to this session from now on.
    Source(TransportAddress),
    /// Media can flow.
    Connected,
    /// The viewer cannot go on without a keyframe of these tracks, or waits for one to go over to another layer.
    KeyframeRequest(TrackMask),
}

/// A track on its way to the viewer.
#[derive(Debug)]
struct Lane {
    medium: usize,
    /// The track, or the tracks that are layers of the same pictures.
    layers: Layers,
    kind: TrackKind,
    payload_type: u8,
    clock: Timescale,
    numbering: Numbering,
    /// The number of the next packet.
    sequence: u64,
    /// The timestamp of the last frame.
    last: Option<u32>,
    /// The latest presentation time so far.
    latest: Option<Timestamp>,
    /// Of sound, where the peer takes it with what was sent before.
    redundancy: Option<Redundancy>,
}

impl Lane {
    /// The timestamp of a frame. Where a layer follows on another one both have pictures of one moment, and no two
    /// pictures may have one timestamp.
    fn stamp(&mut self, pts: Timestamp) -> u32 {
        let stamp = self.numbering.timestamp_of(pts, self.clock);
        let is_behind = |last: &u32| stamp.wrapping_sub(*last).wrapping_sub(1) >= 1 << 31;
        let last = self.last.filter(|_| self.layers.are_several()).filter(is_behind);
        let stamp = last.map_or(stamp, |last| last.wrapping_add(1));
        self.last = Some(stamp);
        stamp
    }

    /// The payloads of packets with what was in those before, where there is redundancy, and there are losses; otherwise none.
    fn repeat(
        &mut self,
        now: Instant,
        loss: Option<f32>,
        start: u32,
        packets: &[RtpPayload],
    ) -> Vec<Option<Arc<[u8]>>> {
        let Some(redundancy) = &mut self.redundancy else { return Vec::new() };
        if !redundancy.handle_loss(now, loss) {
            return Vec::new();
        }
        packets.iter().map(|packet| redundancy.wrap(start.wrapping_add(packet.ticks), &packet.data)).collect()
    }
}

/// A peer that receives: frames that are packets already get its headers.
#[derive(Debug)]
pub struct WhepSession {
    transport: Transport,
    lanes: Vec<Lane>,
    /// Data tracks.
    outlets: Outlets,
    /// What timestamps and sequence numbers begin with is made of it.
    key: u64,
    /// Where the stream was when the viewer came.
    edge: Option<Timestamp>,
    /// A point of the stream, and when it was.
    anchor: Option<(Timestamp, Instant)>,
    thinning: Thinning,
    spatial: SpatialLayers,
    /// What pictures were sent of last.
    track: Option<TrackId>,
    out_of_order: u64,
    /// Packets with redundancy.
    redundant: u64,
    /// Somebody has to ask for a keyframe of these.
    wanted: TrackMask,
}

impl WhepSession {
    /// A viewer of whatever will be chosen. `key` is random.
    #[must_use]
    pub const fn new(transport: Transport, key: u64) -> Self {
        let thinning = Thinning::new();
        Self {
            transport,
            lanes: Vec::new(),
            outlets: Outlets::new(),
            key,
            edge: None,
            anchor: None,
            thinning,
            spatial: SpatialLayers::new(),
            track: None,
            out_of_order: 0,
            redundant: 0,
            wanted: TrackMask::NONE,
        }
    }

    /// The way to the peer.
    #[must_use]
    pub const fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The same, to be acted on.
    pub const fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// What was counted of the session.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        let switches = self
            .lanes
            .iter()
            .map(|lane| lane.layers.switches())
            .fold(self.thinning.switches().saturating_add(self.spatial.switches()), u64::saturating_add);
        let frames_thinned = self.thinning.left_out();
        let frames_out_of_order = self.out_of_order;
        let (layer, redundant_sent, stats) = (self.layer(), self.redundant, *self.transport.stats());
        SessionStats {
            frames_thinned,
            frames_out_of_order,
            layer_switches: switches,
            layer,
            redundant_sent,
            ..stats
        }
    }

    /// What is sent of the pictures.
    fn layer(&self) -> Option<SentLayer> {
        let is_chosen = |track: &TrackId| self.lanes.iter().any(|lane| lane.layers.has(*track));
        let track = self.track.filter(is_chosen)?;
        Some(SentLayer { track, spatial: self.spatial.count(), temporal: self.thinning.temporal() })
    }

    /// Chooses among tracks: the first of each kind that the answer has a format for, and of pictures in layers
    /// all that go in the same format, one of which is sent at a time; of data all, where there are data channels. Says which, and the
    /// codec of sound that has none and has to stay away, unless somebody makes another of it.
    ///
    /// # Errors
    /// There are pictures that the peer asks for, or nothing but sound, and it cannot play that.
    pub fn choose(&mut self, tracks: &TrackSet) -> Result<(TrackMask, Option<CodecId>), NoCommonCodec> {
        let before = core::mem::take(&mut self.lanes);
        let (mut mask, mut silent) = (TrackMask::NONE, None);
        let theirs = formats(tracks);
        for kind in [TrackKind::Video, TrackKind::Audio] {
            let Some(first) = tracks.first(kind) else { continue };
            let mut media = self.transport.media().iter().enumerate();
            let Some((at, medium)) = media.find(|(_, medium)| medium.sends && medium.kind == kind) else {
                continue;
            };
            let of_kind = || tracks.iter().filter(move |track| track.kind() == kind);
            let chosen = of_kind().filter_map(|track| Some((track, agreed(medium, track, &theirs)?))).next();
            let Some((track, format)) = chosen else {
                if kind == TrackKind::Video {
                    return Err(NoCommonCodec { codec: first.codec });
                }
                silent = Some(first.codec);
                continue;
            };
            let goes_with = |other: &&Track| {
                let same = agreed(medium, other, &theirs).map(|format| format.payload_type);
                other.id == track.id
                    || (is_layer(other) && is_layer(track) && same == Some(format.payload_type))
            };
            let layers = Layers::new(of_kind().filter(goes_with).map(|track| track.id));
            layers.tracks().for_each(|track| mask.insert(track));
            let known = before.iter().find(|lane| lane.kind == kind && lane.medium == at);
            let layers = match known {
                Some(lane) => layers.carry_over(&lane.layers),
                None => layers,
            };
            let numbering = known.map_or_else(|| Numbering::of(self.key, track.id), |lane| lane.numbering);
            let redundancy = medium.redundancy.filter(|red| red.of == format.payload_type);
            self.lanes.push(Lane {
                medium: at,
                layers,
                kind,
                payload_type: format.payload_type,
                clock: format.clock,
                numbering,
                sequence: known.map_or(numbering.sequence.into(), |lane| lane.sequence),
                last: known.and_then(|lane| lane.last),
                latest: None,
                redundancy: redundancy.map(Redundancy::new),
            });
        }
        match (mask.is_empty(), silent) {
            (true, Some(codec)) => Err(NoCommonCodec { codec }),
            _ => {
                let data = self.outlets.choose(&mut self.transport, tracks);
                Ok((mask.union(data), silent))
            }
        }
    }

    /// The viewer begins, with a stream that is at `edge`.
    pub const fn join(&mut self, now: Instant, edge: Option<Timestamp>) {
        self.edge = edge;
        if let Some(edge) = edge {
            self.anchor = Some((edge, now));
        }
    }

    /// Sends a frame of a track that was chosen; others are passed over. What cannot be sent yet is dropped.
    pub fn send(&mut self, now: Instant, frame: &RtpFrame) {
        let is_new = self.edge.is_none_or(|edge| frame.pts >= edge);
        if is_new {
            self.outlets.handle_live(now, &mut self.transport);
        }
        if self.outlets.has(frame.track) {
            return self.outlets.send(now, &mut self.transport, frame, is_new);
        }
        let Some(lane) = self.lanes.iter().position(|lane| lane.layers.has(frame.track)) else { return };
        let Some(pts) = self.place(lane, frame.pts).filter(|_| self.transport.is_connected()) else { return };
        let Some(layer) = self.admits(now, lane, frame) else { return };
        let packets = frame.packets_of(layer);
        let moment = self.moment(now, pts);
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        let loss = self.transport.loss(lane.medium);
        if lane.kind == TrackKind::Video {
            let is_late = lane.latest.is_some_and(|latest| frame.pts < latest);
            self.out_of_order = self.out_of_order.saturating_add(u64::from(is_late));
            lane.latest = lane.latest.max(Some(frame.pts));
        }
        let start = lane.stamp(pts);
        let first = lane.sequence;
        lane.sequence = lane.sequence.saturating_add(u64::try_from(packets.len()).unwrap_or_default());
        let repeated = lane.repeat(now, loss, start, packets);
        let red_type = lane.redundancy.as_ref().map_or(lane.payload_type, Redundancy::payload_type);
        let packets = packets.iter().zip(first..).enumerate().map(|(at, (packet, sequence))| {
            let red = repeated.get(at).and_then(Option::as_ref).map(|payload| (red_type, payload));
            let (payload_type, payload) = red.unwrap_or((lane.payload_type, &packet.data));
            let timestamp = start.wrapping_add(packet.ticks);
            Outgoing { payload_type, sequence, timestamp, moment, marker: packet.marker, payload }
        });
        self.transport.send(now, lane.medium, packets);
        let redundant = repeated.iter().flatten().count() as u64;
        self.redundant = self.redundant.saturating_add(redundant);
    }

    /// Whether a frame goes out, and with which of its spatial layers: a picture does when it is of the layer that is sent, and the link
    /// has room for it.
    fn admits(&mut self, now: Instant, lane: usize, frame: &RtpFrame) -> Option<u8> {
        let estimate_bps = self.transport.stats().estimate_bps;
        let Some(lane) = self.lanes.get_mut(lane).filter(|lane| lane.kind == TrackKind::Video) else {
            return Some(u8::MAX);
        };
        let RtpFrame { track, dts, flags, .. } = *frame;
        let bytes = frame.sizes().last().unwrap_or_default();
        let mut picture = Picture { track, dts, bytes, flags };
        let is_sent = lane.layers.admits(now, picture, estimate_bps);
        lane.layers.take_request(now).into_iter().for_each(|track| self.wanted.insert(track));
        self.transport.set_desired(lane.layers.best_bps());
        if !is_sent {
            return None;
        }
        if self.track.replace(track) != Some(track) {
            self.spatial.restart();
        }
        let backlog = self.transport.backlog(lane.medium);
        let is_new = self.edge.is_none_or(|edge| frame.pts >= edge);
        let link = Link { is_new, backlog, estimate_bps, is_lowest: true };
        let waits = if self.thinning.is_catching_up() { Duration::ZERO } else { backlog };
        let layer = self.spatial.choose(now, &picture, frame.sizes(), Link { backlog: waits, ..link });
        picture.bytes = frame.sizes().take(usize::from(layer).saturating_add(1)).last().unwrap_or_default();
        let link = Link { is_lowest: self.spatial.is_lowest(), ..link };
        let admitted = self.thinning.admits(now, &picture, link);
        if self.thinning.take_request(now, backlog) || self.spatial.take_request(now) {
            self.wanted.insert(track);
        }
        admitted.then_some(layer)
    }

    /// Where on the viewer's timeline a frame is; sound of before it came is nowhere.
    fn place(&self, lane: usize, pts: Timestamp) -> Option<Timestamp> {
        let Some(edge) = self.edge.filter(|edge| pts < *edge) else { return Some(pts) };
        if self.lanes.get(lane).is_some_and(|lane| lane.kind == TrackKind::Audio) {
            return None;
        }
        let back = edge - pts;
        Some(edge - TimeDelta(back.0.checked_div(HURRY).unwrap_or(0)))
    }

    /// When a point of the stream was, by the anchor that all tracks share. It is never in the future: a publisher whose clock
    /// runs fast moves the anchor.
    fn moment(&mut self, now: Instant, pts: Timestamp) -> Instant {
        let (at, then) = *self.anchor.get_or_insert((pts, now));
        let away = pts - at;
        let distance = away.abs().to_duration();
        let moment =
            if away < TimeDelta::ZERO { then.checked_sub(distance) } else { then.checked_add(distance) };
        let moment = moment.unwrap_or(now);
        if moment > now {
            self.anchor = Some((pts, now));
            return now;
        }
        moment
    }

    /// Takes a datagram; see [`Transport::handle_datagram`].
    pub fn handle_datagram(&mut self, now: Instant, from: TransportAddress, datagram: &[u8]) {
        self.transport.handle_datagram(now, from, datagram);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.transport.handle_timeout(now);
    }

    /// Why it is over, if it is.
    #[must_use]
    pub const fn closed(&self) -> Option<CloseReason> {
        self.transport.closed()
    }

    /// Ends the session from this side.
    pub fn close(&mut self, reason: CloseReason) {
        self.transport.close(reason);
    }

    /// What comes next. To be asked until it is [`Output::Wait`].
    pub fn poll_output(&mut self) -> Output<Viewed> {
        let wanted = core::mem::take(&mut self.wanted);
        if !wanted.is_empty() {
            return Output::Event(Viewed::KeyframeRequest(wanted));
        }
        loop {
            return match self.transport.poll_output() {
                Output::Transmit { to, datagram } => Output::Transmit { to, datagram },
                Output::Wait(at) => Output::Wait(at),
                Output::Event(Event::Source(source)) => Output::Event(Viewed::Source(source)),
                Output::Event(Event::Connected) => Output::Event(Viewed::Connected),
                Output::Event(Event::KeyframeRequest { medium }) => {
                    let lane = self.lanes.iter().find(|lane| lane.medium == medium);
                    let Some(track) = lane.and_then(|lane| lane.layers.sent()) else { continue };
                    Output::Event(Viewed::KeyframeRequest(TrackMask::from_iter([track])))
                }
                Output::Event(Event::ChannelOpen { channel, is_own: true, .. }) => {
                    self.outlets.handle_open(&mut self.transport, channel);
                    continue;
                }
                Output::Event(Event::ChannelClosed { channel }) => {
                    self.outlets.handle_close(channel);
                    continue;
                }
                Output::Event(Event::Message { .. }) => {
                    self.transport.drop_message();
                    continue;
                }
                // A viewer sends nothing that anybody would look at. Many open a channel only to have one in their offer.
                Output::Event(Event::Packet { .. } | Event::Report { .. } | Event::ChannelOpen { .. }) => {
                    continue;
                }
            };
        }
    }
}

/// True for a track that is one of several layers of the same pictures.
fn is_layer(track: &Track) -> bool {
    let label = track.label.as_deref().unwrap_or_default();
    track.kind() == TrackKind::Video && label.starts_with(LAYER_LABEL)
}

/// The format of a medium that a track can be sent in: the one that fits best.
fn agreed<'a>(medium: &'a Medium, track: &Track, theirs: &[(TrackId, Format)]) -> Option<&'a Format> {
    let (_, own) = theirs.iter().find(|(id, _)| *id == track.id)?;
    let fits = |format: &&Format| format.encoding == own.encoding && format.clock == own.clock;
    let ranked = medium.formats.iter().filter(fits).map(|format| (rank(medium, track, format), format));
    // Of those that rank alike the first, which is the peer's favourite.
    ranked.rev().max_by_key(|(rank, _)| *rank).filter(|(rank, _)| *rank > 0).map(|(_, format)| format)
}

/// How well a format of a codec fits a track of it; 0 when it does not.
fn rank(medium: &Medium, track: &Track, format: &Format) -> u8 {
    let parameter = |name| medium.description.parameter(format.payload_type, name);
    match (&format.encoding, &track.config) {
        (Encoding::H264, CodecConfig::Avc(config)) => {
            let profile =
                parameter("profile-level-id").and_then(|id| u8::from_str_radix(id.get(..2)?, 16).ok());
            // Larger access units than a packet need mode 1; decoders take whatever profile comes.
            let mode = if parameter("packetization-mode") == Some("1") { 4 } else { 1 };
            mode + u8::from(profile == Some(config.profile))
        }
        (Encoding::Vp9, CodecConfig::Vpx(config)) => {
            let profile = parameter("profile-id").map_or(Some(0), |id| id.parse().ok());
            u8::from(profile == Some(config.profile))
        }
        (Encoding::Av1, CodecConfig::Av1(config)) => {
            let profile = parameter("profile").map_or(Some(0), |id| id.parse().ok());
            u8::from(profile == Some(config.profile))
        }
        _ => 1,
    }
}
