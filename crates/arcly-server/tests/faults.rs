//! Faults around a live server: publishers that vanish, return and change, readers that do not read, crowds, signals,
//! and a system that runs out of something. Over RTMP and HTTP-FLV, on real sockets.
//!
//! Policies that depend on time alone are tested in virtual time, in `arcly-core` (engine, timeline, egress) and
//! `arcly-rtmp` (sessions). Crowds are scaled to what a debug build does in seconds on two cores; each test says how.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::type_complexity, reason = "case tables")]

mod support;

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arcly_codec::flv::TagKind;
use arcly_testkit::media::Source;
use support::bench::{Bench, Row, lock};
use support::feed::{Feed, FlvTag, Sequence};
use support::http::{FlvReader, Http, get};
use support::peer::{PATIENCE, Peer};

const MIB: u64 = 1 << 20;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// An RTMP and an HTTP-FLV reader of one stream, to which the same must happen.
struct Readers {
    rtmp: Peer,
    flv: FlvReader,
    /// The newest time of each reader and kind.
    newest: [[Option<u32>; 2]; 2],
}

impl Readers {
    fn join(bench: &Bench, name: &str) -> Self {
        let rtmp = Peer::open(bench.rtmp).playing(name);
        let flv = FlvReader::open(bench.http, &format!("/live/{name}.flv")).expect("the stream");
        Self { rtmp, flv, newest: [[None; 2]; 2] }
    }

    fn next(&mut self, reader: usize) -> Option<FlvTag> {
        if reader == 0 { self.rtmp.next_tag(soon()) } else { self.flv.next_tag(soon()) }
    }

    /// What each reader gets until the tag that `last` likes, which never goes back in time.
    #[track_caller]
    fn until(&mut self, last: impl Fn(&FlvTag) -> bool) -> [Vec<FlvTag>; 2] {
        [0, 1].map(|reader| {
            let mut tags = Vec::new();
            loop {
                let tag = self
                    .next(reader)
                    .unwrap_or_else(|| panic!("reader {reader} got no more after {tags:#?}"));
                if tag.kind != TagKind::Script {
                    let newest = &mut self.newest[reader][usize::from(tag.kind == TagKind::Audio)];
                    let before = newest.replace(tag.timestamp).unwrap_or(tag.timestamp);
                    assert!(tag.timestamp >= before, "{} after {before}", tag.timestamp);
                }
                let done = last(&tag);
                tags.push(tag);
                if done {
                    return tags;
                }
            }
        })
    }

    /// Both have got this frame, and everything before it.
    #[track_caller]
    fn until_frame(&mut self, tag: &FlvTag) -> [Vec<FlvTag>; 2] {
        let (kind, mark) = (tag.kind, tag.mark());
        self.until(|got| got.kind == kind && got.mark() == mark)
    }
}

fn is_sequence_header(tag: &FlvTag) -> bool {
    tag.kind == TagKind::Video && tag.body.starts_with(&[0x17, 0])
}

fn marks(tags: &[FlvTag]) -> Vec<u32> {
    tags.iter().filter(|tag| tag.kind == TagKind::Video).filter_map(FlvTag::mark).collect()
}

fn send(peer: &mut Peer, tags: &[FlvTag]) {
    tags.iter().for_each(|tag| _ = peer.tag(tag));
}

/// A stream with its publisher and readers, which have what was published.
fn start(bench: &Bench, name: &str, feed: &mut Feed) -> (Peer, Readers) {
    let mut publisher = Peer::open(bench.rtmp).publishing(name);
    publisher.set_chunk_size(60_000);
    send(&mut publisher, &feed.headers());
    let first = feed.millis(200);
    send(&mut publisher, &first);
    let mut readers = Readers::join(bench, name);
    readers.until_frame(first.last().unwrap());
    (publisher, readers)
}

// Publishers.

