//! Streams whose parameters, tracks, order, times or sizes are unusual, or change.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

use arcly_testkit::media::Source;

use super::support::bench::{Bench, Row};
use super::support::eventually;
use super::support::http::get;
use super::*;

#[test]
fn f11_parameters_that_come_late() {
    rounds(|| {
        let row = Row::alone("F11");
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
        row.undisturbed((publisher, early, late));
    });
}

#[test]
fn f12_tracks_alone_late_and_lost() {
    rounds(|| {
        let row = Row::alone("F12");
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
        row.undisturbed((publisher, readers));
    });
}

#[test]
fn f13_f20_f21_order_and_times_survive_the_edges_of_the_clock() {
    rounds(|| {
        let row = Row::alone("F13, F20, F21");
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
            // Until they have begun: later, a keyframe that is newer is the better one to begin with.
            let first = readers.until_frame(sent.last().unwrap());
            let more = shifted(feed.millis(1_500));
            send(&mut publisher, &more);
            sent.extend(more);
            let more = readers.until_frame(sent.last().unwrap());
            for tags in first.into_iter().zip(more).map(|(first, more)| [first, more].concat()) {
                let frames: Vec<_> = tags.iter().filter(|tag| tag.mark().is_some()).collect();
                let key = |tag: &FlvTag| (tag.kind.type_id(), tag.mark());
                let got: Vec<_> = frames.iter().map(|tag| key(tag)).collect();
                assert_eq!(got, sent.iter().map(key).collect::<Vec<_>>(), "{name}: decoding order");
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
        row.undisturbed(());
    });
}

#[test]
fn f14_pictures_without_a_keyframe_do_not_hang_a_joiner() {
    rounds(|| {
        let row = Row::alone("F14");
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
        row.undisturbed((publisher, reader));
    });
}

#[test]
fn f15_a_rate_that_changes_and_a_freeze() {
    rounds(|| {
        let row = Row::alone("F15");
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
        row.undisturbed((publisher, readers));
    });
}

#[test]
fn f16_keyframes_of_7_5_mebibytes() {
    rounds(|| {
        // One every two seconds, next to the witness.
        let bench = Arc::new(Bench::start(&[], ""));
        thread::sleep(secs(3));
        let calm = bench.stretch_p99();
        let row = Row::on(&bench, "F16").memory(96 * MIB).kept(4 * MIB).cpu(secs(6));
        let mut publisher = row.peer().publishing("f16");
        publisher.set_chunk_size(60_000);
        let mut feed = Feed::of(Source::h264().with_pictures_of(15 << 19));
        send(&mut publisher, &feed.headers());
        let keyframe = feed.frame();
        publisher.tag(&keyframe);
        let mut player = row.peer().playing("f16");
        let begin = Instant::now();
        for n in 0..3 {
            if n > 0 {
                thread::sleep((begin + secs(2) * n).saturating_duration_since(Instant::now()));
                publisher.video(n * 2_000, &keyframe.body);
            }
            loop {
                let tag = player.next_tag(soon()).expect("the keyframe");
                if tag.mark().is_some() {
                    assert!(tag.body == keyframe.body, "intact");
                    break;
                }
            }
        }
        let busy = bench.stretch_p99();
        eprintln!("F16: gaps grow by {calm:?} in 99 of 100 cases, by {busy:?} next to the keyframes");
        assert!(busy <= calm + Duration::from_millis(50), "{busy:?} instead of {calm:?}");
        row.tolerated(vec![publisher, player]);
    });
}

#[test]
fn f17_access_units_without_a_picture() {
    rounds(|| {
        let row = Row::alone("F17");
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
        row.undisturbed((publisher, readers));
    });
}

#[test]
fn f18_a_gop_that_never_ends() {
    rounds(|| {
        // 64 MiB behind one keyframe: half a minute of 20 Mb/s, at the speed of loopback.
        let row = Row::alone("F18").memory(56 * MIB).cpu(secs(8));
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
        assert!(eventually(PATIENCE, || streams().contains("\"frames_in\":256")), "{}", streams());
        let kept = row.bench.metrics().sum("arcly_log_bytes") - kept_before;
        assert!(kept <= 33.0 * MIB as f64, "the log has its bound: {kept}");
        drop(publisher);
    });
}

#[test]
fn f24_f25_clocks_that_jump_and_disagree() {
    rounds(|| {
        let row = Row::alone("F24, F25");
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
                tags.into_iter()
                    .map(|tag| FlvTag { timestamp: by(tag.timestamp + 2 * hour), ..tag })
                    .collect()
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
            let newest = |kind| {
                tags.iter().filter(|t| t.kind == kind && t.mark().is_some()).map(|t| t.timestamp).max()
            };
            let skew = newest(TagKind::Audio).unwrap().abs_diff(newest(TagKind::Video).unwrap());
            assert!(skew <= 100, "{skew} ms between sound and picture");
        }
        row.undisturbed((publisher, readers));
    });
}
