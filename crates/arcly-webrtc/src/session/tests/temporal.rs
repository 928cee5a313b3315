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
    let narrow = encoder.run(30, 1_100_000);
    assert!((300..=600).contains(&narrow), "half of 750 and a little more: {narrow}");
    let from = encoder.next;
    let left_out = encoder.run(40, 20_000_000);
    assert!(left_out < 500, "it was sent all again: {left_out}");
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
