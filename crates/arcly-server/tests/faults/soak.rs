//! F62: everything at once, and a fault every so often, in an order that a seed decides.
//!
//! 20 seconds with a fault in each of them; `ARCLY_SOAK=3600` is the hour of the catalogue, with a fault every five
//! seconds, and `ARCLY_SOAK_SEED` another order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use arcly_testkit::rng::Rng;
use arcly_testkit::skip;

use super::crowds::may_open;
use super::support::bench::{Bench, lock};
use super::support::crowd::{Arrival, Crowd, Publishers};
use super::support::eventually;
use super::support::feed::Sequence;
use super::support::http::get;
use super::*;

const SHORT: u64 = 20;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Reads a stream over HTTP-FLV until it is told to stop, and says what it has lost.
fn read(bench: &Bench, name: &str, stop: &Arc<AtomicBool>) -> thread::JoinHandle<(Sequence, bool)> {
    let mut reader = FlvReader::open(bench.http, &format!("/live/{name}.flv")).expect("the stream");
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut sequence = Sequence::default();
        while !stop.load(Ordering::Acquire) {
            match reader.next_tag(Instant::now() + Duration::from_millis(500)) {
                Some(tag) => _ = sequence.note(&tag),
                None if reader.http.ended => return (sequence, true),
                None => {}
            }
        }
        (sequence, false)
    })
}

/// One fault, which is nobody's but whose it is.
fn fault(bench: &Bench, kind: u64, kept: &mut Vec<Peer>) {
    match kind {
        0 => {
            let publishers = || bench.metrics().labelled("arcly_sessions", "role=\"publish\"");
            let before = publishers();
            Peer::open(bench.rtmp).publishing("soak-flap").reset();
            // It is live, and not to be hijacked by the next one, until the server has heard of it.
            assert!(eventually(secs(5), || publishers() <= before), "a publisher that is gone");
        }
        1 => Peer::open(bench.rtmp).playing("soak-0").reset(),
        2 => kept.push(Peer::open_from(bench.rtmp, "127.0.0.1", Some(4_096)).playing("soak-1")),
        3 => (0..20).for_each(|_| _ = Peer::open(bench.rtmp).send(&[0x50; 1_537])),
        4 => {
            let mut second = Peer::open(bench.rtmp).created();
            assert!(second.publish("soak-0").wait_end(secs(5)), "a second publisher");
        }
        5 => lock(&bench.arcly).process().signal("HUP"),
        6 => drop(get(bench.http, "/live/soak-2/index.m3u8")),
        7 => drop(get(bench.http, "/live/..%2f..%2fetc/passwd.flv")),
        _ => kept.clear(),
    }
}

#[test]
fn f62_everything_at_once() {
    if !may_open(4_000) {
        skip!("needs 4 000 file descriptors");
    }
    let (length, seed) = (number("ARCLY_SOAK", SHORT), number("ARCLY_SOAK_SEED", 1));
    let every = if length > SHORT { secs(5) } else { secs(1) };
    rounds(|| {
        let bench = Bench::start(&[], "hls.idle = '5s'\n");
        let streams: Vec<String> = (0..20).map(|n| format!("soak-{n}")).collect();
        let before = bench.held();
        let publishers = Publishers::start(bench.rtmp, &streams, Duration::from_millis(100));
        let mut crowd = Crowd::new();
        for stream in &streams {
            let within = Duration::ZERO;
            crowd.come(Arrival { rtmp: bench.rtmp, stream, count: 9, within, leaves: false });
        }
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = streams.iter().map(|name| read(&bench, name, &stop)).collect();
        let all = || crowd.members().all(|member| member.first.is_some());
        assert!(eventually(secs(20), all), "somebody has seen nothing");

        let (mut rng, mut kept, mut rss) = (Rng::new(seed), Vec::new(), Vec::new());
        let begin = Instant::now();
        for n in 0.. {
            let due = begin + every * n;
            if due > begin + secs(length) {
                break;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            fault(&bench, rng.below(9), &mut kept);
            rss.push((begin.elapsed(), bench.held().rss_bytes));
        }
        crowd.check("F62");
        stop.store(true, Ordering::Release);
        for (reader, name) in readers.into_iter().zip(&streams) {
            let (Sequence { lost, repeated, received, .. }, ended) = reader.join().unwrap();
            assert!(
                received > 0 && (lost, repeated, ended) == (0, 0, false),
                "{name}: {lost} {repeated} {ended}"
            );
        }
        check_slope(&rss);
        bench.check_witness("F62");
        drop((kept, crowd, publishers.stop()));
        assert!(
            eventually(secs(20), || bench.held().fds <= before.fds),
            "{:?}, {before:?} before",
            bench.held()
        );
        assert!(
            eventually(secs(20), || bench.held().tasks <= before.tasks),
            "{:?}, {before:?} before",
            bench.held()
        );
        bench.check_alive("F62");
    });
}

/// After ten minutes memory grows by less than 1 MiB in ten minutes. Of a short run it is too early to say.
fn check_slope(rss: &[(Duration, u64)]) {
    let late: Vec<_> = rss.iter().filter(|(at, _)| *at > secs(600)).collect();
    let (Some((from, _)), Some((to, _))) = (late.first(), late.last()) else { return };
    let third = late.len() / 3;
    let least = |part: &[&(Duration, u64)]| part.iter().map(|(_, rss)| *rss).min().unwrap_or(0);
    let grown = least(&late[late.len() - third..]).saturating_sub(least(&late[..third]));
    let allowed = MIB * (to.as_secs() - from.as_secs()).div_ceil(600);
    assert!(grown <= allowed, "{grown} bytes more after {to:?} than after {from:?}");
}
