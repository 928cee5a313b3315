//! Readers that are slow, or do not read at all.

use std::sync::Arc;
use std::thread;

use arcly_testkit::media::Source;

use super::support::bench::{Bench, Row};
use super::support::eventually;
use super::support::feed::Sequence;
use super::*;

/// Publishes in real time for at most so long, until `done`; what a good reader has seen meanwhile.
pub(super) fn broadcast(
    (publisher, feed): (&mut Peer, &mut Feed),
    good: &mut Peer,
    limit: Duration,
    mut done: impl FnMut() -> bool,
) -> Sequence {
    let since = Instant::now();
    let mut sequence = Sequence::default();
    while since.elapsed() < limit && !done() {
        let tag = feed.frame();
        let due = since + Duration::from_millis(tag.timestamp.into());
        while let Some(tag) = good.next_tag(due) {
            sequence.note(&tag);
        }
        publisher.tag(&tag);
    }
    sequence
}

/// Whether no other picture needs this one. The GOP is I P B B P B B and so on.
pub(super) const fn is_disposable(mark: u32) -> bool {
    !mark.is_multiple_of(25) && mark % 25 % 3 != 1
}

/// A stream of pictures of that size at 25 a second, with its publisher.
pub(super) fn wide(row: &Row, name: &str, picture: usize) -> (Peer, Feed) {
    let mut feed = Feed::of(Source::h264().with_pictures_of(picture));
    let mut publisher = row.peer().publishing(name);
    publisher.set_chunk_size(60_000);
    send(&mut publisher, &feed.headers());
    publisher.tag(&feed.frame());
    (publisher, feed)
}

/// Streams as wide came and went before: what the allocator keeps after the first is no leak, after the next it would be.
fn warm_up(bench: &Bench, picture: usize) {
    let mut feed = Feed::of(Source::h264().with_pictures_of(picture));
    let mut publisher = Peer::open(bench.rtmp).publishing("warm-up");
    publisher.set_chunk_size(60_000);
    send(&mut publisher, &feed.headers());
    publisher.tag(&feed.frame());
    let mut players: Vec<Peer> = (0..4).map(|_| Peer::open(bench.rtmp).playing("warm-up")).collect();
    for _ in 0..200 {
        let tag = feed.frame();
        publisher.tag(&tag);
        for player in &mut players {
            while player.next_tag(soon()).expect("it goes on").mark() != tag.mark() {}
        }
    }
    drop((publisher, players));
    assert!(eventually(secs(10), || bench.metrics().sum("arcly_streams") == 1.0));
}

#[test]
fn f30_a_reader_of_half_the_rate() {
    rounds(|| {
        // 16 Mb/s; of the log, and of what is made of it, the newest 8 MiB each are kept for those who are late.
        let bench = Arc::new(Bench::start(&[], ""));
        warm_up(&bench, 80_000);
        let row = Row::on(&bench, "F30").memory(32 * MIB).cpu(secs(10));
        let (mut publisher, mut feed) = wide(&row, "f30", 80_000);
        let mut slow = Peer::open_from(bench.rtmp, "127.0.0.1", Some(64 << 10)).playing("f30");
        let mut good = row.peer().playing("f30");
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
        let seen = broadcast((&mut publisher, &mut feed), &mut good, secs(14), || false);
        assert_eq!((seen.lost, seen.repeated), (0, 0), "nobody else notices");
        assert!(!publisher.ended);
        let pictures = half.join().unwrap();
        assert!(pictures.len() > 50, "{} pictures", pictures.len());
        let skips: Vec<_> = pictures.windows(2).filter(|pair| pair[1].0 != pair[0].0 + 1).collect();
        assert!(!skips.is_empty(), "it is too slow for all of them");
        // Left out are pictures that no other needs, or all up to a keyframe.
        for pair in skips {
            let harmless = (pair[0].0 + 1..pair[1].0).all(is_disposable);
            assert!(pair[1].1 || harmless, "{} follows {}", pair[1].0, pair[0].0);
        }
        drop((publisher, good));
        row.finish(&[("rtmp", "peer_closed", 3)], &[]);
    });
}

#[test]
fn f31_f32_a_hundred_readers_that_do_not_read() {
    rounds(|| {
        // 100 that never read, and one that reads a byte a second; 4 Mb/s.
        let bench = Arc::new(Bench::start(&[], ""));
        warm_up(&bench, 80_000);
        let row = Row::on(&bench, "F31, F32").memory(16 * MIB).cpu(secs(10));
        let (mut publisher, mut feed) = wide(&row, "f31", 20_000);
        let deaf = |_| Peer::open_from(bench.rtmp, "127.0.0.1", Some(4_096)).playing("f31");
        let mut deaf: Vec<Peer> = (0..101).map(deaf).collect();
        let mut good = row.peer().playing("f31");
        let since = Instant::now();
        let (mut next_look, trickle) = (since, deaf[100].socket.try_clone().unwrap());
        let slow = ("rtmp".to_owned(), "slow_consumer".to_owned());
        let seen = broadcast((&mut publisher, &mut feed), &mut good, secs(16), || {
            if Instant::now() < next_look {
                return false;
            }
            next_look += secs(1);
            let _ = std::io::Read::read(&mut &trickle, &mut [0]);
            bench.metrics().closed().get(&slow) == Some(&101)
        });
        assert!(since.elapsed() < secs(16), "{:?} after {:?}", bench.metrics().closed(), since.elapsed());
        assert_eq!((seen.lost, seen.repeated), (0, 0), "nobody else notices");
        assert!(!publisher.ended);
        let names: Vec<_> = deaf.iter().map(|peer| (peer.name(), "slow_consumer")).collect();
        deaf[100].stop_listening();
        for peer in &mut deaf {
            assert!(peer.wait_end(secs(1)), "still open after {:?}", since.elapsed());
        }
        drop((publisher, good, deaf));
        row.finish(&[("rtmp", "slow_consumer", 101), ("rtmp", "peer_closed", 2)], &names);
    });
}
