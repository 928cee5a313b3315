//! The RTSP, SDP, RTP and RTCP rows of the catalogue of bad inputs, over real sockets, next to a stream that nothing may
//! disturb.
//!
//! What one session, one parser or one receiver decides is also tested in `arcly-rtsp` and `arcly-rtp`, in virtual time and
//! step by step; T38, which takes a minute, and T42 and T43, which no peer sees anything of, only there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::type_complexity, reason = "case tables")]

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_codec::flv::TagKind;
use support::bench::{AT_ONCE, Bench, Row};
use support::feed::Sequence;
use support::http::{FlvReader, get};
use support::noise;
use support::peer::PATIENCE;
use support::rtsp::{Camera, H264_SDP, Rtsp, rtp};

const MIB: u64 = 1 << 20;
const SDP: &str = "Content-Type: application/sdp\r\n";
const TCP: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
const RECORD: &str = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=record\r\n";

fn addr(row: &Row) -> SocketAddr {
    row.bench.addr("rtsp")
}

/// The peer is closed for this reason.
#[track_caller]
fn closed(row: Row, reason: &str, mut rtsp: Rtsp) {
    assert!(rtsp.wait_end(AT_ONCE), "{reason}: not closed within {AT_ONCE:?}:\n{}", row.log());
    let name = rtsp.name();
    drop(rtsp);
    row.finish(&[("rtsp", reason, 1)], &[(name, reason)]);
}

/// The peers are left alone, and go by themselves.
#[track_caller]
fn tolerated(row: Row, peers: Vec<Rtsp>) {
    let count = peers.len() as u64;
    for mut peer in peers {
        peer.wait_end(Duration::from_millis(50));
        assert!(!peer.ended, "closed:\n{}", row.log());
    }
    row.finish(&[("rtsp", "peer_closed", count)], &[]);
}

/// What a reader over HTTP-FLV gets of a camera's stream.
struct Viewer(FlvReader, Sequence);

impl Viewer {
    #[track_caller]
    fn of(row: &Row, name: &str) -> Self {
        Self(
            FlvReader::open(row.bench.http, &format!("/live/{name}.flv")).expect("the stream"),
            Sequence::default(),
        )
    }

    /// The camera goes on until so many pictures are seen that it had not sent before. A few at a time: who is seconds behind a camera
    /// that is ahead of its time is sent no more than it needs.
    #[track_caller]
    fn sees_new(&mut self, camera: &mut Camera, count: usize) {
        let (end, first, mut seen) = (Instant::now() + PATIENCE, camera.feed.next_picture(), 0);
        while seen < count {
            assert!(Instant::now() < end && !self.0.http.ended, "{seen} new pictures of {count}");
            camera.pictures(5);
            while let Some(tag) = self.0.next_tag(Instant::now() + Duration::from_millis(10)) {
                if tag.kind == TagKind::Video {
                    seen += usize::from(self.1.note(&tag).is_some_and(|number| number >= first));
                }
            }
        }
    }

    /// Waits for so many more pictures.
    #[track_caller]
    fn sees(&mut self, count: u32) {
        let (end, enough) = (Instant::now() + PATIENCE, self.1.received + count);
        while self.1.received < enough {
            let tag = self.0.next_tag(end).expect("more of the stream");
            if tag.kind == TagKind::Video {
                self.1.note(&tag);
            }
        }
    }
}

/// Neither the camera nor its viewer has been closed, and both go.
#[track_caller]
fn goes_on(row: Row, mut camera: Camera, viewer: Viewer) {
    camera.rtsp.wait_end(Duration::from_millis(50));
    assert!(!camera.rtsp.ended, "closed:\n{}", row.log());
    drop((camera, viewer));
    row.finish(&[("rtsp", "peer_closed", 1), ("http", "peer_closed", 1)], &[]);
}

/// A camera, and somebody who sees it. Rows share a server, where a stream is kept for a while when its camera has gone: of the same
/// name its last pictures would come first.
#[track_caller]
fn watched(row: &Row, name: &str) -> (Camera, Viewer) {
    let mut camera = Camera::publishing(addr(row), name);
    camera.pictures(30);
    let mut viewer = Viewer::of(row, name);
    viewer.sees(5);
    (camera, viewer)
}

