//! AV1 (RTP Payload Format For AV1, v1.0): OBU elements behind an aggregation header.

use arcly_codec::av1::{leb128, obu_type, obus, put_leb128};
use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use arcly_core::{CodecConfig, MediaFrame};
use bytes::BytesMut;
use smallvec::SmallVec;

use super::assembly::Assembly;
use super::{PacketSink, Payload, Unit};

/// `Z`: the first element goes on with one of the packet before.
const CONTINUES: u8 = 0x80;
/// `Y`: the last element goes on in the next packet.
const GOES_ON: u8 = 0x40;
/// `N`: the first packet of a coded video sequence.
const NEW_SEQUENCE: u8 = 0x08;
/// `W` counts up to three elements.
const MAX_COUNTED: usize = 3;
/// Room that an element's size is given.
const SIZE_ROOM: usize = 3;
/// Elements of fewer bytes are not begun at the end of a packet.
const MIN_ELEMENT: usize = 8;

const HAS_SIZE: u8 = 2;
const EXTENSION: u8 = 4;

#[derive(Debug, Default)]
pub(super) struct Depacketizer {
    assembly: Assembly,
    /// An OBU whose end has not come.
    open: Option<BytesMut>,
}

impl Depacketizer {
    pub(super) fn held(&self) -> usize {
        self.assembly.held().saturating_add(self.open.as_ref().map_or(0, BytesMut::len))
    }

    pub(super) fn lost(&mut self) {
        self.open = None;
        self.assembly.lost();
    }

    pub(super) fn push(&mut self, payload: &Payload, out: &mut Vec<Unit>) -> DecodeResult<()> {
        if self.assembly.ends_before(payload.ticks) {
            self.finish(out);
        }
        self.assembly.begin(payload.ticks, starts(&payload.data));
        let taken = if self.assembly.is_whole() { self.elements(&payload.data) } else { Ok(()) };
        if taken.is_err() {
            self.open = None;
            self.assembly.damage();
        }
        if payload.marker {
            self.finish(out);
        }
        taken
    }

    fn finish(&mut self, out: &mut Vec<Unit>) {
        if self.open.take().is_some() {
            self.assembly.damage();
        }
        self.assembly.complete(out);
    }

    fn elements(&mut self, data: &[u8]) -> DecodeResult<()> {
        let mut r = Reader::new(data);
        let header = r.u8("av1 aggregation header")?;
        let counted = usize::from(header >> 4 & 3);
        let mut index = 0_usize;
        let mut continues = header & CONTINUES != 0;
        while !r.is_empty() {
            index = index.saturating_add(1);
            let len = if index == counted { r.remaining() } else { element_len(&mut r)? };
            let at = r.position();
            let element = r.bytes(len, "av1 element").map_err(|error| error.in_closed_unit(at))?;
            if counted > 0 && index > counted {
                return Err(r.malformed("av1 element count"));
            }
            let goes_on = r.is_empty() && header & GOES_ON != 0;
            self.element(element, core::mem::take(&mut continues), goes_on)?;
        }
        Ok(())
    }

    fn element(&mut self, element: &[u8], continues: bool, goes_on: bool) -> DecodeResult<()> {
        if continues != self.open.is_some() {
            return Err(DecodeError::Malformed { what: "av1 continuation", offset: 0 });
        }
        if !continues && !goes_on {
            return self.obu(element);
        }
        let mut open = self.open.take().unwrap_or_default();
        self.assembly.check(open.len().saturating_add(element.len()))?;
        open.extend_from_slice(element);
        if goes_on {
            self.open = Some(open);
            return Ok(());
        }
        self.obu(&open)
    }

    /// A whole OBU: gets a size, unless it has one.
    fn obu(&mut self, data: &[u8]) -> DecodeResult<()> {
        /// What a size and its OBU's header may add.
        const GROWTH: usize = 8;
        for obu in obus(data) {
            let obu = obu?;
            if !matches!(obu.kind, obu_type::TEMPORAL_DELIMITER | obu_type::PADDING) {
                self.assembly.check(obu.raw.len().saturating_add(GROWTH))?;
                obu.put(self.assembly.data());
            }
        }
        Ok(())
    }
}

fn element_len(r: &mut Reader<'_>) -> DecodeResult<usize> {
    let at = r.position();
    let len = leb128(r, "av1 element size").map_err(|error| error.in_closed_unit(at))?;
    Ok(usize::try_from(len).unwrap_or(usize::MAX))
}

