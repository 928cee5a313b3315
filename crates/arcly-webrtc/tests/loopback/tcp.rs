//! Peers over TCP: those whose network lets no UDP through, and those who only come to be in the way.

use arcly_webrtc::wire::{MAX_FRAME_BYTES, Protocol, frame};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// Until the peer has closed the connection; what has come before that.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A connection that is closed before everything in it was looked at is reset.
    let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut said)).await.expect("it is closed");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_client_publishes_over_tcp_another_one_plays_over_tcp() {
    // One place for strangers: who has shown the password is none any more.
    let mut config = ServerConfig::default();
    config.max_pending_per_address = 1;
    let house = House::new(config);
    let kinds = [MediaKind::Video];
    let tcp = || Wire::tcp(house.listener);
    let (mut publisher, answer) = Client::connect_by(&house, Role::Publisher, &kinds, tcp().await).await;
    publisher.connected().await;
    let (video, key) = (payload_type(&answer, "VP8"), StreamKey::new("live", "cam"));
    let mut viewer: Option<Client> = None;
    let (mut n, end) = (0_u32, Instant::now() + LIMIT);
    while viewer.as_ref().is_none_or(|viewer| viewer.payloads.len() < 20) {
        assert!(Instant::now() < end, "the viewer gets what is published");
        publisher.write(0, video, (n.into(), n * 3_000), &vp8(n.is_multiple_of(30), 7));
        n += 1;
        publisher.step(Duration::from_millis(5)).await;
        let is_there = house.engine.stream(&key).is_some_and(|stream| stream.log().has_join_point());
        match &mut viewer {
            Some(viewer) => viewer.step(Duration::from_millis(5)).await,
            None if is_there => {
                viewer = Some(Client::connect_by(&house, Role::Viewer, &kinds, tcp().await).await.0);
            }
            None => {}
        }
    }
    assert_eq!((house.server.counters().unsent, house.server.counters().foreign), (0, 0));
    // The end is said before the connection is closed.
    let Client { wire: Wire::Tcp(mut stream, _), .. } = viewer.unwrap() else { panic!("it is over TCP") };
    let server = Arc::clone(&house.server);
    house.end().await;
    assert!(!until_closed(&mut stream).await.is_empty());
    assert!(server.stats().packets_sent >= 20, "{:?}", server.stats());
}

/// What is known of sessions says what their media go in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_says_what_its_media_go_in() {
    let house = House::new(ServerConfig::default());
    for (wire, protocol) in
        [(Wire::udp().await, Protocol::Udp), (Wire::tcp(house.listener).await, Protocol::Tcp)]
    {
        let (mut publisher, answer) =
            Client::connect_by(&house, Role::Publisher, &[MediaKind::Video], wire).await;
        publisher.connected().await;
        let (video, end) = (payload_type(&answer, "VP8"), Instant::now() + LIMIT);
        let shown = || house.server.sessions().iter().any(|session| session.stats.protocol == Some(protocol));
        for n in 0_u32.. {
            assert!(Instant::now() < end, "it is shown");
            publisher.write(0, video, (n.into(), n * 3_000), &vp8(n.is_multiple_of(30), 7));
            publisher.step(Duration::from_millis(5)).await;
            if shown() {
                break;
            }
        }
        let delete = Request::delete(text(&answer, header::LOCATION)).body(Bytes::new()).unwrap();
        assert_eq!(house.ask(Role::Publisher, delete).await.status(), StatusCode::OK);
        while house.server.counters().sessions > 0 {
            assert!(Instant::now() < end, "it ends");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    house.end().await;
}

/// A Binding request whose user name and FINGERPRINT are right in form: its session is one that nobody has.
fn check_of_nobody() -> Vec<u8> {
    let mut rtc = Rtc::builder().build(Instant::now());
    let local = SocketAddr::new(LOCALHOST, 40_000);
    rtc.add_local_candidate(Candidate::host(local, "udp").unwrap());
    rtc.add_remote_candidate(Candidate::host(SocketAddr::new(LOCALHOST, 40_001), "udp").unwrap());
    let mut api = rtc.direct_api();
    api.set_ice_controlling(true);
    api.set_remote_ice_credentials(str0m::IceCreds {
        ufrag: "nobody".into(),
        pass: "0123456789012345678901".into(),
    });
    for n in 0..100 {
        rtc.handle_input(Input::Timeout(Instant::now() + Duration::from_millis(50 * n))).unwrap();
        loop {
            match rtc.poll_output().unwrap() {
                Output::Transmit(transmit) => return transmit.contents.to_vec(),
                Output::Timeout(_) => break,
                Output::Event(_) => {}
            }
        }
    }
    panic!("an agent checks");
}

/// In virtual time: those that nothing follows from wait until their time is up, and so does this test.
#[tokio::test(start_paused = true)]
async fn w14_w16_w19_connections_of_strangers_are_closed_and_told_nothing() {
    let house = House::new(ServerConfig::default());
    let framed = |datagram: &[u8]| {
        let mut bytes = BytesMut::new();
        assert!(frame(datagram, &mut bytes));
        bytes.to_vec()
    };
    let check = check_of_nobody();
    let hello = [&[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 50][..], &[1; 50]].concat();
    let cases: [(&str, Vec<u8>); 8] = [
        ("nothing at all", vec![]),
        ("a check of no session", framed(&check)),
        ("half of one", framed(&check)[..20].to_vec()),
        ("what is no check", framed(&[0; 40])),
        ("DTLS before a check", framed(&hello).repeat(100)),
        ("RTP before a check", framed(&[0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]).repeat(100)),
        ("a length beyond all bounds", u16::try_from(MAX_FRAME_BYTES + 1).unwrap().to_be_bytes().to_vec()),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in cases {
        let mut stream = TcpStream::connect(house.listener).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(until_closed(&mut stream).await, b"", "{what}");
    }
    // Of what belongs to nobody one datagram is looked at.
    let counters = house.server.counters();
    assert_eq!((counters.sessions, counters.foreign), (0, 4));
    house.end().await;
}

#[tokio::test]
async fn there_is_room_for_so_many_strangers_and_the_end_does_not_wait_for_them() {
    let mut config = ServerConfig::default();
    config.max_pending_per_address = 2;
    config.timeouts.ice = 2 * LIMIT;
    let house = House::new(config);
    let connect = || TcpStream::connect(house.listener);
    let (mut first, mut second) = (connect().await.unwrap(), connect().await.unwrap());
    let mut third = connect().await.unwrap();
    assert_eq!(until_closed(&mut third).await, b"");
    assert_eq!(house.server.counters().refused, 1);
    let is_open = |stream: &TcpStream| {
        stream.try_read(&mut [0; 1]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    assert!(is_open(&first) && is_open(&second));
    house.end().await;
    for stream in [&mut first, &mut second] {
        assert_eq!(until_closed(stream).await, b"");
    }
}