#[test]
fn f01_a_publisher_dies_and_returns() {
    let row = Row::new("F01");
    let bench = &row.bench;
    let mut feed = Feed::new();
    let (publisher, mut readers) = start(bench, "f01", &mut feed);
    publisher.reset();
    thread::sleep(secs(1));
    let mut feed = Feed::new();
    let mut publisher = Peer::open(bench.rtmp).publishing("f01");
    send(&mut publisher, &feed.headers());
    let more = feed.millis(1_200);
    send(&mut publisher, &more);
    for (reader, tags) in readers.until_frame(more.last().unwrap()).iter().enumerate() {
        // RTMP says so with a sequence header; in FLV the times go on, and that is all there is to say.
        let headers = tags.iter().filter(|tag| is_sequence_header(tag)).count();
        assert_eq!(headers, 1 - reader, "reader {reader}: one new beginning");
        assert_eq!(marks(tags)[0], 0, "reader {reader}: from the first picture of the new publisher on");
        assert!(marks(tags).windows(2).all(|pair| pair[1] == pair[0] + 1), "reader {reader}: without a gap");
    }
    row.undisturbed();
}

/// An SPS of another size, so that readers need to start anew.
fn other_headers(feed: &mut Feed) -> Vec<FlvTag> {
    let mut headers = feed.headers();
    for tag in headers.iter_mut().filter(|tag| is_sequence_header(tag)) {
        let mut body = tag.body.to_vec();
        // The level in the record and in the SPS; all else stays decodable.
        let sps = body.windows(2).position(|pair| pair[0] & 0x1F == 7 && pair[1] == body[6]).unwrap();
        (body[8], body[sps + 3]) = (51, 51);
        tag.body = body.into();
    }
    headers
}

#[test]
fn f02_f10_the_picture_changes_its_parameters() {
    let row = Row::new("F02, F10");
    let bench = &row.bench;
    for reconnects in [true, false] {
        let mut feed = Feed::new();
        let (mut publisher, mut readers) = start(bench, "f02", &mut feed);
        let mut again = Feed::new();
        let changed = other_headers(&mut again);
        if reconnects {
            publisher.reset();
            publisher = Peer::open(bench.rtmp).publishing("f02");
        }
        send(&mut publisher, &changed);
        let mut more = again.millis(400);
        if !reconnects {
            more.iter_mut().for_each(|tag| tag.timestamp += 240);
        }
        send(&mut publisher, &more);
        let header = changed.iter().find(|tag| is_sequence_header(tag)).unwrap();
        for tags in readers.until_frame(more.last().unwrap()) {
            let at = tags.iter().position(|tag| tag.body == header.body).expect("the new parameters");
            let first =
                tags.iter().position(|tag| tag.kind == TagKind::Video && tag.mark() == Some(0)).unwrap();
            assert!(at < first, "before the first picture that needs them");
            assert_eq!(marks(&tags[first..]).len(), marks(&more).len(), "and every picture after");
        }
        publisher.request(1, arcly_rtmp::wire::Request::CloseStream);
        drop(publisher);
        let gone = || bench.metrics().labelled("arcly_streams", "state=\"live\"");
        drop(readers);
        assert!(
            support::eventually(secs(15), || get(bench.http, "/api/v1/streams/live/f02").status == 404),
            "{}",
            gone()
        );
    }
    row.undisturbed();
}

#[test]
fn f03_the_codec_changes() {
    let row = Row::new("F03");
    let bench = &row.bench;
    let mut feed = Feed::new();
    let (mut publisher, mut readers) = start(bench, "f03", &mut feed);
    // HEVC, which a client that announced nothing cannot take; its sound goes on.
    let record = [
        &[0x90][..],
        b"hvc1",
        &[1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93],
        &[0xF0, 0, 0xFC, 0xFD, 0xF8, 0xF8, 0, 0, 0x0F, 0],
    ];
    publisher.video(300, &record.concat());
    let idr = [&[0x91][..], b"hvc1", &[0, 0, 0, 0, 0, 0, 8, 0x26, 1, 0xAF, 1, 2, 3, 4, 5]].concat();
    publisher.video(320, &idr);
    let stale =
        |tag: &FlvTag| tag.kind == TagKind::Video && tag.timestamp >= 300 && tag.body.starts_with(&[0x17]);
    let sound: Vec<_> = feed.millis(600).into_iter().filter(|tag| tag.kind == TagKind::Audio).collect();
    send(&mut publisher, &sound);
    let mut rtmp = Vec::new();
    while let Some(tag) = readers.rtmp.next_tag(Instant::now() + Duration::from_millis(500)) {
        rtmp.push(tag);
    }
    assert!(!rtmp.iter().any(stale), "no stale parameters");
    assert!(
        rtmp.iter().all(|tag| tag.kind != TagKind::Video || tag.body[0] & 0x80 == 0),
        "nothing it cannot take"
    );
    let goes_on = !readers.rtmp.ended && rtmp.iter().any(|tag| tag.kind == TagKind::Audio);
    let told = readers.rtmp.codes.iter().any(|code| code == "NetStream.Play.Failed");
    assert!(goes_on || told, "it gets the sound, or is told: {:?}", readers.rtmp.codes);
    drop(publisher);
    row.undisturbed();
}

