//! AV1.
//!
//! | document | section | here |
//! |---|---|---|
//! | AV1 Bitstream | 4.10.5 `leb128()`, 5.3 OBU header | [`leb128`], [`obus`], [`Obu`] |
//! | | 5.5 sequence header | [`SequenceHeader`] |
//! | | 5.9 frame header, as far as keyframes need | [`Parser`] |
//! | | 5.8 metadata: HDR | [`Parser::video_params`] |
//! | AV1 ISOBMFF binding | 2.3 AV1CodecConfigurationRecord | [`decode_config`], [`encode_config`] |
//!
//! The canonical temporal unit has no temporal delimiters, and a size field in each OBU. Presentation order is
//! the order of temporal units, so there is nothing to reorder.
//!
//! Guarantees: no panic; at most [`MAX_OBUS_PER_TEMPORAL_UNIT`] OBUs; a temporal unit that is canonical
//! already, or all but for a leading delimiter, is passed on without copying.
//!
//! Not done: disposable frames (`refresh_frame_flags` is too deep in the header), large-scale tiles.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod obu;
mod parser;
mod record;
mod sequence;

pub use obu::{Obu, Obus, leb128, obu_type, obus, put_leb128};
pub use parser::{Parser, TemporalUnit};
pub use record::{decode_config, encode_config};
pub use sequence::SequenceHeader;

use arcly_core::codec::{Av1Config, VideoParams};
use arcly_core::wire::DecodeResult;

/// OBUs of one temporal unit.
pub const MAX_OBUS_PER_TEMPORAL_UNIT: usize = 64;

/// The temporal delimiter that begins a temporal unit outside of MP4 and RTP.
pub const DELIMITER: [u8; 2] = [0x12, 0];

/// Bytes of OBUs in a record.
pub const MAX_CONFIG_OBUS_BYTES: usize = 4 << 10;

/// What the sequence header in the record says of the pictures; nothing when there is none.
pub fn video_params(config: &Av1Config) -> DecodeResult<VideoParams> {
    for obu in obus(&config.config_obus) {
        let obu = obu?;
        if obu.kind == obu_type::SEQUENCE_HEADER {
            return Ok(SequenceHeader::decode(obu.payload)?.video_params());
        }
    }
    Ok(VideoParams::default())
}
