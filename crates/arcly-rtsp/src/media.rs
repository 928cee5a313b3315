//! Between RTP and the engine: a publisher's packets to frames, a stream's packets to players.
//!
//! What players get is built once per stream: the packets, behind interleaved headers, are the same bytes for everybody
//! over TCP, and are taken apart again for datagrams.

use core::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arcly_core::derived::{Headers, Packet};
use arcly_core::log::{Log, TrackChoice};
use arcly_core::track::TrackMask;
use arcly_core::wire::DecodeError;
use arcly_core::{
    CloseReason, DerivedSubscriber, MediaFrame, Publisher, StreamError, Subscription, Timestamp, TrackId,
    TrackKind,
};
use arcly_mux::ts;
use arcly_rtp::media::{
    Event, LaneSpec, MediaReceiver, MediaReceiverOptions, Numbering, Packetizer, PacketizerOptions, Reports,
    interleaved,
};
use arcly_rtp::payload::Encoding;
use arcly_rtp::sdp::{Format, formats};
use arcly_rtp::wire::rtcp::{Goodbye, PictureLoss, RtcpPacket};
use bytes::{Bytes, BytesMut};

pub use crate::session::REPORT_INTERVAL;
use crate::session::{Agreed, Intent, Medium, Presentation, Start};
use crate::srtp::{Receiver, Sender};

/// Packets that are looked at to find where the media of a player begin.
const LOOK_AHEAD: usize = 512;

/// Why a publisher's packet ended its stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The peer does not speak RTP, or MPEG-TS where it says so.
    #[error(transparent)]
    Packets(#[from] DecodeError),
    /// The engine has taken the right to publish away.
    #[error(transparent)]
    Engine(#[from] StreamError),
}

impl IngestError {
    /// The reason for logs, metrics and replies.
    #[must_use]
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::Packets(error) => (*error).into(),
            Self::Engine(error) => error.reason(),
        }
    }
}

/// Packets of one session into the engine.
///
/// A medium that carries a transport stream carries tracks of its own, and is then the only one that counts.
#[derive(Debug)]
pub struct Ingest {
    publisher: Publisher,
    receiver: MediaReceiver,
    transport_stream: Option<Box<ts::Demuxer>>,
    /// The lane of each medium.
    lanes: Vec<Option<usize>>,
    /// What takes apart what comes of each medium, and protects what is said about it, where that is agreed on.
    guards: Vec<Option<(Receiver, Sender)>>,
    /// Media whose sender should be asked for a keyframe.
    wanted: Vec<usize>,
    /// What this side calls itself in reports.
    ssrc: u32,
    reported: Option<Instant>,
}

impl Ingest {
    /// Publishes what the media that were agreed on carry, those that a player sends where it plays the others. `ssrc` is this side's own number, random.
    #[must_use]
    pub fn new(publisher: Publisher, presentation: &Presentation, ssrc: u32) -> Self {
        let is_udp = presentation.agreed().any(|(.., agreed)| agreed.is_udp());
        let options =
            if is_udp { MediaReceiverOptions::from_the_start() } else { MediaReceiverOptions::ordered() };
        let (mut specs, mut lanes) = (Vec::new(), Vec::new());
        for medium in &presentation.media {
            let is_sent = presentation.intent == Intent::Publish || medium.is_back_channel;
            let comes = medium.agreed.is_some() && !medium.formats.is_empty() && is_sent;
            lanes.push(comes.then_some(specs.len()));
            if comes {
                specs.push(LaneSpec { track: medium.track, formats: medium.formats.clone() });
            }
        }
        let mut formats = specs.iter().flat_map(|spec| &spec.formats);
        let transport_stream = formats.any(|format| format.encoding == Encoding::Mp2t);
        Self {
            publisher,
            receiver: MediaReceiver::new(specs, options),
            transport_stream: transport_stream
                .then(|| Box::new(ts::Demuxer::new(ts::DemuxerOptions::default()))),
            lanes,
            guards: presentation.media.iter().map(guard).collect(),
            wanted: Vec::new(),
            ssrc,
            reported: None,
        }
    }

    /// The right to publish that is used.
    #[must_use]
    pub const fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// What was received.
    pub const fn receiver(&mut self) -> &mut MediaReceiver {
        &mut self.receiver
    }

