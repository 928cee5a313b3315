//! Temporal layers as payload descriptors name them.
#![allow(clippy::unwrap_used, reason = "in a test that is an assertion")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use arcly_codec::vpx::{Vp9Layers, put_superframe_index, superframe};
use arcly_core::{CodecConfig, FrameFlags, MediaFrame, Timestamp, TrackId};
use arcly_rtp::payload::{Depacketizer, Encoding, PacketSink, Packetizer, Payload, Unit};
use arcly_testkit::need;
use arcly_testkit::process::run_ok;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

/// The flags of pictures of one packet each.
fn flags(encoding: &Encoding, packets: &[&[u8]]) -> Vec<FrameFlags> {
    let mut depacketizer = Depacketizer::new(encoding, 90_000, 0);
    let mut units = Vec::new();
    for (ticks, data) in (0..).zip(packets) {
        let payload = Payload { ticks, marker: true, data: Bytes::copy_from_slice(data) };
        depacketizer.push(&payload, &mut units).expect("a descriptor");
    }
    units.into_iter().map(|unit| unit.flags).collect()
}

fn layer(id: u8, flags: FrameFlags) -> FrameFlags {
    flags.with_temporal_id(id)
}

const NONE: FrameFlags = FrameFlags::empty();
const SYNC: FrameFlags = FrameFlags::LAYER_SYNC;

/// RFC 7741 §4.2: N, and T with Y, behind every form of what comes before them.
#[test]
fn rfc7741_4_2_layers_and_frames_that_none_refers_to() {
    let cases: [(&[u8], FrameFlags); 7] = [
        (&[0x10, 1], NONE),
        (&[0x30, 1], FrameFlags::DISPOSABLE),
        // I with 15 bits, L, T: the lowest layer, where Y says nothing of layers.
        (&[0x90, 0xE0, 0x80, 5, 7, 0x20, 1], NONE),
        // Layers 2 and 1, each of which refers to the lowest only.
        (&[0xB0, 0xE0, 0x80, 6, 7, 0xA0, 1], layer(2, SYNC | FrameFlags::DISPOSABLE)),
        (&[0x90, 0xF0, 0x80, 7, 7, 0x60, 1], layer(1, SYNC)),
        // Without Y; and again with it, where one of the layer has come behind the lowest.
        (&[0x90, 0x20, 0x80, 1], layer(2, NONE)),
        (&[0x90, 0x20, 0x60, 1], layer(1, NONE)),
    ];
    assert_eq!(flags(&Encoding::Vp8, &cases.map(|(packet, _)| packet)), cases.map(|(_, flags)| flags));
    // K without T: the byte is there, and no layer in it.
    assert_eq!(flags(&Encoding::Vp8, &[&[0x90, 0x10, 0xC0, 1]]), [NONE]);
}

/// RFC 9628 §4.2: TID and U, in flexible mode and in the other.
#[test]
fn rfc9628_4_2_switching_up_points() {
    for (first, after) in [(0xBC_u8, &[][..]), (0xAC, &[9][..])] {
        let picture = |id: u8, up: u8| [&[first, 5, id << 5 | up << 4][..], after, &[42]].concat();
        let cases = [
            (picture(0, 1), layer(0, NONE)),
            (picture(2, 0), layer(2, SYNC)),
            (picture(1, 1), layer(1, SYNC)),
            (picture(2, 0), layer(2, SYNC)),
            (picture(0, 0), layer(0, NONE)),
            (picture(2, 0), layer(2, NONE)),
            (picture(1, 0), layer(1, NONE)),
        ];
        let packets: Vec<&[u8]> = cases.iter().map(|(packet, _)| &packet[..]).collect();
        let expected: Vec<_> = cases.iter().map(|(_, flags)| *flags).collect();
        assert_eq!(flags(&Encoding::Vp9, &packets), expected);
    }
}

