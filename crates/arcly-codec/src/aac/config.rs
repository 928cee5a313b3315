use arcly_core::codec::AudioSpecificConfig;
use arcly_core::wire::DecodeResult;
use bytes::Bytes;

use super::{SAMPLE_RATES, channels_of, object_type, rate_index};
use crate::bits::{BitReader, BitWriter};

/// `syncExtensionType` that announces SBR behind a configuration that old decoders understand.
const SYNC_SBR: u32 = 0x2B7;
/// `syncExtensionType` that announces parametric stereo.
const SYNC_PS: u32 = 0x548;

/// Decodes an AudioSpecificConfig; bytes behind it are kept in `raw` and otherwise ignored.
pub fn decode_config(record: &Bytes) -> DecodeResult<AudioSpecificConfig> {
    let mut r = AscReader::new(record);
    let mut config = AudioSpecificConfig { raw: record.clone(), ..r.config()? };
    // A configuration that is valid without its extension is not made invalid by what follows it; one that signals
    // SBR in front has none.
    if config.object_type != object_type::USAC && config.sbr_sample_rate.is_none() {
        let _ = r.backward_compatible_extension(&mut config);
    }
    Ok(config)
}

/// Decodes an AudioSpecificConfig that other data follows directly; with it the bits that it has.
pub(super) fn decode_config_in_bits(data: &Bytes) -> DecodeResult<(AudioSpecificConfig, usize)> {
    let mut r = AscReader::new(data);
    let mut config = r.config()?;
    if config.object_type == object_type::USAC {
        return Err(r.bits.malformed("usac configuration without length"));
    }
    let used = r.used;
    let mut raw = data.get(..used.div_ceil(8)).unwrap_or_default().to_vec();
    let spare = u32::try_from(raw.len().saturating_mul(8).saturating_sub(used)).unwrap_or_default();
    if let Some(last) = raw.last_mut() {
        *last &= u8::MAX.checked_shl(spare).unwrap_or_default();
    }
    config.raw = raw.into();
    Ok((config, used))
}

/// The bytes of a configuration: those it came with, or, when it was built from values, new ones.
///
/// SBR and parametric stereo are signalled hierarchically. A configuration of values only has no program
/// config element; its channels must then have a `channelConfiguration`.
#[must_use]
pub fn encode_config(config: &AudioSpecificConfig) -> Bytes {
    if !config.raw.is_empty() {
        return config.raw.clone();
    }
    let mut w = BitWriter::new();
    let outer = match (config.parametric_stereo, config.sbr_sample_rate) {
        (true, Some(_)) => object_type::PS,
        (false, Some(_)) => object_type::SBR,
        _ => config.object_type,
    };
    put_object_type(&mut w, outer);
    put_sample_rate(&mut w, config.sample_rate);
    w.bits(4, u64::from(channel_config(config)));
    if let Some(rate) = config.sbr_sample_rate {
        put_sample_rate(&mut w, rate);
        put_object_type(&mut w, config.object_type);
    }
    // frameLengthFlag, dependsOnCoreCoder, extensionFlag.
    w.flag(config.short_frames).flag(false).flag(false);
    if is_error_resilient(config.object_type) {
        w.bits(2, 0); // epConfig
    }
    w.finish().into()
}

const fn is_error_resilient(object_type: u8) -> bool {
    matches!(object_type, 17 | 19..=23)
}

fn channel_config(config: &AudioSpecificConfig) -> u8 {
    match (config.channel_config, config.channels) {
        (0, 7) => 11,
        (0, 8) => 7,
        (0, channels) => channels.min(6),
        (given, _) => given,
    }
}

fn put_object_type(w: &mut BitWriter, object_type: u8) {
    match object_type.checked_sub(32) {
        None => w.bits(5, u64::from(object_type)),
        Some(extended) => w.bits(5, 31).bits(6, u64::from(extended)),
    };
}

fn put_sample_rate(w: &mut BitWriter, rate: u32) {
    match rate_index(rate) {
        Some(index) => w.bits(4, u64::from(index)),
        None => w.bits(4, 15).bits(24, u64::from(rate)),
    };
}

/// A bit reader that knows how far it is, for alignment and for the optional tail.
struct AscReader<'a> {
    bits: BitReader<'a>,
    used: usize,
    total: usize,
}

impl<'a> AscReader<'a> {
    const fn new(record: &'a [u8]) -> Self {
        Self { bits: BitReader::new(record), used: 0, total: record.len().saturating_mul(8) }
    }

