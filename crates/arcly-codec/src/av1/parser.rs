use arcly_core::FrameFlags;
use arcly_core::codec::{Av1Config, HdrMetadata, VideoParams};
use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::{DELIMITER, MAX_OBUS_PER_TEMPORAL_UNIT, Obu, SequenceHeader, leb128, obu_type, obus};
use crate::bits::BitReader;
use crate::nal::check_access_unit_size;

/// `frame_type` of a key frame (6.8.2).
const KEY_FRAME: u32 = 0;
/// `metadata_type` of the content light level.
const METADATA_HDR_CLL: u32 = 1;
/// `metadata_type` of the mastering display colour volume.
const METADATA_HDR_MDCV: u32 = 2;

/// A temporal unit in canonical form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemporalUnit {
    /// OBUs with sizes, without temporal delimiters. Empty when there was no frame.
    pub payload: Bytes,
    /// Its temporal layer; `KEYFRAME` where the first frame is a key frame that is shown; `DELIMITED` where there was one temporal
    /// delimiter, in front, and so [`DELIMITER`](super::DELIMITER) and the payload are what came in.
    pub flags: FrameFlags,
    /// The sequence header or HDR metadata differ from those known.
    pub config_changed: bool,
    /// The first sequence header or frame header that could not be understood, and was left aside.
    pub fault: Option<DecodeError>,
}

/// Brings the temporal units of one track into canonical form and follows its sequence header.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    config: Option<Av1Config>,
    sequence: Option<SequenceHeader>,
    /// The sequence header OBU last seen, with its size field.
    known: Bytes,
    hdr: Option<HdrMetadata>,
    changed: bool,
}

/// What the OBUs of one temporal unit say together.
#[derive(Default)]
struct Picture {
    keyframe: Option<bool>,
    temporal_id: u8,
    fault: Option<DecodeError>,
}

impl Parser {
    /// A parser that knows no sequence header yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A parser that starts from a record.
    pub fn with_config(config: Av1Config) -> DecodeResult<Self> {
        let mut parser = Self::default();
        for obu in obus(&config.config_obus) {
            let obu = obu?;
            match obu.kind {
                obu_type::SEQUENCE_HEADER => {
                    parser.sequence = Some(SequenceHeader::decode(obu.payload)?);
                    parser.known = canonical(&obu);
                }
                obu_type::METADATA => parser.metadata(obu.payload),
                _ => {}
            }
        }
        parser.config = Some(config);
        parser.changed = false;
        Ok(parser)
    }

    /// The configuration, once there is one.
    #[must_use]
    pub const fn config(&self) -> Option<&Av1Config> {
        self.config.as_ref()
    }

    /// What the sequence header and the metadata say of the pictures.
    #[must_use]
    pub fn video_params(&self) -> VideoParams {
        let mut params = self.sequence.as_ref().map(SequenceHeader::video_params).unwrap_or_default();
        params.hdr = self.hdr;
        params
    }

    /// One temporal unit.
    ///
    /// An error means that its OBUs cannot be told apart and it has to be dropped; the parser stays usable.
    pub fn push(&mut self, data: &Bytes) -> DecodeResult<TemporalUnit> {
        check_access_unit_size(data.len())?;
        let units = split(data)?;
        let mut picture = Picture::default();
        for obu in &units {
            if let Err(error) = self.obu(obu, &mut picture) {
                picture.fault = picture.fault.or(Some(error));
            }
        }
        let mut unit = TemporalUnit { fault: picture.fault, ..TemporalUnit::default() };
        if units.iter().any(is_frame) {
            unit.payload = assemble(data, &units);
            unit.flags = FrameFlags::empty().with_temporal_id(picture.temporal_id);
            unit.flags.set(FrameFlags::KEYFRAME, picture.keyframe == Some(true));
            let rest = data.strip_prefix(&DELIMITER);
            let delimited = rest.is_some_and(|rest| core::ptr::eq(rest, &*unit.payload));
            unit.flags.set(FrameFlags::DELIMITED, delimited);
        }
        unit.config_changed = core::mem::take(&mut self.changed);
        Ok(unit)
    }

    fn obu(&mut self, obu: &Obu<'_>, picture: &mut Picture) -> DecodeResult<()> {
        match obu.kind {
            obu_type::SEQUENCE_HEADER => self.sequence_header(obu)?,
            obu_type::METADATA => self.metadata(obu.payload),
            obu_type::FRAME | obu_type::FRAME_HEADER if picture.keyframe.is_none() => {
                picture.temporal_id = obu.temporal_id;
                let reduced = self.sequence.as_ref().is_some_and(|sequence| sequence.reduced_still_picture);
                picture.keyframe = Some(reduced || is_shown_key_frame(obu.payload)?);
            }
            _ => {}
        }
        Ok(())
    }

