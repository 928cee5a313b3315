use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arcly_core::derived::{self, Headers, Packet};
use arcly_core::time::ClockSource;
use arcly_core::{MediaFrame, TimeDelta, Timescale, Timestamp, TrackId, TrackSet};
use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::payload::{self, DEFAULT_MTU, MIN_MTU, PacketSink};
use crate::sdp::{Format, formats};
use crate::wire::rtcp::{RtcpPacket, SenderReport, sdes};
use crate::wire::{HEADER_BYTES, Header, NtpTime};

/// What stands before each packet on a connection that RTSP shares (RFC 7826 §14): `$`, channel, length.
pub const INTERLEAVED_HEADER: usize = 4;
const DOLLAR: u8 = b'$';

/// How packets are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacketizerOptions {
    /// Bytes of a packet, header included.
    pub mtu: usize,
    /// What the numbers of the packets are made of: random, and one for each stream.
    pub key: u64,
}

impl PacketizerOptions {
    /// Packets of [`DEFAULT_MTU`] bytes at most.
    #[must_use]
    pub const fn new(key: u64) -> Self {
        Self { mtu: DEFAULT_MTU, key }
    }
}

/// Where a track's packets begin to count: random, and the same for everybody who knows the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// The source.
    pub ssrc: u32,
    /// The first sequence number.
    pub sequence: u16,
    /// The timestamp of the stream's time zero.
    pub timestamp: u32,
}

impl Numbering {
    /// The numbers of a track under a key.
    #[must_use]
    pub fn of(key: u64, track: TrackId) -> Self {
        let index = u64::try_from(track.index()).unwrap_or_default();
        let mut state = key.wrapping_add(index.wrapping_mul(0xD1B5_4A32_D192_ED03));
        let mut next = || {
            // Sebastiano Vigna's SplitMix64: nothing here is secret, but no two tracks may have the same numbers.
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            u32::try_from(z >> 32).unwrap_or_default()
        };
        let (ssrc, timestamp) = (next(), next());
        // Below 2¹⁵, so that SRTP does not take reordering at the start for a wrap (RFC 3711 §3.3.1).
        Self { ssrc, timestamp, sequence: u16::try_from(next() & 0x7FFF).unwrap_or_default() }
    }

    /// The RTP timestamp of a point of the stream's timeline.
    #[must_use]
    pub fn timestamp_of(&self, at: Timestamp, clock: Timescale) -> u32 {
        let ticks = u32::try_from(at.to_ticks(clock) & 0xFFFF_FFFF).unwrap_or_default();
        self.timestamp.wrapping_add(ticks)
    }
}

/// A sender report that says that `at` on the stream's timeline is `wall`; counts are those of what was sent to one receiver. Reports of
/// all tracks that are made with the same pair keep them in step to the last tick.
#[must_use]
pub fn sender_report(
    numbering: Numbering,
    clock: Timescale,
    (at, wall): (Timestamp, SystemTime),
    (packets, octets): (u32, u32),
) -> SenderReport {
    SenderReport {
        ssrc: numbering.ssrc,
        ntp: NtpTime::from_system_time(wall),
        rtp_timestamp: numbering.timestamp_of(at, clock),
        packets,
        octets,
        reports: smallvec::SmallVec::new(),
    }
}

/// How often sender reports stand among the packets (RFC 3550 §6.2 asks for at least 5 s between two of one source).
const REPORT_INTERVAL: TimeDelta = TimeDelta::from_millis(5_000);
/// How often they do before frames that a reader may begin with.
const JOIN_INTERVAL: TimeDelta = TimeDelta::from_millis(500);
/// A clock that is further than this from what the reports say has been set, or the publisher's runs at another speed.
const CLOCK_DRIFT: Duration = Duration::from_millis(250);

/// Sender reports between the packets: which moment of the stream is which on the wall, so that receivers keep tracks
/// together. They are made once, as the packets are: whoever counts as their sender has sent them all.
#[derive(Clone, Debug)]
pub struct Reports {
    /// Who sends, as receivers tell sources apart: a random name, the same for all tracks of a stream.
    pub cname: String,
    /// What the wall says, whenever it is asked.
    pub clock: fn() -> SystemTime,
    /// A moment of the stream, and when it was: mostly its newest, and now. Frames before it were there already when the
    /// packetizer was made. Without one, the first frame is now.
    pub anchor: Option<(Timestamp, SystemTime)>,
}

