//! Frames to transport packets.

mod packets;
mod stream;

use arcly_core::{MediaFrame, TimeDelta, Timescale, Timestamp, TrackId, TrackKind, TrackSet};
use bytes::BytesMut;

use self::packets::{PacketData, put_clock};
use self::stream::Stream;
use super::kind;
use super::packet::{Adaptation, NULL_PID, PACKET_LEN};
use super::pes::{PesHeader, TIMESTAMP_RANGE};
use super::psi::{MAX_STREAMS, PAT_PID, Pat, Pmt};

/// Program tables are repeated at least as often as this, in media time.
pub const TABLE_INTERVAL: TimeDelta = TimeDelta::from_millis(100);
/// The program's clock is repeated at least as often as this, as long as there are frames.
pub const CLOCK_INTERVAL: TimeDelta = TimeDelta::from_millis(40);
/// The time that a stream's zero has: timestamps of what is presented before it, and the clock, stay positive.
pub const ORIGIN: TimeDelta = TimeDelta::from_millis(1_000);
/// How long before its decode time a frame has arrived, by the program's clock.
pub const CLOCK_LEAD: TimeDelta = TimeDelta::from_millis(200);

const PROGRAM: u16 = 1;
const TRANSPORT_STREAM: u16 = 1;
const PMT_PID: u16 = 0x1000;
const CLOCK_RATE: Timescale = Timescale::of(27_000_000);

/// The packets of a program table, but for their counters.
#[derive(Debug, Default)]
struct Table {
    /// Behind the pointer field.
    section: BytesMut,
    continuity: u8,
}

/// Makes a transport stream of one program out of a stream's frames.
///
/// The tables come first and again at every keyframe of the first video track, when the tracks change, and every
/// [`TABLE_INTERVAL`]; the clock is with every frame of the first video track (else the first audio track) and at least every
/// [`CLOCK_INTERVAL`]. Before keyframes stand their parameter sets. Every frame is a PES packet of its own.
///
/// Tracks that a transport stream cannot carry are left out: see [`can_carry`](Self::can_carry).
///
/// Two allocations a frame at most, none of them when the buffer has room; the media is copied once.
#[derive(Debug, Default)]
pub struct Muxer {
    streams: Vec<Stream>,
    /// Tracks that have gone, with their counters: a counter goes on when they come back.
    counters: Vec<(TrackId, u8)>,
    pat: Table,
    pmt: Table,
    version: u8,
    clock: Clock,
    /// Tables are due before the next frame.
    tables_due: bool,
    tables_at: Option<Timestamp>,
    head: Vec<u8>,
}

/// The program's clock on its way out.
#[derive(Debug, Default)]
struct Clock {
    /// The track that it goes with.
    track: Option<TrackId>,
    pid: u16,
    /// The decode time that it said last.
    at: Option<Timestamp>,
    /// The usual distance between frames of its track.
    step: TimeDelta,
    /// The last decode time of its track.
    frame_at: Option<Timestamp>,
}

impl Muxer {
    /// A muxer without tracks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// True when a transport stream can carry at least one of the tracks.
    #[must_use]
    pub fn can_carry(tracks: &TrackSet) -> bool {
        tracks.iter().any(|track| Stream::new(track).is_some())
    }

    /// From here on these are the tracks. Tables that say so come before the next frame.
    pub fn set_tracks(&mut self, tracks: &TrackSet) {
        let mut streams: Vec<_> = tracks.iter().filter_map(Stream::new).take(MAX_STREAMS).collect();
        for old in &self.streams {
            self.counters.retain(|(id, _)| *id != old.id);
            self.counters.push((old.id, old.continuity));
        }
        for new in &mut streams {
            let known = self.counters.iter().find(|(id, _)| *id == new.id);
            new.continuity = known.map_or(new.continuity, |(_, continuity)| *continuity);
        }
        let first = |kind| streams.iter().find(|stream| stream.kind == kind);
        let clock = first(TrackKind::Video).or_else(|| first(TrackKind::Audio)).or_else(|| streams.first());
        self.clock.track = clock.map(|stream| stream.id);
        self.clock.pid = clock.map_or(NULL_PID, |stream| stream.info.pid);
        self.clock.frame_at = None;
        self.streams = streams;
        self.make_tables();
        self.tables_due = true;
    }

    /// Tables come before the next frame: a segment, or a reader, begins there.
    pub const fn begin(&mut self) {
        self.tables_due = true;
    }