    fn sequence_header(&mut self, obu: &Obu<'_>) -> DecodeResult<()> {
        if obu.has_size && self.known == obu.raw {
            return Ok(());
        }
        let sequence = SequenceHeader::decode(obu.payload)?;
        let known = canonical(obu);
        if self.known != known {
            let mut config = sequence.config();
            config.config_obus = known.clone();
            (self.config, self.sequence, self.known) = (Some(config), Some(sequence), known);
            self.changed = true;
        }
        Ok(())
    }

    /// HDR metadata is a hint for displays: what cannot be read is left aside.
    fn metadata(&mut self, payload: &[u8]) {
        let mut hdr = self.hdr.unwrap_or_default();
        if read_hdr(payload, &mut hdr) == Ok(true) && self.hdr != Some(hdr) {
            self.hdr = Some(hdr);
            self.changed = true;
        }
    }
}

fn split(data: &[u8]) -> DecodeResult<SmallVec<[Obu<'_>; 16]>> {
    let mut units = SmallVec::new();
    for obu in obus(data) {
        if units.len() >= MAX_OBUS_PER_TEMPORAL_UNIT {
            return Err(DecodeError::LimitExceeded {
                what: "obus",
                limit: MAX_OBUS_PER_TEMPORAL_UNIT as u64,
            });
        }
        units.push(obu?);
    }
    Ok(units)
}

const fn is_frame(obu: &Obu<'_>) -> bool {
    matches!(obu.kind, obu_type::FRAME | obu_type::FRAME_HEADER | obu_type::TILE_GROUP)
}

/// The canonical payload: the same bytes where possible, without a leading delimiter.
fn assemble(data: &Bytes, units: &[Obu<'_>]) -> Bytes {
    let delimits = |obu: &&Obu<'_>| obu.kind == obu_type::TEMPORAL_DELIMITER;
    let lead: usize = units.iter().take_while(delimits).map(|obu| obu.raw.len()).sum();
    if units.iter().skip_while(delimits).all(|obu| obu.has_size && !delimits(&obu)) {
        return data.slice(lead.min(data.len())..);
    }
    // One OBU at most lacks its size, which takes up to five bytes.
    let mut out = BytesMut::with_capacity(data.len().saturating_add(5));
    units.iter().filter(|obu| !delimits(obu)).for_each(|obu| obu.put(&mut out));
    out.freeze()
}

fn canonical(obu: &Obu<'_>) -> Bytes {
    let mut out = BytesMut::with_capacity(obu.raw.len().saturating_add(2));
    obu.put(&mut out);
    out.freeze()
}

/// The start of `uncompressed_header()` (5.9.2).
fn is_shown_key_frame(payload: &[u8]) -> DecodeResult<bool> {
    let mut r = BitReader::new(payload);
    if r.flag("show_existing_frame")? {
        return Ok(false);
    }
    let key = r.bits(2, "frame_type")? == KEY_FRAME;
    Ok(r.flag("show_frame")? && key)
}

fn read_hdr(payload: &[u8], hdr: &mut HdrMetadata) -> DecodeResult<bool> {
    let mut r = Reader::new(payload);
    match leb128(&mut r, "metadata_type")? {
        METADATA_HDR_CLL => {
            hdr.max_cll = r.u16("max_cll")?;
            hdr.max_fall = r.u16("max_fall")?;
        }
        METADATA_HDR_MDCV => {
            let mut point = || {
                Ok([
                    chromaticity(r.u16("primary_chromaticity_x")?),
                    chromaticity(r.u16("primary_chromaticity_y")?),
                ])
            };
            hdr.primaries = [point()?, point()?, point()?];
            hdr.white_point = point()?;
            hdr.max_luminance = luminance(r.u32("luminance_max")?, 8);
            hdr.min_luminance = luminance(r.u32("luminance_min")?, 14);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// From 0.16 fixed point to increments of 0.00002.
fn chromaticity(value: u16) -> u16 {
    let scaled = u64::from(value).saturating_mul(50_000).saturating_add(1 << 15) >> 16;
    u16::try_from(scaled).unwrap_or(u16::MAX)
}

/// From fixed point with that many fraction bits to increments of 0.0001 cd/m².
fn luminance(value: u32, fraction_bits: u32) -> u32 {
    let half = 1_u64 << fraction_bits >> 1;
    let scaled = u64::from(value).saturating_mul(10_000).saturating_add(half) >> fraction_bits;
    u32::try_from(scaled).unwrap_or(u32::MAX)
}
