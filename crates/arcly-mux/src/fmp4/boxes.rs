//! What may stand before a fragment: its type, its wall-clock time, messages, an index.

use std::time::{SystemTime, UNIX_EPOCH};

use arcly_core::{TimeDelta, Timestamp, TrackId};
use bytes::BufMut;

use super::Mp4Track;
use super::wire::{put_box, put_full_box, put_text};

/// Seconds from 1900, where NTP begins, to 1970.
const NTP_UNIX_OFFSET: u64 = 2_208_988_800;

/// What a segment is, for its `styp` box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentType {
    /// A CMAF segment: it begins with a keyframe.
    Segment,
    /// A CMAF chunk on its own: a part.
    Chunk,
}

/// Who says the time in a `prft` box (its flags, ISO/IEC 14496-12 8.16.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProducerClock {
    /// When the frame went into the encoder.
    EncoderInput,
    /// When the frame came out of the encoder: the closest word for its arrival here.
    EncoderOutput,
    /// When the picture was captured.
    Captured,
}

impl ProducerClock {
    const fn flags(self) -> u32 {
        match self {
            Self::EncoderInput => 0,
            Self::EncoderOutput => 1,
            Self::Captured => 24,
        }
    }
}

/// The wall-clock time of a media time: a `prft` box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerTime {
    /// Of which track `media_time` is.
    pub track: TrackId,
    /// In ticks of that track.
    pub media_time: u64,
    /// UTC at that time.
    pub time: SystemTime,
    /// Who says so.
    pub clock: ProducerClock,
}

/// A timed message for the player: an `emsg` box, version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventMessage<'a> {
    /// What kind of message it is: `urn:scte:scte35:2013:bin`, `https://aomedia.org/emsg/ID3`.
    pub scheme: &'a str,
    /// What the scheme makes of it.
    pub value: &'a str,
    /// Ticks per second of the two times.
    pub timescale: u32,
    /// When it applies, on the timeline of presentation.
    pub presentation_time: u64,
    /// For how long, `u32::MAX` when that is not known.
    pub duration: u32,
    /// Tells repetitions of a message from others.
    pub id: u32,
    /// The message.
    pub data: &'a [u8],
}

/// What stands before a fragment, in this order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prefix<'a> {
    /// `styp`.
    pub segment_type: Option<SegmentType>,
    /// `prft`.
    pub producer_time: Option<ProducerTime>,
    /// `emsg`.
    pub events: &'a [EventMessage<'a>],
}

impl Prefix<'_> {
    /// Bytes that it takes.
    pub(super) fn len(&self) -> usize {
        let events = self.events.iter().map(EventMessage::encoded_len).fold(0, usize::saturating_add);
        let fixed = if self.segment_type.is_some() { STYP_LEN } else { 0 };
        let time = if self.producer_time.is_some() { PRFT_LEN } else { 0 };
        events.saturating_add(fixed).saturating_add(time)
    }

    pub(super) fn put<'t>(&self, out: &mut Vec<u8>, mut tracks: impl Iterator<Item = &'t Mp4Track>) {
        if let Some(kind) = self.segment_type {
            put_segment_type(out, kind);
        }
        if let Some(time) = &self.producer_time {
            let number = tracks.find(|track| track.id() == time.track).map_or(1, Mp4Track::number);
            put_producer_time(out, number, time);
        }
        self.events.iter().for_each(|event| event.put(out));
    }
}

const STYP_LEN: usize = 24;
const PRFT_LEN: usize = 32;
/// An `emsg` box without its texts and its data.
const EMSG_LEN: usize = 34;

fn put_segment_type(out: &mut Vec<u8>, kind: SegmentType) {
    put_box(out, b"styp", |out| {
        out.put_slice(b"msdh");
        out.put_u32(0);
        out.put_slice(b"msdh");
        out.put_slice(match kind {
            SegmentType::Segment => b"cmfs",
            SegmentType::Chunk => b"cmfl",
        });
    });
}

fn put_producer_time(out: &mut Vec<u8>, number: u32, time: &ProducerTime) {
    put_full_box(out, b"prft", (1, time.clock.flags()), |out| {
        out.put_u32(number);
        out.put_u64(ntp(time.time));
        out.put_u64(time.media_time);
    });
}

/// 32 bits of seconds since 1900, 32 of fraction. The seconds wrap in 2036, as in RTCP.
pub(super) fn ntp(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    since.as_secs().wrapping_add(NTP_UNIX_OFFSET) << 32 | fraction
}

impl EventMessage<'_> {
    fn encoded_len(&self) -> usize {
        EMSG_LEN
            .saturating_add(text_len(self.scheme))
            .saturating_add(text_len(self.value))
            .saturating_add(self.data.len())
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_full_box(out, b"emsg", (1, 0), |out| {
            out.put_u32(self.timescale);
            out.put_u64(self.presentation_time);
            out.put_u32(self.duration);
            out.put_u32(self.id);
            put_text(out, self.scheme);
            put_text(out, self.value);
            out.put_slice(self.data);
        });
    }
}

/// Without a zero, at which `put_text` ends.
fn text_len(text: &str) -> usize {
    text.split('\0').next().unwrap_or_default().len()
}

/// One entry of a `sidx` box: a fragment, or a run of them, that begins with a keyframe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Bytes of it.
    pub size: u32,
    /// How long it lasts, in ticks.
    pub duration: u32,
}

/// A `sidx` box of a track: where the subsegments behind it are. They begin with keyframes, and the first one right behind
/// the box.
#[must_use]
pub fn segment_index(
    track: &Mp4Track,
    earliest: Timestamp,
    origin: Timestamp,
    entries: &[IndexEntry],
) -> Vec<u8> {
    let mut out = Vec::new();
    put_full_box(&mut out, b"sidx", (1, 0), |out| {
        let at: TimeDelta = earliest - origin;
        out.put_u32(track.number());
        out.put_u32(track.timescale().get());
        out.put_u64(u64::try_from(at.to_ticks(track.timescale())).unwrap_or_default());
        out.put_u64(0); // first_offset
        out.put_u16(0);
        let entries = entries.get(..usize::from(u16::MAX).min(entries.len())).unwrap_or_default();
        out.put_u16(u16::try_from(entries.len()).unwrap_or(u16::MAX));
        for entry in entries {
            out.put_u32(entry.size & 0x7FFF_FFFF);
            out.put_u32(entry.duration);
            out.put_u32(0x9000_0000); // starts_with_SAP, SAP_type 1
        }
    });
    out
}
