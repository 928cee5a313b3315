//! Temporal layers: a viewer whose link is narrow is sent fewer of them, and all again once it is wide.

use super::*;

/// Pictures in `L1T3` as browsers send it: what each says of layers, and which one before it it refers to.
const PATTERN: [(u8, usize); 4] = [(0, 4), (2, 1), (1, 2), (2, 1)];
const PICTURES_PER_SECOND: u64 = 25;
const PICTURE_BYTES: usize = 8_000;

/// A publisher of VP8 that sends a keyframe at the beginning, and else where one is asked for.
struct Encoder {
    pair: Pair<WhepSession>,
    tracks: TrackSet,
    layers: arcly_codec::TemporalLayers,
    /// Its lowest layer says that others may follow.
    is_synced: bool,
    asked: usize,
    keys: Vec<usize>,
    next: usize,
}

impl Encoder {
    fn new(is_synced: bool) -> Self {
        let tracks = TrackSet::new([Track::new(TrackId::VIDEO, CodecId::Vp8, CodecConfig::None)]);
        let mut pair = viewer(&[MediaKind::Video]);
        pair.session.choose(&tracks).unwrap();
        pair.connect();
        Self { pair, tracks, layers: Default::default(), is_synced, asked: 0, keys: Vec::new(), next: 0 }
    }

    /// How many temporal layers are sent, and of how many.
    fn layers(&self) -> (u8, u8) {
        let layer = self.pair.session.stats().layer.unwrap();
        assert_eq!((layer.track, layer.spatial.sent, layer.spatial.of), (TrackId::VIDEO, 1, 1));
        (layer.temporal.sent, layer.temporal.of)
    }

    fn asked(&self) -> usize {
        self.pair.events.iter().filter(|event| matches!(event, Viewed::KeyframeRequest(_))).count()
    }

    /// Encodes for so long over a link of so many bits per second. Says how many pictures were left out.
    fn run(&mut self, seconds: u64, bps: u64) -> u64 {
        self.pair.bottleneck = Some((bps, self.pair.now));
        let before = self.pair.session.stats().frames_thinned;
        for _ in 0..seconds * PICTURES_PER_SECOND {
            let frame = self.picture();
            for packets in packets(&self.tracks, &[frame]) {
                self.pair.session.send(self.pair.now, &packets);
            }
            self.pair.run(Duration::from_millis(1_000 / PICTURES_PER_SECOND));
        }
        self.pair.session.stats().frames_thinned - before
    }

    fn picture(&mut self) -> MediaFrame {
        let n = self.next;
        self.next += 1;
        let (id, _) = PATTERN[n % 4];
        let is_key = id == 0 && (n == 0 || self.asked() > self.asked);
        if is_key {
            self.asked = self.asked();
            self.keys.push(n);
        }
        let mut flags = self.layers.with_switch_up(id, (self.is_synced && id == 0) || is_key);
        flags.set(FrameFlags::KEYFRAME, is_key);
        let millis = i64::try_from(n as u64 * 1_000 / PICTURES_PER_SECOND).unwrap();
        let payload = [&n.to_be_bytes()[..], &vec![7; PICTURE_BYTES]].concat();
        MediaFrame::new(TrackId::VIDEO, Timestamp::from_millis(millis), payload.into()).with_flags(flags)
    }

    /// The pictures that have come, by their numbers. None lacks a reference, and no number of a packet says that one is missing.
    fn received(&self) -> Vec<usize> {
        let packets = &self.pair.packets;
        let number = |payload: &[u8]| usize::from_be_bytes(payload[1..9].try_into().unwrap());
        let starts = packets.iter().filter(|packet| packet.payload[0] & 0x10 != 0);
        let mut came: Vec<usize> = starts.map(|packet| number(&packet.payload)).collect();
        came.sort_unstable();
        for n in came.iter().filter(|n| !self.keys.contains(n)) {
            let reference = n - PATTERN[n % 4].1;
            assert!(came.binary_search(&reference).is_ok(), "{n} came, and {reference} did not");
        }
        let numbers: std::collections::BTreeSet<u64> = packets.iter().map(|packet| *packet.seq_no).collect();
        assert_eq!(numbers.len() as u64, numbers.last().unwrap() - numbers.first().unwrap() + 1);
        came
    }
}

/// 1.6 Mbit/s: a quarter in each of the lower two layers, and half of it in the highest.
#[test]
fn a_narrow_link_is_sent_fewer_layers_and_a_wide_one_all_again() {
    let mut encoder = Encoder::new(true);
    assert_eq!(encoder.run(20, 20_000_000), 0);
    assert_eq!(encoder.layers(), (3, 3));
    let narrow = encoder.run(30, 1_100_000);
    assert!((300..=600).contains(&narrow), "half of 750 and a little more: {narrow}");
    let (sent, of) = encoder.layers();
    assert!(sent < 3 && of == 3, "{sent} of {of}");
    let from = encoder.next;
    let left_out = encoder.run(40, 20_000_000);
    assert!(left_out < 500, "it was sent all again: {left_out}");
    assert_eq!(encoder.layers(), (3, 3));
    let stats = encoder.pair.session.stats();
    assert!(stats.layer_switches >= 2, "{stats:?}");
    let came = encoder.received();
    assert_eq!(came.iter().filter(|n| **n < 500).count(), 500);
    let late = came.iter().filter(|n| **n >= from + 500).count();
    assert_eq!(late, 500, "all of the last half of it");
}