#[test]
fn f04_a_silent_publisher_is_given_up() {
    // The connection is there and says nothing, as behind a cut cable.
    let bench = Arc::new(Bench::start_alone(&[], "apps.default.grace = '1s'\n"));
    let mut feed = Feed::new();
    let (mut publisher, mut readers) = start(&bench, "f04", &mut feed);
    let since = Instant::now();
    let name = publisher.name();
    // Pings are not answered: nothing is read.
    thread::sleep(secs(9));
    let log = || bench.log();
    assert!(support::eventually(secs(4), || log().contains("timeout(idle)")), "{}", log());
    assert!(since.elapsed() < secs(12), "detected after {:?}", since.elapsed());
    assert!(log().lines().any(|l| l.contains(&name.to_string()) && l.contains("timeout(idle)")), "{}", log());
    assert!(
        readers.rtmp.wait_end(secs(5)) && readers.flv.wait_end(secs(5)),
        "the stream has ended: {}",
        log()
    );
    assert!(support::eventually(secs(5), || bench.metrics().sum("arcly_streams") == 0.0));
    assert!(publisher.wait_end(secs(1)));
}

#[test]
fn f05_a_second_publisher() {
    let row = Row::new("F05");
    let mut refused: Vec<Peer> = (0..10).map(|_| row.peer().created()).collect();
    for peer in &mut refused {
        peer.publish("witness");
    }
    row.closed_all("conflict", refused);
}

#[test]
fn f06_a_publisher_flaps() {
    // 100 times as fast as it can instead of in a minute.
    let row = Row::new("F06").cpu(secs(4));
    for n in 0..100 {
        let mut publisher = row.peer().publishing("f06");
        let mut feed = Feed::new();
        send(&mut publisher, &feed.headers());
        send(&mut publisher, &feed.millis(40));
        if n % 2 == 0 {
            publisher.reset()
        } else {
            drop(publisher)
        }
        // The one before is gone before the next comes: it is a live one otherwise, and not to be hijacked.
        let before = |metrics: support::http::Metrics| metrics.labelled("arcly_sessions", "role=\"publish\"");
        assert!(support::eventually(secs(2), || before(row.bench.metrics()) <= 1.0));
    }
    let zombies = || row.bench.metrics().sum("arcly_streams") - 1.0;
    assert!(support::eventually(secs(7), || zombies() == 0.0), "{} streams are left", zombies());
    row.finish(&[("rtmp", "peer_closed", 100)], &[]);
}

// Media.

#[test]
fn f11_parameters_that_come_late() {
    let row = Row::new("F11");
    let bench = &row.bench;
    let mut publisher = Peer::open(bench.rtmp).publishing("f11");
    let mut feed = Feed::of(Source::h264());
    let headers = feed.headers();
    // Two GOPs that nobody could decode.
    send(&mut publisher, &feed.millis(1_920));
    let answer = FlvReader::open(bench.http, "/live/f11.flv");
    let mut early = answer.ok();
    send(&mut publisher, &headers);
    let good = feed.millis(2_000);
    send(&mut publisher, &good);
    let last = good.last().unwrap().mark();
    let mut late = FlvReader::open(bench.http, "/live/f11.flv").expect("decodable now");
    for reader in early.iter_mut().chain([&mut late]) {
        let mut tags = Vec::new();
        while tags.last().is_none_or(|tag: &FlvTag| tag.mark() != last) {
            tags.push(reader.next_tag(soon()).expect("the stream goes on"));
        }
        let pictures: Vec<_> = tags.iter().filter(|tag| tag.kind == TagKind::Video).collect();
        assert!(is_sequence_header(pictures[0]), "first what is needed to decode");
        assert_eq!(pictures[1].body[0] >> 4, 1, "then a keyframe");
    }
    row.undisturbed();
}

