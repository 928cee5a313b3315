//! Payload formats: round trips through packets of every size, what is lost, and what lies.

use arcly_core::codec::{AvcConfig, HevcConfig, PcmConfig};
use arcly_core::wire::DecodeError;
use arcly_core::{CodecConfig, FrameFlags, MediaFrame, Timestamp, TrackId};
use arcly_rtp::payload::{
    AuSizes, Depacketizer, Encoding, MAX_UNIT_BYTES, PacketSink, Packetizer, Payload, Unit,
};
use arcly_testkit::rng::Rng;
use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

/// Packets: marker, ticks behind the frame's, payload.
#[derive(Default)]
struct Packets(Vec<(bool, u32, Bytes)>);

impl PacketSink for Packets {
    fn packet(&mut self, marker: bool, ticks: u32, parts: &[&[u8]]) {
        self.0.push((marker, ticks, parts.concat().into()));
    }
}

fn frame(payload: impl Into<Bytes>, key: bool) -> MediaFrame {
    let flags = if key { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
    MediaFrame::new(TrackId::VIDEO, Timestamp::ZERO, payload.into()).with_flags(flags)
}

fn packetize(
    encoding: &Encoding,
    config: &CodecConfig,
    frame: &MediaFrame,
    room: usize,
) -> Vec<(bool, u32, Bytes)> {
    let mut packets = Packets::default();
    Packetizer::new(encoding.clone(), config.clone(), room)
        .packetize(frame, &mut packets)
        .expect("canonical");
    packets.0
}

fn push(
    depacketizer: &mut Depacketizer,
    ticks: i64,
    marker: bool,
    data: &[u8],
) -> (Vec<Unit>, Result<(), DecodeError>) {
    let mut out = Vec::new();
    let result = depacketizer.push(&Payload { ticks, marker, data: Bytes::copy_from_slice(data) }, &mut out);
    (out, result)
}

/// Units out of the packets of frames that are 3 000 ticks apart.
fn depacketize(depacketizer: &mut Depacketizer, frames: &[Vec<(bool, u32, Bytes)>]) -> Vec<Unit> {
    let mut units = Vec::new();
    for (at, packets) in (0..).map(|n| n * 3_000).zip(frames) {
        for (marker, ticks, data) in packets {
            let (out, result) = push(depacketizer, at + i64::from(*ticks), *marker, data);
            result.expect("our own packets");
            units.extend(out);
        }
    }
    units
}

fn prefixed(units: &[&[u8]]) -> Bytes {
    let mut out = BytesMut::new();
    for unit in units {
        out.put_u32(u32::try_from(unit.len()).expect("small"));
        out.put_slice(unit);
    }
    out.freeze()
}

/// A NAL unit of that header without anything that looks like a start code.
fn nal(header: &[u8], len: usize, rng: &mut Rng) -> Vec<u8> {
    let body = rng.bytes(len).into_iter().map(|byte| byte | 1);
    header.iter().copied().chain(body).collect()
}

const SIZES: [usize; 9] = [1, 2, 30, 62, 63, 200, 1_199, 1_200, 30_000];

#[test]
fn m32_avc_comes_back_bit_for_bit() {
    let mut rng = Rng::new(1);
    for room in [64, 100, 1_200, 9_000] {
        for len in SIZES {
            // SEI, a first slice and another.
            let units = [
                nal(&[0x06], 20, &mut rng),
                nal(&[0x65, 0x88], len, &mut rng),
                nal(&[0x65, 0x44], len, &mut rng),
            ];
            let units: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
            let payload = prefixed(&units);
            let packets =
                packetize(&Encoding::H264, &CodecConfig::None, &frame(payload.clone(), false), room);
            assert!(packets.iter().all(|(_, _, data)| data.len() <= room));
            assert_eq!(packets.iter().filter(|(marker, ..)| *marker).count(), 1);
            let mut depacketizer = Depacketizer::new(&Encoding::H264, 90_000, 0);
            let out = depacketize(&mut depacketizer, &[packets.clone(), packets]);
            assert_eq!(out.len(), 2, "room {room}, length {len}");
            assert!(out.iter().all(|unit| unit.data == payload && !unit.corrupt));
            assert_eq!((out[1].ticks, depacketizer.held()), (3_000, 0));
        }
    }
}

#[test]
fn m32_hevc_comes_back_bit_for_bit() {
    let mut rng = Rng::new(2);
    for room in [64, 1_200] {
        for len in SIZES {
            let units = [
                nal(&[0x4E, 0x01], 20, &mut rng),
                nal(&[0x26, 0x01, 0xAF], len, &mut rng),
                nal(&[0x26, 0x01, 0x2F], len, &mut rng),
            ];
            let units: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
            let payload = prefixed(&units);
            let packets =
                packetize(&Encoding::H265, &CodecConfig::None, &frame(payload.clone(), false), room);
            assert!(packets.iter().all(|(_, _, data)| data.len() <= room));
            let out =
                depacketize(&mut Depacketizer::new(&Encoding::H265, 90_000, 0), &[packets.clone(), packets]);
            assert_eq!(out.len(), 2, "room {room}, length {len}");
            assert!(out.iter().all(|unit| unit.data == payload && !unit.corrupt));
        }
    }
}

#[test]
fn keyframes_begin_with_the_parameter_sets_in_one_packet() {
    let sets = |list: &[&'static [u8]]| list.iter().map(|set| Bytes::from_static(set)).collect();
    let avc = AvcConfig { sps: sets(&[&[0x67, 1, 2]]), pps: sets(&[&[0x68, 3]]), ..AvcConfig::default() };
    let key = frame(prefixed(&[&[0x65, 0x88, 1]]), true);
    let packets = packetize(&Encoding::H264, &CodecConfig::Avc(avc), &key, 1_200);
    // RFC 6184 §5.7.1: a STAP-A with the highest nal_ref_idc.
    assert_eq!(packets.len(), 1);
    assert_eq!(packets[0].2[..], [0x78, 0, 3, 0x67, 1, 2, 0, 2, 0x68, 3, 0, 3, 0x65, 0x88, 1]);
    let hevc = HevcConfig {
        vps: sets(&[&[0x40, 1, 9]]),
        sps: sets(&[&[0x42, 1, 8]]),
        pps: sets(&[&[0x44, 1, 7]]),
        ..HevcConfig::default()
    };
    let key = frame(prefixed(&[&[0x26, 1, 0xAF]]), true);
    let packets = packetize(&Encoding::H265, &CodecConfig::Hevc(hevc), &key, 1_200);
    // RFC 7798 §4.4.2: type 48, the lowest layer and temporal identifier.
    assert_eq!(packets[0].2[..4], [0x60, 1, 0, 3]);
    assert_eq!(packets.len(), 1);
}

/// RFC 6184 §5.8: an FU-A in three.
#[test]
fn rfc6184_5_8_fragments() {
    let unit = [0x65, 0x88, 1, 2, 3, 4, 5];
    let mut depacketizer = Depacketizer::new(&Encoding::H264, 90_000, 0);
    assert_eq!(push(&mut depacketizer, 0, false, &[0x7C, 0x85, 0x88, 1]).0, []);
    assert_eq!(push(&mut depacketizer, 0, false, &[0x7C, 0x05, 2, 3]).0, []);
    let (out, _) = push(&mut depacketizer, 0, true, &[0x7C, 0x45, 4, 5]);
    assert_eq!(
        out,
        [Unit { ticks: 0, data: prefixed(&[&unit]), corrupt: false, flags: FrameFlags::empty() }]
    );
}

#[test]
fn a_byte_stream_where_nal_units_belong_is_taken_apart() {
    let sets: [&[u8]; 3] = [&[0x67, 1, 2], &[0x68, 3], &[0x65, 0x88, 5, 6]];
    let stream = [sets[0], &[0, 0, 0, 1][..], sets[1], &[0, 0, 1], sets[2]].concat();
    let mut depacketizer = Depacketizer::new(&Encoding::H264, 90_000, 0);
    let (out, _) = push(&mut depacketizer, 0, true, &stream);
    assert_eq!(out[0].data, prefixed(&sets), "in one packet");
    let (out, _) = push(&mut depacketizer, 1, true, &[&[0, 0, 0, 1][..], &stream].concat());
    assert_eq!(out[0].data, prefixed(&sets), "with a start code in front");
    push(&mut depacketizer, 2, false, &[&[0x7C, 0x87][..], &stream[1..6]].concat()).1.unwrap();
    let (out, _) = push(&mut depacketizer, 2, true, &[&[0x7C, 0x47][..], &stream[6..]].concat());
    assert_eq!(out[0].data, prefixed(&sets), "in fragments");
}

#[test]
fn markers_on_every_slice_are_seen_through() {
    let mut depacketizer = Depacketizer::new(&Encoding::H264, 90_000, 0);
    let (first, second): (&[u8], &[u8]) = (&[0x65, 0x88, 1], &[0x65, 0x44, 2]);
    assert_eq!(push(&mut depacketizer, 0, true, first).0.len(), 1, "believed at first");
    assert_eq!(push(&mut depacketizer, 0, true, second).0.len(), 0, "no longer");
    assert_eq!(push(&mut depacketizer, 3_000, true, first).0.len(), 1, "what is left of the first");
    assert_eq!(push(&mut depacketizer, 3_000, true, second).0, []);
    let (out, _) = push(&mut depacketizer, 6_000, true, first);
    assert_eq!(
        out,
        [Unit { ticks: 3_000, data: prefixed(&[first, second]), corrupt: false, flags: FrameFlags::empty() }]
    );
    let mut rest = Vec::new();
    depacketizer.flush(&mut rest);
    assert_eq!(rest.len(), 1);
}

#[test]
fn f53_a_unit_that_lacks_a_part_never_passes_for_whole() {
    let mut rng = Rng::new(3);
    let h264 = prefixed(&[&nal(&[0x65, 0x88], 3_000, &mut rng), &nal(&[0x65, 0x44], 3_000, &mut rng)]);
    let h265 = prefixed(&[&nal(&[0x26, 1, 0xAF], 3_000, &mut rng), &nal(&[0x26, 1, 0x2F], 3_000, &mut rng)]);
    let av1 = av1_unit(&[(6, 6_000)], &mut rng);
    let (vp8, vp9) = (vp8_frame(6_000, &mut rng), vp9_frame(6_000, &mut rng));
    let whole = Bytes::from(rng.bytes(6_000));
    let klv: Bytes = [&[0x06, 0x0E, 0x2B, 0x34][..], &rng.bytes(6_000)].concat().into();
    let cases = [
        (Encoding::H264, h264),
        (Encoding::H265, h265),
        (Encoding::Av1, av1),
        (Encoding::Vp8, vp8),
        (Encoding::Vp9, vp9),
        (Encoding::Mpeg4Generic(AuSizes::HBR), whole),
        (Encoding::Klv, klv),
    ];
    for (encoding, payload) in cases {
        let packets = packetize(&encoding, &CodecConfig::None, &frame(payload.clone(), false), 1_000);
        assert!(packets.len() >= 6, "{encoding:?}");
        for missing in 0..packets.len() {
            let mut depacketizer = Depacketizer::new(&encoding, 90_000, 1_024);
            let mut out = Vec::new();
            // One before, the damaged one, and two behind: only those are whole.
            for (at, packet, lost) in (0..4).flat_map(|n| {
                (0..packets.len()).map(move |index| (n * 3_000, index, n == 1 && index == missing))
            }) {
                if lost {
                    depacketizer.lost();
                } else {
                    let (marker, _, data) = &packets[packet];
                    out.extend(push(&mut depacketizer, at, *marker, data).0);
                }
            }
            let whole: Vec<_> = out.iter().filter(|unit| !unit.corrupt).collect();
            assert!(whole.iter().all(|unit| unit.data == payload), "{encoding:?} without packet {missing}");
            let ticks: Vec<_> = whole.iter().map(|unit| unit.ticks).collect();
            assert_eq!(ticks, [0, 6_000, 9_000], "{encoding:?} without packet {missing}");
            assert_eq!(depacketizer.held(), 0);
        }
    }
}

#[test]
fn t30_t42_units_that_never_end_are_given_up_at_their_bound() {
    let piece = [1_u8; 1_398];
    let cases: [(Encoding, &[u8], &[u8]); 7] = [
        (Encoding::H264, &[0x7C, 0x85], &[0x7C, 0x05]),
        (Encoding::H265, &[0x62, 0x01, 0x93], &[0x62, 0x01, 0x13]),
        (Encoding::Av1, &[0x50, 0x30], &[0xD0]),
        (Encoding::Vp8, &[0x10], &[0x00]),
        (Encoding::Vp9, &[0x08], &[0x00]),
        (Encoding::Klv, &[0x06, 0x0E, 0x2B, 0x34], &[]),
        (Encoding::Latm(Some(Bytes::new())), &[], &[]),
    ];
    for (encoding, start, middle) in cases {
        let mut depacketizer = Depacketizer::new(&encoding, 90_000, 1_024);
        let (mut most, mut limits) = (0, 0);
        push(&mut depacketizer, 0, false, &[start, &piece].concat()).1.unwrap();
        for _ in 0..46_000 {
            let (out, result) = push(&mut depacketizer, 0, false, &[middle, &piece].concat());
            assert_eq!(out, []);
            limits +=
                usize::from(matches!(result, Err(DecodeError::LimitExceeded { what: "reassembly", .. })));
            most = most.max(depacketizer.held());
        }
        assert!(most <= MAX_UNIT_BYTES, "{encoding:?} held {most}");
        assert!(limits > 0 || encoding == Encoding::Latm(Some(Bytes::new())), "{encoding:?}");
        let (out, _) = push(&mut depacketizer, 3_000, true, &[start, &piece].concat());
        assert!(out.iter().all(|unit| unit.ticks >= 3_000 || unit.corrupt), "{encoding:?}");
    }
}

#[test]
fn t31_t43_payloads_that_lie() {
    let h264: [(&str, &[u8]); 12] = [
        ("nothing", &[]),
        ("an FU indicator alone", &[0x7C]),
        ("start and end", &[0x7C, 0xC5, 1]),
        ("a middle first", &[0x7C, 0x05, 1]),
        ("an empty STAP-A", &[0x18]),
        ("a STAP-A of 65535", &[0x18, 0xFF, 0xFF]),
        ("a unit of 0", &[0x18, 0, 0]),
        ("a unit of 5, two there", &[0x18, 0, 5, 0x61, 0x62]),
        ("FU-B", &[0x1D, 0x85, 1]),
        ("reserved", &[0x1E, 1]),
        ("type 0", &[0x00]),
        ("a STAP-A in a STAP-A", &[0x18, 0, 4, 0x18, 0, 1, 0x65]),
    ];
    let h265: [(&str, &[u8]); 6] = [
        ("one byte", &[0x26]),
        ("a PACI", &[0x64, 0x01, 1, 2, 3]),
        ("an FU of type 48", &[0x62, 0x01, 0xB0, 1]),
        ("an FU of type 63", &[0x62, 0x01, 0xBF, 1]),
        ("an AP in an AP", &[0x60, 0x01, 0, 6, 0x60, 0x01, 0, 2, 0x26, 1]),
        ("an FU header missing", &[0x62, 0x01]),
    ];
    for (encoding, cases) in [(Encoding::H264, &h264[..]), (Encoding::H265, &h265[..])] {
        let good: &[u8] = if encoding == Encoding::H264 { &[0x65, 0x88, 1] } else { &[0x26, 1, 0xAF] };
        for (what, data) in cases {
            let mut depacketizer = Depacketizer::new(&encoding, 90_000, 0);
            push(&mut depacketizer, 0, true, good).1.unwrap();
            let (out, result) = push(&mut depacketizer, 3_000, true, data);
            assert!(result.is_err() && out.iter().all(|unit| unit.corrupt), "{what}: {out:?}");
            assert_eq!(
                push(&mut depacketizer, 6_000, true, good).0.len(),
                1,
                "{what}: the next picture is whole"
            );
        }
    }
    let others: [(Encoding, &[u8]); 9] = [
        (Encoding::Av1, &[0x90, 1, 2, 3]),
        (Encoding::Av1, &[0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 1]),
        (Encoding::Av1, &[0x20, 200, 0x30]),
        (Encoding::Vp8, &[0x90, 0x80, 0x80]),
        (Encoding::Vp9, &[0x0A, 0xFF]),
        (Encoding::Mpeg4Generic(AuSizes::HBR), &[0xFF, 0xFF, 0, 1]),
        (Encoding::Mpeg4Generic(AuSizes::HBR), &[0, 0]),
        (Encoding::MpegAudio, &[0, 0, 0, 0, 1, 2, 3, 4]),
        (Encoding::Mp2t, &[0x47; 187]),
    ];
    for (encoding, data) in others {
        let (out, _) = push(&mut Depacketizer::new(&encoding, 90_000, 1_024), 0, true, data);
        assert!(out.is_empty(), "{encoding:?} {data:?}: {out:?}");
    }
}

/// A temporal unit of OBUs with sizes, of types and lengths.
fn av1_unit(obus: &[(u8, usize)], rng: &mut Rng) -> Bytes {
    let mut out = BytesMut::new();
    for (kind, len) in obus {
        out.put_u8(kind << 3 | 2);
        arcly_codec::av1::put_leb128(u32::try_from(*len).expect("small"), &mut out);
        out.put_slice(&rng.bytes(*len));
    }
    out.freeze()
}

#[test]
fn m32_av1_comes_back_bit_for_bit() {
    let mut rng = Rng::new(4);
    for room in [64, 300, 1_200, 9_000] {
        for len in SIZES {
            for obus in
                [&[(1, 12), (6, len)][..], &[(6, len)], &[(1, 10), (5, 3), (3, len), (4, len), (4, 1)]]
            {
                let payload = av1_unit(obus, &mut rng);
                let packets =
                    packetize(&Encoding::Av1, &CodecConfig::None, &frame(payload.clone(), true), room);
                assert!(packets.iter().all(|(_, _, data)| data.len() <= room));
                assert_eq!(packets[0].2[0] & 8, 8, "a new coded video sequence");
                let mut depacketizer = Depacketizer::new(&Encoding::Av1, 90_000, 0);
                let out = depacketize(&mut depacketizer, &[packets.clone(), packets]);
                assert_eq!(
                    out.iter().map(|unit| &unit.data).collect::<Vec<_>>(),
                    [&payload; 2],
                    "{room} {obus:?}"
                );
            }
        }
    }
}

/// The example of section 4.4 of the AV1 payload format: two OBUs, the second one in two packets, with sizes and without.
#[test]
fn av1_section_4_4_elements() {
    let mut depacketizer = Depacketizer::new(&Encoding::Av1, 90_000, 0);
    // W=2 and Y: a sequence header of 3 bytes, the start of a frame.
    assert_eq!(push(&mut depacketizer, 0, false, &[0x68, 4, 0x08, 1, 2, 3, 0x30, 9]).0, []);
    // Z, W=0: its end, then a metadata OBU.
    let (out, result) = push(&mut depacketizer, 0, true, &[0x80, 2, 8, 7, 2, 0x28, 6]);
    assert_eq!(result, Ok(()));
    assert_eq!(out[0].data[..], [0x0A, 3, 1, 2, 3, 0x32, 3, 9, 8, 7, 0x2A, 1, 6]);
}

fn vp8_frame(len: usize, rng: &mut Rng) -> Bytes {
    [&[0x10, 0, 0, 0x9D, 0x01, 0x2A, 64, 1, 180, 0][..], &rng.bytes(len)].concat().into()
}

fn vp9_frame(len: usize, rng: &mut Rng) -> Bytes {
    [&[0x82, 0x49, 0x83, 0x42][..], &rng.bytes(len)].concat().into()
}

#[test]
fn m32_formats_of_whole_frames_come_back_bit_for_bit() {
    let mut rng = Rng::new(5);
    for len in SIZES {
        let klv: Bytes = [&[0x06, 0x0E, 0x2B, 0x34][..], &rng.bytes(len)].concat().into();
        let cases = [
            (Encoding::Vp8, vp8_frame(len, &mut rng)),
            (Encoding::Vp9, vp9_frame(len, &mut rng)),
            (Encoding::Klv, klv),
            (Encoding::Opus, rng.bytes(len).into()),
            (Encoding::Mpeg4Generic(AuSizes::HBR), rng.bytes(len.min(8_191)).into()),
        ];
        for (encoding, payload) in cases {
            for room in [64, 1_200] {
                let packets = packetize(&encoding, &CodecConfig::None, &frame(payload.clone(), true), room);
                assert!(packets.iter().all(|(_, _, data)| data.len() <= room) || encoding == Encoding::Opus);
                let mut depacketizer = Depacketizer::new(&encoding, 90_000, 1_024);
                let out = depacketize(&mut depacketizer, &[packets.clone(), packets]);
                assert_eq!(
                    out.iter().map(|unit| &unit.data).collect::<Vec<_>>(),
                    [&payload; 2],
                    "{encoding:?} {len}"
                );
            }
        }
    }
}

/// RFC 9628 §4.2: two spatial layers become a superframe (VP9 Bitstream, annex B).
#[test]
fn rfc9628_4_2_spatial_layers() {
    let mut depacketizer = Depacketizer::new(&Encoding::Vp9, 90_000, 0);
    // I, L, B, E; picture 5; layer 0, then 1; TL0PICIDX.
    assert_eq!(push(&mut depacketizer, 0, false, &[0xAC, 5, 0x00, 0, 1, 2, 3]).0, []);
    let (out, result) = push(&mut depacketizer, 0, true, &[0xAC, 5, 0x03, 0, 4, 5]);
    assert_eq!(result, Ok(()));
    assert_eq!(out[0].data[..], [1, 2, 3, 4, 5, 0xD9, 3, 0, 0, 0, 2, 0, 0, 0, 0xD9]);
    // Flexible mode with two references, and a scalability structure of one layer and a group of one picture.
    let (out, result) =
        push(&mut depacketizer, 1, true, &[0xFE, 0x80, 9, 0x00, 3, 2, 0x18, 1, 64, 1, 0, 1, 0x04, 7, 42]);
    assert_eq!((result, &out[0].data[..]), (Ok(()), &[42][..]));
}

/// RFC 3640 §3.3.6: three units in one packet, and times by their index.
#[test]
fn rfc3640_3_3_6_several_access_units() {
    let mut depacketizer = Depacketizer::new(&Encoding::Mpeg4Generic(AuSizes::HBR), 48_000, 1_024);
    let data = [0, 48, 0, 2 << 3, 0, 1 << 3, 0, 3 << 3 | 1, 10, 11, 20, 30, 31, 32];
    let (out, result) = push(&mut depacketizer, 100, true, &data);
    assert_eq!(result, Ok(()));
    let units: Vec<(i64, &[u8])> = out.iter().map(|unit| (unit.ticks, &unit.data[..])).collect();
    assert_eq!(
        units,
        [(100, &[10, 11][..]), (1_124, &[20]), (3_172, &[30, 31, 32])],
        "one is left out by its index"
    );
    let (_, result) = push(&mut depacketizer, 100, true, &data[..13]);
    assert!(result.is_err(), "the last one is cut short");
}

/// RFC 6416 §6.3: one element, then one in two packets; lengths of 255 and more.
#[test]
fn rfc6416_6_3_elements() {
    let mut depacketizer = Depacketizer::new(&Encoding::Latm(Some(Bytes::new())), 48_000, 1_024);
    let (out, result) = push(&mut depacketizer, 0, true, &[3, 1, 2, 3]);
    assert_eq!((result, &out[0].data[..]), (Ok(()), &[1, 2, 3][..]));
    let long = [&[255, 45][..], &[7; 300]].concat();
    assert_eq!(push(&mut depacketizer, 1_024, false, &long[..100]).0, []);
    let (out, _) = push(&mut depacketizer, 1_024, true, &long[100..]);
    assert_eq!((out[0].ticks, out[0].data.len()), (1_024, 300));
    let (out, _) = push(&mut depacketizer, 2_048, true, &[1, 9, 2, 8, 8]);
    assert_eq!(
        out.iter().map(|unit| (unit.ticks, unit.data.len())).collect::<Vec<_>>(),
        [(2_048, 1), (3_072, 2)]
    );
}

/// An MPEG-1 layer III frame of 128 kbit/s at 48 kHz: 384 bytes.
fn mp3() -> Vec<u8> {
    [&[0xFF, 0xFB, 0x94, 0x44][..], &[0x55; 380]].concat()
}

#[test]
fn m32_rfc2250_mpeg_audio() {
    for room in [64, 1_200] {
        let packets = packetize(&Encoding::MpegAudio, &CodecConfig::None, &frame(mp3(), true), room);
        let out =
            depacketize(&mut Depacketizer::new(&Encoding::MpegAudio, 90_000, 0), &[packets.clone(), packets]);
        assert_eq!(out.iter().map(|unit| unit.data.to_vec()).collect::<Vec<_>>(), [mp3(), mp3()]);
    }
    let two = [&[0; 4][..], &mp3(), &mp3()].concat();
    let (out, _) = push(&mut Depacketizer::new(&Encoding::MpegAudio, 90_000, 0), 10, true, &two);
    assert_eq!(out.iter().map(|unit| unit.ticks).collect::<Vec<_>>(), [10, 10 + 2_160], "24 ms apart");
}

/// An AC-3 frame of 64 kbit/s at 48 kHz: 256 bytes, stereo.
fn ac3() -> Vec<u8> {
    [&[0x0B, 0x77, 0, 0, 0x08, 0x40, 0x43, 0xE1][..], &[0x55; 248]].concat()
}

#[test]
fn m32_rfc4184_ac3() {
    for room in [64, 1_200] {
        let packets = packetize(&Encoding::Ac3, &CodecConfig::None, &frame(ac3(), true), room);
        let out = depacketize(&mut Depacketizer::new(&Encoding::Ac3, 48_000, 0), &[packets.clone(), packets]);
        assert_eq!(
            out.iter().map(|unit| unit.data.to_vec()).collect::<Vec<_>>(),
            [ac3(), ac3()],
            "room {room}"
        );
    }
    let two = [&[0, 2][..], &ac3(), &ac3()].concat();
    let (out, _) = push(&mut Depacketizer::new(&Encoding::Ac3, 48_000, 0), 10, true, &two);
    assert_eq!(out.iter().map(|unit| unit.ticks).collect::<Vec<_>>(), [10, 10 + 1_536]);
}

#[test]
fn samples_are_cut_between_samples_and_timed() {
    let pcm = CodecConfig::Pcm(PcmConfig { sample_rate: 48_000, channels: 2, bits_per_sample: 24 });
    let data: Vec<u8> = (0..60_u8).collect();
    let packets = packetize(&Encoding::L24, &pcm, &frame(data.repeat(6), true), 100);
    let cut: Vec<(u32, usize)> = packets.iter().map(|(_, ticks, data)| (*ticks, data.len())).collect();
    assert_eq!(cut, [(0, 96), (16, 96), (32, 96), (48, 72)]);
    let stream = [0x47_u8; 188 * 9];
    let packets = packetize(&Encoding::Mp2t, &CodecConfig::None, &frame(stream.to_vec(), true), 1_400);
    assert_eq!(packets.iter().map(|(.., data)| data.len() / 188).collect::<Vec<_>>(), [7, 2]);
}

fn encodings() -> impl Strategy<Value = Encoding> {
    prop::sample::select(vec![
        Encoding::H264,
        Encoding::H265,
        Encoding::Av1,
        Encoding::Vp8,
        Encoding::Vp9,
        Encoding::Opus,
        Encoding::Mpeg4Generic(AuSizes::HBR),
        Encoding::Mpeg4Generic(AuSizes { size: 32, index: 32, index_delta: 0 }),
        Encoding::Latm(None),
        Encoding::Latm(Some(Bytes::new())),
        Encoding::MpegAudio,
        Encoding::Ac3,
        Encoding::Klv,
        Encoding::Mp2t,
        Encoding::L16,
    ])
}

proptest! {
    #[test]
    fn m34_anything_is_taken_without_panic(
        encoding in encodings(),
        packets in proptest::collection::vec((0..3_i64, any::<bool>(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..40),
    ) {
        let mut depacketizer = Depacketizer::new(&encoding, 90_000, 1_024);
        let bytes: usize = packets.iter().map(|(.., data)| data.len()).sum();
        for (ticks, marker, lost, data) in packets {
            if lost {
                depacketizer.lost();
            }
            let (out, _) = push(&mut depacketizer, ticks, marker, &data);
            prop_assert!(out.iter().all(|unit| !unit.data.is_empty()));
            prop_assert!(depacketizer.held() <= bytes * 8);
        }
    }

    #[test]
    fn m32_any_access_unit_comes_back(
        lens in proptest::collection::vec(0..3_000_usize, 1..12), room in 64..1_500_usize, seed: u64,
    ) {
        let mut rng = Rng::new(seed);
        let units: Vec<Vec<u8>> = lens.iter().enumerate().map(|(at, len)| {
            nal(if at == 0 { &[0x65, 0x88] } else { &[0x65, 0x44] }, *len, &mut rng)
        }).collect();
        let units: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
        let payload = prefixed(&units);
        let packets = packetize(&Encoding::H264, &CodecConfig::None, &frame(payload.clone(), false), room);
        prop_assert!(packets.iter().all(|(.., data)| data.len() <= room));
        let out = depacketize(&mut Depacketizer::new(&Encoding::H264, 90_000, 0), &[packets]);
        prop_assert_eq!(out, [Unit { ticks: 0, data: payload, corrupt: false, flags: FrameFlags::empty() }]);
    }
}