/// True when a packet can be the first of a temporal unit.
fn starts(data: &[u8]) -> bool {
    let Some((header, rest)) = data.split_first() else { return false };
    let mut r = Reader::new(rest);
    let one = header >> 4 & 3 == 1;
    if header & CONTINUES != 0 || (!one && leb128(&mut r, "av1 element size").is_err()) {
        return false;
    }
    let kind = r.peek().unwrap_or(0) >> 3 & 15;
    !matches!(kind, 0 | obu_type::TILE_GROUP | obu_type::REDUNDANT_FRAME_HEADER)
}

/// An OBU without a size: its header, and what is behind.
type Element<'a> = (SmallVec<[u8; 2]>, &'a [u8]);

/// Packets of a temporal unit. Keyframes begin with a sequence header, the one of `config` if they have none.
pub(super) fn packetize(
    frame: &MediaFrame,
    config: &CodecConfig,
    room: usize,
    sink: &mut dyn PacketSink,
) -> DecodeResult<()> {
    let first = if frame.is_keyframe() { NEW_SEQUENCE } else { 0 };
    let mut packer = Packer { room, sink, elements: SmallVec::new(), len: 1, flags: first };
    let header: &[u8] = match config {
        CodecConfig::Av1(config) if frame.is_keyframe() && !has_sequence_header(&frame.payload) => {
            &config.config_obus
        }
        _ => &[],
    };
    for obu in obus(header).chain(obus(&frame.payload)) {
        let obu = obu?;
        let mut header: SmallVec<[u8; 2]> = SmallVec::new();
        let first = obu.raw.first().copied().unwrap_or(0);
        header.push(first & !HAS_SIZE);
        if first & EXTENSION != 0 {
            header.push(obu.raw.get(1).copied().unwrap_or(0));
        }
        packer.obu(header, obu.payload);
    }
    packer.flush(true, false);
    Ok(())
}

fn has_sequence_header(data: &[u8]) -> bool {
    obus(data).map_while(Result::ok).any(|obu| obu.kind == obu_type::SEQUENCE_HEADER)
}

struct Packer<'a, 's> {
    room: usize,
    sink: &'s mut dyn PacketSink,
    elements: SmallVec<[Element<'a>; 4]>,
    /// Bytes of the packet so far, with room for sizes.
    len: usize,
    /// Of the next packet's aggregation header.
    flags: u8,
}

impl<'a> Packer<'a, '_> {
    fn obu(&mut self, mut header: SmallVec<[u8; 2]>, mut payload: &'a [u8]) {
        loop {
            let free = self.room.saturating_sub(self.len).saturating_sub(SIZE_ROOM);
            let len = header.len().saturating_add(payload.len());
            if len <= free {
                self.push(header, payload);
                return;
            }
            if free < MIN_ELEMENT {
                self.flush(false, false);
                continue;
            }
            let (now, later) = payload.split_at(free.saturating_sub(header.len()).min(payload.len()));
            self.push(core::mem::take(&mut header), now);
            self.flush(false, true);
            payload = later;
        }
    }

    fn push(&mut self, header: SmallVec<[u8; 2]>, payload: &'a [u8]) {
        self.len =
            self.len.saturating_add(header.len()).saturating_add(payload.len()).saturating_add(SIZE_ROOM);
        self.elements.push((header, payload));
    }

    fn flush(&mut self, last: bool, goes_on: bool) {
        let elements = core::mem::take(&mut self.elements);
        let counted = if elements.len() <= MAX_COUNTED { elements.len() } else { 0 };
        let mut header = core::mem::take(&mut self.flags) | u8::try_from(counted).unwrap_or_default() << 4;
        if goes_on {
            header |= GOES_ON;
            self.flags = CONTINUES;
        }
        self.len = 1;
        if elements.is_empty() {
            return;
        }
        let sizes: SmallVec<[BytesMut; 4]> = elements.iter().map(size).collect();
        let first = [header];
        let mut parts: SmallVec<[&[u8]; 13]> = SmallVec::new();
        parts.push(&first);
        for (index, ((header, payload), size)) in elements.iter().zip(&sizes).enumerate() {
            if index.saturating_add(1) != counted {
                parts.push(size);
            }
            parts.extend([&header[..], payload]);
        }
        self.sink.packet(last, 0, &parts);
    }
}

fn size((header, payload): &Element<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    put_leb128(u32::try_from(header.len().saturating_add(payload.len())).unwrap_or(u32::MAX), &mut out);
    out
}
