//! Crowds of readers that come, go and churn, and many streams at a time.

use std::process::Command;
use std::sync::Arc;
use std::thread;

use arcly_testkit::media::Source;
use arcly_testkit::skip;

use super::support::bench::{Bench, Held, Row};
use super::support::crowd::{Arrival, Crowd, Publishers};
use super::support::eventually;
use super::support::starved::Starved;
use super::*;

/// Lets this process, and the servers that it starts, have that many files open, if the hard limit allows it.
pub(super) fn may_open(files: u64) -> bool {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut limits = line.split_whitespace().map(|limit| limit.parse().unwrap_or(u64::MAX));
    let (soft, hard) = (limits.next().unwrap(), limits.next().unwrap());
    if soft >= files || hard < files {
        return soft >= files;
    }
    let raise = format!("--nofile={files}:{hard}");
    let raised = Command::new("prlimit").args(["--pid", &std::process::id().to_string(), &raise]).status();
    raised.is_ok_and(|status| status.success())
}

fn players(bench: &Bench) -> f64 {
    bench.metrics().labelled("arcly_sessions", "role=\"play\"")
}

/// A crowd of 2 000 comes within a second, sees, and is killed. What was measured of it.
fn come_and_be_killed(bench: &Bench, there: &Crowd) -> Crowded {
    let before = bench.held();
    let starved = [bench.starved(), Starved::of(std::process::id())];
    let mut crowd = Crowd::new();
    let (count, within) = (2_000, secs(1));
    let arrival = Arrival { rtmp: bench.rtmp, stream: "f33", count, within, leaves: false };
    let seen = crowd.come_and_see(arrival, secs(20));
    let starved = starved.iter().map(Starved::elapsed).sum();
    let waiting = crowd.members().filter(|member| member.first.is_none()).count();
    assert!(seen, "{waiting} of {count} have seen nothing");
    let (p99, peak) = (crowd.p99(), bench.held().rss_bytes);
    crowd.check("F33");
    drop(crowd);
    assert!(eventually(secs(15), || players(bench) == 102.0), "{} readers are left", players(bench));
    assert!(eventually(secs(5), || bench.held().fds <= before.fds), "{} files are left", bench.held().fds);
    there.check("F34");
    Crowded { p99, starved, peak }
}

struct Crowded {
    p99: Duration,
    /// By the machine.
    starved: Duration,
    peak: u64,
}

#[test]
fn f33_f34_two_thousand_readers_come_at_once_and_are_killed() {
    if !may_open(6_000) {
        skip!("needs 6 000 file descriptors");
    }
    rounds(|| {
        let id = "F33, F34";
        let bench = Arc::new(Bench::start(&[], ""));
        let publishers = Publishers::start(bench.rtmp, &["f33".to_owned()], Duration::from_millis(200));
        let mut there = Crowd::new();
        let arrival = Arrival { rtmp: bench.rtmp, stream: "f33", count: 100, within: secs(1), leaves: false };
        assert!(there.come_and_see(arrival, PATIENCE), "100 readers first");
        let cold = bench.held().rss_bytes;

        let first = come_and_be_killed(&bench, &there);
        let each = first.peak.saturating_sub(cold) / 2_000;
        let Crowded { p99, starved, .. } = first;
        eprintln!("{id}: first frame within {p99:?} (p99), starved for {starved:?}, {each} bytes each");
        assert!(each <= 64 << 10, "{each} bytes for each reader");
        assert!(p99 <= Duration::from_millis(1_500) + starved, "{p99:?} (p99), starved for {starved:?}");
        bench.check_witness(id);

        // What is left of the first crowd is what the allocator keeps for the next one, which leaves nothing.
        thread::sleep(secs(2));
        let warm = bench.held();
        let second = come_and_be_killed(&bench, &there);
        let allowed = warm.rss_bytes + MIB.max(second.peak.saturating_sub(cold) / 10);
        let mut now = bench.held();
        let back = eventually(secs(15), || {
            now = bench.held();
            now.rss_bytes <= allowed && now.tasks <= warm.tasks
        });
        eprintln!(
            "{id}: {cold} bytes cold, {} warm, {} at the peak, {now:?} after",
            warm.rss_bytes, second.peak
        );
        assert!(back, "{now:?}, where {warm:?} was before; at most {allowed} bytes");
        publishers.stop();
        bench.check_witness(id);
        bench.check_alive(id);
    });
}

