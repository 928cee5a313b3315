//! The process as a whole: signals, and a system that runs out of something.

use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use arcly_testkit::skip;

use super::crowds::may_open;
use super::support::bench::{Bench, lock};
use super::support::crowd::{Arrival, Crowd, Publishers};
use super::support::eventually;
use super::*;

#[test]
fn f44_a_signal_ends_everything_in_order() {
    if !may_open(6_000) {
        skip!("needs 6 000 file descriptors");
    }
    rounds(|| {
        // 100 publishers and 1 000 readers, and a few that look at more than the marks.
        let bench = Bench::start_alone(&[], "");
        let streams: Vec<String> = (0..100).map(|n| format!("f44-{n}")).collect();
        let publishers = Publishers::start(bench.rtmp, &streams, Duration::from_millis(200));
        let mut crowd = Crowd::new();
        for stream in &streams {
            let within = Duration::ZERO;
            crowd.come(Arrival { rtmp: bench.rtmp, stream, count: 10, within, leaves: false });
        }
        let all = || crowd.members().all(|member| member.first.is_some());
        assert!(eventually(secs(20), all), "somebody has seen nothing");
        let mut feed = Feed::new();
        let (mut publisher, mut readers) = start(&bench, "f44", &mut feed);

        let starved = bench.starved();
        lock(&bench.arcly).process().signal("TERM");
        let since = Instant::now();
        let refused = || TcpStream::connect(bench.rtmp).is_err();
        assert!(eventually(PATIENCE, refused), "it still listens");
        let (after, starved) = (since.elapsed(), starved.elapsed());
        assert!(
            after <= Duration::from_millis(100) + starved,
            "it listened {after:?}, and starved for {starved:?}"
        );
        let status = lock(&bench.arcly).process().wait_for(secs(5)).expect("it ends within five seconds");
        assert!(status.success(), "{status}");
        eprintln!("F44: it took {:?}", since.elapsed());

        let over = || crowd.members().all(|member| member.ended);
        assert!(eventually(secs(5), over), "somebody does not notice");
        let untold = crowd.members().filter(|member| !member.told).count();
        assert_eq!(untold, 0, "readers of {} were not told that their stream is over", crowd.len());
        let told = |peer: &mut Peer, code: &str| {
            assert!(peer.wait_end(secs(5)));
            assert!(peer.codes.iter().any(|c| c == code), "{:?}", peer.codes);
        };
        told(&mut readers.rtmp, "NetStream.Play.UnpublishNotify");
        assert!(readers.flv.wait_end(secs(5)));
        told(&mut publisher, "NetStream.Unpublish.Success");
        publishers.stop().iter_mut().for_each(|peer| told(peer, "NetStream.Unpublish.Success"));
    });
}

#[test]
fn f45_no_file_descriptor_is_left() {
    let limited = |command: &mut std::process::Command| {
        let args: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
        let program = command.get_program().to_owned();
        *command = std::process::Command::new("sh");
        command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]).arg(program).args(args);
    };
    rounds(|| {
        let bench = Arc::new(Bench::start_with(&[], "", limited));
        let mut feed = Feed::new();
        let (mut publisher, mut readers) = start(&bench, "f45", &mut feed);
        // More connections than there are descriptors; those that are not accepted wait in the backlog.
        let crowd: Vec<TcpStream> = (0..80).filter_map(|_| TcpStream::connect(bench.rtmp).ok()).collect();
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
    });
}
