//! The WebRTC rows of the catalogue of bad inputs that a whole server decides: offers, sessions and datagrams of strangers, next to a
//! stream that nothing may disturb. What a session makes of its own peer's datagrams is tested in `arcly-webrtc`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use str0m::media::Direction;
use support::bench::{Bench, Row};
use support::http::{Answer, Closed, Http};
use support::webrtc::{BOTH, FRAGMENT, LIMIT, Offer, Peer, SDP, request};
use support::{eventually, noise};

/// An offer to publish.
fn offer() -> String {
    Offer::new(Direction::SendOnly, BOTH).sdp
}

/// A request on that connection, which stays open.
#[track_caller]
fn ask(http: &mut Http, what: &str, fields: &str, body: &[u8]) -> Answer {
    let answer = http.send(&request(what, fields, body)).answer_within(LIMIT);
    answer.unwrap_or_else(|| panic!("{what}: no answer"))
}

fn sdp(kind: &str) -> String {
    format!("Content-Type: {kind}\r\n")
}

/// W02, W03, W05, W06, W08, W09, W12.
#[test]
fn w02_w03_w05_w06_w08_w09_w12_offers_that_are_none() {
    let row = Row::new("W02 to W12");
    let good = offer();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replace(from, to).into_bytes()
    };
    let garbage = [good.as_bytes(), b"a=\xff\xfe\x00"].concat();
    let cases: Vec<(&str, &str, &str, Vec<u8>, u16)> = vec![
        ("W02", "/live/a/whip", SDP, Vec::new(), 400),
        ("W03", "/live/a/whip", "text/plain", good.clone().into_bytes(), 415),
        ("W03", "/live/a/whip", "application/json", b"{}".to_vec(), 415),
        ("W05", "/live/a/whip", SDP, with("a=fingerprint", "a=x"), 400),
        ("W05", "/live/a/whip", SDP, with("a=ice-ufrag", "a=x"), 400),
        ("W06", "/live/a/whip", SDP, with("sha-256", "md5"), 400),
        ("W08", "/live/a/whip", SDP, with("RTP/SAVPF ", "RTP/SAVPF 200 "), 400),
        ("W09", "/live/a/whip", SDP, garbage, 400),
        ("W12", "/../../x/whip", SDP, good.clone().into_bytes(), 404),
        ("W12", "//evil/x/whip", SDP, good.clone().into_bytes(), 404),
        ("W12", "/live/../a/whep", SDP, good.clone().into_bytes(), 404),
        ("W12", "/live/%2e%2e/whip", SDP, good.clone().into_bytes(), 404),
        ("a viewer's", "/live/witness/whep", SDP, good.clone().into_bytes(), 400),
        ("no stream", "/live/none/whep", SDP, Offer::new(Direction::RecvOnly, BOTH).sdp.into_bytes(), 404),
        ("a publisher is there", "/live/witness/whip", SDP, good.clone().into_bytes(), 409),
    ];
    let mut http = row.http();
    for (id, path, kind, body, status) in &cases {
        let answer = ask(&mut http, &format!("POST {path}"), &sdp(kind), body);
        assert_eq!(answer.status, *status, "{id} {path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{id} {path}");
        assert_eq!(answer.header("location"), None, "{id} {path}");
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("*"),
            "{id} {path}: a page may read why"
        );
    }
    for method in ["GET", "PUT", "DELETE"] {
        let answer = ask(&mut http, &format!("{method} /live/a/whip"), "", b"");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("OPTIONS, POST")), "{method}");
    }
    assert_eq!(row.bench.metrics().sum("arcly_webrtc_sessions"), 0.0);
    drop(http);
    row.finish(&[("http", "peer_closed", 1)], &[]);
}

/// W04: whoever announces a mebibyte is not listened to.
#[test]
fn w04_an_offer_of_a_mebibyte() {
    let row = Row::new("W04");
    let mut http = row.http();
    let head = format!("Content-Length: {}\r\n{}", 1 << 20, sdp(SDP));
    let answer = http.request("POST /live/a/whip", &head).answer().expect("an answer");
    assert_eq!(answer.status, 413, "{}", answer.body);
    assert!(answer.body.contains("limit(offer)"), "{}", answer.body);
    // In pieces its length is not known before it is too long.
    let mut pieces = row.http();
    pieces.request("POST /live/a/whip", &format!("Transfer-Encoding: chunked\r\n{}", sdp(SDP)));
    let piece = [&b"20000\r\n"[..], &[b'a'; 1 << 17], b"\r\n1\r\na\r\n"].concat();
    let answer = pieces.send(&piece).answer().expect("an answer");
    assert_eq!(answer.status, 413, "{}", answer.body);
    row.undisturbed((http, pieces));
}

