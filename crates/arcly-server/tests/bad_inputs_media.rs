//! The media rows of the catalogue of bad inputs, each through a publisher: what comes out on the other side, and
//! that nobody else notices. What a parser does with every byte of them is tested in `arcly-codec`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use arcly_codec::flv::TagKind;
use arcly_testkit::media::Source;
use bytes::Bytes;
use support::bench::Row;
use support::feed::{FILE_HEADER, Feed, FlvTag};
use support::http::FlvPublisher;
use support::peer::{PATIENCE, Peer};

const MIB: usize = 1 << 20;

/// A publisher and a player of one stream, in step.
struct Pair {
    row: Row,
    publisher: Peer,
    player: Option<Peer>,
    name: String,
    feed: Feed,
}

impl Pair {
    /// Publishes the sequence headers and the first picture of a stream without sound.
    fn new(row: Row, name: &str) -> Self {
        let mut pair = Self::silent(row, name);
        pair.feed.headers().iter().for_each(|tag| _ = pair.publisher.tag(tag));
        pair.good_frame();
        pair
    }

    /// Publishes nothing yet.
    fn silent(row: Row, name: &str) -> Self {
        let mut publisher = row.peer().publishing(name);
        publisher.set_chunk_size(60_000);
        Self { row, publisher, player: None, name: name.into(), feed: Feed::of(Source::h264()) }
    }

    /// Publishes a good frame, and waits until it comes out.
    #[track_caller]
    fn good_frame(&mut self) {
        let tag = self.feed.frame();
        self.publisher.tag(&tag);
        let got = self.next_video(|got| got.mark().is_some());
        assert_eq!(got.mark(), tag.mark());
        assert_eq!(got.body, tag.body);
    }

    /// The next picture that comes out and that `is_it` likes.
    #[track_caller]
    fn next_video(&mut self, is_it: impl Fn(&FlvTag) -> bool) -> FlvTag {
        let player = self.player.get_or_insert_with(|| self.row.peer().playing(&self.name));
        let end = Instant::now() + PATIENCE;
        loop {
            let Some(tag) = player.next_tag(end) else {
                panic!("no picture comes out; publisher: {:?}\n{}", self.publisher.codes, self.row.log());
            };
            if tag.kind == TagKind::Video && is_it(&tag) {
                return tag;
            }
        }
    }

    /// Both go by themselves.
    #[track_caller]
    fn tolerated(self) {
        self.row.tolerated([Some(self.publisher), self.player].into_iter().flatten().collect());
    }

    /// The publisher is closed for this reason; the player stays and goes by itself.
    #[track_caller]
    fn closed(self, reason: &str) {
        let Self { row, mut publisher, player, .. } = self;
        assert!(
            publisher.wait_end(Duration::from_secs(2)),
            "not closed: {:?}\n{}",
            publisher.codes,
            row.log()
        );
        let name = publisher.name();
        let players = u64::from(player.is_some());
        drop((publisher, player));
        row.finish(&[("rtmp", reason, 1), ("rtmp", "peer_closed", players)], &[(name, reason)]);
    }
}

/// A picture of one IDR slice whose access unit is exactly that long.
fn picture_of(keyframe: &FlvTag, bytes: usize) -> Bytes {
    let (header, units) = keyframe.body.split_at(5);
    // The slice is the last NAL unit; what is added to it no parser looks at.
    let mut at = 0;
    loop {
        let len = u32::from_be_bytes(units[at..at + 4].try_into().unwrap()) as usize;
        if at + 4 + len == units.len() {
            break;
        }
        at += 4 + len;
    }
    let mut body = [header, units].concat();
    body.resize(5 + bytes, 0xAA);
    let len = u32::try_from(bytes - at - 4).unwrap();
    body[5 + at..5 + at + 4].copy_from_slice(&len.to_be_bytes());
    body.into()
}

#[test]
fn m30_pictures_around_the_limit() {
    let row = Row::new("M30").memory(96 << 20).cpu(Duration::from_secs(6));
    let mut pair = Pair::new(row, "m30");
    let keyframe = Feed::of(Source::h264()).frame();
    for (n, bytes) in [(1, 79 * MIB / 10), (2, 8 * MIB)] {
        let body = picture_of(&keyframe, bytes);
        pair.publisher.video(1_000 * n, &body);
        let got = pair.next_video(|tag| tag.body.len() > MIB);
        assert_eq!(got.body.len(), body.len());
        assert!(got.body == body, "bit for bit");
    }
    pair.publisher.video(3_000, &picture_of(&keyframe, 8 * MIB + 1));
    pair.closed("limit(access_unit)");
}

