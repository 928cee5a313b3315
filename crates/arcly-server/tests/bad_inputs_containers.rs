//! The rows of the catalogue about MPEG-TS and MP4, each through a publisher over HTTP: the good around the bad comes out, or
//! the publisher is told what was wrong, and nobody else notices. What the demuxers do with every byte is tested in `arcly-mux`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use arcly_codec::flv::TagKind;
use arcly_core::{MediaFrame, Timestamp};
use arcly_mux::fmp4::{FileOptions, FileWriter};
use arcly_mux::ts::Muxer;
use arcly_testkit::media::{Source, picture_of};
use bytes::BytesMut;
use support::bench::Row;
use support::http::{Answer, Http};
use support::peer::{PATIENCE, Peer};

const MIB: usize = 1 << 20;
/// What the muxer of this project uses.
const PMT: u16 = 0x1000;
const VIDEO: u16 = 0x100;

/// A publisher of MPEG-TS over HTTP, and a player of its stream.
struct Pair {
    row: Row,
    http: Http,
    player: Option<Peer>,
    name: String,
    source: Source,
    muxer: Muxer,
}

impl Pair {
    /// Publishes the first second of a stream.
    fn new(row: Row, name: &str, source: Source) -> Self {
        let mut http = row.http();
        let fields = "Content-Type: video/mp2t\r\nTransfer-Encoding: chunked\r\n";
        http.request(&format!("POST /live/{name}.ts"), fields);
        let mut muxer = Muxer::new();
        muxer.set_tracks(&source.tracks());
        row.bench.await_published(name);
        let mut pair = Self { row, http, player: None, name: name.into(), source, muxer };
        pair.good();
        pair
    }

    fn send(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(64 << 10) {
            let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
            self.http.send(&chunk);
        }
    }

    fn frame(&mut self, frame: &MediaFrame) {
        let mut out = BytesMut::new();
        self.muxer.frame(frame, &mut out);
        self.send(&out);
    }

    /// Publishes two seconds, and waits for the last keyframe of it to come out.
    #[track_caller]
    fn good(&mut self) {
        let frames: Vec<_> = self.source.by_ref().take(50).collect();
        frames.iter().for_each(|frame| self.frame(frame));
        let last = frames.iter().rfind(|frame| frame.is_keyframe()).expect("two GOPs");
        self.comes_out(last);
    }

    #[track_caller]
    fn comes_out(&mut self, frame: &MediaFrame) {
        let player = self.player.get_or_insert_with(|| self.row.peer().playing(&self.name));
        let end = Instant::now() + PATIENCE;
        while let Some(tag) = player.next_tag(end) {
            if tag.kind == TagKind::Video && tag.body.get(5..) == Some(&frame.payload[..]) {
                return;
            }
        }
        panic!("{}: it does not come out:\n{}", self.name, self.row.log());
    }

    /// All of it was borne; both go by themselves.
    #[track_caller]
    fn tolerated(mut self) {
        self.good();
        let answer = self.http.send(b"0\r\n\r\n").answer().expect("an answer");
        assert_eq!(answer.status, 204, "{}: {} {}", self.name, answer.head, answer.body);
        let Self { row, http, player, .. } = self;
        drop((http, player));
        row.check_resources();
        row.undisturbed(());
    }
}

/// A packet that begins like this, filled up with ones.
fn packet(start: &[u8]) -> Vec<u8> {
    let mut packet = start.to_vec();
    packet.resize(188, 0xFF);
    packet
}

/// A packet of that stream which holds, from its start, this.
fn begins(pid: u16, payload: &[u8]) -> Vec<u8> {
    let [high, low] = pid.to_be_bytes();
    packet(&[&[0x47, 0x40 | high, low, 0x10], payload].concat())
}

/// One that goes on.
fn goes_on(pid: u16, continuity: usize) -> Vec<u8> {
    let [high, low] = pid.to_be_bytes();
    let continuity = u8::try_from(continuity & 15).unwrap();
    let mut packet = vec![0x47, high, low, 0x10 | continuity];
    packet.resize(188, 0xAA);
    packet
}

#[test]
fn m16_false_sync_bytes_in_a_gap_of_packets() {
    let mut pair = Pair::new(Row::new("M16"), "m16", Source::h264());
    // A sync byte in each of many places, and nowhere a packet.
    let garbage: Vec<u8> = (0..40_000_u32).map(|n| if n % 97 == 0 { 0x47 } else { 0x11 }).collect();
    pair.send(&garbage);
    pair.good();
    pair.tolerated();
}

