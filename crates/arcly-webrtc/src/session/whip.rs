use std::sync::Arc;
use std::time::Instant;

use arcly_core::track::TrackMask;
use arcly_core::{AudioLevel, CloseReason, MediaEvent, Track, TrackId, TrackKind, TrackSet};
use arcly_rtp::media::{self, LaneCounters, LaneSpec, MediaReceiver, MediaReceiverOptions};
use arcly_rtp::session::Recovery;
use arcly_rtp::wire::RtpPacket;

use super::channels::Inlets;
use super::{Event, LAYER_LABEL, Output, SessionStats, Transport};
use crate::wire::TransportAddress;

/// What comes out of a [`WhipSession`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Published {
    /// Datagrams that come from there belong to this session from now on.
    Source(TransportAddress),
    /// Media can flow.
    Connected,
    /// Tracks, or a frame.
    Media(MediaEvent),
    /// How loud a track is, as the peer says in each packet of it (RFC 6464), in the order in which packets come.
    Level(TrackId, AudioLevel),
}

/// A peer that sends: its packets become tracks and frames.
///
/// The layers of a picture that comes in several (simulcast) become a track each, the best of them first, whose labels begin with
/// [`LAYER_LABEL`]. Its data channels become a track each, too, and their messages frames, of when they arrive.
#[derive(Debug)]
pub struct WhipSession {
    transport: Transport,
    receiver: MediaReceiver,
    /// The medium and the layer of each lane.
    lanes: Vec<(usize, usize)>,
    /// The labels of tracks that are layers.
    labels: Vec<(TrackId, Arc<str>)>,
    /// What is repeated in the packets of each lane.
    recoveries: Vec<Option<Recovery>>,
    /// Packets with redundancy; what was found in them; those that were none.
    redundant: [u64; 3],
    /// The track of each lane.
    tracks: Vec<TrackId>,
    /// Data channels.
    inlets: Inlets,
    now: Instant,
}

impl WhipSession {
    /// Receives what the answer has agreed on.
    #[must_use]
    pub fn new(transport: Transport, now: Instant) -> Self {
        let (mut specs, mut lanes): (Vec<LaneSpec>, Vec<(usize, usize)>) = (Vec::new(), Vec::new());
        let (mut labels, mut recoveries) = (Vec::new(), Vec::new());
        for (at, medium) in transport.media().iter().enumerate() {
            if !medium.receives || medium.formats.is_empty() {
                continue;
            }
            // The best layer is named last, and is the first track: what readers get that take one.
            for layer in (0..medium.layers.len().max(1)).rev() {
                let track = free_track(medium.kind, &specs);
                specs.push(LaneSpec { track, formats: medium.formats.clone() });
                lanes.push((at, layer));
                recoveries.push(medium.redundancy.map(Recovery::new));
                let name = medium.layers.get(layer);
                labels.extend(name.map(|name| (track, format!("{LAYER_LABEL}{name}").into())));
            }
        }
        let tracks: Vec<_> = specs.iter().map(|spec| spec.track).collect();
        let receiver = MediaReceiver::new(specs, MediaReceiverOptions::default());
        let inlets = Inlets::new(tracks.clone(), now);
        Self { transport, receiver, lanes, labels, recoveries, redundant: [0; 3], tracks, inlets, now }
    }

    /// True when there is something that the peer can send.
    #[must_use]
    pub fn can_receive(&self) -> bool {
        !self.lanes.is_empty() || self.transport.has_channels()
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

    /// What was counted of the packets of a medium and layer.
    #[must_use]
    pub fn counters(&self, medium: usize, layer: usize) -> Option<LaneCounters> {
        Some(self.receiver.counters(self.lane(medium, layer)?))
    }

    /// What was counted of the session.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        let stats = *self.transport.stats();
        let messages_dropped = stats.messages_dropped.saturating_add(self.inlets.dropped());
        let [redundant_received, recovered, bad] = self.redundant;
        let datagrams_dropped = stats.datagrams_dropped.saturating_add(bad);
        SessionStats { messages_dropped, redundant_received, recovered, datagrams_dropped, ..stats }
    }

    /// Takes a datagram; see [`Transport::handle_datagram`].
    pub fn handle_datagram(&mut self, now: Instant, from: TransportAddress, datagram: &[u8]) {
        self.now = now;
        self.transport.handle_datagram(now, from, datagram);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.receiver.handle_timeout(now);
        self.inlets.handle_timeout(now);
        self.transport.handle_timeout(now);
    }