#[test]
fn what_is_lost_may_have_said_otherwise() {
    let mut depacketizer = Depacketizer::new(&Encoding::Vp9, 90_000, 0);
    let mut units = Vec::new();
    for (ticks, layers) in [(0, 0x10), (1, 0x20)] {
        let data = Bytes::copy_from_slice(&[0xAC, 5, layers, 0, 42]);
        depacketizer.push(&Payload { ticks, marker: true, data }, &mut units).unwrap();
        depacketizer.lost();
    }
    assert_eq!(units.iter().map(|unit| unit.flags).collect::<Vec<_>>(), [NONE, layer(1, NONE)]);
}

#[derive(Default)]
struct Packets(Vec<Payload>);

impl PacketSink for Packets {
    fn packet(&mut self, marker: bool, _: u32, parts: &[&[u8]]) {
        self.0.push(Payload { ticks: 0, marker, data: parts.concat().into() });
    }
}

proptest! {
    /// Nothing in the packets of VP8 and VP9 numbers pictures: whoever is sent a part of them has no gap.
    #[test]
    fn packets_do_not_say_which_picture_they_are_of(
        data in proptest::collection::vec(any::<u8>(), 1..5_000),
        key in any::<bool>(),
        room in 64..1_200_usize,
    ) {
        for encoding in [Encoding::Vp8, Encoding::Vp9] {
            let flags = if key { FrameFlags::KEYFRAME } else { NONE };
            let frame = MediaFrame::new(TrackId::VIDEO, Timestamp::ZERO, data.clone().into()).with_flags(flags);
            let mut packetizer = Packetizer::new(encoding.clone(), CodecConfig::None, room);
            let [mut first, mut second] = [Packets::default(), Packets::default()];
            packetizer.packetize(&frame, &mut first).unwrap();
            packetizer.packetize(&frame, &mut second).unwrap();
            prop_assert_eq!(&first.0, &second.0);
            let descriptors = first.0.iter().map(|packet| packet.data[0]);
            let allowed = if encoding == Encoding::Vp8 { 0x10 } else { 0x4C };
            prop_assert!(descriptors.clone().all(|descriptor| descriptor & !allowed == 0), "{:?}", descriptors.collect::<Vec<_>>());
        }
    }
}

/// Pictures as Chromium publishes them with `L3T3_KEY` in two layers of 320×180 and 640×360: a length before each, and the frames, all of
/// them shown, behind each other with an index.
fn published() -> Vec<Vec<Vec<u8>>> {
    let mut rest = &include_bytes!("captures/chromium_156_vp9_l2t3_key.bin")[..];
    let mut pictures = Vec::new();
    while let Some((len, more)) = rest.split_first_chunk() {
        let (picture, more) = more.split_at(u32::from_be_bytes(*len) as usize);
        let frames = superframe(picture).expect("an index");
        pictures.push(frames.iter().map(|frame| frame.to_vec()).collect());
        rest = more;
    }
    pictures
}

/// The same as they come out of packets.
fn received(pictures: &[Vec<Vec<u8>>]) -> Vec<Unit> {
    let mut depacketizer = Depacketizer::new(&Encoding::Vp9, 90_000, 0);
    let mut units = Vec::new();
    for (ticks, frames) in (0..).zip(pictures) {
        for (spatial, frame) in (0_u8..).zip(frames) {
            let pieces = frame.chunks(1_000).count();
            for (place, piece) in frame.chunks(1_000).enumerate() {
                let is_last = place + 1 == pieces;
                // L, B, E; and TL0PICIDX.
                let flags = 0x20 | if place == 0 { 0x08 } else { 0 } | if is_last { 0x04 } else { 0 };
                let data = [&[flags, spatial << 1, 0][..], piece].concat().into();
                let marker = is_last && usize::from(spatial) + 1 == frames.len();
                depacketizer.push(&Payload { ticks, marker, data }, &mut units).unwrap();
            }
        }
    }
    units
}