// Messages.

#[test]
fn t01_to_t05_and_t10_what_is_no_message() {
    let headers: String = (0..10_000).map(|n| format!("X-{n}: y\r\n")).collect();
    let length = |length: &str| {
        format!("ANNOUNCE rtsp://h/live/a RTSP/1.0\r\nCSeq: 1\r\nContent-Length: {length}\r\n\r\nabc")
    };
    let cases: [(&str, Vec<u8>, &str, Option<u16>); 6] = [
        ("T01", vec![b'A'; 1 << 20], "limit(request_line)", None),
        (
            "T02",
            format!("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n{headers}\r\n").into(),
            "limit(headers)",
            Some(400),
        ),
        ("T03", length("-1").into(), "malformed", Some(400)),
        ("T04", length("9223372036854775808").into(), "malformed", Some(400)),
        ("T05", length("4294967295").into(), "limit(body)", Some(413)),
        ("T10", noise(10).take(4_096).collect(), "malformed", None),
    ];
    for (id, bytes, reason, status) in cases {
        let row = Row::new(id);
        let mut peer = Rtsp::open(addr(&row));
        peer.send(&bytes);
        let answer = peer.answer().map(|answer| answer.status);
        if status.is_some() {
            assert_eq!(answer, status, "{id}");
        }
        closed(row, reason, peer);
    }
}