/// W10, W11, W30: sessions that are not there, or somebody else's.
#[test]
fn w10_w11_w30_sessions_are_their_own() {
    let row = Row::new("W10, W11, W30");
    let mut publisher = Peer::publishing(row.bench.http, "live/w10").up();
    let mut http = row.http();
    let patch = format!("{}If-Match: {}\r\n", sdp(FRAGMENT), publisher.etag);
    let candidates =
        |count: usize| "a=candidate:1 1 udp 1 169.254.0.1 9 typ host\r\n".repeat(count).into_bytes();
    let id = publisher.location.rsplit('/').next().unwrap().to_owned();
    let mut bodies = std::collections::BTreeSet::new();
    for path in [
        format!("/live/w10/whip/{}", "0".repeat(32)),
        format!("/live/w10/whep/{id}"),
        format!("/live/other/whip/{id}"),
        "/live/w10/whip/x".to_owned(),
    ] {
        for (method, fields) in [("DELETE", ""), ("PATCH", &*patch)] {
            let answer = ask(&mut http, &format!("{method} {path}"), fields, &candidates(1));
            assert!(matches!(answer.status, 400 | 404), "{method} {path}: {}", answer.status);
            bodies.insert(answer.body);
        }
    }
    assert_eq!(bodies.len(), 1, "an answer tells something: {bodies:#?}");
    let own = format!("PATCH {}", publisher.location);
    assert_eq!(ask(&mut http, &own, &patch, &candidates(32)).status, 204);
    let many = ask(&mut http, &own, &patch, &candidates(1));
    assert_eq!(many.status, 413, "{}", many.body);
    assert!(many.body.contains("limit(candidates)"), "{}", many.body);
    // Whatever was sent, the session is as it was.
    for n in 0..10 {
        publisher.write_both(n);
        publisher.step();
    }
    assert!(!publisher.closed);
    assert_eq!(ask(&mut http, &format!("DELETE {}", publisher.location), "", b"").status, 200);
    publisher.until("told to go", |publisher| publisher.closed);
    // And so is one that is let go over the API.
    let mut other = Peer::publishing(row.bench.http, "live/w10b").up();
    assert_eq!(ask(&mut http, "DELETE /api/v1/streams/live/w10b", "", b"").status, 204);
    other.until("told to go", |other| other.closed);
    let gone = || row.bench.metrics().sum("arcly_webrtc_sessions") == 0.0;
    assert!(eventually(LIMIT, gone), "{}", row.log());
    // What the first sessions leave with the allocator is of no row.
    row.bench.check_witness("W10, W11, W30");
    row.bench.check_alive("W10, W11, W30");
}

/// W01, W13: offers whose sender never comes.
#[test]
fn w01_w13_offers_that_nobody_comes_for() {
    const ROOM: usize = 20;
    let config = format!("[webrtc]\nice_timeout = '2s'\nmax_pending_per_address = {ROOM}\n");
    let bench = Arc::new(Bench::start(&["--webrtc", "127.0.0.1:0"], &config));
    let good = offer();
    // What the first ones leave with the allocator is of no row.
    for id in ["W01, W13, warm", "W01, W13"] {
        let row = Row::on(&bench, id).memory(4 << 20).cpu(Duration::from_secs(10));
        let before = bench.metrics().closed();
        let mut http = row.http();
        let mut answers = Vec::new();
        for n in 0..200 {
            let answer = ask(&mut http, &format!("POST /live/w13-{n}/whip"), &sdp(SDP), good.as_bytes());
            let no_room = answer.status == 503 && answer.header("retry-after").is_some();
            assert!(answer.status == 201 || no_room, "{} {}", answer.head, answer.body);
            answers.push(answer.status);
        }
        // Those that have waited for long enough make room for others.
        let taken = answers.iter().filter(|status| **status == 201).count();
        assert!(taken >= ROOM && answers[..ROOM].iter().all(|status| *status == 201), "{answers:?}");
        let over = || row.bench.metrics().sum("arcly_webrtc_sessions") == 0.0;
        assert!(eventually(LIMIT, over), "{}", row.log());
        drop(http);
        let closed = [("http", "peer_closed", 1), ("webrtc", "timeout(handshake)", taken as u64)];
        // All of it is counted before the next row begins, or it would be that row's.
        let counted = || {
            let now = bench.metrics().closed();
            closed.iter().all(|(protocol, reason, more)| {
                let of = |closed: &Closed| {
                    closed.get(&((*protocol).to_owned(), (*reason).to_owned())).copied().unwrap_or(0)
                };
                of(&now) >= of(&before) + more
            })
        };
        assert!(eventually(LIMIT, counted), "{id}: {:?}", bench.metrics().closed());
        if id == "W01, W13" {
            row.finish(&closed, &[]);
        }
    }
}

/// W14, W16, W19: datagrams of strangers cost nothing and are answered by nothing.
#[test]
fn w14_w16_w19_strangers_get_no_answer() {
    const ROUNDS: usize = 50;
    let row = Row::new("W14, W16, W19");
    let foreign = || row.bench.metrics().sum("arcly_webrtc_foreign_datagrams_total");
    let (before, server) = (foreign(), row.bench.addr("webrtc"));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // A Binding request with a user name that nobody has, whole and cut; a DTLS record, an RTP packet, RTCP, and noise.
    let name = b"aaaa:bbbb";
    let mut request = vec![0, 1, 0, 16, 0x21, 0x12, 0xA4, 0x42];
    request.extend([7; 12]);
    request.extend([0, 6, 0, 9]);
    request.extend(name);
    request.extend([0; 3]);
    let hello = [&[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 50][..], &[1; 50]].concat();
    let garbage: Vec<u8> = noise(14).take(1_200).collect();
    let kinds: [&[u8]; 6] = [
        &request,
        &request[..19],
        &hello,
        &[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0x80, 200, 0, 0],
        &garbage,
    ];
    let mut sent = 0.0;
    for _ in 0..ROUNDS {
        // No more at a time than the socket's buffer surely holds.
        for kind in kinds.iter().cycle().take(60) {
            socket.send_to(kind, server).unwrap();
            sent += 1.0;
        }
        assert!(eventually(LIMIT, || foreign() - before >= sent), "{} of {sent}", foreign() - before);
    }
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv_from(&mut [0; 64]).is_err(), "nothing is answered");
    row.finish(&[], &[]);
}