#[test]
fn m09_start_codes_where_lengths_belong() {
    let row = Row::new("M09").memory(24 << 20).cpu(Duration::from_secs(4));
    let mut pair = Pair::new(row, "m09");
    let keyframe = picture_of(&Feed::of(Source::h264()).frame(), 1_000);
    // Start codes and nothing else: no picture.
    let codes = [&keyframe[..5], &[0, 0, 1].repeat(MIB)].concat();
    pair.publisher.video(40, &codes);
    pair.good_frame();
    // An access unit behind start codes of both lengths, with an empty unit and zeros at the end: lengths come out.
    let slice = [&[0x65, 0x88][..], &[0xAB; 200]].concat();
    let annex_b = [&keyframe[..5], &[0, 0, 0, 1, 0x09, 0xF0, 0, 0, 1, 0, 0, 1], &slice, &[0; 3]].concat();
    pair.publisher.video(120, &annex_b);
    let got = pair.next_video(|tag| tag.mark().is_none());
    assert_eq!(&got.body[5..], &[&[0, 0, 0, 202][..], &slice].concat());
    pair.tolerated();
}

#[test]
fn m10_m11_records_that_lie() {
    let row = Row::new("M10, M11").cpu(Duration::from_secs(2));
    let mut pair = Pair::silent(row, "m11");
    let headers = pair.feed.headers();
    let record = headers.iter().find(|tag| tag.kind == TagKind::Video).unwrap().body.clone();
    let keyframe = pair.feed.frame();
    for cut in 5..record.len() {
        // A good frame between them: what is wrong once in a while ends nobody.
        pair.publisher.video(0, &record[..cut]);
        if cut % 8 == 0 {
            pair.publisher.video(0, &record).tag(&keyframe);
        }
    }
    // Lengths of three bytes; counts of 31 and 255 parameter sets.
    for (at, value) in [(9, 0xFE), (10, 0xFF), (record.len() - 1, 0xFF)] {
        let mut lie = record.to_vec();
        lie[at] = value;
        pair.publisher.video(0, &lie);
    }
    // What is answered after them says that all of them are in: the player begins with the last, and sees no other.
    pair.publisher.video(0, &record).tag(&keyframe).create_stream();
    pair.feed = Feed::of(Source::h264());
    let _ = (pair.feed.headers(), pair.feed.frame());
    pair.next_video(|tag| tag.mark() == Some(0));
    pair.good_frame();
    pair.tolerated();
}

#[test]
fn m10_lengths_of_nothing() {
    let row = Row::new("M10");
    let mut pair = Pair::new(row, "m10");
    for units in
        [&[0, 0, 0, 0][..], &[0; 64], &[0, 0], &[0xFF; 4], &[0, 0, 0, 2, 0x09, 0xF0], &[0, 0, 0, 1, 0x0C]]
    {
        pair.publisher.video(40, &[&[0x27, 1, 0, 0, 0][..], units].concat());
        pair.good_frame();
    }
    pair.tolerated();
}

#[test]
fn m13_audio_configurations_that_lie() {
    let row = Row::new("M13");
    let mut pair = Pair::new(row, "m13");
    let lies: [&[u8]; 6] =
        [&[], &[0x17], &[0xFF], &[0x17, 0x80], &[0x10, 0x00, 0xFF, 0xFF], &[0xF8, 0xE8, 0x50]];
    for lie in lies {
        pair.publisher.message(arcly_rtmp::wire::MessageType::Audio, 1, 40, &[&[0xAF, 0][..], lie].concat());
        pair.good_frame();
    }
    pair.tolerated();
}

#[test]
fn m08_emulation_prevention_all_the_way() {
    let row = Row::new("M08").memory(32 << 20).cpu(Duration::from_secs(2));
    let mut pair = Pair::new(row, "m08");
    let slice = [&[0x65, 0x88][..], &[0, 0, 3].repeat(MIB)].concat();
    let len = u32::try_from(slice.len()).unwrap().to_be_bytes();
    let body = [&[0x17, 1, 0, 0, 0][..], &len, &slice].concat();
    pair.publisher.video(40, &body);
    let got = pair.next_video(|tag| tag.body.len() > MIB);
    assert!(got.body == body, "an exact round trip");
    pair.tolerated();
}