#[test]
fn f12_tracks_alone_late_and_lost() {
    let row = Row::new("F12");
    let bench = &row.bench;
    for (name, source, kind) in
        [("f12a", Source::aac(), TagKind::Audio), ("f12v", Source::h264(), TagKind::Video)]
    {
        let mut feed = Feed::of(source);
        let (mut publisher, mut readers) = start(bench, name, &mut feed);
        let more = feed.millis(500);
        send(&mut publisher, &more);
        for tags in readers.until_frame(more.last().unwrap()) {
            assert!(tags.iter().all(|tag| tag.kind == kind || tag.kind == TagKind::Script), "{name}");
        }
    }
    // Sound first, pictures eight seconds later, then pictures alone.
    let mut sound = Feed::of(Source::aac());
    let (mut publisher, mut readers) = start(bench, "f12", &mut sound);
    let eight = sound.millis(8_000);
    for second in eight.chunks(47) {
        send(&mut publisher, second);
        readers.until_frame(second.last().unwrap());
    }
    let mut pictures = Feed::of(Source::h264());
    let mut late: VecDeque<FlvTag> = pictures.headers().into_iter().filter(is_sequence_header).collect();
    late.extend(pictures.millis(1_000));
    late.iter_mut().for_each(|tag| tag.timestamp += 8_300);
    let alone: Vec<_> = late.into_iter().collect();
    send(&mut publisher, &alone);
    for tags in readers.until_frame(alone.last().unwrap()) {
        assert!(tags.iter().any(is_sequence_header), "the new track is announced");
        assert_eq!(marks(&tags), (0..marks(&tags).len() as u32).collect::<Vec<_>>(), "and complete");
    }
    row.undisturbed();
}

#[test]
fn f13_f20_f21_order_and_times_survive_the_edges_of_the_clock() {
    let row = Row::new("F13, F20, F21");
    let bench = &row.bench;
    // F13: as it is. F20: across 24 bits, where extended timestamps begin. F21: across 32 bits.
    for (name, start_at) in [("f13", 0), ("f20", 0x00FF_FFFF - 500), ("f21", u32::MAX - 500)] {
        let mut feed = Feed::new();
        let mut publisher = Peer::open(bench.rtmp).publishing(name);
        publisher.set_chunk_size(60_000);
        let shifted = |tags: Vec<FlvTag>| {
            let shift = |tag: FlvTag| FlvTag { timestamp: tag.timestamp.wrapping_add(start_at), ..tag };
            tags.into_iter().map(shift).collect::<Vec<_>>()
        };
        send(&mut publisher, &shifted(feed.headers()));
        let mut sent = shifted(feed.millis(40));
        send(&mut publisher, &sent);
        let mut readers = Readers::join(bench, name);
        let more = shifted(feed.millis(1_500));
        send(&mut publisher, &more);
        sent.extend(more);
        for tags in readers.until_frame(sent.last().unwrap()) {
            let frames: Vec<_> = tags.iter().filter(|tag| tag.mark().is_some()).collect();
            let key = |tag: &FlvTag| (tag.kind.type_id(), tag.mark());
            assert!(frames.iter().map(|t| key(t)).eq(sent.iter().map(key)), "{name}: decoding order");
            let offset = frames[0].timestamp.wrapping_sub(sent[0].timestamp);
            for (got, sent) in frames.iter().zip(&sent) {
                assert_eq!(got.body, sent.body, "{name}: composition offsets included");
                let moved = got.timestamp.wrapping_sub(sent.timestamp).wrapping_sub(offset);
                assert!(moved.wrapping_add(1) <= 2, "{name}: {} ms off its place", moved.cast_signed());
            }
            let headers = tags.iter().filter(|tag| is_sequence_header(tag)).count();
            assert_eq!(headers, 1, "{name}: no false discontinuity");
        }
    }
    row.undisturbed();
}

