use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{PATIENCE, get, start_demo, wait_until};

#[test]
fn a_signal_ends_readers_and_the_process_in_order() {
    for signal in ["TERM", "INT"] {
        let mut arcly = start_demo();
        let http = arcly.addr("http");
        let mut reader = TcpStream::connect(http).unwrap();
        reader.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(reader, "GET /live/demo.flv HTTP/1.1\r\nHost: {http}\r\n\r\n").unwrap();
        reader.read_exact(&mut [0; 1_000]).unwrap();
        let mut idle = TcpStream::connect(http).unwrap();
        idle.set_read_timeout(Some(PATIENCE)).unwrap();
        // Connections are taken in their order: what has not been taken when nobody listens any more is reset.
        assert_eq!(get(http, "/healthz", "GET", "").status, 200);

        let began = Instant::now();
        arcly.process().signal(signal);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(rest.ends_with(b"0\r\n\r\n"), "the body is ended, not cut off");
        assert_eq!(idle.read(&mut [0; 1]).unwrap(), 0);
        let status = arcly.process().wait_for(Duration::from_secs(10)).expect("it ends within 10 s");
        assert_eq!(status.code(), Some(0), "SIG{signal}: {}", arcly.log());
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(TcpStream::connect(http).is_err(), "nobody listens");
    }
}

#[test]
fn websockets_are_closed_in_order() {
    let mut arcly = start_demo();
    let http = arcly.addr("http");
    let mut socket = TcpStream::connect(http).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    write!(socket, "GET /live/demo.flv HTTP/1.1\r\nHost: {http}\r\n{fields}\r\n").unwrap();
    socket.read_exact(&mut [0; 1_000]).unwrap();
    arcly.process().signal("TERM");
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap();
    // A close frame: going away, because of the shutdown.
    assert!(rest.ends_with(b"\x88\x0a\x03\xe9shutdown"), "{}", rest[rest.len() - 20..].escape_ascii());
    let status = arcly.process().wait_for(PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut arcly = start_demo();
    let http = arcly.addr("http");
    // A publisher that does not notice anything holds the drain up.
    let mut stuck = TcpStream::connect(http).unwrap();
    write!(stuck, "POST /live/cam.flv HTTP/1.1\r\nHost: {http}\r\nContent-Length: 1000000\r\n\r\nFLV")
        .unwrap();
    wait_until("it publishes", || get(http, "/api/v1/streams/live/cam", "GET", "").status == 200);
    arcly.process().signal("TERM");
    assert!(arcly.wait_for_log("going down", PATIENCE));
    let began = Instant::now();
    arcly.process().signal("TERM");
    let status = arcly.process().wait_for(PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(0));
    // The drain itself may take four.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
