//! Targets over `arcly-codec`: AMF, audio, and video parsers that carry state from one access unit to the next.
//!
//! The last take sequences ([`parts`]): the first byte chooses the framing, the first part is a codec record
//! (empty for none), the others are access units.

use arcly_codec::nal::{self, Framing, LengthSize};
use arcly_codec::{aac, ac3, amf0, amf3, av1, esds, flac, h264, h265, mpeg_audio, opus};
use arcly_core::wire::Reader;
use bytes::Bytes;

use crate::parts;

crate::targets!(amf0, amf3, h264_sequence, h265_sequence, av1_sequence, aac, audio_headers);

/// AMF0: what decodes encodes to bytes that decode to the same bytes.
pub fn amf0(data: &[u8]) {
    let Ok(values) = amf0::decode_all(data) else { return };
    let bytes = amf0::encode_all(&values);
    let again = amf0::decode_all(&bytes).expect("what was encoded decodes");
    assert_eq!(amf0::encode_all(&again), bytes);
}

/// AMF3, with reference tables.
pub fn amf3(data: &[u8]) {
    let mut reader = Reader::new(data);
    while let Ok(value) = amf3::Value::decode(&mut reader) {
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        assert!(!bytes.is_empty());
    }
}

/// H.264 access units in sequence: the payload is canonical whatever came in.
pub fn h264_sequence(data: &[u8]) {
    let Some((framing, rest)) = framing(data) else { return };
    let mut parts = parts(rest);
    let mut parser = h264::Parser::new();
    if let Ok(config) = h264::decode_config(&copy(parts.next().unwrap_or_default())) {
        // A record whose sets are not understood is refused, and the parser goes on without it.
        let _ = parser.set_config(config);
    }
    for unit in parts {
        let Ok(unit) = parser.push(&copy(unit), framing) else { continue };
        assert_canonical(&unit.payload, |unit| matches!(h264::nal_unit_type(unit[0]), 7..=9));
    }
    if let Some(config) = parser.config() {
        let record = h264::encode_config(config);
        let again = h264::decode_config(&record).expect("a record that was encoded decodes");
        assert_eq!(h264::encode_config(&again), record);
    }
    let _ = parser.video_params();
}

/// H.265 access units in sequence.
pub fn h265_sequence(data: &[u8]) {
    let Some((framing, rest)) = framing(data) else { return };
    let mut parts = parts(rest);
    let mut parser = h265::Parser::new();
    if let Ok(config) = h265::decode_config(&copy(parts.next().unwrap_or_default())) {
        // As for H.264.
        let _ = parser.set_config(config);
    }
    for unit in parts {
        let Ok(unit) = parser.push(&copy(unit), framing) else { continue };
        // Sets of other layers are not ours to take out.
        let is_base_set =
            |unit: &[u8]| matches!(unit, [64..=71, layer, ..] if unit[0] & 1 == 0 && layer >> 3 == 0);
        assert_canonical(&unit.payload, is_base_set);
    }
    if let Some(config) = parser.config() {
        let record = h265::encode_config(config);
        let again = h265::decode_config(&record).expect("a record that was encoded decodes");
        assert_eq!(h265::encode_config(&again), record);
    }
    let _ = parser.video_params();
}

/// AV1 temporal units in sequence; a canonical payload stays as it is.
pub fn av1_sequence(data: &[u8]) {
    let mut parts = parts(data);
    let config = av1::decode_config(&copy(parts.next().unwrap_or_default()));
    let mut parser = config.and_then(av1::Parser::with_config).unwrap_or_default();
    for unit in parts {
        let Ok(unit) = parser.push(&copy(unit)) else { continue };
        if !unit.payload.is_empty() {
            let again = parser.push(&unit.payload).expect("a canonical unit can be taken apart");
            assert_eq!(again.payload, unit.payload);
        }
    }
    let _ = parser.video_params();
}

/// AudioSpecificConfig and ADTS.
pub fn aac(data: &[u8]) {
    let bytes = copy(data);
    if let Ok(config) = aac::decode_config(&bytes) {
        let _ = (aac::audio_params(&config), aac::frame_duration(&config));
        let again =
            aac::decode_config(&aac::encode_config(&config)).expect("a config that was encoded decodes");
        assert_eq!(again.object_type, config.object_type);
        assert_eq!(again.sample_rate, config.sample_rate);
    }
    let mut frames = aac::adts_frames(bytes);
    let mut taken = 0;
    for (header, unit) in frames.by_ref().map_while(Result::ok) {
        taken += usize::from(header.frame_len);
        assert!(unit.len() < usize::from(header.frame_len));
    }
    assert_eq!(taken + frames.rest().len(), data.len(), "nothing is lost");
}

/// Headers and records of the other audio codecs.
pub fn audio_headers(data: &[u8]) {
    let bytes = copy(data);
    let _ = opus::packet_samples(data);
    if let Ok(config) = opus::decode_head(data) {
        assert_eq!(opus::decode_head(&opus::encode_head(&config)), Ok(config));
    }
    if let Ok(config) = opus::decode_dops(data) {
        assert_eq!(opus::decode_dops(&opus::encode_dops(&config)), Ok(config));
    }
    if let Ok(config) = flac::decode_config(&bytes).or_else(|_| flac::decode_dfla(&bytes)) {
        let _ = flac::audio_params(&config);
    }
    let _ = flac::frame_samples(data);
    if let Ok(header) = ac3::FrameHeader::decode(data) {
        let _ = (header.audio_params(), header.duration());
    }
    if let Ok(config) = ac3::decode_dac3(data) {
        assert_eq!(ac3::decode_dac3(&ac3::encode_dac3(&config)), Ok(config));
    }
    if let Ok(config) = ac3::decode_dec3(&bytes) {
        assert_eq!(ac3::decode_dec3(&ac3::encode_dec3(&config)), Ok(config));
    }
    if let Ok(header) = mpeg_audio::FrameHeader::decode(data) {
        let _ = (header.audio_params(), header.duration());
    }
    if let Ok(descriptor) = esds::EsDescriptor::decode(&bytes) {
        let again = esds::EsDescriptor::decode(&descriptor.encode());
        assert_eq!(again, Ok(descriptor));
    }
}

/// The framing that the first byte chooses, and the rest.
fn framing(data: &[u8]) -> Option<(Framing, &[u8])> {
    let (choice, rest) = data.split_first()?;
    let framing = match choice % 4 {
        0 => Framing::Length(LengthSize::Four),
        1 => Framing::AnnexB,
        2 => Framing::Length(LengthSize::Two),
        _ => Framing::Length(LengthSize::One),
    };
    Some((framing, rest))
}

/// Every NAL unit has a length that fits, and none is of a kind that the canonical form leaves out.
fn assert_canonical(payload: &[u8], left_out: impl Fn(&[u8]) -> bool) {
    for unit in nal::length_prefixed(payload, LengthSize::Four) {
        let unit = unit.expect("lengths add up");
        assert!(!left_out(unit), "a parameter set or delimiter in the payload");
    }
}

fn copy(data: &[u8]) -> Bytes {
    Bytes::copy_from_slice(data)
}
