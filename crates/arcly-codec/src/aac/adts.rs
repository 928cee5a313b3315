use arcly_core::codec::AudioSpecificConfig;
use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::Bytes;

use super::{SAMPLE_RATES, channels_of, encode_config, rate_index};
use crate::bits::{BitReader, BitWriter};

/// Bytes of a header without checksum.
const HEADER_LEN: u16 = 7;
/// The largest length that `aac_frame_length` can say.
const MAX_FRAME_LEN: u16 = (1 << 13) - 1;

/// The header of an ADTS frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdtsHeader {
    /// Audio object type, 1 to 4.
    pub object_type: u8,
    /// Samples per second of the core coder.
    pub sample_rate: u32,
    /// `channel_configuration`; 0 means that a program config element is in the frame.
    pub channel_config: u8,
    /// Bytes of the whole frame, header included.
    pub frame_len: u16,
    /// Bytes of the header: 7, or 9 with a checksum.
    pub header_len: u16,
    /// Raw data blocks in the frame, 1 to 4.
    pub blocks: u8,
}

impl AdtsHeader {
    /// Decodes a header.
    pub fn decode(data: &[u8]) -> DecodeResult<Self> {
        let bytes: [u8; HEADER_LEN as usize] = Reader::new(data).array("adts header")?;
        let mut r = BitReader::new(&bytes);
        if r.bits(12, "adts syncword")? != 0xFFF {
            return Err(DecodeError::Malformed { what: "adts syncword", offset: 0 });
        }
        r.bits(1, "adts id")?;
        if r.bits(2, "adts layer")? != 0 {
            return Err(r.malformed("adts layer"));
        }
        let header_len = if r.flag("adts protection")? { HEADER_LEN } else { HEADER_LEN + 2 };
        let object_type = r.small(2, "adts profile")?.saturating_add(1);
        let index = r.small(4, "adts sample rate")?;
        let sample_rate = SAMPLE_RATES.get(usize::from(index)).copied();
        let sample_rate = sample_rate.ok_or_else(|| r.malformed("adts sample rate"))?;
        r.bits(1, "adts private bit")?;
        let channel_config = r.small(3, "adts channels")?;
        r.bits(4, "adts copyright")?;
        let len = r.bits(13, "adts frame length")?;
        let frame_len = u16::try_from(len).unwrap_or(MAX_FRAME_LEN);
        if frame_len < header_len {
            return Err(r.malformed("adts frame length"));
        }
        r.bits(11, "adts buffer fullness")?;
        let blocks = r.small(2, "adts blocks")?.saturating_add(1);
        Ok(Self { object_type, sample_rate, channel_config, frame_len, header_len, blocks })
    }

    /// A header for an access unit of `len` bytes; `None` when ADTS cannot say it: an unusual sample rate,
    /// more channels than 7.1, a program config element, or more than 8 KiB.
    #[must_use]
    pub fn for_access_unit(config: &AudioSpecificConfig, len: usize) -> Option<Self> {
        rate_index(config.sample_rate)?;
        let frame_len = u16::try_from(len).ok()?.checked_add(HEADER_LEN)?;
        let fits = frame_len <= MAX_FRAME_LEN
            && (1..=7).contains(&config.channel_config)
            && (1..=4).contains(&config.object_type);
        fits.then_some(Self {
            object_type: config.object_type,
            sample_rate: config.sample_rate,
            channel_config: config.channel_config,
            frame_len,
            header_len: HEADER_LEN,
            blocks: 1,
        })
    }

    /// The header without checksum, seven bytes. `header_len` is not written: the frame has `frame_len` bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = BitWriter::new();
        // MPEG-4, layer 0, no checksum.
        w.bits(12, 0xFFF).bits(4, 0b0001);
        w.bits(2, u64::from(self.object_type.saturating_sub(1)));
        w.bits(4, u64::from(rate_index(self.sample_rate).unwrap_or(15)));
        w.flag(false).bits(3, u64::from(self.channel_config)).bits(4, 0);
        // A buffer fullness of all ones: variable bit rate.
        w.bits(13, u64::from(self.frame_len)).bits(11, 0x7FF);
        w.bits(2, u64::from(self.blocks.saturating_sub(1)));
        w.finish()
    }

    /// The configuration that these frames would have in a container.
    #[must_use]
    pub fn config(&self) -> AudioSpecificConfig {
        let mut config = AudioSpecificConfig {
            object_type: self.object_type,
            sample_rate: self.sample_rate,
            channel_config: self.channel_config,
            channels: channels_of(self.channel_config).unwrap_or_default(),
            ..AudioSpecificConfig::default()
        };
        config.raw = encode_config(&config);
        config
    }
}

/// The frames of a byte string: header and access unit.
#[derive(Clone, Debug)]
pub struct AdtsFrames {
    data: Bytes,
    failed: bool,
}

/// Iterates over consecutive ADTS frames. An error is the last item; [`AdtsFrames::rest`] then begins with
/// what could not be decoded.
#[must_use]
pub const fn adts_frames(data: Bytes) -> AdtsFrames {
    AdtsFrames { data, failed: false }
}

impl AdtsFrames {
    /// What has not been given out: the start of a frame that is cut off, or of something else.
    #[must_use]
    pub fn rest(self) -> Bytes {
        self.data
    }

    fn frame(&mut self) -> DecodeResult<(AdtsHeader, Bytes)> {
        let header = AdtsHeader::decode(&self.data)?;
        let len = usize::from(header.frame_len);
        if let Some(needed) = len.checked_sub(self.data.len()).filter(|needed| *needed > 0) {
            return Err(DecodeError::Incomplete { what: "adts frame", needed });
        }
        let mut frame = self.data.split_to(len);
        Ok((header, frame.split_off(usize::from(header.header_len))))
    }
}

impl Iterator for AdtsFrames {
    type Item = DecodeResult<(AdtsHeader, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.data.is_empty() {
            return None;
        }
        let frame = self.frame();
        self.failed = frame.is_err();
        Some(frame)
    }
}