    /// The configuration without its backward compatible extension and without `raw`.
    fn config(&mut self) -> DecodeResult<AudioSpecificConfig> {
        let mut config = AudioSpecificConfig {
            object_type: self.object_type()?,
            sample_rate: self.sample_rate()?,
            channel_config: self.channel_config()?,
            ..AudioSpecificConfig::default()
        };
        if matches!(config.object_type, object_type::SBR | object_type::PS) {
            config.parametric_stereo = config.object_type == object_type::PS;
            config.sbr_sample_rate = Some(self.sample_rate()?);
            config.object_type = self.object_type()?;
        }
        config.channels = channels_of(config.channel_config).unwrap_or_default();
        match config.object_type {
            1..=4 | 6 | 7 | 17 | 19..=23 => self.general_audio(&mut config)?,
            object_type::ER_ELD => config.short_frames = self.flag()?,
            // Its configuration is a format of its own; rate and channels above are what a decoder puts out.
            object_type::USAC => return Ok(config),
            _ => return Err(self.bits.malformed("aac object type")),
        }
        if config.channels == 0 {
            return Err(self.bits.malformed("aac channels"));
        }
        Ok(config)
    }

    fn bits(&mut self, count: u32) -> DecodeResult<u32> {
        let value = self.bits.bits(count, "audio specific config")?;
        self.used = self.used.saturating_add(usize::try_from(count).unwrap_or_default());
        Ok(value)
    }

    fn small(&mut self, count: u32) -> DecodeResult<u8> {
        let value = self.bits(count.min(8))?;
        u8::try_from(value).map_err(|_| self.bits.malformed("audio specific config"))
    }

    fn flag(&mut self) -> DecodeResult<bool> {
        Ok(self.bits(1)? == 1)
    }

    fn object_type(&mut self) -> DecodeResult<u8> {
        match self.small(5)? {
            31 => Ok(self.small(6)?.saturating_add(32)),
            short => Ok(short),
        }
    }

    fn sample_rate(&mut self) -> DecodeResult<u32> {
        let rate = match self.small(4)? {
            15 => self.bits(24)?,
            index => SAMPLE_RATES.get(usize::from(index)).copied().unwrap_or_default(),
        };
        if rate == 0 { Err(self.bits.malformed("aac sample rate")) } else { Ok(rate) }
    }

    fn channel_config(&mut self) -> DecodeResult<u8> {
        let config = self.small(4)?;
        if config != 0 && channels_of(config).is_none() {
            return Err(self.bits.malformed("aac channel configuration"));
        }
        Ok(config)
    }

    /// GASpecificConfig (§4.4.1).
    fn general_audio(&mut self, config: &mut AudioSpecificConfig) -> DecodeResult<()> {
        config.short_frames = self.flag()?;
        if self.flag()? {
            self.bits(14)?;
        }
        let extension = self.flag()?;
        if config.channel_config == 0 {
            config.channels = self.program_config()?;
        }
        if matches!(config.object_type, 6 | 20) {
            self.bits(3)?;
        }
        if extension {
            match config.object_type {
                22 => drop(self.bits(16)?),
                17 | 19 | 20 | 23 => drop(self.bits(3)?),
                _ => {}
            }
            self.bits(1)?;
        }
        if is_error_resilient(config.object_type) {
            self.bits(2)?; // epConfig
        }
        Ok(())
    }

    /// program_config_element (§4.4.1.1): the number of channels it describes.
    fn program_config(&mut self) -> DecodeResult<u8> {
        self.bits(4 + 2 + 4)?;
        let (front, side, back) = (self.small(4)?, self.small(4)?, self.small(4)?);
        let (lfe, assoc, coupling) = (self.small(2)?, self.small(3)?, self.small(4)?);
        for mixdown_bits in [4, 4, 3] {
            if self.flag()? {
                self.bits(mixdown_bits)?;
            }
        }
        let mut channels = lfe;
        for _ in 0..front.saturating_add(side).saturating_add(back) {
            channels = channels.saturating_add(if self.flag()? { 2 } else { 1 });
            self.bits(4)?;
        }
        for _ in 0..lfe.saturating_add(assoc) {
            self.bits(4)?;
        }
        for _ in 0..coupling {
            self.bits(5)?;
        }
        let unaligned = u32::try_from(self.used % 8).unwrap_or_default();
        self.bits(8_u32.saturating_sub(unaligned) % 8)?;
        for _ in 0..self.bits(8)? {
            self.bits(8)?;
        }
        Ok(channels)
    }

    /// The tail that says of an LC configuration that SBR (and PS) follow (§1.6.2.1, §1.6.5.2).
    fn backward_compatible_extension(&mut self, config: &mut AudioSpecificConfig) -> DecodeResult<()> {
        if self.total.saturating_sub(self.used) < 16
            || self.bits(11)? != SYNC_SBR
            || self.object_type()? != object_type::SBR
            || !self.flag()?
        {
            return Ok(());
        }
        config.sbr_sample_rate = Some(self.sample_rate()?);
        if self.total.saturating_sub(self.used) >= 12 && self.bits(11)? == SYNC_PS {
            config.parametric_stereo = self.flag()?;
        }
        Ok(())
    }
}
