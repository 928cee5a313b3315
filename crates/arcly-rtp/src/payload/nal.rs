//! What H.264 and H.265 have in common: NAL units alone, several in a packet, or one in several packets.

use std::sync::LazyLock;

use arcly_codec::nal::{LengthSize, annex_b, length_prefixed, put_length_prefixed};
use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use arcly_core::{CodecConfig, FrameFlags, MediaFrame};
use bytes::BufMut;
use memchr::memmem::Finder;
use smallvec::SmallVec;

use super::assembly::Assembly;
use super::{PacketSink, Payload, Unit};

static START_CODE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(&[0, 0, 1]));

/// Bytes of the length before each NAL unit.
const LENGTH: usize = 4;

/// What a payload holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// One NAL unit.
    Single(&'a [u8]),
    /// NAL units with 2-byte lengths.
    Aggregate(&'a [u8]),
    /// A part of one, without the headers of the fragment.
    Fragment { start: bool, end: bool, header: Header, data: &'a [u8] },
}

/// A NAL unit's header, of one byte or two.
pub(super) type Header = SmallVec<[u8; 2]>;

/// How the two differ.
pub(super) trait NalFormat {
    /// Tells payloads apart.
    fn content(payload: &[u8]) -> DecodeResult<Content<'_>>;
    /// True when a unit of that start can be the first of an access unit.
    fn starts_picture(unit: &[u8]) -> bool;
    /// True when it is a part of a picture that is not its first.
    fn continues_picture(unit: &[u8]) -> bool;
    /// True when a unit may be in an aggregate.
    fn may_aggregate(unit: &[u8]) -> bool;
    /// The header of an aggregate of these units.
    fn aggregate_header(units: &[&[u8]]) -> Header;
    /// The headers of a fragment of a unit, and how many bytes of the unit they stand for.
    fn fragment_header(unit: &[u8], start: bool, end: bool) -> (SmallVec<[u8; 3]>, usize);
    /// Parameter sets that keyframes begin with.
    fn parameter_sets(config: &CodecConfig) -> SmallVec<[&[u8]; 4]>;
}

/// Puts access units together.
#[derive(Debug)]
pub(super) struct Depacketizer<F> {
    assembly: Assembly,
    /// Where the NAL unit that comes in fragments begins.
    open: Option<usize>,
    /// Markers are where access units end. Some cameras set them on every slice, others never.
    trusted: bool,
    /// The timestamp of the access unit that a marker ended last.
    ended: Option<i64>,
    format: core::marker::PhantomData<F>,
}

impl<F> Default for Depacketizer<F> {
    fn default() -> Self {
        Self {
            assembly: Assembly::default(),
            open: None,
            trusted: true,
            ended: None,
            format: core::marker::PhantomData,
        }
    }
}

impl<F: NalFormat> Depacketizer<F> {
    pub(super) fn held(&self) -> usize {
        self.assembly.held()
    }

    pub(super) fn lost(&mut self) {
        self.drop_open();
        self.assembly.lost();
        self.ended = None;
    }

    pub(super) fn flush(&mut self, out: &mut Vec<Unit>) {
        self.drop_open();
        if let Some(ended) = self.assembly.end().filter(|ended| !ended.data.is_empty()) {
            out.push(Unit {
                ticks: ended.ticks,
                data: ended.data,
                corrupt: ended.damaged,
                flags: FrameFlags::empty(),
            });
        }
    }

    pub(super) fn push(&mut self, payload: &Payload, out: &mut Vec<Unit>) -> DecodeResult<()> {
        if self.assembly.ends_before(payload.ticks) {
            self.flush(out);
        }
        let content = F::content(&payload.data);
        let (starts, continues) = match &content {
            Ok(content) => (starts::<F>(content), continues::<F>(content)),
            Err(_) => (false, false),
        };
        if self.ended == Some(payload.ticks) && continues {
            self.trusted = false;
        }
        self.assembly.begin(payload.ticks, starts);
        let taken = content.and_then(|content| self.take(content));
        if taken.is_err() {
            self.drop_open();
            self.assembly.damage();
        }
        if payload.marker {
            self.ended = Some(payload.ticks);
            if self.trusted {
                self.flush(out);
            }
        }
        taken
    }

    fn take(&mut self, content: Content<'_>) -> DecodeResult<()> {
        if !matches!(content, Content::Fragment { start: false, .. }) {
            // A unit that goes on does so in the next packet; what is open lacks its end.
            self.drop_open();
        }
        match content {
            Content::Single(unit) => self.unit(unit),
            Content::Aggregate(units) => {
                let mut r = Reader::new(units);
                while !r.is_empty() {
                    self.aggregated(&mut r).map_err(|error| error.in_closed_unit(r.position()))?;
                }
                Ok(())
            }
            Content::Fragment { start, end, header, data } => self.fragment(start, end, &header, data),
        }
    }

    fn aggregated(&mut self, r: &mut Reader<'_>) -> DecodeResult<()> {
        let len = usize::from(r.u16("aggregated NAL unit size")?);
        let unit = r.bytes(len, "aggregated NAL unit")?;
        if !matches!(F::content(unit)?, Content::Single(_)) {
            return Err(r.malformed("nested aggregate"));
        }
        self.unit(unit)
    }

    fn fragment(&mut self, start: bool, end: bool, header: &[u8], data: &[u8]) -> DecodeResult<()> {
        if start && end {
            return Err(DecodeError::Malformed { what: "fragment that is whole", offset: 1 });
        }
        if start {
            self.assembly.check(data.len().saturating_add(LENGTH).saturating_add(header.len()))?;
            let out = self.assembly.data();
            self.open = Some(out.len());
            out.put_u32(0);
            out.put_slice(header);
        } else if self.open.is_none() {
            // Of a unit whose start was lost nothing can be used. When nothing was lost there was none.
            let known = !self.assembly.is_whole();
            return if known {
                Ok(())
            } else {
                Err(DecodeError::Malformed { what: "fragment without start", offset: 1 })
            };
        }
        self.assembly.check(data.len())?;
        self.assembly.data().put_slice(data);
        if end { self.close() } else { Ok(()) }
    }

    /// A NAL unit has ended: writes its length, or takes it apart when it is a byte stream.
    fn close(&mut self) -> DecodeResult<()> {
        let Some(start) = self.open.take() else { return Ok(()) };
        let data = self.assembly.data();
        let unit = data.get(start.saturating_add(LENGTH)..).unwrap_or_default();
        let len = u32::try_from(unit.len()).unwrap_or(u32::MAX);
        if START_CODE.find(unit).is_some() {
            let stream = data.split_off(start);
            return self.unit(stream.get(LENGTH..).unwrap_or_default());
        }
        if let Some(field) = data.get_mut(start..start.saturating_add(LENGTH)) {
            field.copy_from_slice(&len.to_be_bytes());
        }
        Ok(())
    }

    /// A whole NAL unit. Some cameras send a byte stream where one unit belongs.
    fn unit(&mut self, unit: &[u8]) -> DecodeResult<()> {
        self.assembly.check(unit.len().saturating_add(LENGTH))?;
        let Some(code) = START_CODE.find(unit) else {
            put_length_prefixed(unit, self.assembly.data());
            return Ok(());
        };
        let first = unit.get(..code).unwrap_or_default();
        let len = first.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
        let first = first.get(..len).unwrap_or_default();
        for unit in core::iter::once(first).filter(|unit| !unit.is_empty()).chain(annex_b(unit)) {
            self.assembly.check(unit.len().saturating_add(LENGTH))?;
            put_length_prefixed(unit, self.assembly.data());
        }
        Ok(())
    }

    /// Drops a NAL unit that lacks its end.
    fn drop_open(&mut self) {
        if let Some(start) = self.open.take() {
            self.assembly.data().truncate(start);
            self.assembly.damage();
        }
    }
}

/// The start of the first NAL unit in a payload.
fn first_unit(content: &Content<'_>) -> Option<SmallVec<[u8; 3]>> {
    Some(match content {
        Content::Single(unit) => {
            let zeros = unit.iter().take_while(|byte| **byte == 0).count();
            let code = usize::from(zeros > 0);
            unit.iter().skip(zeros.saturating_add(code)).take(3).copied().collect()
        }
        Content::Aggregate(units) => units.get(2..)?.iter().take(3).copied().collect(),
        Content::Fragment { start: true, header, data, .. } => {
            header.iter().chain(*data).take(3).copied().collect()
        }
        Content::Fragment { .. } => return None,
    })
}

fn starts<F: NalFormat>(content: &Content<'_>) -> bool {
    first_unit(content).is_some_and(|unit| F::starts_picture(&unit))
}

fn continues<F: NalFormat>(content: &Content<'_>) -> bool {
    first_unit(content).is_some_and(|unit| F::continues_picture(&unit))
}

/// Packets of an access unit: as few as there can be with units in order.
pub(super) fn packetize<F: NalFormat>(
    frame: &MediaFrame,
    config: &CodecConfig,
    room: usize,
    sink: &mut dyn PacketSink,
) -> DecodeResult<()> {
    let mut packer =
        Packer::<'_, F> { room, sink, waiting: SmallVec::new(), len: 0, format: core::marker::PhantomData };
    if frame.is_keyframe() {
        F::parameter_sets(config).into_iter().for_each(|set| packer.unit(set));
    }
    for unit in length_prefixed(&frame.payload, LengthSize::Four) {
        packer.unit(unit?);
    }
    packer.flush(true);
    Ok(())
}

struct Packer<'a, F> {
    room: usize,
    sink: &'a mut dyn PacketSink,
    /// Units that the next packet will hold.
    waiting: SmallVec<[&'a [u8]; 8]>,
    /// Bytes of them with their sizes.
    len: usize,
    format: core::marker::PhantomData<F>,
}

impl<'a, F: NalFormat> Packer<'a, F> {
    fn unit(&mut self, unit: &'a [u8]) {
        /// The longest header of an aggregate.
        const AGGREGATE: usize = 2;
        let len = unit.len().saturating_add(2);
        if self.len.saturating_add(len).saturating_add(AGGREGATE) > self.room || !F::may_aggregate(unit) {
            self.flush(false);
        }
        self.waiting.push(unit);
        // A unit that stands alone still waits, as the last of the frame gets the marker.
        self.len = if F::may_aggregate(unit) { self.len.saturating_add(len) } else { self.room };
    }

    fn flush(&mut self, last: bool) {
        self.len = 0;
        let waiting = core::mem::take(&mut self.waiting);
        match &waiting[..] {
            [] => {}
            [unit] if unit.len() <= self.room => self.sink.packet(last, 0, &[unit]),
            [unit] => self.fragment(unit, last),
            units => {
                let header = F::aggregate_header(units);
                let sizes: SmallVec<[[u8; 2]; 8]> = units
                    .iter()
                    .map(|unit| u16::try_from(unit.len()).unwrap_or_default().to_be_bytes())
                    .collect();
                let mut parts: SmallVec<[&[u8]; 17]> = SmallVec::new();
                parts.push(&header);
                for (size, unit) in sizes.iter().zip(units) {
                    parts.extend([&size[..], unit]);
                }
                self.sink.packet(last, 0, &parts);
            }
        }
    }

    fn fragment(&mut self, unit: &[u8], last: bool) {
        let (header, skipped) = F::fragment_header(unit, true, false);
        let room = self.room.saturating_sub(header.len());
        let mut pieces = unit.get(skipped..).unwrap_or_default().chunks(room.max(1)).peekable();
        let mut start = true;
        while let Some(piece) = pieces.next() {
            let end = pieces.peek().is_none();
            let (header, _) = F::fragment_header(unit, start, end);
            self.sink.packet(last && end, 0, &[&header, piece]);
            start = false;
        }
    }
}
