//! Networks that become narrow, or have no IPv4. Each of these tests runs inside of a network namespace of its own, or is
//! skipped where none may be made.

use std::collections::VecDeque;
use std::net::{SocketAddr, SocketAddrV6};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use arcly_testkit::netns::{self, Place};
use arcly_testkit::skip;

use super::readers::{broadcast, is_disposable, wide};
use super::support::bench::{Bench, Row, turn};
use super::support::eventually;
use super::support::http::{Http, get};
use super::*;

/// Runs a fault inside of a namespace that `setup` prepares.
fn inside(setup: &str, fault: impl Fn()) {
    // Nothing else is to be measured meanwhile; inside there is nothing else.
    let _turn = (!netns::is_inside()).then(turn);
    match netns::enter(setup) {
        Place::Inside => rounds(fault),
        Place::Outside => {}
        Place::Impossible => skip!("no such network namespace may be made here"),
    }
}

/// What goes to 127.0.0.9 goes through a narrow pipe.
const PIPE: &str = "ip link set lo mtu 1500 gso_max_segs 1 up
tc qdisc add dev lo root handle 1: htb default 10
tc class add dev lo parent 1: classid 1:10 htb rate 10gbit
tc class add dev lo parent 1: classid 1:20 htb rate 10mbit burst 16k
tc qdisc add dev lo parent 1:20 bfifo limit 32k
tc filter add dev lo parent 1: protocol ip u32 match ip dst 127.0.0.9/32 flowid 1:20";

fn set_rate(rate: &str) {
    let mut tc = Command::new("tc");
    tc.args("class change dev lo parent 1: classid 1:20 htb burst 16k rate".split(' ')).arg(rate);
    assert!(tc.status().unwrap().success(), "{rate}");
}

#[test]
fn f55_a_reader_whose_network_collapses_and_recovers() {
    inside(PIPE, || {
        // 2 Mb/s through 10 Mb/s, from the 3rd second through 256 kb/s, and from the 13th through 10 Mb/s again.
        set_rate("10mbit");
        let bench = Arc::new(Bench::start(&[], ""));
        let row = Row::on(&bench, "F55");
        let (mut publisher, mut feed) = wide(&row, "f55", 10_000);
        let mut slow = Peer::open_from(bench.rtmp, "127.0.0.9", None).playing("f55");
        let mut good = row.peer().playing("f55");
        let (since, end) = (Instant::now(), secs(17));
        let reading = thread::spawn(move || {
            let mut pictures = Vec::new();
            while since.elapsed() < end {
                match slow.next_tag(Instant::now() + secs(1)) {
                    Some(tag) => pictures.extend(
                        tag.mark().map(|mark| (since.elapsed(), mark, tag.body.first().map(|b| b >> 4))),
                    ),
                    None if slow.ended => break,
                    None => {}
                }
            }
            pictures
        });
        let mut rates = VecDeque::from([(secs(3), "256kbit"), (secs(13), "10mbit")]);
        let seen = broadcast((&mut publisher, &mut feed), &mut good, end, || {
            if rates.front().is_some_and(|(at, _)| since.elapsed() >= *at) {
                set_rate(rates.pop_front().unwrap().1);
            }
            false
        });
        assert_eq!((seen.lost, seen.repeated), (0, 0), "nobody else notices");
        let pictures = reading.join().unwrap();
        let late = |at: Duration, mark: u32| at.saturating_sub(Duration::from_millis(40) * mark);
        let latest = |from: u64, to: u64| {
            let between = pictures.iter().filter(|(at, ..)| (secs(from)..secs(to)).contains(at));
            between.map(|(at, mark, _)| late(*at, *mark)).max().expect("pictures")
        };
        let (before, during, after) = (latest(0, 3), latest(3, 15), latest(15, 17));
        eprintln!("F55: pictures come up to {before:?} late before, {during:?} meanwhile, {after:?} after");
        assert!(before <= secs(1) && after <= Duration::from_millis(500), "back at the live edge after 2 s");
        assert!(during > secs(1), "the pipe was narrow");
        for pair in pictures.windows(2).filter(|pair| pair[1].1 != pair[0].1 + 1) {
            let harmless = (pair[0].1 + 1..pair[1].1).all(is_disposable);
            assert!(pair[1].2 == Some(1) || harmless, "{} follows {}", pair[1].1, pair[0].1);
        }
        drop((publisher, good));
        bench.check_witness("F55");
        bench.check_alive("F55");
    });
}

/// Nothing but IPv6: an address of a private network, one of the link, and the loopback.
const IPV6_ONLY: &str = "ip link set lo up
ip addr del 127.0.0.1/8 dev lo
ip -6 addr add fd77::1/64 dev lo nodad
ip -6 addr add fe80::77/64 dev lo nodad";
/// The number of `lo`, in every namespace.
const LO: u32 = 1;

#[test]
fn f56_nothing_but_ipv6() {
    inside(IPV6_ONLY, || {
        let mut bench = Bench::start_alone(&["--rtmp", "[::]:0", "--http", "[::]:0"], "");
        let ports = (bench.rtmp.port(), bench.http.port());
        let addresses = ["fd77::1", "fe80::77", "::1"].map(|text| text.parse().unwrap());
        for (name, address) in ["f56-private", "f56-link", "f56-loopback"].into_iter().zip(addresses) {
            let at = |port| SocketAddr::V6(SocketAddrV6::new(address, port, 0, LO));
            (bench.rtmp, bench.http) = (at(ports.0), at(ports.1));
            every_protocol(&bench, name);
        }
        bench.check_alive("F56");
    });
}

/// A listener on `::` takes IPv4 too, and knows IPv4 peers by their IPv4 addresses.
#[test]
fn f56_both_at_once() {
    rounds(|| {
        let mut bench = Bench::start_alone(&["--rtmp", "[::]:0", "--http", "[::]:0"], "");
        for (name, host) in [("f56-4", "127.0.0.1"), ("f56-6", "::1")] {
            bench.rtmp.set_ip(host.parse().unwrap());
            bench.http.set_ip(host.parse().unwrap());
            every_protocol(&bench, name);
            // What only loopback may ask.
            assert_eq!(get(bench.http, "/api/v1/info").status, 200, "{host}");
        }
        assert!(!bench.log().contains("::ffff:"), "{}", bench.log());
        bench.check_alive("F56");
    });
}

/// Publishes over RTMP, and reads over everything.
#[track_caller]
fn every_protocol(bench: &Bench, name: &str) {
    let mut feed = Feed::new();
    let (mut publisher, mut readers) = start(bench, name, &mut feed);
    let more = feed.millis(5_000);
    send(&mut publisher, &more);
    readers.until_frame(more.last().unwrap());
    for path in ["index.m3u8", "manifest.mpd"] {
        let path = format!("/live/{name}/{path}");
        assert!(eventually(PATIENCE, || get(bench.http, &path).status == 200), "{path}: {}", bench.log());
    }
    for container in ["ts", "mp4"] {
        let mut http = Http::open(bench.http);
        let head = http.request(&format!("GET /live/{name}.{container}"), "").head(soon());
        assert_eq!(head.map(|head| head.status), Some(200), "{name}.{container}");
    }
}