#[test]
fn m17_fields_longer_than_their_packet() {
    let mut pair = Pair::new(Row::new("M17"), "m17", Source::h264());
    for length in 184..=255 {
        pair.send(&packet(&[0x47, 1, 0, 0x30, length]));
        pair.send(&begins(0, &[length]));
        pair.send(&begins(PMT, &[length]));
    }
    pair.good();
    pair.tolerated();
}

#[test]
fn m18_m19_tables_that_lie() {
    let mut pair = Pair::new(Row::new("M18, M19"), "m18", Source::h264());
    // A section of 4 095 bytes, one with a wrong checksum, and one whose version changes with every packet.
    pair.send(&begins(0, &[0, 0, 0xBF, 0xFF, 0, 1, 0xC1, 0, 0]));
    for version in 0..1_000_u16 {
        let version = 0xC1 | u8::try_from((version % 32) << 1).unwrap();
        pair.send(&begins(0, &[0, 0, 0xB0, 13, 0, 1, version, 0, 0, 0, 1, 0xF0, 0, 1, 2, 3, 4]));
        // A map whose descriptors and streams run over its end.
        pair.send(&begins(PMT, &[0, 2, 0xB0, 23, 0, 1, version, 0, 0, 0xE1, 0, 0xFF, 0xFF, 0x1B, 0xE0, 0]));
    }
    pair.good();
    pair.tolerated();
}

#[test]
fn m21_a_packet_that_never_ends() {
    // Its 100 MiB are held as far as 8 MiB, and copied once as they grow.
    let row = Row::new("M21").memory(32 << 20).kept(2 << 20).cpu(Duration::from_secs(3));
    let mut pair = Pair::new(row, "m21", Source::h264());
    pair.send(&begins(VIDEO, &[0, 0, 1, 0xE0, 0, 0, 0x80, 0, 0, 0, 0, 0, 1, 0x65]));
    let piece: Vec<u8> = (1..=16).flat_map(|n| goes_on(VIDEO, n)).collect();
    for _ in 0..(100 * MIB) / piece.len() {
        pair.send(&piece);
    }
    pair.good();
    pair.tolerated();
}

#[test]
fn m22_headers_that_lie() {
    let mut pair = Pair::new(Row::new("M22"), "m22", Source::h264());
    for header in [
        // Longer than the packet; marker bits that are not there; a decode time that is hours later.
        &[0, 0, 1, 0xE0, 0, 0, 0x80, 0xC0, 255, 0x31, 0, 1][..],
        &[0, 0, 1, 0xE0, 0, 0, 0x80, 0xC0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 1, 0xE0, 0, 0, 0x80, 0xC0, 10, 0x31, 0, 1, 0, 1, 0x1F, 0xFF, 0xFF, 0xFF, 0xFF],
    ] {
        pair.send(&begins(VIDEO, header));
    }
    pair.good();
    pair.tolerated();
}

#[test]
fn m23_packets_come_twice_or_not_at_all() {
    let mut pair = Pair::new(Row::new("M23"), "m23", Source::h264());
    let frames: Vec<_> = pair.source.by_ref().take(50).collect();
    for frame in &frames {
        let mut out = BytesMut::new();
        pair.muxer.frame(frame, &mut out);
        let twice: Vec<u8> = out.chunks(188).flat_map(|packet| [packet, packet].concat()).collect();
        pair.send(&twice);
    }
    let last = frames.iter().rfind(|frame| frame.is_keyframe()).expect("two GOPs").clone();
    pair.comes_out(&last);
    // A packet of a picture is lost.
    let frame = pair.source.next().expect("endless");
    let mut out = BytesMut::new();
    pair.muxer.frame(&frame, &mut out);
    pair.send(&out[188..]);
    pair.good();
    pair.tolerated();
}

#[test]
fn m24_the_clock_wraps_in_the_middle() {
    // 33 bits of 90 kHz are 26 h 30 min 43.7 s.
    let start = Timestamp::from_millis(95_443_717 - 3_000);
    let mut pair = Pair::new(Row::new("M24"), "m24", Source::h264().starting_at(start));
    for _ in 0..4 {
        pair.good();
    }
    pair.tolerated();
}

