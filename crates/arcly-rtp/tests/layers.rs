//! Temporal layers as payload descriptors name them.

use arcly_core::{CodecConfig, FrameFlags, MediaFrame, Timestamp, TrackId};
use arcly_rtp::payload::{Depacketizer, Encoding, PacketSink, Packetizer, Payload};
use bytes::Bytes;
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
