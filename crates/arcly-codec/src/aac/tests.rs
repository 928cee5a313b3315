use arcly_core::wire::DecodeError;
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::bits::BitWriter;

fn decode(bytes: &[u8]) -> Result<AudioSpecificConfig, DecodeError> {
    decode_config(&Bytes::copy_from_slice(bytes))
}

/// 5.1 by program config element at 48 kHz: front SCE + CPE, back CPE, LFE; no comment.
fn with_program_config() -> Vec<u8> {
    let mut w = BitWriter::new();
    w.bits(5, 2).bits(4, 3).bits(4, 0).bits(3, 0);
    w.bits(4, 0).bits(2, 1).bits(4, 3);
    w.bits(4, 2).bits(4, 0).bits(4, 1).bits(2, 1).bits(3, 0).bits(4, 0);
    w.bits(3, 0);
    w.bits(5, 0b0_0000).bits(5, 0b1_0000).bits(5, 0b1_0001).bits(4, 0);
    w.align().bits(8, 0);
    w.finish()
}

/// What, record, object type, core rate, SBR rate, channels put out, samples put out.
type ConfigCase = (&'static str, Vec<u8>, u8, u32, Option<u32>, u8, u32);

#[test]
fn configurations_of_every_kind_are_understood() {
    let cases: &[ConfigCase] = &[
        ("LC 44.1 kHz stereo", vec![0x12, 0x10], 2, 44_100, None, 2, 1_024),
        ("LC 48 kHz stereo", vec![0x11, 0x90], 2, 48_000, None, 2, 1_024),
        ("LC 48 kHz 5.1", vec![0x11, 0xB0], 2, 48_000, None, 6, 1_024),
        ("LC 48 kHz 7.1", vec![0x11, 0xB8], 2, 48_000, None, 8, 1_024),
        ("960 samples", vec![0x11, 0x94], 2, 48_000, None, 2, 960),
        ("escape index", vec![0x17, 0x80, 0x5D, 0xC0, 0x10], 2, 48_000, None, 2, 1_024),
        ("HE, hierarchical", vec![0x2B, 0x11, 0x88, 0x00], 2, 24_000, Some(48_000), 2, 2_048),
        ("HE v2, hierarchical", vec![0xEB, 0x09, 0x88, 0x00], 2, 24_000, Some(48_000), 2, 2_048),
        ("HE, backward compatible", vec![0x13, 0x10, 0x56, 0xE5, 0x98], 2, 24_000, Some(48_000), 2, 2_048),
        (
            "HE v2, backward compatible",
            vec![0x13, 0x08, 0x56, 0xE5, 0x9D, 0x48, 0x80],
            2,
            24_000,
            Some(48_000),
            2,
            2_048,
        ),
        ("implicit SBR looks like its core", vec![0x13, 0x10], 2, 24_000, None, 2, 1_024),
        ("padding behind it", vec![0x12, 0x10, 0, 0, 0], 2, 44_100, None, 2, 1_024),
        ("program config element", with_program_config(), 2, 48_000, None, 6, 1_024),
        ("low delay", vec![0xB9, 0x90, 0x00], 23, 48_000, None, 2, 512),
    ];
    for (name, record, object_type, core, sbr, channels, samples) in cases {
        let config = decode(record).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((config.object_type, config.sample_rate), (*object_type, *core), "{name}");
        assert_eq!(config.sbr_sample_rate, *sbr, "{name}");
        let params = audio_params(&config);
        assert_eq!((params.channels, params.samples_per_frame), (*channels, Some(*samples)), "{name}");
        assert_eq!(params.sample_rate, sbr.unwrap_or(*core), "{name}");
        assert_eq!(encode_config(&config), record.as_slice(), "{name}: what came goes out again");
    }
}

#[test]
fn m13_truncated_and_lying_configurations_are_malformed() {
    let cases: &[(&str, &[u8])] = &[
        ("empty", &[]),
        ("one byte", &[0x12]),
        ("escape index cut off", &[0x17, 0x80, 0x5D]),
        ("escape index of 0 Hz", &[0x17, 0x80, 0x00, 0x00, 0x10]),
        ("reserved index 13", &[0x16, 0x90]),
        ("reserved channel configuration", &[0x11, 0xC0]),
        ("program config element missing", &[0x11, 0x80]),
        ("program config element of 45 elements in 4 bytes", &[0x11, 0x80, 0x07, 0xFF, 0xFF, 0xFF]),
        ("program config element without channels", &[0x11, 0x80, 0x04, 0xC0, 0, 0, 0, 0, 0, 0]),
        ("reserved object type", &[0x50, 0x90, 0, 0]),
    ];
    for (name, record) in cases {
        assert!(matches!(decode(record), Err(DecodeError::Malformed { .. })), "{name}: {:?}", decode(record));
    }
}

/// A LOAS frame: the mux configuration of `fields`, then access units of those lengths, filled with their number.
fn loas(fields: &[(u32, u64)], units: &[usize]) -> Vec<u8> {
    let mut w = BitWriter::new();
    for (count, value) in fields {
        w.bits(*count, *value);
    }
    for (n, len) in units.iter().enumerate() {
        for _ in 0..len / 255 {
            w.bits(8, 255);
        }
        w.bits(8, (len % 255) as u64);
        for _ in 0..*len {
            w.bits(8, n as u64);
        }
    }
    let body = w.align().clone().finish();
    let [high, low] = u16::try_from(body.len()).expect("a short frame").to_be_bytes();
    [&[0x56, 0xE0 | high, low], &body[..]].concat()
}

/// useSameStreamMux, audioMuxVersion, allStreamsSameTimeFraming, numSubFrames, numProgram, numLayer; LC, 48 kHz, stereo;
/// frameLengthType, latmBufferFullness, no other data, no checksum.
const STREAM_MUX: [(u32, u64); 11] =
    [(1, 0), (1, 0), (1, 1), (6, 1), (4, 0), (3, 0), (16, 0x1190), (3, 0), (8, 255), (1, 0), (1, 0)];

#[test]
fn iso_14496_3_1_7_loas_frames_hold_access_units() {
    let mut decoder = LatmDecoder::new();
    assert_eq!(decoder.decode(&loas(&[(1, 1)], &[4])), Ok(vec![]), "no configuration yet");
    let frame = loas(&STREAM_MUX, &[3, 300]);
    assert_eq!(loas_frame_len(&frame), Ok(frame.len()));
    let units = decoder.decode(&frame).expect("a frame");
    assert_eq!(units, [vec![0; 3], vec![1; 300]]);
    assert_eq!(decoder.config(), decode(&[0x11, 0x90]).ok().as_ref());
    // The same configuration again: one bit says so.
    assert_eq!(decoder.decode(&loas(&[(1, 1)], &[2, 2])).map(|units| units.len()), Ok(2));
    for cut in 0..frame.len() {
        assert!(LatmDecoder::new().decode(&frame[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn m15_nested_latm_is_refused() {
    for (field, value) in [(2, 0), (4, 1), (5, 1), (7, 1)] {
        let mut fields = STREAM_MUX;
        fields[field].1 = value;
        assert!(LatmDecoder::new().decode(&loas(&fields, &[3, 3])).is_err(), "field {field}");
    }
    let bytes = loas(&STREAM_MUX, &[3, 3]);
    // A LOAS frame is no configuration and no ADTS frame.
    assert!(matches!(decode(&bytes), Err(DecodeError::Malformed { .. })));
    assert!(matches!(AdtsHeader::decode(&bytes), Err(DecodeError::Malformed { what: "adts syncword", .. })));
    for at in 0..bytes.len() {
        for flip in 1..=255 {
            let mut hostile = bytes.clone();
            hostile[at] ^= flip;
            let _ = LatmDecoder::new().decode(&hostile);
        }
    }
}

#[test]
fn m13_adts_lengths_below_the_header_are_malformed() {
    let header = AdtsHeader::for_access_unit(&decode(&[0x11, 0x90]).expect("LC"), 0).expect("fits");
    for frame_len in 0..=6 {
        let bytes = AdtsHeader { frame_len, ..header }.encode();
        assert!(matches!(
            AdtsHeader::decode(&bytes),
            Err(DecodeError::Malformed { what: "adts frame length", .. })
        ));
        assert_eq!(adts_frames(bytes.into()).count(), 1, "one error, no loop");
    }
    let mut checked = header.encode();
    checked[1] &= !1;
    assert!(AdtsHeader::decode(&checked).is_err(), "seven bytes do not hold a header with checksum");
}

#[test]
fn adts_frames_follow_each_other() {
    let config = decode(&[0x12, 0x10]).expect("LC");
    let frame = |payload: &[u8]| {
        let header = AdtsHeader::for_access_unit(&config, payload.len()).expect("fits");
        [&header.encode()[..], payload].concat()
    };
    let bytes = [frame(b"one"), frame(b""), frame(b"three")].concat();
    let frames: Vec<_> = adts_frames(bytes.clone().into()).map(Result::unwrap).collect();
    assert_eq!(frames.iter().map(|(_, au)| &au[..]).collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
    assert_eq!(frames[0].0.config(), AudioSpecificConfig { raw: config.raw.clone(), ..config });
    let mut cut = adts_frames(Bytes::from(bytes).slice(..20));
    assert_eq!(cut.by_ref().filter(Result::is_ok).count(), 2);
    assert_eq!(cut.rest().len(), 3, "the cut frame stays");
}

#[test]
fn m34_every_cut_and_flip_gives_the_same_answer_twice() {
    for record in [with_program_config(), vec![0x13, 0x08, 0x56, 0xE5, 0x9D, 0x48, 0x80]] {
        for cut in 0..record.len() {
            assert_eq!(decode(&record[..cut]), decode(&record[..cut]));
        }
        for at in 0..record.len() {
            for flip in 1..=255 {
                let mut hostile = record.clone();
                hostile[at] ^= flip;
                assert_eq!(decode(&hostile), decode(&hostile));
            }
        }
    }
}

#[test]
fn durations_count_the_core_coder() {
    let he = decode(&[0x2B, 0x11, 0x88, 0x00]).expect("HE");
    assert_eq!(frame_duration(&he), TimeDelta::from_units(2_048, Timescale::of(48_000)));
}

proptest! {
    #[test]
    fn built_configurations_decode_to_their_values(
        object_type in prop_oneof![Just(1u8), Just(2), Just(4), Just(17), Just(23)],
        sample_rate in prop_oneof![Just(48_000u32), Just(44_100), 1u32..1 << 24],
        channel_config in prop_oneof![1u8..=7, 11u8..=14],
        sbr in any::<bool>(), ps in any::<bool>(), short_frames in any::<bool>(),
    ) {
        let config = AudioSpecificConfig {
            object_type, sample_rate, channel_config, short_frames,
            channels: channels_of(channel_config).unwrap(),
            sbr_sample_rate: sbr.then_some(sample_rate),
            parametric_stereo: sbr && ps,
            raw: Bytes::new(),
        };
        let raw = encode_config(&config);
        prop_assert_eq!(decode_config(&raw).unwrap(), AudioSpecificConfig { raw, ..config });
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = decode(&bytes);
        let len = bytes.len();
        prop_assert!(adts_frames(bytes.into()).count() <= len / 7 + 1);
    }
}