#[test]
fn where_no_picture_says_that_more_layers_are_possible_a_keyframe_is_asked_for() {
    let mut encoder = Encoder::new(false);
    assert_eq!(encoder.run(10, 20_000_000), 0);
    assert!(encoder.run(10, 1_100_000) > 50);
    let before = encoder.keys.len();
    encoder.run(60, 20_000_000);
    let asked = encoder.keys.len() - before;
    assert!((1..=3).contains(&asked), "{asked}");
    let came = encoder.received();
    let late = came.iter().filter(|n| **n >= encoder.next - 250).count();
    assert_eq!(late, 250, "it has led to all layers");
}

/// Pictures in two spatial layers, as Chromium publishes them (`L3T3_KEY`), out of our own depacketizer.
fn chromium() -> (Vec<Vec<Bytes>>, Vec<MediaFrame>) {
    use arcly_codec::vpx::superframe;
    use arcly_rtp::payload::{Depacketizer, Encoding, Payload};

    let mut rest = &include_bytes!("../../../../arcly-rtp/tests/captures/chromium_156_vp9_l2t3_key.bin")[..];
    let (mut published, mut units) = (Vec::new(), Vec::new());
    let mut depacketizer = Depacketizer::new(&Encoding::Vp9, 90_000, 0);
    while let Some((len, more)) = rest.split_first_chunk() {
        let (picture, more) = more.split_at(u32::from_be_bytes(*len) as usize);
        let frames: Vec<Bytes> =
            superframe(picture).unwrap().into_iter().map(Bytes::copy_from_slice).collect();
        for (spatial, frame) in (0_u8..).zip(&frames) {
            let data = [&[0x2C, spatial << 1, 0][..], frame].concat().into();
            let ticks = i64::try_from(published.len()).unwrap();
            let payload = Payload { ticks, marker: usize::from(spatial) + 1 == frames.len(), data };
            depacketizer.push(&payload, &mut units).unwrap();
        }
        published.push(frames);
        rest = more;
    }
    let frame = |(n, unit): (i64, arcly_rtp::payload::Unit)| {
        let flags = if n == 0 { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
        let at = Timestamp::from_millis(40 * n);
        MediaFrame::new(TrackId::VIDEO, at, unit.data).with_flags(unit.flags | flags)
    };
    (published, (0..).zip(units).map(frame).collect())
}

fn joined(packets: &[crate::media::RtpPayload]) -> Vec<u8> {
    packets.iter().flat_map(|packet| &packet.data[1..]).copied().collect()
}

#[test]
fn packets_of_fewer_spatial_layers_are_a_whole_picture() {
    let (published, frames) = chromium();
    let tracks = TrackSet::new([Track::new(TrackId::VIDEO, CodecId::Vp9, CodecConfig::None)]);
    let packets = packets(&tracks, &frames);
    assert_eq!(packets.len(), published.len());
    for ((packet, layers), frame) in packets.iter().zip(&published).zip(&frames) {
        assert_eq!(packet.lower.len(), 1);
        assert_eq!(joined(packet.packets_of(0)), layers[0], "as it was published, and shown");
        assert_eq!(joined(packet.packets_of(1)), frame.payload);
        assert_eq!(joined(packet.packets_of(7)), frame.payload);
        assert!(packet.lower.iter().chain([&packet.packets]).all(|packets| packets.last().unwrap().marker));
    }
}

#[test]
fn a_narrow_link_is_sent_a_smaller_picture_of_the_same_stream() {
    let (published, frames) = chromium();
    let tracks = TrackSet::new([Track::new(TrackId::VIDEO, CodecId::Vp9, CodecConfig::None)]);
    let mut pair = viewer(&[MediaKind::Video]);
    pair.session.choose(&tracks).unwrap();
    pair.connect();
    // 0.5 Mbit/s, a quarter of it in the lower layer; the stream is played over and over.
    let all = packets(&tracks, &frames);
    let (mut sizes, mut layers) = (Vec::new(), Vec::new());
    for bps in [20_000_000, 350_000, 20_000_000] {
        pair.bottleneck = Some((bps, pair.now));
        let mut whole = [0; 2];
        for round in 0..60 {
            let before = pair.packets.len();
            for packet in &all {
                pair.session.send(pair.now, packet);
                pair.run(Duration::from_millis(40));
            }
            pair.run(Duration::from_millis(200));
            let came = pair.packets[before..].iter().flat_map(|packet| &packet.payload[1..]).count();
            let lowest: usize = published.iter().map(|layers| layers[0].len()).sum();
            if round >= 30 {
                whole[usize::from(came > 2 * lowest)] += 1;
            }
        }
        sizes.push(whole);
        let layer = pair.session.stats().layer.unwrap();
        layers.push((layer.spatial.sent, layer.spatial.of));
    }
    assert_eq!(layers, [(2, 2), (1, 2), (2, 2)]);
    let [wide, narrow, last] = sizes[..] else { panic!("{sizes:?}") };
    assert_eq!(wide, [0, 30], "{sizes:?}");
    assert!(narrow[0] >= 25 && last[1] >= 25, "{sizes:?}");
    let numbers: std::collections::BTreeSet<u64> = pair.packets.iter().map(|packet| *packet.seq_no).collect();
    assert_eq!(numbers.len() as u64, numbers.last().unwrap() - numbers.first().unwrap() + 1);
    assert!(pair.session.stats().layer_switches >= 2);
}