/// What FFmpeg makes of pictures: the bytes of each one that it shows, and a digest of them.
fn decoded(ffmpeg: &Path, name: &str, pictures: &[Bytes]) -> Vec<(String, String)> {
    let mut ivf = b"DKIF\0\0\x20\0VP90\x80\x02\x68\x01\x19\0\0\0\x01\0\0\0".to_vec();
    ivf.resize(32, 0);
    for (time, picture) in (0_u64..).zip(pictures) {
        ivf.extend(u32::try_from(picture.len()).unwrap().to_le_bytes());
        ivf.extend(time.to_le_bytes());
        ivf.extend_from_slice(picture);
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, ivf).unwrap();
    let mut command = Command::new(ffmpeg);
    command.args(["-v", "error", "-err_detect", "explode", "-xerror", "-i"]).arg(path);
    command.args(["-fps_mode", "passthrough", "-autoscale", "0", "-f", "framemd5", "-"]);
    let text = run_ok(&mut command, Duration::from_secs(60));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.map(|line| line.split(',').map(str::trim).collect::<Vec<_>>());
    fields.map(|fields| (fields[4].to_owned(), fields[5].to_owned())).collect()
}

/// VP9 Bitstream, annex B: of a superframe one frame is shown. Players that show each frame that says so show each picture once, in its
/// full size, and nothing else about it is another; and the layers below the highest are a picture as well.
#[test]
fn spatial_layers_are_one_picture_to_players() {
    let ffmpeg = need!(ffmpeg);
    let pictures = published();
    let as_sent = |frames: &Vec<Vec<u8>>| {
        let mut data = BytesMut::new();
        let ends = frames.iter().map(|frame| {
            data.extend_from_slice(frame);
            data.len()
        });
        let ends: Vec<usize> = ends.collect();
        put_superframe_index(&ends, &mut data);
        data.freeze()
    };
    let all = decoded(&ffmpeg, "layers-as-sent.ivf", &pictures.iter().map(as_sent).collect::<Vec<_>>());
    assert_eq!(all.len(), 2 * pictures.len(), "each layer, as if it were a picture");
    let units = received(&pictures);
    assert!(units.iter().all(|unit| unit.flags.contains(FrameFlags::SPATIAL_LAYERS)));
    let data: Vec<Bytes> = units.iter().map(|unit| unit.data.clone()).collect();
    let highest: Vec<_> = all.iter().skip(1).step_by(2).cloned().collect();
    assert_eq!(decoded(&ffmpeg, "layers.ivf", &data), highest);
    // The lowest layer alone, shown again, is what it was to the bit.
    let mut layers = Vp9Layers::default();
    let lowest = data.iter().zip(&pictures).map(|(data, picture)| {
        let frames = superframe(data).unwrap();
        let mut out = BytesMut::new();
        layers.put(frames[0], true, &mut out);
        layers.follow(frames[1]);
        assert_eq!(out, picture[0]);
        out.freeze()
    });
    let lowest = decoded(&ffmpeg, "layers-lowest.ivf", &lowest.collect::<Vec<_>>());
    assert_eq!(lowest, all.iter().step_by(2).cloned().collect::<Vec<_>>());
}

proptest! {
    /// Whatever comes: no panic, and what is no VP9 is left as it is.
    #[test]
    fn headers_that_lie(
        data in proptest::collection::vec(any::<u8>(), 0..80),
        cut in 0..3_000_usize,
        flip in 0..800_usize,
        shown in any::<bool>(),
    ) {
        let mut layers = Vp9Layers::default();
        let frame = &published()[0][0];
        layers.follow(frame);
        let mut real = frame[..cut.min(frame.len())].to_vec();
        if let Some(byte) = real.get_mut(flip / 8) {
            *byte ^= 1 << (flip % 8);
        }
        for data in [data, real] {
            let mut out = BytesMut::new();
            layers.put(&data, shown, &mut out);
            prop_assert!(out.len().abs_diff(data.len()) <= 1);
            _ = superframe(&data);
        }
    }
}
