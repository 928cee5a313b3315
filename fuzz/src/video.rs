//! Targets over the video half of `arcly-codec`.
//!
//! The first byte of an input chooses what the rest is: 0 a codec record, 1 a byte stream, 2 to 4 an access
//! unit with lengths of one, two or four bytes, anything else a parameter set.

use arcly_codec::nal::{self, AccessUnit, Framing, LengthSize};
use arcly_codec::{av1, h264, h265, h266, sei, vpx};
use arcly_core::wire::DecodeResult;
use bytes::{Bytes, BytesMut};

crate::targets!(nal_units, h264_units, h265_units, h266_units, av1_units, vpx_frames);

const CANONICAL: Framing = Framing::Length(LengthSize::Four);

enum Input {
    Record(Bytes),
    AccessUnit(Bytes, Framing),
    ParameterSet(Bytes),
}

fn input(data: &[u8]) -> Option<Input> {
    let (&choice, rest) = data.split_first()?;
    let rest = Bytes::copy_from_slice(rest);
    Some(match choice {
        0 => Input::Record(rest),
        1 => Input::AccessUnit(rest, Framing::AnnexB),
        2 => Input::AccessUnit(rest, Framing::Length(LengthSize::One)),
        3 => Input::AccessUnit(rest, Framing::Length(LengthSize::Two)),
        4 => Input::AccessUnit(rest, CANONICAL),
        _ => Input::ParameterSet(rest),
    })
}

/// A record that decodes is encoded into one that decodes to the same.
fn roundtrip_record<T: PartialEq + std::fmt::Debug>(
    record: &Bytes,
    decode: impl Fn(&Bytes) -> DecodeResult<T>,
    encode: impl Fn(&T) -> Bytes,
) {
    if let Ok(config) = decode(record) {
        assert_eq!(decode(&encode(&config)).as_ref(), Ok(&config));
    }
}

/// What comes out is canonical: pushed again it is the same bytes, not copied, with the same flags but for
/// those that depend on what came before.
fn roundtrip_unit(unit: &AccessUnit, mut push: impl FnMut(&Bytes) -> DecodeResult<AccessUnit>) {
    assert_eq!(unit.has_picture(), unit.counts.slices > 0);
    assert!(unit.counts.slices + unit.counts.other <= nal::MAX_NALS_PER_ACCESS_UNIT);
    if !unit.has_picture() {
        assert!(unit.flags.is_empty());
        return;
    }
    let again = push(&unit.payload).expect("canonical form is well framed");
    assert_eq!(again.payload.as_ptr(), unit.payload.as_ptr(), "canonical input is not copied");
    assert_eq!(again.counts.slices, unit.counts.slices);
    assert_eq!((again.counts.removed, again.counts.empty, again.counts.excess), (0, 0, 0));
}

/// Framing and emulation prevention, both ways.
pub fn nal_units(data: &[u8]) {
    assert_eq!(&*nal::unescape(&nal::escape(data)), data);
    let canonical = nal::annex_b_to_length_prefixed(data).expect("fuzzers do not reach the size limit");
    let stream = nal::length_prefixed_to_annex_b(&canonical).expect("canonical form is well framed");
    assert_eq!(nal::annex_b_to_length_prefixed(&stream).as_ref(), Ok(&canonical));
    for size in [LengthSize::One, LengthSize::Two, LengthSize::Four] {
        let mut out = BytesMut::new();
        for unit in nal::length_prefixed(data, size) {
            let Ok(unit) = unit else { break };
            assert!(!unit.is_empty());
            nal::put_length_prefixed(unit, &mut out);
        }
        assert!(nal::length_prefixed(&out, LengthSize::Four).all(|unit| unit.is_ok()));
    }
    for message in sei::messages(data).flatten() {
        assert!(message.size <= data.len());
        let _ = (sei::UserData::decode(&message), sei::RecoveryPoint::decode_h264(&message));
    }
}

/// H.264 records, parameter sets and access units.
pub fn h264_units(data: &[u8]) {
    match input(data) {
        Some(Input::Record(record)) => {
            roundtrip_record(&record, h264::decode_config, h264::encode_config);
            let parser = h264::decode_config(&record).and_then(h264::Parser::with_config);
            assert!(parser.is_err() || h264::record_length_size(&record).is_ok());
        }
        Some(Input::AccessUnit(data, framing)) => {
            let mut parser = h264::Parser::new();
            if let Ok(unit) = parser.push(&data, framing) {
                assert!(!unit.config_changed || parser.config().is_some());
                if let Some(config) = parser.config() {
                    h264::Parser::with_config(config.clone()).expect("what was taken in band makes a record");
                }
                roundtrip_unit(&unit, |data| parser.push(data, CANONICAL));
            }
        }
        Some(Input::ParameterSet(unit)) => {
            if let Ok(sps) = h264::Sps::decode(&unit) {
                assert!(sps.width > 0 && sps.height > 0 && sps.reorder_depth() <= 16);
            }
            let _ = h264::Pps::decode(&unit);
        }
        None => {}
    }
}