#[test]
fn m30_pictures_around_the_limit() {
    // The picture in the demuxer, in the log, and in two derived logs.
    let row = Row::new("M30 over MPEG-TS").memory(112 << 20).kept(4 << 20).cpu(Duration::from_secs(6));
    let mut pair = Pair::new(row, "m30", Source::h264());
    let next_keyframe = |pair: &mut Pair, len| {
        let frames: Vec<_> = pair.source.by_ref().take(25).collect();
        for frame in &frames {
            match frame.is_keyframe() {
                true => pair.frame(&picture_of(frame, len)),
                false => pair.frame(frame),
            }
        }
        let keyframe = frames.iter().find(|frame| frame.is_keyframe()).expect("a GOP");
        picture_of(keyframe, len)
    };
    for len in [79 * MIB / 10, 8 * MIB] {
        let picture = next_keyframe(&mut pair, len);
        pair.comes_out(&picture);
    }
    next_keyframe(&mut pair, 8 * MIB + 1);
    let answer = pair.http.answer().expect("an answer");
    assert_eq!(answer.status, 413, "{} {}", answer.head, answer.body);
    assert!(answer.body.contains("limit(access_unit)"), "{}", answer.body);
    let Pair { row, http, player, .. } = pair;
    drop((http, player));
    row.check_resources();
    row.undisturbed(());
}

/// How the POST of a file is answered.
fn post(row: &Row, name: &str, file: &[u8]) -> Answer {
    let mut http = row.http();
    let fields = format!("Content-Type: video/mp4\r\nContent-Length: {}\r\n", file.len());
    http.request(&format!("POST /live/{name}.mp4"), &fields).send(file);
    http.answer().unwrap_or_else(|| panic!("{name}: no answer:\n{}", row.log()))
}

fn box_of(size: u32, kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&size.to_be_bytes()[..], kind, body].concat()
}

#[test]
fn m25_boxes_that_lie_about_their_size() {
    let row = Row::new("M25").cpu(Duration::from_secs(1));
    let inside = |inner: Vec<u8>| box_of(u32::try_from(inner.len() + 8).unwrap(), b"moov", &inner);
    let mut deep = Vec::new();
    for _ in 0..10_000 {
        deep = box_of(u32::try_from(deep.len() + 8).unwrap(), b"trak", &deep);
    }
    let cases = [
        ("zero", inside(box_of(0, b"trak", &[]))),
        ("one", inside(box_of(1, b"trak", &[0, 0, 0, 0, 0, 0, 0, 7]))),
        ("seven", inside(box_of(7, b"trak", &[]))),
        ("over", inside(box_of(1_000, b"trak", &[0; 20]))),
        ("huge", inside(box_of(1, b"trak", &[0x80, 0, 0, 0, 0, 0, 0, 0]))),
        ("deep", inside(deep)),
    ];
    let start = box_of(16, b"ftyp", b"iso6\0\0\0\0");
    for (name, moov) in cases {
        let answer = post(&row, &format!("m25-{name}"), &[&start[..], &moov, &[0; 64]].concat());
        assert!(matches!(answer.status, 400 | 413), "{name}: {} {}", answer.head, answer.body);
        let reason = ["malformed", "limit("].iter().any(|reason| answer.body.contains(reason));
        assert!(reason, "{name}: {}", answer.body);
    }
    row.check_resources();
    row.undisturbed(());
}

#[test]
fn m27_samples_that_are_not_there() {
    let row = Row::new("M27").cpu(Duration::from_secs(1));
    let source = Source::h264();
    let mut writer = FileWriter::new(&source.tracks(), FileOptions::default()).expect("H.264");
    let mut chunks = Vec::new();
    source.seconds(2).iter().for_each(|frame| writer.push(frame, &mut chunks).expect("a good frame"));
    writer.end(&mut chunks).expect("the last fragment");
    let good = chunks.concat();
    // Behind version, flags and count: where the media is, and the size of the first sample.
    let run = good.windows(4).position(|kind| kind == b"trun").expect("a run") + 4;
    for (at, name) in [(run + 8, "offset"), (run + 12, "size")] {
        let mut file = good.clone();
        file[at..at + 4].copy_from_slice(&[0x7F, 0xFF, 0xFF, 0xFF]);
        let answer = post(&row, &format!("m27-{name}"), &file);
        assert!(matches!(answer.status, 400 | 413), "{name}: {} {}", answer.head, answer.body);
    }
    row.check_resources();
    row.undisturbed(());
}
