//! Video: access units out of a byte stream, whatever the PES packets it came in.
//!
//! An access unit ends where the next begins, which only the next PES packet shows. As almost every sender puts one access
//! unit into one PES packet, that is watched for a while and then relied upon, so that no picture waits for its successor; one
//! packet that goes on with the unit of the packet before ends the trust for good.

use arcly_codec::nal::Framing;
use arcly_codec::{h264, h265, h266};
use arcly_core::codec::{FrameRate, VideoParams};
use arcly_core::wire::DecodeError;
use arcly_core::{CodecConfig, CodecId, FrameFlags, TimeDelta, Track, TrackId};
use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;
use std::sync::LazyLock;

use super::assembler::MAX_PES_BYTES;
use super::unit::{Stamp, Stamps, Unit};
use super::{Counters, mpeg2};

/// PES packets in a row that begin with an access unit before that is relied upon.
const TRUST_AFTER: u32 = 32;
/// PES packets of this length or more may have been cut because they cannot say a greater one.
const LARGEST_SAID: usize = 60_000;
/// Bytes behind a start code that tell what it begins.
const LOOK_AHEAD: usize = 3;
/// What the second picture without a timestamp is believed to be away, when nothing says it.
const DEFAULT_STEP: TimeDelta = TimeDelta::from_millis(40);

static START_CODE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(&[0, 0, 1]));

/// What a start code begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    /// Something that stands before the first slice of an access unit only.
    Prefix,
    /// A picture.
    Picture,
    /// A further part of a picture.
    Slice,
    /// Something that may stand anywhere.
    Other,
}

#[allow(clippy::large_enum_variant, reason = "a stream has a handful of them")]
enum Codec {
    Avc { parser: h264::Parser, interlaced: bool },
    Hevc(h265::Parser),
    Vvc(h266::Parser),
    Mpeg2(mpeg2::Parser),
}

/// Whether PES packets are taken for access units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// So many in a row were.
    After(u32),
    Never,
}

/// One video stream.
pub(super) struct VideoStream {
    codec: Codec,
    /// From the start of an access unit on.
    pending: BytesMut,
    /// Start codes before this offset were seen.
    scanned: usize,
    /// What is pending has a picture.
    has_picture: bool,
    /// Something of what is pending was lost.
    corrupt: bool,
    stamps: Stamps,
    trust: Trust,
    last: Option<Stamp>,
    step: TimeDelta,
    changed: bool,
}

impl VideoStream {
    pub(super) fn new(codec: CodecId) -> Self {
        let codec = match codec {
            CodecId::H265 => Codec::Hevc(h265::Parser::new()),
            CodecId::H266 => Codec::Vvc(h266::Parser::new()),
            CodecId::Mpeg2Video => Codec::Mpeg2(mpeg2::Parser::default()),
            _ => Codec::Avc { parser: h264::Parser::new(), interlaced: false },
        };
        Self {
            codec,
            pending: BytesMut::new(),
            scanned: 0,
            has_picture: false,
            corrupt: false,
            stamps: Stamps::default(),
            trust: Trust::After(0),
            last: None,
            step: TimeDelta::ZERO,
            changed: false,
        }
    }

    /// Bytes that are held.
    pub(super) fn buffered(&self) -> usize {
        self.pending.len()
    }

    pub(super) const fn take_changed(&mut self) -> bool {
        core::mem::replace(&mut self.changed, false)
    }

    /// The track; `None` as long as it could not be decoded.
    pub(super) fn track(&self, id: TrackId) -> Option<Track> {
        let (codec, config, params) = match &self.codec {
            Codec::Avc { parser, .. } => {
                (CodecId::H264, CodecConfig::Avc(parser.config()?.clone()), parser.video_params())
            }
            Codec::Hevc(parser) => {
                (CodecId::H265, CodecConfig::Hevc(parser.config()?.clone()), parser.video_params())
            }
            Codec::Vvc(parser) => {
                (CodecId::H266, CodecConfig::Vvc(parser.config()?.clone()), parser.video_params())
            }
            Codec::Mpeg2(parser) => (CodecId::Mpeg2Video, CodecConfig::None, parser.video_params()?),
        };
        Some(Track::new(id, codec, config).with_video(params))
    }

    /// Takes the payload of a PES packet, whole or what came of it.
    pub(super) fn push(
        &mut self,
        payload: BytesMut,
        stamp: Option<Stamp>,
        corrupt: bool,
        out: &mut Output<'_>,
    ) {
        let len = payload.len();
        self.watch(&payload);
        if self.is_followed_by(&payload) {
            self.flush(out);
        }
        if let Some(stamp) = stamp {
            self.stamps.push(self.pending.len(), stamp);
        }
        if self.pending.is_empty() {
            self.pending = payload;
        } else {
            self.pending.extend_from_slice(&payload);
        }
        self.corrupt |= corrupt;
        self.scan(out);
        let relied_upon = matches!(self.trust, Trust::After(count) if count >= TRUST_AFTER);
        if self.pending.len() > MAX_PES_BYTES {
            out.counters.oversized = out.counters.oversized.saturating_add(1);
            self.discard();
        } else if corrupt || (relied_upon && self.has_picture && len < LARGEST_SAID) {
            self.flush(out);
        }
    }