/// H.265 records, parameter sets and access units.
pub fn h265_units(data: &[u8]) {
    match input(data) {
        Some(Input::Record(record)) => {
            // SEI units whose own type is not that of their array are not written again.
            let decode = |record: &Bytes| {
                h265::decode_config(record).map(|mut config| {
                    config.sei.clear();
                    config
                })
            };
            roundtrip_record(&record, decode, h265::encode_config);
        }
        Some(Input::AccessUnit(data, framing)) => {
            let mut parser = h265::Parser::new();
            if let Ok(unit) = parser.push(&data, framing) {
                assert!(!unit.config_changed || parser.config().is_some());
                roundtrip_unit(&unit, |data| parser.push(data, CANONICAL));
            }
        }
        Some(Input::ParameterSet(unit)) => {
            if let Ok(sps) = h265::Sps::decode(&unit) {
                assert!(sps.width > 0 && sps.height > 0 && sps.reorder_depth <= 15);
            }
            let _ = (h265::Vps::decode(&unit), h265::Pps::decode(&unit));
        }
        None => {}
    }
}

/// H.266 records, parameter sets and access units.
pub fn h266_units(data: &[u8]) {
    match input(data) {
        Some(Input::Record(record)) => {
            if let Ok(config) = h266::decode_config(&record) {
                let again =
                    h266::decode_config(&h266::encode_config(&config)).expect("what was encoded decodes");
                assert_eq!(
                    (again.sps, again.pps, again.vps, again.dci),
                    (config.sps, config.pps, config.vps, config.dci)
                );
            }
        }
        Some(Input::AccessUnit(data, framing)) => {
            let mut parser = h266::Parser::new();
            if let Ok(unit) = parser.push(&data, framing) {
                roundtrip_unit(&unit, |data| parser.push(data, CANONICAL));
            }
        }
        Some(Input::ParameterSet(unit)) => {
            if let Ok(sps) = h266::Sps::decode(&unit) {
                assert!(sps.width > 0 && sps.height > 0);
            }
        }
        None => {}
    }
}

/// AV1 records, sequence headers and temporal units.
pub fn av1_units(data: &[u8]) {
    match input(data) {
        Some(Input::Record(record)) => roundtrip_record(&record, av1::decode_config, av1::encode_config),
        Some(Input::AccessUnit(data, _)) => {
            let mut parser = av1::Parser::new();
            if let Ok(unit) = parser.push(&data) {
                assert!(
                    !unit.config_changed || parser.config().is_some() || parser.video_params().hdr.is_some()
                );
                assert!(av1::obus(&unit.payload).all(|obu| obu.is_ok_and(|obu| obu.has_size)));
                if !unit.payload.is_empty() {
                    let again = parser.push(&unit.payload).expect("canonical form is well framed");
                    assert_eq!(
                        again.payload.as_ptr(),
                        unit.payload.as_ptr(),
                        "canonical input is not copied"
                    );
                }
            }
        }
        Some(Input::ParameterSet(payload)) => {
            if let Ok(sequence) = av1::SequenceHeader::decode(&payload) {
                assert!(sequence.width > 0 && sequence.height > 0);
            }
        }
        None => {}
    }
}

/// The frame hidden or shown.
fn vp9_frame(data: &[u8], shown: bool) -> Vec<u8> {
    let mut out = BytesMut::new();
    vpx::Vp9Layers::default().put(data, shown, &mut out);
    out.into()
}

/// VP8 and VP9 headers and records; what is hidden and shown again is hidden as it was.
pub fn vpx_frames(data: &[u8]) {
    for frame in vpx::superframe(data).unwrap_or_default().into_iter().chain([data]) {
        let hidden = vp9_frame(frame, false);
        assert!(hidden.len().abs_diff(frame.len()) <= 1);
        assert_eq!(vp9_frame(&vp9_frame(&hidden, true), false), hidden);
    }
    roundtrip_record(&Bytes::copy_from_slice(data), vpx::decode_config, vpx::encode_config);
    if let Ok(frame) = vpx::Vp9Frame::decode(data) {
        assert_eq!(frame.key, frame.format.is_some());
        assert!(!(frame.key && frame.disposable));
        if let Some(config) = frame.config() {
            assert_eq!(vpx::decode_config(&vpx::encode_config(&config)), Ok(config));
        }
    }
    if let Ok(frame) = vpx::Vp8Frame::decode(data) {
        assert_eq!(frame.key, frame.size.is_some());
    }
}