    /// Appends the packets of a frame, and of the tables and the clock where they are due. Nothing is appended for a frame
    /// that cannot be carried.
    pub fn frame(&mut self, frame: &MediaFrame, out: &mut BytesMut) {
        let Some(index) = self.streams.iter().position(|stream| stream.id == frame.track) else { return };
        let is_clock = self.clock.track == Some(frame.track);
        let Some(stream) = self.streams.get(index) else { return };
        self.head.clear();
        if stream.is_sections() {
            // pointer_field: the section begins at once.
            self.head.push(0);
        } else {
            header(stream, frame)
                .encode(frame.payload.len().saturating_add(stream.prefix_len(frame)), &mut self.head);
        }
        if stream.put_prefix(frame, &mut self.head).is_none() {
            return;
        }
        let is_join = frame.is_keyframe() && stream.kind == TrackKind::Video;
        let pcr = is_clock && !stream.is_sections();
        let adaptation = Adaptation {
            discontinuity: false,
            random_access: is_join,
            pcr: pcr.then(|| self.clock.with_frame(frame)),
        };
        let clock = if pcr { None } else { self.clock_packet(frame) };
        let tables = self.tables_due(frame, is_clock && is_join);
        let Some(stream) = self.streams.get_mut(index) else { return };
        let data = PacketData {
            pid: stream.info.pid,
            adaptation,
            head: &self.head,
            body: &frame.payload,
            nal_units: stream.is_nal_units(),
        };
        let tables_len = if tables { self.pat.packets().saturating_add(self.pmt.packets()) } else { 0 };
        let packets = data.packets().saturating_add(tables_len).saturating_add(usize::from(clock.is_some()));
        out.reserve(packets.saturating_mul(PACKET_LEN));
        if tables {
            self.pat.put(PAT_PID, out);
            self.pmt.put(PMT_PID, out);
        }
        if let Some((pid, continuity, pcr)) = clock {
            put_clock(pid, continuity, pcr, out);
        }
        data.put(&mut stream.continuity, out);
    }

    /// What a packet with the clock needs, when one is due.
    fn clock_packet(&mut self, frame: &MediaFrame) -> Option<(u16, u8, u64)> {
        let stream = self.streams.iter().find(|stream| Some(stream.id) == self.clock.track)?;
        Some((stream.info.pid, stream.continuity, self.clock.due(frame)?))
    }

    fn tables_due(&mut self, frame: &MediaFrame, join: bool) -> bool {
        let old = self.tables_at.is_none_or(|at| (frame.dts - at).abs() >= TABLE_INTERVAL);
        let due = core::mem::take(&mut self.tables_due) || join || old;
        if due {
            self.tables_at = Some(frame.dts);
        }
        due
    }

    fn make_tables(&mut self) {
        let streams: Vec<_> = self.streams.iter().map(|stream| stream.info.clone()).collect();
        let pmt = Pmt {
            program: PROGRAM,
            version: self.version,
            pcr_pid: self.clock.pid,
            descriptors: kind::program_descriptors(&streams),
            streams,
        };
        let pat = Pat { transport_stream: TRANSPORT_STREAM, version: 0, programs: vec![(PROGRAM, PMT_PID)] };
        self.version = self.version.wrapping_add(1) & 0x1F;
        self.pat.section.clear();
        self.pmt.section.clear();
        pat.encode(&mut self.pat.section);
        pmt.encode(&mut self.pmt.section);
    }
}

impl Table {
    fn data(&self, pid: u16) -> PacketData<'_> {
        let adaptation = Adaptation::default();
        PacketData { pid, adaptation, head: &[0], body: &self.section, nal_units: false }
    }

    fn packets(&self) -> usize {
        self.data(PAT_PID).packets()
    }

    fn put(&mut self, pid: u16, out: &mut BytesMut) {
        let mut continuity = self.continuity;
        self.data(pid).put(&mut continuity, out);
        self.continuity = continuity;
    }
}

impl Clock {
    /// The clock at a frame that it goes with.
    fn with_frame(&mut self, frame: &MediaFrame) -> u64 {
        if let Some(before) = self.frame_at.replace(frame.dts) {
            self.step = frame.dts - before;
        }
        self.say(frame.dts)
    }

    /// The clock, when waiting for the next frame would make it late.
    fn due(&mut self, frame: &MediaFrame) -> Option<u64> {
        let late = |at: Timestamp| frame.dts + frame.duration - at > CLOCK_INTERVAL;
        let soon = self.frame_at.is_some_and(|at| {
            // The next frame that it goes with is in time.
            self.step <= CLOCK_INTERVAL && frame.dts < at + self.step + self.step
        });
        let due = self.at.is_none_or(late) && !soon;
        due.then(|| self.say(frame.dts))
    }

    /// The clock never runs backwards, whatever the order in which tracks come.
    fn say(&mut self, dts: Timestamp) -> u64 {
        let at = self.at.map_or(dts, |last| last.max(dts));
        self.at = Some(at);
        let ticks = (at + ORIGIN - CLOCK_LEAD).to_ticks(CLOCK_RATE);
        ticks.rem_euclid(TIMESTAMP_RANGE.saturating_mul(300).cast_signed()).unsigned_abs()
    }
}

fn header(stream: &Stream, frame: &MediaFrame) -> PesHeader {
    let ticks = |at: Timestamp| {
        let ticks = (at + ORIGIN).to_ticks(Timescale::MPEG);
        ticks.rem_euclid(TIMESTAMP_RANGE.cast_signed()).unsigned_abs()
    };
    let (pts, dts) = (ticks(frame.pts), ticks(frame.dts));
    PesHeader { stream_id: stream.stream_id, pts: Some(pts), dts: (pts != dts).then_some(dts), aligned: true }
}