#[test]
fn f14_pictures_without_a_keyframe_do_not_hang_a_joiner() {
    let row = Row::new("F14");
    let bench = &row.bench;
    let mut feed = Feed::of(Source::h264());
    let mut publisher = Peer::open(bench.rtmp).publishing("f14");
    send(&mut publisher, &feed.headers());
    // Inter frames; every tenth begins with a recovery point SEI, as an intra-refresh encoder sends them.
    let sei = [0, 0, 0, 4, 6, 6, 1, 0xC4];
    let mut frames: Vec<FlvTag> =
        feed.millis(2_000).into_iter().skip(1).filter(|tag| tag.body[0] == 0x27).collect();
    for (n, tag) in frames.iter_mut().enumerate().filter(|(n, _)| n % 10 == 0) {
        let _ = n;
        tag.body = [&tag.body[..5], &sei, &tag.body[5..]].concat().into();
    }
    send(&mut publisher, &frames);
    let mut reader = FlvReader::open(bench.http, "/live/f14.flv").expect("the stream");
    let first = loop {
        let tag = reader.next_tag(soon()).expect("a picture within ten seconds");
        if tag.mark().is_some() {
            break tag;
        }
    };
    assert_eq!(&first.body[5 + 4..5 + 6], &sei[4..6], "from a recovery point on");
    row.undisturbed();
}

#[test]
fn f15_a_rate_that_changes_and_a_freeze() {
    let row = Row::new("F15");
    let bench = &row.bench;
    let mut feed = Feed::of(Source::h264());
    let (mut publisher, mut readers) = start(bench, "f15", &mut feed);
    // 1 fps, 120 fps, then nothing for five seconds, in the time of the stream.
    let mut at = 400;
    for step in [1_000, 1_000, 8, 8, 8, 9, 8, 5_000, 40, 40] {
        let mut tag = feed.frame();
        at += step;
        tag.timestamp = at;
        publisher.tag(&tag);
        for tags in readers.until_frame(&tag) {
            assert!(
                marks(&tags).len() == 1 && !tags.iter().any(is_sequence_header),
                "no false discontinuity"
            );
        }
    }
    row.undisturbed();
}

#[test]
fn f16_keyframes_of_7_5_mebibytes() {
    // Three of them within two seconds, next to the witness.
    let row = Row::new("F16").memory(96 * MIB).cpu(secs(6));
    let mut publisher = row.peer().publishing("f16");
    publisher.set_chunk_size(60_000);
    let mut feed = Feed::of(Source::h264().with_pictures_of(15 << 19));
    send(&mut publisher, &feed.headers());
    let keyframe = feed.frame();
    publisher.tag(&keyframe);
    let mut player = row.peer().playing("f16");
    for n in 0..3 {
        if n > 0 {
            publisher.video(n * 1_000, &keyframe.body);
        }
        loop {
            let tag = player.next_tag(soon()).expect("the keyframe");
            if tag.mark().is_some() {
                assert!(tag.body == keyframe.body, "intact");
                break;
            }
        }
    }
    row.tolerated(vec![publisher, player]);
}

#[test]
fn f17_access_units_without_a_picture() {
    let row = Row::new("F17");
    let bench = &row.bench;
    let mut feed = Feed::of(Source::h264());
    let (mut publisher, mut readers) = start(bench, "f17", &mut feed);
    let empty: [&[u8]; 4] = [
        &[0, 0, 0, 2, 0x09, 0xF0],
        &[0, 0, 0, 4, 0x0C, 0xFF, 0xFF, 0x80],
        &[0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 2, 0x09, 0xF0, 0, 0, 0, 2, 0x0C, 0x80],
    ];
    for units in empty {
        publisher.video(230, &[&[0x27, 1, 0, 0, 0][..], units].concat());
        let good = feed.frame();
        publisher.tag(&good);
        for tags in readers.until_frame(&good) {
            let pictures = tags.iter().filter(|tag| tag.kind == TagKind::Video).count();
            assert_eq!(pictures, 1, "nothing comes of it: {tags:?}");
        }
    }
    row.undisturbed();
}

#[test]
fn f18_a_gop_that_never_ends() {
    // 64 MiB behind one keyframe: half a minute of 20 Mb/s, at the speed of loopback.
    let row = Row::new("F18").memory(56 * MIB).cpu(secs(8));
    let kept_before = row.bench.metrics().sum("arcly_log_bytes");
    let mut publisher = row.peer().publishing("f18");
    publisher.set_chunk_size(60_000);
    let mut feed = Feed::of(Source::h264().with_pictures_of(256 << 10));
    send(&mut publisher, &feed.headers());
    publisher.tag(&feed.frame());
    let delta = feed.frame();
    for n in 1..256 {
        publisher.video(40 * n, &delta.body);
    }
    let streams = || get(row.bench.http, "/api/v1/streams/live/f18").body;
    assert!(support::eventually(PATIENCE, || streams().contains("\"frames_in\":256")), "{}", streams());
    let kept = row.bench.metrics().sum("arcly_log_bytes") - kept_before;
    assert!(kept <= 33.0 * MIB as f64, "the log has its bound: {kept}");
    drop(publisher);
}