#[test]
fn m29_composition_offsets_at_their_extremes() {
    let row = Row::new("M29");
    let mut pair = Pair::new(row, "m29");
    let keyframe = picture_of(&Feed::of(Source::h264()).frame(), 1_000);
    for (n, offset) in [[0x80, 0, 0], [0x7F, 0xFF, 0xFF], [0xFF, 0xFF, 0xFF], [0, 0, 0]].iter().enumerate() {
        let mut body = keyframe.to_vec();
        body[2..5].copy_from_slice(offset);
        body.extend([u8::try_from(n).unwrap(); 1]);
        let len = body.len();
        let units = picture_len(&mut body);
        assert_eq!(units, len);
        pair.publisher.video(40, &body);
    }
    let mut last = 0;
    for _ in 0..4 {
        let got = pair.next_video(|tag| tag.body.len() == keyframe.len() + 1);
        assert!(got.timestamp >= last, "never backwards");
        last = got.timestamp;
        let shown = i32::from_be_bytes([got.body[2], got.body[3], got.body[4], 0]) >> 8;
        assert!(i64::from(got.timestamp) + i64::from(shown) >= 0, "shown after the beginning");
    }
    pair.tolerated();
}

/// Makes the last NAL unit as long as the body is; returns the body's length.
fn picture_len(body: &mut [u8]) -> usize {
    let mut at = 5;
    loop {
        let len = u32::from_be_bytes(body[at..at + 4].try_into().unwrap()) as usize;
        if at + 4 + len + 1 >= body.len() {
            let rest = u32::try_from(body.len() - at - 4).unwrap();
            body[at..at + 4].copy_from_slice(&rest.to_be_bytes());
            return body.len();
        }
        at += 4 + len;
    }
}

/// Bits of a parameter set, written one by one.
#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn u(mut self, count: u32, value: u64) -> Self {
        self.0.extend((0..count).rev().map(|n| value >> n & 1 == 1));
        self
    }

    fn ue(self, value: u64) -> Self {
        let bits = u64::BITS - (value + 1).leading_zeros();
        self.u(bits - 1, 0).u(bits, value + 1)
    }

    /// A NAL unit: header, these bits, a stop bit; emulation prevention where it is needed.
    fn nal(mut self, header: u8) -> Vec<u8> {
        self.0.push(true);
        let mut out = vec![header];
        for byte in self.0.chunks(8) {
            let byte = byte.iter().enumerate().fold(0, |byte, (n, bit)| byte | u8::from(*bit) << (7 - n));
            if byte <= 3 && out.ends_with(&[0, 0]) {
                out.push(3);
            }
            out.push(byte);
        }
        out
    }
}

/// A baseline SPS up to `frame_cropping_flag`, with that many pictures in the order count cycle.
fn sps(cycle: u64) -> Bits {
    let bits = Bits::default().u(8, 66).u(8, 0xC0).u(8, 30).ue(0).ue(0).ue(1).u(1, 0).ue(0).ue(0).ue(cycle);
    // One reference, no gaps, 4 x 3 macroblocks of frames, direct 8x8.
    bits.ue(1).u(1, 0).ue(3).ue(2).u(1, 1).u(1, 1)
}

#[test]
fn m01_m02_m03_m05_m06_parameter_sets_that_lie() {
    let max = (1 << 32) - 2;
    let vui = || sps(0).u(1, 0).u(1, 1).u(1, 0).u(1, 0).u(1, 0).u(1, 0);
    let sets: [(&str, Vec<u8>); 7] = [
        ("M01 crop", sps(0).u(1, 1).ue(0).ue(1 << 31).ue(0).ue(0).u(1, 0).nal(0x67)),
        ("M02 cycle", sps(max).u(1, 0).u(1, 0).nal(0x67)),
        ("M03 zeros", [&[0x67, 66, 0xC0, 30][..], &[0; 4_000]].concat()),
        ("M05 no tick", vui().u(1, 1).u(32, 0).u(32, 0).u(1, 1).u(4, 0).nal(0x67)),
        ("M05 most", vui().u(1, 1).u(32, u64::from(u32::MAX)).u(32, 1).u(1, 1).u(4, 0).nal(0x67)),
        ("M06 HRD", vui().u(1, 0).u(1, 1).ue(max).u(8, 0).nal(0x67)),
        ("M03 prefix", [&[0x67, 66, 0xC0, 30][..], &[0, 0, 3].repeat(20)].concat()),
    ];
    for (id, sps) in sets {
        let row = Row::new(id);
        let mut pair = Pair::new(row, &id.replace(' ', "-"));
        let len = u16::try_from(sps.len()).unwrap_or(u16::MAX).to_be_bytes();
        let record =
            [&[0x17, 0, 0, 0, 0, 1, 66, 0xC0, 30, 0xFF, 0xE1][..], &len, &sps, &[1, 0, 2, 0x68, 0xCE]]
                .concat();
        pair.publisher.video(40, &record);
        // Whether the set was taken for one of unknown size, or dropped: a good one after it is good again.
        let mut again = Feed::of(Source::h264());
        let headers = again.headers();
        pair.publisher.tag(headers.iter().find(|tag| tag.kind == TagKind::Video).unwrap());
        let keyframe = again.frame();
        pair.publisher.video(80, &keyframe.body);
        pair.next_video(|tag| tag.mark() == Some(0));
        pair.tolerated();
    }
}