impl Reports {
    /// The moment that a frame stands for. Who captured it knows best; else it is as long after the anchor as it is on the
    /// stream's timeline, as long as the two agree about how fast time goes.
    fn moment(&mut self, frame: &MediaFrame) -> (Timestamp, SystemTime) {
        if let Some(wall) = frame.wall.filter(|wall| wall.source == ClockSource::Sender) {
            return (frame.pts, wall.time);
        }
        let now = (self.clock)();
        let (at, then) = *self.anchor.get_or_insert((frame.dts, now));
        let away = frame.dts - at;
        let expected = if away < TimeDelta::ZERO {
            return (frame.dts, then.checked_sub((at - frame.dts).to_duration()).unwrap_or(then));
        } else {
            then.checked_add(away.to_duration()).unwrap_or(now)
        };
        let off = now.duration_since(expected).unwrap_or_else(|error| error.duration());
        if off <= CLOCK_DRIFT {
            return (frame.dts, expected);
        }
        self.anchor = Some((frame.dts, now));
        (frame.dts, now)
    }
}

struct Lane {
    /// Packets and bytes of payload so far.
    sent: (u32, u32),
    /// What a report is to say.
    due: Option<(Timestamp, SystemTime)>,
    track: TrackId,
    format: Format,
    payload: payload::Packetizer,
    numbering: Numbering,
    sequence: u16,
    channel: u8,
}

impl Lane {
    /// Appends the report that is due, if one is.
    fn put_report(&mut self, cname: &str, out: &mut BytesMut) {
        let Some(moment) = self.due.take() else { return };
        let mut packet = BytesMut::new();
        let report = sender_report(self.numbering, self.format.clock, moment, self.sent);
        RtcpPacket::SenderReport(report).encode(&mut packet);
        sdes(self.numbering.ssrc, cname).encode(&mut packet);
        let Ok(len) = u16::try_from(packet.len()) else { return };
        out.put_slice(&[DOLLAR, self.channel.saturating_add(1)]);
        out.put_u16(len);
        out.put_slice(&packet);
    }
}

/// Makes a derived log of RTP packets: what [`into_derived`](arcly_core::Subscription::into_derived) takes.
///
/// A packet of the log holds all RTP packets of one frame, and before them control packets where they are due
/// ([`with_reports`](Self::with_reports)), each behind an interleaved header with channel 0 for the first track that has
/// a format ([`formats`]), 2 for the second and so on: what a reader over TCP is sent as it is, and [`interleaved`] takes apart for
/// datagrams. The payload is copied once.
pub struct Packetizer {
    options: PacketizerOptions,
    lanes: Vec<Lane>,
    reports: Option<Reports>,
    reported: Option<Timestamp>,
    /// A reader may begin with the next frame.
    joins: bool,
}

impl core::fmt::Debug for Packetizer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Packetizer({} lanes)", self.lanes.len())
    }
}

impl Packetizer {
    /// A packetizer that has seen nothing.
    #[must_use]
    pub const fn new(options: PacketizerOptions) -> Self {
        Self { options, lanes: Vec::new(), reports: None, reported: None, joins: false }
    }

    /// The same with sender reports on the channels behind those of the packets: before a frame that readers may begin with,
    /// and every five seconds.
    #[must_use]
    pub fn with_reports(mut self, reports: Reports) -> Self {
        self.reports = Some(reports);
        self
    }

    /// Makes reports due, of one moment on all lanes: each goes out before the next frame of its own.
    fn report(&mut self, frame: &MediaFrame) {
        let joins = core::mem::take(&mut self.joins);
        let Some(reports) = &mut self.reports else { return };
        let interval = if joins { JOIN_INTERVAL } else { REPORT_INTERVAL };
        // A timeline that goes back begins anew.
        if self.reported.is_some_and(|at| frame.dts >= at && frame.dts - at < interval) {
            return;
        }
        self.reported = Some(frame.dts);
        let moment = reports.moment(frame);
        self.lanes.iter_mut().for_each(|lane| lane.due = Some(moment));
    }
}

impl derived::Packetizer for Packetizer {
    type Item = Packet;

