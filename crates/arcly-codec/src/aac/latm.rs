use arcly_core::codec::AudioSpecificConfig;
use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::Bytes;

use super::config::decode_config_in_bits;
use super::decode_config;
use crate::bits::BitReader;

/// `syncword` of AudioSyncStream, eleven bits.
const SYNC: u16 = 0x2B7;
/// Bytes before `audioMuxLengthBytes` begins to count.
const PREFIX: usize = 3;

/// Bytes of the LOAS frame (AudioSyncStream, §1.7.2) at the front of `data`, its header included.
///
/// # Errors
/// `data` does not begin with the sync word, or is too short to tell.
pub fn loas_frame_len(data: &[u8]) -> DecodeResult<usize> {
    let [a, b, c] = Reader::new(data).array("loas header")?;
    if u16::from_be_bytes([a, b]) >> 5 != SYNC {
        return Err(DecodeError::Malformed { what: "loas syncword", offset: 0 });
    }
    Ok(usize::from(u16::from_be_bytes([b & 0x1F, c])).saturating_add(PREFIX))
}

/// Takes the access units out of LOAS frames (AudioSyncStream, AudioMuxElement; §1.7.2, §1.7.3).
///
/// One program with one layer is what there is in practice; nested ones are refused.
#[derive(Clone, Debug, Default)]
pub struct LatmDecoder {
    mux: Option<StreamMux>,
}

/// StreamMuxConfig, as far as frames of one layer need it.
#[derive(Clone, Debug)]
struct StreamMux {
    config: AudioSpecificConfig,
    /// Access units in a frame.
    units: u32,
}

impl LatmDecoder {
    /// A decoder that knows no configuration yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { mux: None }
    }

    /// The configuration; `None` until a frame has brought one.
    #[must_use]
    pub fn config(&self) -> Option<&AudioSpecificConfig> {
        self.mux.as_ref().map(|mux| &mux.config)
    }

    /// The access units of a whole frame; none as long as the configuration is not known.
    ///
    /// # Errors
    /// The frame is malformed, or nests programs or layers. A configuration that it brought before that stays.
    pub fn decode(&mut self, frame: &[u8]) -> DecodeResult<Vec<Bytes>> {
        let len = loas_frame_len(frame)?;
        let mut whole = Reader::new(frame);
        whole.bytes(PREFIX, "loas header")?;
        let body = whole.bytes(len.saturating_sub(PREFIX), "loas frame")?;
        let mut r = MuxReader { bits: BitReader::new(body), body, used: 0 };
        if r.bits(1)? == 0 {
            self.mux = Some(r.stream_mux_config()?);
        }
        let Some(mux) = &self.mux else { return Ok(Vec::new()) };
        (0..mux.units).map(|_| r.access_unit()).collect()
    }
}

/// A bit reader that knows how far it is.
struct MuxReader<'a> {
    bits: BitReader<'a>,
    body: &'a [u8],
    used: usize,
}

impl MuxReader<'_> {
    fn bits(&mut self, count: u32) -> DecodeResult<u32> {
        let value = self.bits.bits(count, "latm");
        self.used = self.used.saturating_add(usize::try_from(count).unwrap_or_default());
        value.map_err(|error| error.in_closed_unit(self.used / 8))
    }

    fn expect(&mut self, count: u32, value: u32, what: &'static str) -> DecodeResult<()> {
        if self.bits(count)? == value { Ok(()) } else { Err(self.bits.malformed(what)) }
    }

    /// LatmGetValue (§1.7.3.1).
    fn value(&mut self) -> DecodeResult<u32> {
        let bytes = self.bits(2)?.saturating_add(1);
        self.bits(bytes.saturating_mul(8))
    }

    fn stream_mux_config(&mut self) -> DecodeResult<StreamMux> {
        let version = self.bits(1)?;
        if version == 1 {
            self.expect(1, 0, "latm audioMuxVersionA")?;
            self.value()?; // taraBufferFullness
        }
        self.expect(1, 1, "latm allStreamsSameTimeFraming")?;
        let units = self.bits(6)?.saturating_add(1);
        self.expect(4, 0, "latm numProgram")?;
        self.expect(3, 0, "latm numLayer")?;
        let config = if version == 1 { self.sized_config()? } else { self.unsized_config()? };
        self.expect(3, 0, "latm frameLengthType")?;
        self.bits(8)?; // latmBufferFullness
        if self.bits(1)? == 1 {
            self.other_data_len(version)?;
        }
        if self.bits(1)? == 1 {
            self.bits(8)?; // crcCheckSum
        }
        Ok(StreamMux { config, units })
    }

    /// otherDataLenBits; the data lies behind the access units, where nobody looks.
    fn other_data_len(&mut self, version: u32) -> DecodeResult<()> {
        if version == 1 {
            return self.value().map(drop);
        }
        // Each round takes nine bits, so the loop ends with the frame.
        while self.bits(9)? & 0x100 != 0 {}
        Ok(())
    }

    fn sized_config(&mut self) -> DecodeResult<AudioSpecificConfig> {
        let bits = usize::try_from(self.value()?).unwrap_or(usize::MAX);
        let rest = self.aligned_rest();
        let record = rest.get(..bits.div_ceil(8)).unwrap_or(&rest);
        let config = decode_config(&Bytes::copy_from_slice(record))?;
        self.skip(bits)?;
        Ok(config)
    }

    /// A configuration whose length only its own fields tell.
    fn unsized_config(&mut self) -> DecodeResult<AudioSpecificConfig> {
        let (config, bits) = decode_config_in_bits(&self.aligned_rest().into())?;
        self.skip(bits)?;
        Ok(config)
    }

    fn skip(&mut self, bits: usize) -> DecodeResult<()> {
        self.bits.skip(bits as u64, "latm").map_err(|error| error.in_closed_unit(self.used / 8))?;
        self.used = self.used.saturating_add(bits);
        Ok(())
    }

    /// What has not been read, moved to a byte boundary.
    fn aligned_rest(&self) -> Vec<u8> {
        let rest = self.body.get(self.used / 8..).unwrap_or_default();
        let shift = u32::try_from(self.used % 8).unwrap_or_default();
        let next = rest.iter().skip(1).chain(core::iter::once(&0));
        rest.iter()
            .zip(next)
            .map(|(a, b)| u16::from_be_bytes([*a, *b]))
            .map(|word| {
                let [high, _] = word.checked_shl(shift).unwrap_or_default().to_be_bytes();
                high
            })
            .collect()
    }

    /// PayloadLengthInfo and PayloadMux of one access unit.
    fn access_unit(&mut self) -> DecodeResult<Bytes> {
        let mut len = 0_usize;
        loop {
            let part = self.bits(8)?;
            len = len.saturating_add(usize::try_from(part).unwrap_or_default());
            if part != 255 {
                break;
            }
        }
        let unit = self.aligned_rest();
        self.skip(len.saturating_mul(8))?;
        Ok(Bytes::from(unit).slice(..len))
    }
}
