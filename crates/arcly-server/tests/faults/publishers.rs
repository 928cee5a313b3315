//! Publishers that die, return, fall silent, flap, or come second.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::support::bench::{Bench, Row};
use super::support::eventually;
use super::support::feed::Feed;
use super::support::http::get;
use super::support::peer::Peer;
use super::*;

/// Publishers, of which the witness's is one.
fn publishers(bench: &Bench) -> f64 {
    bench.metrics().labelled("arcly_sessions", "role=\"publish\"")
}

#[test]
fn f01_a_publisher_dies_and_returns() {
    rounds(|| {
        let row = Row::alone("F01");
        let bench = &row.bench;
        let mut feed = Feed::new();
        let (publisher, mut readers) = start(bench, "f01", &mut feed);
        publisher.reset();
        thread::sleep(secs(1));
        // It is live, and not to be hijacked, until the server has heard of it.
        assert!(eventually(PATIENCE, || publishers(bench) == 1.0));
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
            assert!(
                marks(tags).windows(2).all(|pair| pair[1] == pair[0] + 1),
                "reader {reader}: without a gap"
            );
        }
        row.undisturbed((publisher, readers));
    });
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
    rounds(|| {
        let row = Row::alone("F02, F10");
        let bench = &row.bench;
        for reconnects in [true, false] {
            let mut feed = Feed::new();
            let (mut publisher, mut readers) = start(bench, "f02", &mut feed);
            let mut again = Feed::new();
            let changed = other_headers(&mut again);
            if reconnects {
                publisher.reset();
                // It is live, and not to be hijacked, until the server has heard of it.
                assert!(eventually(secs(2), || publishers(bench) <= 1.0));
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
                eventually(secs(15), || get(bench.http, "/api/v1/streams/live/f02").status == 404),
                "{}",
                gone()
            );
        }
        row.undisturbed(());
    });
}

#[test]
fn f03_the_codec_changes() {
    rounds(|| {
        let row = Row::alone("F03");
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
        let stale = |tag: &FlvTag| {
            tag.kind == TagKind::Video && tag.timestamp >= 300 && tag.body.starts_with(&[0x17])
        };
        let sound: Vec<_> = feed.millis(600).into_iter().filter(|tag| tag.kind == TagKind::Audio).collect();
        send(&mut publisher, &sound);
        let (mut rtmp, last) = (Vec::new(), sound.last().unwrap());
        // What comes behind the last sound is not waited for so long.
        let mut end = soon();
        while let Some(tag) = readers.rtmp.next_tag(end) {
            if (tag.kind, tag.mark()) == (last.kind, last.mark()) {
                end = Instant::now() + Duration::from_millis(500);
            }
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
        row.undisturbed((publisher, readers));
    });
}

#[test]
fn f04_a_silent_publisher_is_given_up() {
    rounds(|| {
        // The connection is there and says nothing, as behind a cut cable.
        let bench = Arc::new(Bench::start_alone(&[], "apps.default.grace = '1s'\n"));
        let mut feed = Feed::new();
        let (mut publisher, mut readers) = start(&bench, "f04", &mut feed);
        let since = Instant::now();
        let name = publisher.name();
        // Pings are not answered: nothing is read.
        thread::sleep(secs(9));
        let log = || bench.log();
        assert!(eventually(secs(4), || log().contains("timeout(idle)")), "{}", log());
        assert!(since.elapsed() < secs(12), "detected after {:?}", since.elapsed());
        assert!(
            log().lines().any(|l| l.contains(&name.to_string()) && l.contains("timeout(idle)")),
            "{}",
            log()
        );
        assert!(
            readers.rtmp.wait_end(secs(5)) && readers.flv.wait_end(secs(5)),
            "the stream has ended: {}",
            log()
        );
        assert!(eventually(secs(5), || bench.metrics().sum("arcly_streams") == 0.0));
        assert!(publisher.wait_end(secs(1)));
    });
}

#[test]
fn f05_a_second_publisher() {
    rounds(|| {
        let row = Row::alone("F05");
        let mut refused: Vec<Peer> = (0..10).map(|_| row.peer().created()).collect();
        for peer in &mut refused {
            peer.publish("witness");
        }
        row.closed_all("conflict", refused);
    });
}

#[test]
fn f06_a_publisher_flaps() {
    rounds(|| {
        // 100 times as fast as it can instead of in a minute.
        let row = Row::alone("F06").cpu(secs(4));
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
            assert!(eventually(secs(2), || publishers(&row.bench) <= 1.0));
        }
        let zombies = || row.bench.metrics().sum("arcly_streams") - 1.0;
        assert!(eventually(secs(7), || zombies() == 0.0), "{} streams are left", zombies());
        row.finish(&[("rtmp", "peer_closed", 100)], &[]);
    });
}