#[test]
fn f24_f25_clocks_that_jump_and_disagree() {
    let row = Row::new("F24, F25");
    let bench = &row.bench;
    let hour = 3_600_000;
    let jumps: [(&str, fn(u32) -> u32); 3] = [
        ("f24-ahead", |ms| ms + 3_600_000),
        ("f24-back", |ms| ms - 3_600_000),
        ("f24-zero", |ms| ms - 7_200_000),
    ];
    for (name, jump) in jumps {
        let mut feed = Feed::of(Source::h264());
        let at = |tags: Vec<FlvTag>, by: &dyn Fn(u32) -> u32| -> Vec<FlvTag> {
            tags.into_iter().map(|tag| FlvTag { timestamp: by(tag.timestamp + 2 * hour), ..tag }).collect()
        };
        let mut publisher = Peer::open(bench.rtmp).publishing(name);
        send(&mut publisher, &feed.headers());
        let first = at(feed.millis(400), &|ms| ms);
        send(&mut publisher, &first);
        let mut readers = Readers::join(bench, name);
        readers.until_frame(first.last().unwrap());
        let times = readers.newest.map(|[pictures, _]| pictures);
        let more = at(feed.millis(400), &jump);
        send(&mut publisher, &more);
        for (reader, (tags, before)) in
            readers.until_frame(more.last().unwrap()).iter().zip(times).enumerate()
        {
            let headers = tags.iter().filter(|tag| is_sequence_header(tag)).count();
            assert_eq!(headers, 1 - reader, "{name}: one discontinuity");
            assert_eq!(marks(tags).len(), more.len(), "{name}: nothing lost");
            let grown = tags.last().unwrap().timestamp - before.unwrap();
            assert!(grown < 2_000, "{name}: {grown} ms later");
        }
    }
    // F25: sound two hours ahead of the pictures.
    let mut feed = Feed::new();
    let mut publisher = Peer::open(bench.rtmp).publishing("f25");
    send(&mut publisher, &feed.headers());
    let send_apart = |publisher: &mut Peer, tags: &[FlvTag]| {
        for tag in tags {
            let ahead = if tag.kind == TagKind::Audio { 2 * hour } else { 0 };
            publisher.tag(&FlvTag { timestamp: tag.timestamp + ahead, ..tag.clone() });
        }
    };
    let first = feed.millis(200);
    send_apart(&mut publisher, &first);
    let mut readers = Readers::join(bench, "f25");
    let more = feed.millis(400);
    send_apart(&mut publisher, &more);
    for tags in readers.until_frame(more.last().unwrap()) {
        let newest =
            |kind| tags.iter().filter(|t| t.kind == kind && t.mark().is_some()).map(|t| t.timestamp).max();
        let skew = newest(TagKind::Audio).unwrap().abs_diff(newest(TagKind::Video).unwrap());
        assert!(skew <= 100, "{skew} ms between sound and picture");
    }
    row.undisturbed();
}

// Readers.