    /// A reader cannot go on without a keyframe of these tracks.
    pub fn request_keyframes(&mut self, now: Instant, tracks: TrackMask) {
        for (at, (medium, layer)) in self.lanes.clone().into_iter().enumerate() {
            let is_video =
                self.transport.media().get(medium).is_some_and(|medium| medium.kind == TrackKind::Video);
            let is_meant = self.tracks.get(at).is_some_and(|track| tracks.contains(*track));
            if is_video && is_meant {
                self.transport.request_keyframe(now, medium, layer);
            }
        }
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
    pub fn poll_output(&mut self) -> Output<Published> {
        loop {
            if let Some(media) = self.inlets.poll() {
                return Output::Event(Published::Media(media));
            }
            if let Some(event) = self.receiver.poll_event() {
                match event {
                    media::Event::Media(MediaEvent::Tracks(tracks)) => {
                        let tracks = self.label(tracks);
                        self.inlets.handle_media(self.now, MediaEvent::Tracks(tracks));
                    }
                    media::Event::Media(media) => self.inlets.handle_media(self.now, media),
                    media::Event::KeyframeNeeded { lane } => self.need_keyframe(lane),
                    _ => {}
                }
                continue;
            }
            match self.transport.poll_output() {
                Output::Transmit { to, datagram } => return Output::Transmit { to, datagram },
                Output::Wait(at) => {
                    let due = self.receiver.deadline().into_iter().chain(self.inlets.deadline());
                    return Output::Wait(due.fold(at, Instant::min));
                }
                Output::Event(Event::Source(source)) => return Output::Event(Published::Source(source)),
                Output::Event(Event::Connected) => return Output::Event(Published::Connected),
                Output::Event(Event::Packet { medium, layer, packet, level }) => {
                    let Some(lane) = self.lane(medium, layer) else { continue };
                    self.handle_packet(lane, packet);
                    if let (Some(level), Some(track)) = (level, self.tracks.get(lane)) {
                        return Output::Event(Published::Level(*track, level));
                    }
                }
                Output::Event(Event::Report { medium, layer, report }) => {
                    if let Some(lane) = self.lane(medium, layer) {
                        self.receiver.handle_sender_report(self.now, lane, &report);
                    }
                }
                Output::Event(Event::ChannelOpen { channel, is_own: false, label, protocol }) => {
                    if !self.inlets.handle_open(self.now, channel, (label, protocol)) {
                        self.transport.close_channel(channel);
                    }
                }
                Output::Event(Event::Message { channel, data }) => {
                    self.inlets.handle_message(self.now, channel, data);
                }
                Output::Event(Event::ChannelClosed { channel }) => self.inlets.handle_close(channel),
                Output::Event(Event::KeyframeRequest { .. } | Event::ChannelOpen { .. }) => {}
            }
        }
    }

    /// Takes a packet, and before it those that did not come and are repeated in it.
    fn handle_packet(&mut self, lane: usize, packet: RtpPacket) {
        let Some(recovery) = self.recoveries.get_mut(lane).and_then(Option::as_mut) else {
            return self.receiver.handle_packet(self.now, lane, packet);
        };
        let [redundant, recovered, bad] = &mut self.redundant;
        *redundant = redundant.saturating_add(recovery.is_red(&packet).into());
        let Ok(packets) = recovery.handle_packet(packet) else {
            *bad = bad.saturating_add(1);
            return;
        };
        *recovered = recovered.saturating_add((packets.len() as u64).saturating_sub(1));
        packets.into_iter().for_each(|packet| self.receiver.handle_packet(self.now, lane, packet));
    }

    /// The tracks, with those marked that are layers of one picture.
    fn label(&self, mut tracks: TrackSet) -> TrackSet {
        for (track, label) in &self.labels {
            if let Some(track) = tracks.get(*track).cloned() {
                tracks.insert(Track { label: Some(Arc::clone(label)), ..track });
            }
        }
        tracks
    }

    fn lane(&self, medium: usize, layer: usize) -> Option<usize> {
        self.lanes.iter().position(|of| *of == (medium, layer))
    }

    fn need_keyframe(&mut self, lane: usize) {
        if let Some((medium, layer)) = self.lanes.get(lane).copied() {
            self.transport.request_keyframe(self.now, medium, layer);
        }
    }
}

/// A number for a track of that kind: the usual one, unless it is taken.
fn free_track(kind: TrackKind, taken: &[LaneSpec]) -> TrackId {
    let usual = match kind {
        TrackKind::Video => TrackId::VIDEO,
        TrackKind::Audio => TrackId::AUDIO,
        TrackKind::Data => TrackId::DATA,
    };
    let others = (3_u8..).map_while(TrackId::new);
    let is_free = |id: &TrackId| !taken.iter().any(|spec| spec.track == *id);
    core::iter::once(usual).chain(others).find(is_free).unwrap_or(usual)
}