    fn headers(&mut self, tracks: &Arc<TrackSet>) -> Arc<Headers> {
        let before = core::mem::take(&mut self.lanes);
        let room = self.options.mtu.saturating_sub(HEADER_BYTES).max(MIN_MTU);
        let channels = (0..=u8::MAX).step_by(2);
        for ((track, format), channel) in formats(tracks).into_iter().zip(channels) {
            let numbering = Numbering::of(self.options.key, track);
            let known = before.iter().find(|lane| lane.track == track);
            let sequence = known.map_or(numbering.sequence, |lane| lane.sequence);
            let sent = known.map_or((0, 0), |lane| lane.sent);
            let payload = payload::Packetizer::new(format.encoding.clone(), format.config.clone(), room);
            self.lanes.push(Lane { sent, due: None, track, format, payload, numbering, sequence, channel });
        }
        Arc::new(Headers { tracks: Arc::clone(tracks), parts: Vec::new() })
    }

    fn join(&mut self) {
        self.joins = true;
    }

    fn packetize(&mut self, frame: &MediaFrame, out: &mut Vec<Packet>) {
        self.report(frame);
        let cname = self.reports.as_ref().map_or("", |reports| &reports.cname);
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.track == frame.track) else { return };
        let mtu = self.options.mtu.max(MIN_MTU);
        let overhead = INTERLEAVED_HEADER.saturating_add(HEADER_BYTES).saturating_add(4);
        let room = mtu.saturating_sub(overhead).max(1);
        let packets = frame.payload.len().checked_div(room).unwrap_or(0).saturating_add(3);
        let capacity = frame.payload.len().saturating_add(packets.saturating_mul(overhead));
        let mut bytes = BytesMut::with_capacity(capacity);
        lane.put_report(cname, &mut bytes);
        let mut sink = Writer {
            out: bytes,
            octets: 0,
            header: Header {
                marker: false,
                payload_type: lane.format.payload_type,
                sequence: lane.sequence,
                timestamp: lane.numbering.timestamp_of(frame.pts, lane.format.clock),
                ssrc: lane.numbering.ssrc,
            },
            channel: lane.channel,
        };
        // What is not in canonical form has nothing that a packet could hold; the kernel's own demuxers do not make it.
        let packed = lane.payload.packetize(frame, &mut sink);
        let packets = sink.header.sequence.wrapping_sub(lane.sequence);
        let (sent, octets) = lane.sent;
        lane.sent = (sent.wrapping_add(packets.into()), octets.wrapping_add(sink.octets));
        lane.sequence = sink.header.sequence;
        if packed.is_ok() && packets > 0 {
            let bytes = sink.out.freeze();
            out.push(Packet { track: frame.track, dts: frame.dts, flags: frame.flags, bytes });
        }
    }
}

/// Writes packets behind each other.
struct Writer {
    out: BytesMut,
    /// Bytes of payload.
    octets: u32,
    /// Of the next packet, with the frame's timestamp.
    header: Header,
    channel: u8,
}

impl PacketSink for Writer {
    fn packet(&mut self, marker: bool, ticks: u32, parts: &[&[u8]]) {
        let len = parts.iter().fold(HEADER_BYTES, |sum, part| sum.saturating_add(part.len()));
        // A packet that its length cannot say is one that no path takes either.
        let Ok(len) = u16::try_from(len) else { return };
        self.octets = parts
            .iter()
            .fold(self.octets, |sum, part| sum.wrapping_add(u32::try_from(part.len()).unwrap_or_default()));
        let header = Header { marker, timestamp: self.header.timestamp.wrapping_add(ticks), ..self.header };
        self.header.sequence = self.header.sequence.wrapping_add(1);
        self.out.put_slice(&[DOLLAR, self.channel]);
        self.out.put_u16(len);
        self.out.put_slice(&header.encode());
        parts.iter().for_each(|part| self.out.put_slice(part));
    }
}

/// Iterates over packets behind interleaved headers: channels and packets.
#[derive(Clone, Debug)]
pub struct Interleaved(Bytes);

/// The packets that a [`Packetizer`] put behind each other. Ends before one that is not whole.
#[must_use]
pub const fn interleaved(bytes: Bytes) -> Interleaved {
    Interleaved(bytes)
}

impl Iterator for Interleaved {
    type Item = (u8, Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        let [dollar, channel, high, low] = *self.0.first_chunk::<INTERLEAVED_HEADER>()?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        let end = INTERLEAVED_HEADER.saturating_add(len);
        if dollar != DOLLAR || self.0.len() < end {
            return None;
        }
        self.0.advance(INTERLEAVED_HEADER);
        Some((channel, self.0.split_to(len)))
    }
}
