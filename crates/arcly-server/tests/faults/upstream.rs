//! Servers that streams are pulled from, and that go away.

use std::net::TcpListener;

use super::support::bench::{Bench, lock};
use super::support::eventually;
use super::support::http::get;
use super::*;

/// Publishes some seconds of a stream in one go, and stays.
fn publish(bench: &Bench) -> Peer {
    let mut feed = Feed::new();
    let mut publisher = Peer::open(bench.rtmp).publishing("f60");
    publisher.set_chunk_size(60_000);
    send(&mut publisher, &feed.headers());
    send(&mut publisher, &feed.millis(2_000));
    publisher
}

fn can_read(bench: &Bench, name: &str) -> bool {
    FlvReader::open(bench.http, &format!("/live/{name}.flv"))
        .is_ok_and(|mut reader| reader.next_tag(Instant::now() + secs(1)).is_some())
}

#[test]
fn f60_an_upstream_that_is_down_slow_and_back() {
    rounds(|| {
        // At an address where nobody else takes the port while it is down.
        let origin = Bench::start_alone(&["--rtmp", "127.60.60.60:0"], "");
        let publisher = publish(&origin);
        // One that takes connections and says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let relays = [("f60", origin.rtmp), ("silent", silent.local_addr().unwrap())];
        let config = relays
            .map(|(name, from)| format!("[[relays]]\nfrom = 'rtmp://{from}/live/f60'\nto = 'live/{name}'\n"));
        let edge = Bench::start_alone(&[], &config.concat());
        assert!(eventually(PATIENCE, || can_read(&edge, "f60")), "{}", edge.log());
        let asked = Instant::now();
        assert_eq!(get(edge.http, "/live/silent.flv").status, 404);
        assert!(asked.elapsed() < secs(10), "whoever asks for what does not come is told so");

        let address = origin.rtmp.to_string();
        lock(&origin.arcly).process().kill();
        drop((origin, publisher));
        let down = Instant::now();
        let is_gone = || get(edge.http, "/live/f60.flv").status == 404;
        assert!(eventually(secs(10), is_gone), "still there after {:?}", down.elapsed());
        // Down for at least three seconds, in which it is tried after one, and after two more.
        std::thread::sleep(secs(3).saturating_sub(down.elapsed()));
        let tried = edge.log().lines().filter(|line| line.contains(&address)).count();
        assert!(tried <= 8, "{tried} lines in {:?}:\n{}", down.elapsed(), edge.log());

        let origin = Bench::start_alone(&["--rtmp", &address], "");
        let _publisher = publish(&origin);
        let back = Instant::now();
        let limit = secs(5).max(down.elapsed());
        assert!(eventually(limit, || can_read(&edge, "f60")), "not back after {:?}", back.elapsed());
        eprintln!(
            "F60: back {:?} after its upstream, which was down for {:?}",
            back.elapsed(),
            down.elapsed()
        );
        let relays = || get(edge.http, "/api/v1/relays").body;
        assert!(eventually(secs(15), || relays().contains("timeout")), "{}", relays());
        edge.check_alive("F60");
    });
}