    /// Gives out what waits, as nothing more of it will come.
    pub(super) fn flush(&mut self, out: &mut Output<'_>) {
        if !self.pending.is_empty() {
            self.cut(self.pending.len(), out);
        }
    }

    /// Something was lost: what waits is all that there is of it.
    pub(super) fn lost(&mut self, out: &mut Output<'_>) {
        self.corrupt = !self.pending.is_empty();
        self.flush(out);
    }

    /// Drops what waits.
    pub(super) fn discard(&mut self) {
        self.pending = BytesMut::new();
        (self.scanned, self.has_picture, self.corrupt) = (0, false, false);
        self.stamps.clear();
    }

    /// True when all of what is pending was looked at, and is an access unit that `payload` begins the next one after: what
    /// [`scan`](Self::scan) would find out once the one is copied behind the other.
    fn is_followed_by(&self, payload: &[u8]) -> bool {
        let is_scanned = self.scanned >= self.pending.len().saturating_sub(2);
        let is_whole = self.has_picture && is_scanned && !self.codec.is_interlaced();
        is_whole && matches!(self.begins(payload), Some(Begins::Prefix | Begins::Picture))
    }

    /// What a payload begins with, when that is a start code.
    fn begins(&self, payload: &[u8]) -> Option<Begins> {
        let start = payload.iter().take(4).position(|byte| *byte != 0)?;
        let code = payload.get(start..).filter(|rest| start >= 2 && rest.first() == Some(&1))?;
        self.codec.classify(code.get(1..)?)
    }

    /// Learns from the start of a PES packet whether packets are access units.
    fn watch(&mut self, payload: &[u8]) {
        let Trust::After(count) = self.trust else { return };
        if self.last.is_none() && self.pending.is_empty() {
            return;
        }
        self.trust = match self.begins(payload) {
            Some(Begins::Prefix | Begins::Picture) => Trust::After(count.saturating_add(1)),
            _ => Trust::Never,
        };
    }

    /// Finds where access units end in what is pending, and gives them out.
    fn scan(&mut self, out: &mut Output<'_>) {
        while let Some(found) = START_CODE.find(self.pending.get(self.scanned..).unwrap_or_default()) {
            let at = self.scanned.saturating_add(found);
            let code = at.saturating_add(3);
            let Some(unit) = self.pending.get(code..).filter(|unit| unit.len() >= LOOK_AHEAD) else {
                self.scanned = at;
                return;
            };
            let begins = self.codec.classify(unit).unwrap_or(Begins::Other);
            self.codec.look_at(unit);
            // The zero byte before a start code belongs to it.
            let zero = at.checked_sub(1).filter(|zero| self.pending.get(*zero) == Some(&0));
            let start = zero.unwrap_or(at);
            self.scanned = code;
            let ends = self.has_picture && matches!(begins, Begins::Prefix | Begins::Picture);
            if ends && start > 0 && !self.is_second_field(start) {
                self.cut(start, out);
                self.scanned = code.saturating_sub(start);
            }
            self.has_picture |= matches!(begins, Begins::Picture | Begins::Slice);
        }
        self.scanned = self.scanned.max(self.pending.len().saturating_sub(2));
    }

    /// Fields of one frame are access units of their own, but come in one PES packet with one timestamp, and are
    /// one sample to every container.
    fn is_second_field(&self, start: usize) -> bool {
        self.codec.is_interlaced() && !self.stamps.any_up_to(start)
    }

    /// The access unit that ends at `end`.
    fn cut(&mut self, end: usize, out: &mut Output<'_>) {
        let data = self.pending.split_to(end).freeze();
        let stamp = self.stamps.take_front();
        self.stamps.advance(end);
        self.scanned = 0;
        self.has_picture = false;
        let corrupt = core::mem::take(&mut self.corrupt);
        let Some((payload, mut flags, config_changed)) = self.codec.parse(data, out) else { return };
        self.changed |= config_changed;
        if payload.is_empty() {
            return;
        }
        let Some(stamp) = self.time(stamp) else {
            out.counters.without_time = out.counters.without_time.saturating_add(1);
            return;
        };
        flags.set(FrameFlags::CORRUPT, corrupt || flags.contains(FrameFlags::CORRUPT));
        if self.codec.is_ready() {
            out.units.push(Unit { stamp, duration: TimeDelta::ZERO, flags, payload });
        } else {
            out.counters.without_config = out.counters.without_config.saturating_add(1);
        }
    }