#[test]
fn t06_t07_t09_requests_that_are_wrong() {
    let cases = [
        ("T06", "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        ("T07", "OPTIONS * RTSP/1.0\r\n\r\n", 400),
        ("T09", "OPTIONS * RTSP/9.9\r\nCSeq: 1\r\n\r\n", 505),
    ];
    for (id, request, status) in cases {
        let row = Row::new(id);
        let mut peer = Rtsp::open(addr(&row));
        peer.send(request.as_bytes());
        assert_eq!(peer.answer().map(|answer| answer.status), Some(status), "{id}");
        closed(row, if id == "T09" { "unsupported" } else { "malformed" }, peer);
    }
}

#[test]
fn t11_a_frame_before_setup() {
    let row = Row::new("T11");
    let mut peer = Rtsp::open(addr(&row));
    peer.frame(0, &[0; 65_535]);
    closed(row, "malformed", peer);
}

#[test]
fn t12_to_t15_requests_without_their_session() {
    let row = Row::new("T12-T15");
    let mut peer = Rtsp::open(addr(&row));
    let url = peer.url("witness");
    for method in ["PLAY", "RECORD", "TEARDOWN", "PAUSE"] {
        for session in [None, Some("0123456789abcdef")] {
            peer.session = session.map(str::to_owned);
            let status = peer.request(method, &url, "", "").status;
            assert!(matches!(status, 454 | 455), "{method} with {session:?}: {status}");
        }
    }
    peer.session = Some("0123456789abcdef".into());
    assert_eq!(peer.request("SETUP", &format!("{url}/trackID=0"), TCP, "").status, 454);
    tolerated(row, vec![peer]);
}

// SDP and SETUP.

fn announce(row: &Row, name: &str, sdp: &str) -> (Rtsp, u16) {
    let mut peer = Rtsp::open(addr(row));
    let url = peer.url(name);
    let status = peer.request("ANNOUNCE", &url, SDP, sdp).status;
    (peer, status)
}

#[test]
fn t16_t17_long_descriptions() {
    let long = |bytes: usize| {
        let line = format!("a=x:{}\r\n", "y".repeat(200));
        H264_SDP.to_owned() + &line.repeat((bytes - H264_SDP.len()) / line.len())
    };
    let row = Row::new("T16");
    let (peer, status) = announce(&row, "t16", &long(120_000));
    assert_eq!(status, 200);
    tolerated(row, vec![peer]);
    let row = Row::new("T17");
    let (peer, status) = announce(&row, "t17", &long(200_000));
    assert_eq!(status, 413);
    closed(row, "limit(body)", peer);
}

#[test]
fn t18_t20_t21_descriptions_that_are_wrong() {
    let media = "m=audio 0 RTP/AVP 0\r\n".repeat(1_001);
    let refused = [
        ("T18", H264_SDP.to_owned() + &media, "limit(sdp_media)"),
        ("T20", H264_SDP.replace("96", "300"), "malformed"),
        ("T20b", H264_SDP.replace("96", "128"), "malformed"),
    ];
    for (id, sdp, reason) in refused {
        let row = Row::new(id);
        let (peer, status) = announce(&row, "t18", &sdp);
        assert_eq!(status, 400, "{id}");
        closed(row, reason, peer);
    }
    let row = Row::new("T21");
    let sdp = H264_SDP.replace("mode=1", "mode=1;sprop-parameter-sets=!!!!,AAAA");
    let (peer, status) = announce(&row, "t21", &sdp);
    assert!(matches!(status, 200 | 400), "{status}: what is no parameter set is ignored, or refused");
    tolerated(row, vec![peer]);
}

#[test]
fn t22_names_and_control_urls_that_lead_elsewhere() {
    let row = Row::new("T22");
    let files = row.bench.files();
    let mut peers = Vec::new();
    for name in ["../../etc/x", "a/../../b", "a//b", "%2e%2e/x", "a%00b"] {
        let (peer, status) = announce(&row, name, H264_SDP);
        assert!(matches!(status, 400 | 403 | 404), "{name}: {status}");
        peers.push(peer);
    }
    for control in ["rtsp://192.0.2.1/x", "../x", "http://127.0.0.1/"] {
        let name = format!("t22-{}", peers.len());
        let (mut peer, status) = announce(&row, &name, &H264_SDP.replace("trackID=0", control));
        if status == 200 {
            let url = peer.url(&name);
            assert_ne!(peer.request("SETUP", "rtsp://192.0.2.1/x", RECORD, "").status, 200, "{control}");
            assert_ne!(peer.request("SETUP", &format!("{url}/../x"), RECORD, "").status, 200, "{control}");
        }
        peers.push(peer);
    }
    assert_eq!(row.bench.files(), files);
    row.undisturbed(peers);
}

#[test]
fn t23_media_goes_only_to_who_asked_for_it() {
    let row = Row::new("T23");
    let victim = UdpSocket::bind("127.0.0.9:0").unwrap();
    let own = [UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap()];
    let port = victim.local_addr().unwrap().port();
    let mut peer = Rtsp::open(addr(&row));
    let url = peer.url("witness");
    peer.granted("DESCRIBE", &url, "Accept: application/sdp\r\n", "");
    let setup = |destination: &str, low: u16, high: u16| {
        format!("Transport: RTP/AVP;unicast;destination={destination};client_port={low}-{high}\r\n")
    };
    let track = format!("{url}/trackID=0");
    assert_eq!(peer.request("SETUP", &track, &setup("127.0.0.9", 53, 54), "").status, 461);
    let [low, high] = own.each_ref().map(|socket| socket.local_addr().unwrap().port());
    let status = peer.request("SETUP", &track, &setup("127.0.0.9", low, high), "").status;
    // Ports that are no pair may be refused; media for the victim may not be sent in either case.
    if status == 200 {
        peer.request("PLAY", &url, "", "");
    }
    victim.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(victim.recv(&mut [0; 2_000]).is_err(), "something came to port {port} of somebody else");
    row.undisturbed(peer);
}

#[test]
fn t24_ports_that_are_none() {
    let row = Row::new("T24");
    let mut peer = Rtsp::open(addr(&row));
    let url = peer.url("witness");
    peer.granted("DESCRIBE", &url, "Accept: application/sdp\r\n", "");
    for ports in ["0-0", "70000-70001", "-1--2", "5-4", "80-81", "", "x-y"] {
        let transport = format!("Transport: RTP/AVP;unicast;client_port={ports}\r\n");
        let status = peer.request("SETUP", &format!("{url}/trackID=0"), &transport, "").status;
        assert!(matches!(status, 400 | 461), "{ports:?}: {status}");
    }
    peer.granted("SETUP", &format!("{url}/trackID=0"), TCP, "");
    tolerated(row, vec![peer]);
}

#[test]
fn t25_a_track_set_up_twice() {
    let row = Row::new("T25");
    let mut peer = Rtsp::open(addr(&row));
    let url = peer.url("witness");
    peer.granted("DESCRIBE", &url, "Accept: application/sdp\r\n", "");
    peer.granted("SETUP", &format!("{url}/trackID=0"), TCP, "");
    let again = peer.request("SETUP", &format!("{url}/trackID=0"), TCP, "").status;
    assert!(matches!(again, 400 | 455 | 459 | 461), "{again}");
    peer.granted("PLAY", &url, "", "");
    assert!(peer.wait_frames(10, PATIENCE), "the session is intact");
    tolerated(row, vec![peer]);
}

#[test]
fn t26_a_second_publisher() {
    let row = Row::new("T26");
    let (mut camera, mut viewer) = watched(&row, "t26");
    let mut second = Camera::new(addr(&row));
    let url = second.rtsp.url("t26");
    let mut status = second.rtsp.request("ANNOUNCE", &url, SDP, H264_SDP).status;
    if status == 200 {
        status = second.rtsp.request("SETUP", &format!("{url}/trackID=0"), RECORD, "").status;
    }
    if status == 200 {
        camera.pictures(2);
        status = second.rtsp.request("RECORD", &url, "", "").status;
    }
    assert!(matches!(status, 409 | 455 | 453 | 403), "{status}");
    camera.pictures(30);
    viewer.sees(30);
    assert_eq!((viewer.1.lost, viewer.1.repeated), (0, 0), "whoever was first loses nothing");
    row.undisturbed((camera.rtsp, second.rtsp, viewer.0));
}

// RTP and RTCP between the messages.

/// Each of these is dropped; the camera goes on, and its pictures come.
#[test]
fn t28_t29_t31_t33_packets_that_are_none() {
    let rtp_of =
        |first: u8, rest: &[u8]| [&[first, 96], &rtp(96, 0, 0, 0x1234_5678, b"")[2..], rest].concat();
    let short: Vec<_> = (0..12).map(|len| (0, rtp(96, 1, 1, 1, b"")[..len].to_vec())).collect();
    let lies = vec![
        (0, rtp_of(0x8F, &[0; 8])),
        (0, rtp_of(0x90, &[0xBE, 0xDE, 0xFF, 0xFF, 0])),
        (0, rtp_of(0xA0, &[1, 2, 3, 255])),
        (0, rtp_of(0xA0, &[1, 2, 3, 0])),
        (0, rtp_of(0x40, &[0x65; 8])),
    ];
    let units: Vec<_> = [
        &[0x7C][..],
        &[0x7C, 0xC5],
        &[0x7C, 0x05, 1, 2],
        &[0x18],
        &[0x18, 0xFF, 0xFF],
        &[0x18, 0, 0],
        &[0x18, 0, 5, 0x61, 0x62],
        &[0x1D],
        &[0x1E],
        &[0],
    ]
    .into_iter()
    .map(|payload| (0, payload.to_vec()))
    .collect();
    let reports: Vec<_> = [
        &[][..],
        &[0x81, 201, 0xFF, 0xFF],
        &[0x9F, 201, 0, 1, 0, 0, 0, 1],
        &[0x81, 202, 0, 2, 0, 0, 0, 1, 1, 200, b'a', b'b'],
        &[0xA0, 200, 0, 0, 0, 0, 0, 255],
        &[0x80, 207, 0, 3, 0, 0, 0, 1, 5, 0, 0xFF, 0xFF, 0, 0, 0, 0],
        &[0x81, 203, 0, 1, 0xDE, 0xAD, 0xBE, 0xEF],
    ]
    .into_iter()
    .map(|report| (1, report.to_vec()))
    .collect();
    for (id, packets, as_payload) in
        [("T28", short, false), ("T29", lies, false), ("T31", units, true), ("T33", reports, false)]
    {
        let row = Row::new(id);
        let (mut camera, mut viewer) = watched(&row, id);
        for (channel, packet) in packets {
            let packet = if as_payload { camera.packet(&packet, true) } else { packet };
            camera.rtsp.frame(channel, &packet);
        }
        viewer.sees_new(&mut camera, 30);
        assert_eq!(viewer.1.repeated, 0, "{id}");
        goes_on(row, camera, viewer);
    }
}

#[test]
fn t28_t34_packets_that_never_are_any() {
    let cases = [("T28", 0, vec![0; 3]), ("T34", 0x63, rtp(96, 1, 1, 1, b"x"))];
    for (id, channel, packet) in cases {
        let row = Row::new(id);
        let (mut camera, viewer) = watched(&row, &format!("{id}-never"));
        for _ in 0..70 {
            camera.rtsp.frame(channel, &packet);
        }
        let mut peer = camera.rtsp;
        assert!(peer.wait_end(AT_ONCE), "{id}: not closed within {AT_ONCE:?}:\n{}", row.log());
        let name = peer.name();
        drop((peer, viewer));
        row.finish(&[("rtsp", "malformed", 1), ("http", "peer_closed", 1)], &[(name, "malformed")]);
    }
}

#[test]
fn t30_a_picture_without_an_end() {
    let row = Row::new("T30").memory(24 * MIB).kept(2 * MIB).cpu(Duration::from_secs(3));
    let (mut camera, mut viewer) = watched(&row, "t30");
    let begin = camera.packet(&[&[0x7C, 0x85][..], &[0; 1_400]].concat(), false);
    camera.rtsp.frame(0, &begin);
    for _ in 0..46_000 {
        let middle = camera.packet(&[&[0x7C, 0x05][..], &[0; 1_400]].concat(), false);
        camera.rtsp.frame(0, &middle);
    }
    viewer.sees_new(&mut camera, 20);
    goes_on(row, camera, viewer);
}

#[test]
fn t32_t40_sequence_numbers_and_sources_that_jump() {
    let row = Row::new("T32, T40");
    let (mut camera, mut viewer) = watched(&row, "t32");
    for jump in [65_535, 0, 30_000, 29_999, 1] {
        camera.seq = jump;
        viewer.sees_new(&mut camera, 10);
    }
    // Somebody else's packets in between, and then a camera that has begun anew.
    for _ in 0..40 {
        let foreign = rtp(96 | 0x80, 7, 7, 0x0BAD_0BAD, &[0x65, 1, 2, 3]);
        camera.rtsp.frame(0, &foreign);
        camera.pictures(1);
    }
    viewer.sees_new(&mut camera, 10);
    (camera.ssrc, camera.seq) = (0x8765_4321, 5);
    viewer.sees_new(&mut camera, 10);
    assert_eq!(viewer.1.repeated, 0);
    goes_on(row, camera, viewer);
}

#[test]
fn t37_packets_from_somebody_else() {
    let row = Row::new("T37");
    let mut camera = Camera::new(addr(&row));
    let url = camera.rtsp.url("t37");
    let (rtp_socket, port) = std::iter::repeat_with(|| UdpSocket::bind("127.0.0.1:0").unwrap())
        .map(|socket| (socket.local_addr().unwrap().port(), socket))
        .find_map(|(port, socket)| (port % 2 == 0).then_some((socket, port)))
        .unwrap();
    camera.rtsp.granted("ANNOUNCE", &url, SDP, H264_SDP);
    let transport = format!("Transport: RTP/AVP;unicast;client_port={port}-{};mode=record\r\n", port + 1);
    let answer = camera.rtsp.granted("SETUP", &format!("{url}/trackID=0"), &transport, "");
    let server_port = answer.head.split("server_port=").nth(1).expect("server_port");
    let server_port: u16 = server_port.split(['-', ';', '\r']).next().unwrap().parse().unwrap();
    camera.rtsp.granted("RECORD", &url, "", "");
    let to = SocketAddr::new(addr(&row).ip(), server_port);
    let send = |camera: &mut Camera, socket: &UdpSocket| {
        camera.picture().iter().filter(|packet| packet.len() < 60_000).for_each(|packet| {
            socket.send_to(packet, to).unwrap();
        });
    };
    for _ in 0..30 {
        send(&mut camera, &rtp_socket);
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut viewer = Viewer::of(&row, "t37");
    viewer.sees(5);
    let elsewhere = [UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.2:0").unwrap()];
    for _ in 0..30 {
        for socket in &elsewhere {
            let forged = rtp(96 | 0x80, camera.seq, camera.time, camera.ssrc, &[0x65; 40]);
            socket.send_to(&forged, to).unwrap();
        }
        send(&mut camera, &rtp_socket);
        std::thread::sleep(Duration::from_millis(2));
    }
    viewer.sees(20);
    assert_eq!((viewer.1.lost, viewer.1.repeated), (0, 0), "what others send is nothing");
    goes_on(row, camera, viewer);
}

// Who may, and what else a request says.

#[test]
fn t36_both_halves_of_a_tunnel_on_one_connection() {
    let row = Row::new("T36");
    let mut peer = Rtsp::open(addr(&row));
    let half = |method| {
        format!("{method} /live/witness HTTP/1.1\r\nx-sessioncookie: t36\r\nContent-Length: 32767\r\n\r\n")
    };
    peer.send(half("GET").as_bytes());
    assert_eq!(peer.answer().map(|answer| answer.status), Some(200));
    peer.send(half("POST").as_bytes());
    assert!(peer.wait_end(AT_ONCE), "never two roles");
    row.undisturbed(peer);
}

#[test]
fn t39_bad_logins() {
    let config = "[[auth.users]]\nname = 'cam'\npassword = 'correct horse'\nactions = ['publish', 'play']\n";
    let bench = Arc::new(Bench::start_alone(&["--rtsp", "127.0.0.1:0"], config));
    let mut peer = Rtsp::open(bench.addr("rtsp"));
    let url = peer.url("t39");
    let challenge = peer.request("DESCRIBE", &url, "", "");
    assert_eq!(challenge.status, 401);
    assert!(challenge.head.contains("Digest") && challenge.head.contains("nonce="), "{}", challenge.head);
    let long = "u".repeat(65_536);
    let forged = |nonce: &str, user: &str| {
        format!(
            "Authorization: Digest username=\"{user}\", realm=\"arcly\", nonce=\"{nonce}\", uri=\"{url}\", \
             response=\"00000000000000000000000000000000\"\r\n"
        )
    };
    for _ in 0..3 {
        let answer = peer.request("DESCRIBE", &url, &forged("0123456789", "cam"), "");
        assert_eq!(answer.status, 401);
        assert!(answer.head.contains("nonce="), "a fresh one: {}", answer.head);
    }
    peer.ask("DESCRIBE", &url, &forged("x", &long), "");
    let answer = peer.answer().map(|answer| answer.status);
    assert!(matches!(answer, None | Some(400 | 431)), "{answer:?}");
    assert!(peer.wait_end(AT_ONCE), "a header of 64 KiB");
    assert_eq!(
        Rtsp::open(bench.addr("rtsp")).request("OPTIONS", "*", "", "").status,
        200,
        "others are served"
    );
    assert!(!bench.log().contains("panicked"));
    assert!(!bench.log().contains("correct horse"));
}

#[test]
fn t44_values_that_are_none() {
    let row = Row::new("T44");
    let mut peer = Rtsp::open(addr(&row));
    let url = peer.url("witness");
    peer.granted("DESCRIBE", &url, "Accept: application/sdp\r\n", "");
    peer.granted("SETUP", &format!("{url}/trackID=0"), TCP, "");
    for field in
        ["Range: npt=-9e99\r\n", "Range: npt=x-y\r\n", "Scale: 0\r\n", "Scale: x\r\n", "Speed: -1\r\n"]
    {
        let status = peer.request("PLAY", &url, field, "").status;
        assert!(matches!(status, 400 | 456 | 457), "{field:?}: {status}");
    }
    tolerated(row, vec![peer]);
    let row = Row::new("T44 session");
    let mut peer = Rtsp::open(addr(&row));
    peer.session = Some("s".repeat(65_536));
    peer.ask("PLAY", &url, "", "");
    closed(row, "limit(header_line)", peer);
}

/// Names that are not there are told so, by name.
#[test]
fn what_is_not_there_is_not_found() {
    let row = Row::new("404");
    let mut peer = Rtsp::open(addr(&row));
    let url = peer.url("none");
    let answer = peer.request("DESCRIBE", &url, "Accept: application/sdp\r\n", "");
    assert_eq!(answer.status, 404);
    assert!(answer.head.contains("live/none") || answer.body.contains("live/none"), "{}", answer.head);
    assert_eq!(get(row.bench.http, "/live/none.flv").status, 404);
    row.undisturbed(peer);
}
