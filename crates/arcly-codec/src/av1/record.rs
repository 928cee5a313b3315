use arcly_core::codec::Av1Config;
use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{BufMut, Bytes, BytesMut};

use super::{MAX_CONFIG_OBUS_BYTES, MAX_OBUS_PER_TEMPORAL_UNIT, SequenceHeader, obu_type, obus};

/// Marker bit and version.
const MARKER_AND_VERSION: u8 = 0x81;

/// Decodes an AV1CodecConfigurationRecord. The record is a closed unit: what is cut short is malformed.
pub fn decode_config(record: &Bytes) -> DecodeResult<Av1Config> {
    let mut r = Reader::new(record);
    let [marker, profile, format, delay] =
        r.array("AV1CodecConfigurationRecord").map_err(|error| error.in_closed_unit(0))?;
    if marker != MARKER_AND_VERSION {
        return Err(DecodeError::Malformed { what: "version", offset: 0 });
    }
    let config_obus = record.slice_ref(r.rest());
    check_obus(&config_obus)?;
    Ok(Av1Config {
        profile: profile >> 5,
        level: profile & 0x1F,
        tier: format & 0x80 != 0,
        high_bitdepth: format & 0x40 != 0,
        twelve_bit: format & 0x20 != 0,
        monochrome: format & 0x10 != 0,
        subsampling_x: format & 8 != 0,
        subsampling_y: format & 4 != 0,
        sample_position: format & 3,
        initial_presentation_delay: (delay & 0x10 != 0).then_some((delay & 0x0F).saturating_add(1)),
        config_obus,
    })
}

fn check_obus(data: &[u8]) -> DecodeResult<()> {
    if data.len() > MAX_CONFIG_OBUS_BYTES {
        return Err(DecodeError::LimitExceeded {
            what: "parameter_set",
            limit: MAX_CONFIG_OBUS_BYTES as u64,
        });
    }
    for (index, obu) in obus(data).enumerate() {
        let obu = obu?;
        if index >= MAX_OBUS_PER_TEMPORAL_UNIT {
            return Err(DecodeError::LimitExceeded {
                what: "obus",
                limit: MAX_OBUS_PER_TEMPORAL_UNIT as u64,
            });
        }
        if obu.kind == obu_type::SEQUENCE_HEADER {
            SequenceHeader::decode(obu.payload)?;
        }
    }
    Ok(())
}

/// Encodes an AV1CodecConfigurationRecord.
#[must_use]
pub fn encode_config(config: &Av1Config) -> Bytes {
    let mut out = BytesMut::with_capacity(config.config_obus.len().saturating_add(4));
    out.put_u8(MARKER_AND_VERSION);
    out.put_u8(config.profile << 5 | (config.level & 0x1F));
    let flags = [
        config.tier,
        config.high_bitdepth,
        config.twelve_bit,
        config.monochrome,
        config.subsampling_x,
        config.subsampling_y,
    ];
    let format = flags.iter().fold(0_u8, |bits, &flag| (bits << 1) | u8::from(flag));
    out.put_u8(format << 2 | (config.sample_position & 3));
    out.put_u8(config.initial_presentation_delay.map_or(0, |delay| 0x10 | (delay.saturating_sub(1) & 0x0F)));
    out.put_slice(&config.config_obus);
    out.freeze()
}