    /// The time of a picture: its own, or one picture after the last.
    fn time(&mut self, stamp: Option<Stamp>) -> Option<Stamp> {
        let stamp = match (stamp, self.last) {
            (Some(stamp), Some(last)) => {
                let step = stamp.dts - last.dts;
                if step > TimeDelta::ZERO && step < TimeDelta::from_millis(1_000) {
                    self.step = step;
                }
                stamp
            }
            (Some(stamp), None) => stamp,
            (None, Some(last)) => {
                let declared = self.codec.frame_rate().map(FrameRate::frame_duration);
                let known = (self.step > TimeDelta::ZERO).then_some(self.step);
                let dts = last.dts + declared.or(known).unwrap_or(DEFAULT_STEP);
                Stamp { dts, pts: dts, clamped: false }
            }
            (None, None) => return None,
        };
        self.last = Some(stamp);
        Some(stamp)
    }
}

/// Where units and counts go.
pub(super) struct Output<'a> {
    pub(super) units: &'a mut Vec<Unit>,
    pub(super) counters: &'a mut Counters,
    /// Why the stream cannot go on.
    pub(super) refused: &'a mut Option<DecodeError>,
}

impl Codec {
    /// What a start code begins, from the bytes behind it; `None` when they are too few.
    fn classify(&self, unit: &[u8]) -> Option<Begins> {
        let [first, second, third] = *unit.first_chunk::<LOOK_AHEAD>()?;
        Some(match self {
            Self::Avc { .. } => match h264::nal_unit_type(first) {
                // first_mb_in_slice is 0: one bit, set.
                1 | 2 | 5 if second & 0x80 != 0 => Begins::Picture,
                1..=5 => Begins::Slice,
                6..=9 | 14..=18 => Begins::Prefix,
                _ => Begins::Other,
            },
            Self::Hevc(_) => match first >> 1 & 0x3F {
                // first_slice_segment_in_pic_flag.
                0..=31 if third & 0x80 != 0 => Begins::Picture,
                0..=31 => Begins::Slice,
                32..=35 | 39 | 41..=44 | 48..=55 => Begins::Prefix,
                _ => Begins::Other,
            },
            Self::Vvc(_) => match second >> 3 {
                // sh_picture_header_in_slice_header_flag; else a picture header comes first.
                0..=11 if third & 0x80 != 0 => Begins::Picture,
                0..=11 => Begins::Slice,
                12..=17 | 19 | 20 | 23 => Begins::Prefix,
                _ => Begins::Other,
            },
            Self::Mpeg2(_) => mpeg2::classify(first),
        })
    }

    /// Learns what decides where units end.
    fn look_at(&mut self, unit: &[u8]) {
        if let Self::Avc { interlaced, .. } = self
            && unit.first().is_some_and(|first| h264::nal_unit_type(*first) == h264::nal_type::SPS)
            && let Ok(sps) = h264::Sps::decode(unit.get(..unit.len().min(512)).unwrap_or_default())
        {
            *interlaced = !sps.frame_mbs_only;
        }
    }

    const fn is_interlaced(&self) -> bool {
        match self {
            Self::Avc { interlaced, .. } => *interlaced,
            Self::Mpeg2(_) => true,
            Self::Hevc(_) | Self::Vvc(_) => false,
        }
    }

    fn is_ready(&self) -> bool {
        match self {
            Self::Avc { parser, .. } => parser.config().is_some(),
            Self::Hevc(parser) => parser.config().is_some(),
            Self::Vvc(parser) => parser.config().is_some(),
            Self::Mpeg2(parser) => parser.video_params().is_some(),
        }
    }

    fn frame_rate(&self) -> Option<FrameRate> {
        let params: Option<VideoParams> = match self {
            Self::Avc { parser, .. } => Some(parser.video_params()),
            Self::Hevc(parser) => Some(parser.video_params()),
            Self::Vvc(parser) => Some(parser.video_params()),
            Self::Mpeg2(parser) => parser.video_params(),
        };
        params?.frame_rate
    }

    /// An access unit in canonical form, empty without a picture, its flags, and whether the configuration is a new one;
    /// `None` when there is neither.
    fn parse(&mut self, data: Bytes, out: &mut Output<'_>) -> Option<(Bytes, FrameFlags, bool)> {
        let parsed = match self {
            Self::Avc { parser, .. } => parser.push(&data, Framing::AnnexB),
            Self::Hevc(parser) => parser.push(&data, Framing::AnnexB),
            Self::Vvc(parser) => parser.push(&data, Framing::AnnexB),
            Self::Mpeg2(parser) => return parser.push(data),
        };
        if let Err(error @ DecodeError::LimitExceeded { .. }) = parsed {
            // It is whole. One that goes on and on may as well be several of which something was lost, and is dropped.
            out.refused.get_or_insert(error);
        }
        let unit = parsed.ok();
        if unit.as_ref().is_none_or(|unit| unit.fault.is_some()) {
            out.counters.bad_access_units = out.counters.bad_access_units.saturating_add(1);
        }
        let unit = unit.filter(|unit| unit.has_picture() || unit.config_changed)?;
        Some((unit.payload, unit.flags, unit.config_changed))
    }
}

impl core::fmt::Debug for VideoStream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("VideoStream").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}