/// F33: what readers cost does not depend on what they are sent first, because all share it.
#[test]
fn f33_a_gop_of_8_mebibytes_costs_no_more_per_reader_than_one_of_1() {
    rounds(|| {
        let [small, large] = [MIB, 8 * MIB].map(|gop| {
            let bench = Bench::start_alone(&[], "");
            let mut publisher = Peer::open(bench.rtmp).publishing("f33");
            publisher.set_chunk_size(60_000);
            let mut feed = Feed::of(Source::h264().with_pictures_of(usize::try_from(gop / 25).unwrap()));
            send(&mut publisher, &feed.headers());
            send(&mut publisher, &(0..25).map(|_| feed.frame()).collect::<Vec<_>>());
            // The first has the format made that all of them share. None of them reads, so that each has a cursor.
            let deaf = || Peer::open_from(bench.rtmp, "127.0.0.1", Some(4_096)).playing("f33");
            let mut readers = vec![deaf()];
            thread::sleep(Duration::from_millis(500));
            let before = bench.held().rss_bytes;
            readers.extend((0..300).map(|_| deaf()));
            assert_eq!(players(&bench), 301.0);
            bench.held().rss_bytes.saturating_sub(before)
        });
        eprintln!("F33: 300 readers of 1 MiB cost {small} bytes, of 8 MiB {large}");
        // A tenth, and what the allocator rounds up to.
        assert!(large <= small + small / 10 + MIB / 2, "{large} bytes instead of {small}");
    });
}

#[test]
fn f36_readers_churn() {
    // 500 a second for twelve seconds instead of a minute; RTMP, and every tenth over HTTP-FLV.
    if !may_open(4_000) {
        skip!("needs 4 000 file descriptors");
    }
    rounds(|| {
        let bench = Arc::new(Bench::start(&[], ""));
        let mut row = Row::on(&bench, "F36");
        let mut crowd = Crowd::new();
        let mut rss = Vec::new();
        for second in 0..12 {
            if second == 4 {
                // Warm: what stays from here on is a leak.
                row = row.again();
            }
            let arrival =
                Arrival { rtmp: bench.rtmp, stream: "witness", count: 500, within: secs(1), leaves: true };
            crowd.come(arrival);
            for _ in 0..50 {
                let mut reader = FlvReader::open(bench.http, "/live/witness.flv").expect("the stream");
                reader.next_tag(soon()).expect("a tag");
            }
            let all = || crowd.members().all(|member| member.first.is_some());
            assert!(eventually(secs(10), all), "somebody has seen nothing");
            assert!(eventually(secs(5), || players(&bench) == 2.0), "{} readers are left", players(&bench));
            rss.push(bench.held().rss_bytes);
        }
        eprintln!("F36: resident after each second {rss:?}");
        let (warm, last) = (rss[4..8].iter().min().unwrap(), rss[8..].iter().min().unwrap());
        assert!(*last <= warm + MIB, "{} bytes more than some seconds before", last - warm);
        row.undisturbed(crowd);
    });
}

#[test]
fn f35_two_hundred_streams_with_five_readers_each() {
    // Ten seconds at five pictures a second instead of ten minutes.
    if !may_open(6_000) {
        skip!("needs 6 000 file descriptors");
    }
    rounds(|| {
        let bench = Arc::new(Bench::start(&[], ""));
        let row = Row::on(&bench, "F35");
        let streams: Vec<String> = (0..200).map(|n| format!("f35-{n}")).collect();
        let before = bench.held();
        let (least, held, logged) = many_streams(&bench, &streams, secs(10));
        assert!(least >= 40, "somebody has had {least} pictures of 50");
        let grown = held.rss_bytes.saturating_sub(before.rss_bytes);
        eprintln!("F35: {grown} bytes for 200 streams and 1 000 readers, {logged} logged");
        assert!(grown <= 200 * (256 << 10) + logged, "{grown} bytes");
        // What the allocator keeps of it is there for the next streams.
        row.kept(grown).undisturbed(());
    });
}

/// Streams with five readers each, for so long: the pictures that every reader has had at least, what the server held
/// meanwhile, and what of it was media.
fn many_streams(bench: &Bench, streams: &[String], time: Duration) -> (u32, Held, u64) {
    let publishers = Publishers::start(bench.rtmp, streams, Duration::from_millis(200));
    let mut crowd = Crowd::new();
    for stream in streams {
        let within = Duration::ZERO;
        crowd.come(Arrival { rtmp: bench.rtmp, stream, count: 5, within, leaves: false });
        // It is their number that this is about, not that all of them come in one moment.
        thread::sleep(Duration::from_millis(5));
    }
    let all = || crowd.members().all(|member| member.first.is_some());
    assert!(eventually(secs(20), all), "somebody has seen nothing");
    thread::sleep(time);
    crowd.check("F35");
    let least = crowd.members().map(|member| member.sequence.received).min().unwrap();
    let (held, logged) = (bench.held(), bench.metrics().sum("arcly_log_bytes") as u64);
    drop((crowd, publishers.stop()));
    assert!(eventually(secs(15), || bench.metrics().sum("arcly_streams") == 1.0), "streams are left");
    (least, held, logged)
}