#[test]
fn m03_a_parameter_set_of_60_kilobytes() {
    let row = Row::new("M03 long");
    let mut pair = Pair::new(row, "m03");
    let record = [
        &[0x17, 0, 0, 0, 0, 1, 66, 0xC0, 30, 0xFF, 0xE1, 0xEA, 0x60, 0x67, 66, 0xC0, 30][..],
        &[0; 59_996],
        &[0],
    ];
    pair.publisher.video(40, &record.concat());
    pair.closed("limit(parameter_set)");
}

#[test]
fn m12_obus_that_lie() {
    let row = Row::new("M12").cpu(Duration::from_secs(2));
    let mut pair = Pair::new(row, "m12");
    // Enhanced RTMP: coded frames of AV1 whose OBUs are longer than what is there, or whose lengths never end.
    let bombs: [&[u8]; 4] = [
        &[0x91, b'a', b'v', b'0', b'1', 0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0x91, b'a', b'v', b'0', b'1', 0x32, 0x7F, 1, 2],
        &[0x90, b'a', b'v', b'0', b'1', 0x81, 0, 0, 0, 0x0A, 0x0B, 0xFF, 0xFF],
        &[0x91, b'a', b'v', b'0', b'1'],
    ];
    for bomb in bombs {
        pair.publisher.video(40, bomb);
    }
    // Announcing another codec may have replaced the track; the publisher is still there.
    let name = pair.publisher.name();
    let closed = pair.publisher.wait_end(Duration::from_millis(300));
    let Pair { row, publisher, player, .. } = pair;
    drop((publisher, player));
    assert!(!closed, "{name} was closed:\n{}", row.log());
    row.finish(&[("rtmp", "peer_closed", 2)], &[]);

    let row = Row::new("M12: a million OBUs").memory(24 << 20).cpu(Duration::from_secs(2));
    let mut publisher = row.peer().publishing("m12-many");
    let many = [&[0x91, b'a', b'v', b'0', b'1'][..], &[0x2A, 0].repeat(MIB)].concat();
    publisher.set_chunk_size(60_000).video(40, &many);
    row.closed("limit(obus)", publisher);
}

#[test]
fn flv_files_that_are_none() {
    let long_tag = [&FILE_HEADER[..], &[9, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0x17, 1]].concat();
    let strange_tag = [&FILE_HEADER[..], &[77, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12]].concat();
    let encrypted = [&FILE_HEADER[..], &[0x29, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12]].concat();
    let cases: [(&str, &[u8], u16); 7] = [
        ("no FLV", b"RIFF\0\0\0\0WAVEfmt ", 400),
        ("a header alone", &FILE_HEADER, 400),
        ("nothing", b"", 400),
        ("half a tag", &[&FILE_HEADER[..], &[9, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0x17]].concat(), 400),
        ("a tag of 16 MiB", &long_tag, 413),
        ("a tag of no type", &strange_tag, 400),
        ("an encrypted tag", &encrypted, 400),
    ];
    for (n, (what, body, status)) in cases.into_iter().enumerate() {
        let row = Row::new(what);
        let mut http = row.http();
        http.request(
            &format!("POST /live/file-{n}.flv"),
            &format!("Connection: close\r\nContent-Length: {}\r\n", body.len()),
        );
        let answer = http.send(body).answer().expect("an answer");
        assert_eq!(answer.status, status, "{what}: {}{}", answer.head, answer.body);
        drop(http);
    }
}

#[test]
fn r34_lies_in_a_file() {
    let row = Row::new("R34 over HTTP-FLV");
    let mut publisher = FlvPublisher::open(row.bench.http, "/live/r34.flv");
    let mut feed = Feed::of(Source::h264());
    feed.headers().iter().for_each(|tag| _ = publisher.tag(tag));
    publisher.tag(&feed.frame());
    let lie = Bytes::from_static(&[0x27, 1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0x65, 1, 2]);
    for _ in 0..17 {
        publisher.tag(&FlvTag { kind: TagKind::Video, timestamp: 80, body: lie.clone() });
    }
    let answer = publisher.0.answer().expect("an answer");
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.body.contains("malformed"), "{}", answer.body);
}
