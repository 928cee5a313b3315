//! AAC in LATM (RFC 6416): an audioMuxElement in one packet or several.

use arcly_codec::aac::{LatmDecoder, decode_config};
use arcly_codec::bits::{BitReader, BitWriter};
use arcly_core::FrameFlags;
use arcly_core::codec::AudioSpecificConfig;
use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{BufMut, Bytes, BytesMut};

use super::assembly::Assembly;
use super::{Payload, Unit};

/// The longest element that a LOAS header can say.
const MAX_ELEMENT: usize = 0x1FFF;
/// `syncword` of AudioSyncStream in the upper eleven bits.
const LOAS_SYNC: u16 = 0x2B7 << 5;

/// The configuration in a StreamMuxConfig.
///
/// # Errors
/// It is malformed, or nests programs or layers.
pub(crate) fn decode_mux_config(config: &[u8]) -> DecodeResult<AudioSpecificConfig> {
    // An element that begins with it: useSameStreamMux is 0.
    let mut bits = BitWriter::new();
    bits.flag(false);
    let mut r = BitReader::new(config);
    for _ in config {
        bits.bits(8, r.bits(8, "latm config")?.into());
    }
    bits.align();
    let mut decoder = LatmDecoder::new();
    let decoded = decoder.decode(&loas(&bits.finish())?);
    // What is missing are the access units behind it.
    match (decoder.config(), decoded) {
        (Some(config), _) => Ok(config.clone()),
        (None, Err(error)) => bare_config(config).ok_or(error),
        (None, Ok(_)) => Err(DecodeError::Malformed { what: "latm config", offset: 0 }),
    }
}

/// GStreamer's `rtpmp4apay` writes all that it has behind the first fields, as it is in files, and nothing behind that: a decoder takes
/// what says whether there is SBR (FFmpeg's encoder has that) for a frame length type.
fn bare_config(config: &[u8]) -> Option<AudioSpecificConfig> {
    /// audioMuxVersion, allStreamsSameTimeFraming, numSubFrames, numProgram, numLayer: one layer of one program.
    const ONE_LAYER: (u32, u32) = (15, 1 << 13);
    let mut r = BitReader::new(config);
    let (bits, one_layer) = ONE_LAYER;
    if r.bits(bits, "latm config").ok()? != one_layer {
        return None;
    }
    let mut record = BytesMut::new();
    // What is left of the last byte is padding.
    while let Ok(byte) = r.bits(8, "latm config") {
        record.put_u8(u8::try_from(byte).ok()?);
    }
    decode_config(&record.freeze()).ok()
}

fn loas(element: &[u8]) -> DecodeResult<Bytes> {
    let len = u16::try_from(element.len()).ok().filter(|len| usize::from(*len) <= MAX_ELEMENT);
    let len = len.ok_or(DecodeError::LimitExceeded { what: "latm_element", limit: MAX_ELEMENT as u64 })?;
    let [sync, rest] = (LOAS_SYNC | len >> 8).to_be_bytes();
    let [_, low] = len.to_be_bytes();
    let mut out = BytesMut::with_capacity(element.len().saturating_add(3));
    out.put_slice(&[sync, rest, low]);
    out.put_slice(element);
    Ok(out.freeze())
}

#[derive(Debug)]
pub(super) struct Depacketizer {
    assembly: Assembly,
    /// Where the packets bring their configuration themselves.
    in_band: Option<LatmDecoder>,
    step: i64,
    elements: Vec<Unit>,
}

impl Depacketizer {
    pub(super) fn new(config: Option<&Bytes>, samples_per_frame: u32) -> Self {
        let in_band = config.is_none().then(LatmDecoder::new);
        Self { assembly: Assembly::default(), in_band, step: samples_per_frame.into(), elements: Vec::new() }
    }

    pub(super) fn held(&self) -> usize {
        self.assembly.held()
    }

    pub(super) fn config(&self) -> Option<&AudioSpecificConfig> {
        self.in_band.as_ref()?.config()
    }

    pub(super) const fn lost(&mut self) {
        self.assembly.lost();
    }

    pub(super) fn push(&mut self, payload: &Payload, out: &mut Vec<Unit>) -> DecodeResult<()> {
        // Nothing in a packet says that it is the first of an element, but that it is all of one shows.
        let starts = payload.marker && (self.in_band.is_some() || sized_units(&payload.data).is_ok());
        self.assembly.push(payload, Ok((starts, &payload.data)), &mut self.elements)?;
        for element in core::mem::take(&mut self.elements) {
            self.element(&element, out)?;
        }
        Ok(())
    }

    fn element(&mut self, element: &Unit, out: &mut Vec<Unit>) -> DecodeResult<()> {
        let units = match &mut self.in_band {
            Some(decoder) => decoder.decode(&loas(&element.data)?)?,
            None => sized_units(&element.data)?,
        };
        let mut ticks = element.ticks;
        for data in units {
            out.push(Unit { ticks, data, corrupt: false, flags: FrameFlags::empty() });
            ticks = ticks.saturating_add(self.step);
        }
        Ok(())
    }
}

/// Units behind their lengths: PayloadLengthInfo and PayloadMux, as often as they come.
fn sized_units(data: &Bytes) -> DecodeResult<Vec<Bytes>> {
    let mut r = Reader::new(data);
    let mut units = Vec::new();
    while !r.is_empty() {
        let at = r.position();
        let unit = sized_unit(&mut r).map_err(|error| error.in_closed_unit(at))?;
        if !unit.is_empty() {
            units.push(data.slice_ref(unit));
        }
    }
    Ok(units)
}

fn sized_unit<'a>(r: &mut Reader<'a>) -> DecodeResult<&'a [u8]> {
    let mut len = 0_usize;
    loop {
        let part = r.u8("latm length")?;
        len = len.saturating_add(usize::from(part));
        if part != u8::MAX {
            return r.bytes(len, "latm access unit");
        }
    }
}