    fn lane(&self, medium: usize) -> Option<usize> {
        self.lanes.get(medium).copied().flatten()
    }

    /// Takes a packet of a medium. One that is to be protected and is not what its sender made is dropped.
    ///
    /// # Errors
    /// See [`IngestError`]; the stream is over for this publisher.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        medium: usize,
        control: bool,
        packet: &Bytes,
    ) -> Result<(), IngestError> {
        let Some(lane) = self.lane(medium) else { return Ok(()) };
        let opened = match self.guards.get_mut(medium).and_then(Option::as_mut) {
            None => Ok(packet.clone()),
            Some((receiver, _)) if control => receiver.unprotect_rtcp(packet),
            Some((receiver, _)) => receiver.unprotect(packet),
        };
        match opened {
            Ok(packet) if control => self.receiver.handle_rtcp(now, lane, &packet),
            Ok(packet) => self.receiver.handle_rtp(now, lane, &packet)?,
            Err(error) => tracing::debug!(%error, medium, "a packet was dropped"),
        }
        self.publish()
    }

    /// Time has passed.
    ///
    /// # Errors
    /// See [`IngestError`].
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), IngestError> {
        self.receiver.handle_timeout(now);
        self.publish()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.receiver.deadline()
    }

    /// A reader needs a keyframe of every picture.
    pub fn want_keyframes(&mut self) {
        self.wanted.extend(0..self.lanes.len());
    }

    /// Control packets for the publisher: requests for keyframes at once, reports every [`REPORT_INTERVAL`]. By medium.
    pub fn control(&mut self, now: Instant) -> Vec<(usize, Bytes)> {
        let due = self.reported.is_none_or(|at| now.saturating_duration_since(at) >= REPORT_INTERVAL);
        let mut out = Vec::new();
        for (medium, lane) in self.lanes.iter().enumerate() {
            let Some(lane) = *lane else { continue };
            let wanted = self.wanted.contains(&medium);
            let Some(media) = self.receiver.ssrc(lane).filter(|_| due || wanted) else { continue };
            // A compound packet begins with a report (RFC 3550 §6.1).
            let Some(report) = self.receiver.report(now, lane, self.ssrc, "arcly") else { continue };
            let mut packet = BytesMut::from(&report[..]);
            if wanted {
                RtcpPacket::PictureLoss(PictureLoss { sender: self.ssrc, media }).encode(&mut packet);
            }
            if due {
                self.reported = Some(now);
            }
            let protected = match self.guards.get_mut(medium).and_then(Option::as_mut) {
                Some((_, sender)) => sender.protect_rtcp(&packet).ok(),
                None => Some(packet.freeze()),
            };
            out.extend(protected.map(|packet| (medium, packet)));
        }
        self.wanted.clear();
        out
    }

    fn publish(&mut self) -> Result<(), IngestError> {
        while let Some(event) = self.receiver.poll_event() {
            match event {
                Event::Media(media) if self.transport_stream.is_none() => self.publisher.handle(media)?,
                Event::TransportStream { data, .. } => {
                    let Some(demuxer) = &mut self.transport_stream else { continue };
                    demuxer.push(&data)?;
                    while let Some(media) = demuxer.poll_event() {
                        self.publisher.handle(media)?;
                    }
                }
                Event::KeyframeNeeded { lane } => {
                    self.wanted.extend(self.lanes.iter().position(|of| *of == Some(lane)));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn guard(medium: &Medium) -> Option<(Receiver, Sender)> {
    let protection = medium.protection.as_ref()?;
    Some((protection.receiver()?, protection.sender()))
}

/// Players' packets of a stream.
pub type Player = DerivedSubscriber<Packetizer>;

/// Reads a stream as packets that are numbered under `key`, of the media that are agreed on.
#[must_use]
pub fn player(subscription: Subscription, presentation: &Presentation, key: u64, mtu: usize) -> Player {
    let log = Arc::clone(subscription.log());
    let mut options = PacketizerOptions::new(key);
    options.mtu = mtu;
    let mut player = subscription.into_derived(key, || packetizer(&log, options));
    player.set_track_choice(choice(presentation));
    player
}

/// What makes a stream's packets, with sender reports between them: what the stream has by now was live just now.
#[must_use]
pub fn packetizer(log: &Log<MediaFrame>, options: PacketizerOptions) -> Packetizer {
    let anchor = log.last().map(|frame| (frame.dts, SystemTime::now()));
    let cname = format!("{:016x}", options.key);
    Packetizer::new(options).with_reports(Reports { cname, clock: SystemTime::now, anchor })
}

/// The tracks that a player gets: those that are set up, as long as they are what the player was told, in the place that
/// its channels stand for. A change that it was not told of ends it as unsupported: there is no way to tell it.
fn choice(presentation: &Presentation) -> TrackChoice<Headers> {
    let agreed = presentation.played();
    let agreed: Vec<(usize, TrackId, Option<Format>)> =
        agreed.map(|(at, medium, _)| (at, medium.track, medium.formats.first().cloned())).collect();
    Arc::new(move |headers: &Headers| {
        let found = formats(&headers.tracks);
        let mut mask = TrackMask::NONE;
        for (at, track, told) in &agreed {
            let Some(place) = found.iter().position(|(found, _)| found == track) else { continue };
            let now = found.get(place).map(|(_, format)| format);
            if place != *at || !now.zip(told.as_ref()).is_some_and(|(now, told)| goes_on(now, told)) {
                return None;
            }
            mask.insert(*track);
        }
        (!mask.is_empty()).then_some(mask)
    })
}

/// Whether a player that was told of one format can take another: pictures bring their configuration with them.
fn goes_on(now: &Format, told: &Format) -> bool {
    let picture = told.codec().is_some_and(|codec| codec.kind() == TrackKind::Video);
    now.payload_type == told.payload_type
        && now.encoding == told.encoding
        && now.clock == told.clock
        && (picture || now.config == told.config)
}

/// Where a player's media begin: what `RTP-Info` says. All timestamps stand for one moment, that of the first frame.
pub fn starts(player: &mut Player, presentation: &Presentation, key: u64) -> Vec<Start> {
    let mut first: Vec<(TrackId, Timestamp, Option<u16>)> = Vec::new();
    let (count, mut seen) = (presentation.played().count(), 0_usize);
    player.look_ahead(|packet| {
        seen = seen.saturating_add(1);
        if !first.iter().any(|(track, ..)| *track == packet.track) {
            first.push((packet.track, packet.dts, sequence(packet)));
        }
        if first.len() >= count || seen >= LOOK_AHEAD {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    let origin = first.iter().map(|(_, dts, _)| *dts).min();
    let mut starts = moments(presentation, key, origin);
    for (start, (_, medium, _)) in starts.iter_mut().zip(presentation.played()) {
        start.sequence =
            first.iter().find(|(track, ..)| *track == medium.track).and_then(|(.., sequence)| *sequence);
    }
    starts
}

/// What a moment of the stream's timeline is on each medium that is set up, where nobody knows with which packets it begins.
#[must_use]
pub fn moments(presentation: &Presentation, key: u64, at: Option<Timestamp>) -> Vec<Start> {
    let start = |medium: &Medium| {
        let clock = medium.formats.first().map(|format| format.clock);
        let numbering = Numbering::of(key, medium.track);
        let timestamp = at.zip(clock).map(|(at, clock)| numbering.timestamp_of(at, clock));
        Start { sequence: None, timestamp }
    };
    presentation.played().map(|(_, medium, _)| start(medium)).collect()
}

/// The number of the first RTP packet of a frame.
fn sequence(packet: &Packet) -> Option<u16> {
    let (_, rtp) = interleaved(packet.bytes.clone()).find(|(channel, _)| channel.is_multiple_of(2))?;
    let [_, _, high, low] = *rtp.first_chunk::<4>()?;
    Some(u16::from_be_bytes([high, low]))
}

/// What players are told when a stream ends, by medium.
#[must_use]
pub fn goodbyes(presentation: &Presentation, key: u64) -> Vec<(usize, Agreed, Bytes)> {
    let goodbye = |(at, medium, agreed): (usize, &Medium, Agreed)| {
        let mut packet = BytesMut::new();
        let sources = [Numbering::of(key, medium.track).ssrc].into_iter().collect();
        RtcpPacket::Goodbye(Goodbye { sources, ..Goodbye::default() }).encode(&mut packet);
        (at, agreed, packet.freeze())
    };
    presentation.played().map(goodbye).collect()
}