#[test]
fn f30_f31_f32_readers_that_do_not_read() {
    // 20 that never read instead of 100, one that reads a byte a second, one that reads half of what comes; 16 Mb/s.
    let bench = Arc::new(Bench::start(&[], ""));
    let row = Row::on(&bench, "F30, F31, F32").memory(64 * MIB).cpu(secs(20));
    let mut feed = Feed::of(Source::h264().with_pictures_of(80_000));
    let mut publisher = row.peer().publishing("f30");
    publisher.set_chunk_size(60_000);
    send(&mut publisher, &feed.headers());
    publisher.tag(&feed.frame());
    let rtmp = row.bench.rtmp;
    let deaf = |_: usize| Peer::open_from(rtmp, "127.0.0.1", Some(4_096)).playing("f30");
    let mut deaf: Vec<Peer> = (0..20).map(deaf).collect();
    let mut trickle = Peer::open_from(rtmp, "127.0.0.1", Some(4_096)).playing("f30");
    let mut slow = Peer::open_from(rtmp, "127.0.0.1", Some(64 << 10)).playing("f30");
    let mut good = Peer::open(rtmp).playing("f30");
    let half = thread::spawn(move || {
        let (since, mut read, mut pictures) = (Instant::now(), 0, Vec::new());
        while since.elapsed() < secs(14) {
            match slow.next_tag(Instant::now() + secs(1)) {
                Some(tag) => {
                    read += tag.body.len() as u64;
                    pictures.extend(tag.mark().map(|mark| (mark, tag.body[0] >> 4 == 1)));
                }
                None if slow.ended => break,
                None => {}
            }
            // 1 MB/s of 2.
            let due = since + Duration::from_micros(read);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        pictures
    });
    let since = Instant::now();
    let mut sequence = Sequence::default();
    let mut next_byte = since;
    while since.elapsed() < secs(14) {
        let tag = feed.frame();
        let due = since + Duration::from_millis(tag.timestamp.into());
        while let Some(tag) = good.next_tag(due) {
            sequence.note(&tag);
        }
        publisher.tag(&tag);
        if Instant::now() > next_byte {
            next_byte += secs(1);
            let _ = std::io::Read::read(&mut &trickle.socket, &mut [0]);
        }
    }
    assert_eq!((sequence.lost, sequence.repeated), (0, 0), "nobody else notices");
    assert!(!publisher.ended);
    let names: Vec<_> = deaf.iter().chain([&trickle]).map(|peer| (peer.name(), "slow_consumer")).collect();
    trickle.stop_listening();
    for peer in deaf.iter_mut().chain([&mut trickle]) {
        assert!(peer.wait_end(secs(1)), "still open after {:?}", since.elapsed());
    }
    let pictures = half.join().unwrap();
    assert!(pictures.len() > 50, "{} pictures", pictures.len());
    let skips: Vec<_> = pictures.windows(2).filter(|pair| pair[1].0 != pair[0].0 + 1).collect();
    assert!(!skips.is_empty(), "it is too slow for all of them");
    // Left out are pictures that no other needs, or all up to a keyframe. The GOP is I P B B P B B and so on.
    let is_disposable = |mark: u32| !mark.is_multiple_of(25) && mark % 25 % 3 != 1;
    for pair in skips {
        let harmless = (pair[0].0 + 1..pair[1].0).all(is_disposable);
        assert!(pair[1].1 || harmless, "{} follows {}", pair[1].0, pair[0].0);
    }
    drop((publisher, good, deaf, trickle));
    row.finish(&[("rtmp", "slow_consumer", 21), ("rtmp", "peer_closed", 3)], &names);
}

#[test]
fn f33_f34_f36_crowds_come_and_go() {
    // 300 readers within a second or so instead of 2 000, all of which vanish at once; then 300 that come and go.
    let row = Row::new("F33, F34, F36").memory(96 * MIB).cpu(secs(12));
    let (rtmp, http) = (row.bench.rtmp, row.bench.http);
    let rss = row.bench.usage().rss_bytes;
    let mut first_frames = Vec::new();
    let mut crowd: Vec<Peer> = Vec::new();
    for _ in 0..300 {
        let since = Instant::now();
        let mut peer = Peer::open(rtmp).playing("witness");
        let first = loop {
            if peer.next_tag(soon()).expect("a first frame").mark().is_some() {
                break since.elapsed();
            }
        };
        first_frames.push(first);
        crowd.push(peer);
    }
    first_frames.sort();
    let p99 = first_frames[first_frames.len() * 99 / 100];
    assert!(p99 <= Duration::from_millis(1_500), "the first frame took {p99:?} (p99)");
    let grown = row.bench.usage().rss_bytes.saturating_sub(rss) / 300;
    assert!(grown <= 64 << 10, "{grown} bytes for each reader");
    crowd.into_iter().for_each(Peer::reset);
    let sessions = || row.bench.metrics().labelled("arcly_sessions", "role=\"play\"");
    assert!(support::eventually(secs(5), || sessions() == 2.0), "{} readers are left", sessions());
    for n in 0..300 {
        if n % 2 == 0 {
            let mut peer = Peer::open(rtmp).playing("witness");
            peer.next_tag(soon()).expect("a tag");
        } else {
            let mut reader = FlvReader::over(Http::open(http), "/live/witness.flv").ok().unwrap();
            reader.next_tag(soon()).expect("a tag");
        }
    }
    assert!(support::eventually(secs(5), || sessions() == 2.0), "{} readers are left", sessions());
    let closed = || row.bench.metrics().closed().values().sum::<u64>();
    assert!(closed() >= 600);
    let again = row.bench.usage().rss_bytes.saturating_sub(rss);
    assert!(again <= 32 * MIB, "{again} bytes are left of the crowd");
    row.bench.check_witness("F33, F34, F36");
    row.bench.check_alive("F33, F34, F36");
}

#[test]
fn f35_many_streams() {
    // 40 streams with two readers each for some seconds, instead of 200 with five for ten minutes.
    let row = Row::new("F35").memory(64 * MIB).cpu(secs(15));
    let streams: Vec<_> = (0..40)
        .map(|n| {
            let mut feed = Feed::new();
            let name = format!("f35-{n}");
            let (publisher, readers) = start(&row.bench, &name, &mut feed);
            (feed, publisher, readers)
        })
        .collect();
    let mut streams = streams;
    for _ in 0..4 {
        for (feed, publisher, readers) in &mut streams {
            let tags = feed.millis(500);
            send(publisher, &tags);
            for got in readers.until_frame(tags.last().unwrap()) {
                let complete = got.iter().filter(|tag| tag.mark().is_some()).count();
                assert_eq!(complete, tags.len(), "lost");
            }
        }
    }
    drop(streams);
    row.bench.check_witness("F35");
    row.bench.check_alive("F35");
}

// The process.

#[test]
fn f44_a_signal_ends_everything_in_order() {
    // 10 publishers and 40 readers instead of 100 and 1 000.
    let bench = Bench::start_alone(&[], "");
    let mut streams: Vec<_> = (0..10)
        .map(|n| {
            let mut feed = Feed::new();
            let (publisher, readers) = start(&bench, &format!("f44-{n}"), &mut feed);
            let more: Vec<Peer> =
                (0..2).map(|_| Peer::open(bench.rtmp).playing(&format!("f44-{n}"))).collect();
            (publisher, readers, more)
        })
        .collect();
    let since = Instant::now();
    lock(&bench.arcly).process().signal("TERM");
    thread::sleep(Duration::from_millis(300));
    assert!(std::net::TcpStream::connect(bench.rtmp).is_err(), "no longer listening");
    for (publisher, readers, more) in &mut streams {
        for player in more.iter_mut().chain([&mut readers.rtmp]) {
            assert!(player.wait_end(secs(5)));
            assert!(
                player.codes.iter().any(|code| code == "NetStream.Play.UnpublishNotify"),
                "{:?}",
                player.codes
            );
        }
        assert!(readers.flv.wait_end(secs(5)));
        assert!(publisher.wait_end(secs(5)));
        assert!(
            publisher.codes.iter().any(|code| code == "NetStream.Unpublish.Success"),
            "{:?}",
            publisher.codes
        );
    }
    let status = lock(&bench.arcly).process().wait_for(secs(10)).expect("it ends");
    assert!(status.success(), "{status}");
    assert!(since.elapsed() < secs(10), "after {:?}", since.elapsed());
}

#[test]
fn f45_no_file_descriptor_is_left() {
    let limited = |command: &mut std::process::Command| {
        let args: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
        let program = command.get_program().to_owned();
        *command = std::process::Command::new("sh");
        command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]).arg(program).args(args);
    };
    let bench = Arc::new(Bench::start_with(&[], "", limited));
    let mut feed = Feed::new();
    let (mut publisher, mut readers) = start(&bench, "f45", &mut feed);
    // More connections than there are descriptors; those that are not accepted wait in the backlog.
    let crowd: Vec<std::net::TcpStream> =
        (0..80).filter_map(|_| std::net::TcpStream::connect(bench.rtmp).ok()).collect();
    thread::sleep(Duration::from_millis(300));
    let cpu = bench.usage().cpu;
    let since = Instant::now();
    while since.elapsed() < secs(2) {
        let tag = feed.frame();
        publisher.tag(&tag);
        readers.until_frame(&tag);
        thread::sleep(Duration::from_millis(20));
    }
    let spent = bench.usage().cpu - cpu;
    assert!(spent < Duration::from_millis(600), "{spent:?} in two seconds: the accept loop spins");
    drop(crowd);
    let since = Instant::now();
    drop(Peer::open(bench.rtmp).publishing("f45-again"));
    assert!(since.elapsed() < secs(3), "accepted after {:?}", since.elapsed());
    bench.check_alive("F45");
}
