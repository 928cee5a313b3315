//! Peers whose network lets no UDP through.

use super::*;

fn viewer_over_tcp() -> Pair<WhepSession> {
    let session = |transport, _| WhepSession::new(transport, 7);
    Pair::over(Protocol::Tcp, Role::Viewer, &[MediaKind::Video], session)
}

#[test]
fn rfc6544_an_answer_names_where_connections_are_taken_behind_where_datagrams_are() {
    let (_, _, offer, _) = offer(&[MediaKind::Video], Direction::RecvOnly, Instant::now());
    let (_, text) = answer(Role::Viewer, &offer, Instant::now());
    let candidates: Vec<_> = text.lines().filter(|line| line.starts_with("a=candidate:")).collect();
    let [udp, tcp] = *candidates.as_slice() else { panic!("{text}") };
    assert!(udp.contains(" udp ") && udp.contains(" 192.0.2.1 8189 typ host"), "{udp}");
    assert!(tcp.contains(" tcp ") && tcp.contains(" 192.0.2.1 8189 typ host tcptype passive"), "{tcp}");
    let priority = |line: &str| line.split(' ').nth(3).unwrap().parse::<u32>().unwrap();
    assert!(priority(udp) > priority(tcp));
}

#[test]
fn a_viewer_over_tcp_gets_every_packet() {
    let (video, frames) = h264_track();
    let tracks = TrackSet::new([video]);
    let mut pair = viewer_over_tcp();
    pair.session.choose(&tracks).unwrap();
    pair.connect();
    let frames = packets(&tracks, &frames);
    for frame in &frames {
        pair.session.send(pair.now, frame);
        pair.run(Duration::from_millis(20));
    }
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.packets.len(), frames.iter().map(|frame| frame.packets.len()).sum::<usize>());
    assert_eq!(pair.session.stats().protocol, Some(Protocol::Tcp));
    assert_eq!(pair.session.transport().sources(), [TransportAddress::tcp(at(CLIENT))]);
}

#[test]
fn a_publisher_over_tcp_becomes_frames() {
    let mut pair = Pair::over(Protocol::Tcp, Role::Publisher, &[MediaKind::Video], WhipSession::new);
    pair.connect();
    let payload_type = pair.payload_type(0, CodecId::Vp8);
    for n in 0..30_u32 {
        pair.write(0, payload_type, (n.into(), n * 3_000), &vp8(n == 0, 7));
        pair.run(Duration::from_micros(33_333));
    }
    pair.run(Duration::from_secs(1));
    let frames = pair.events.iter();
    let frames = frames.filter(|event| matches!(event, Published::Media(MediaEvent::Frame(_)))).count();
    assert_eq!((frames, pair.session.stats().protocol), (30, Some(Protocol::Tcp)));
}

#[test]
fn a_port_of_udp_is_not_that_of_tcp_and_one_that_is_forgotten_has_to_show_the_password_again() {
    let mut pair = viewer_over_tcp();
    pair.connect();
    let (now, transport) = (pair.now, pair.session.transport_mut());
    let dropped = transport.dropped();
    let rtcp = [0x80, 201, 0, 1, 0, 0, 0, 1];
    transport.handle_datagram(now, udp(CLIENT), &rtcp);
    assert_eq!(transport.dropped(), dropped + 1, "nobody has shown anything from there");
    transport.forget(TransportAddress::tcp(at(CLIENT)));
    transport.handle_datagram(now, TransportAddress::tcp(at(CLIENT)), &rtcp);
    assert_eq!((transport.dropped(), transport.sources().len()), (dropped + 2, 0));
    // Its next check does.
    pair.run(Duration::from_secs(10));
    assert_eq!(pair.session.transport().sources(), [TransportAddress::tcp(at(CLIENT))]);
    assert_eq!(pair.session.closed(), None);
}

#[test]
fn w16_w17_a_check_that_was_sent_over_udp_is_not_answered_over_tcp() {
    let mut pair = viewer(&[MediaKind::Video]);
    let (source, check) = checks_of(&mut pair.client, pair.now, 1).remove(0);
    let (now, transport) = (pair.now + Duration::from_millis(1), pair.session.transport_mut());
    for (from, answered) in [(TransportAddress::udp(source), 1), (TransportAddress::tcp(source), 0)] {
        transport.handle_datagram(now, from, &check);
        assert_eq!((transmitted(transport), transport.sources().len()), (answered, 1), "{from}");
    }
}

/// A check of a session by an agent with those credentials, its own and the session's, that has sent none before.
fn check(own: &IceCreds, session: &IceCreds) -> Vec<u8> {
    let now = Instant::now();
    let mut agent = Rtc::builder().build(now);
    agent.add_local_candidate(Candidate::host(at(CLIENT), "udp").unwrap()).unwrap();
    agent.add_remote_candidate(Candidate::host(at(SERVER), "udp").unwrap());
    let mut api = agent.direct_api();
    api.set_ice_controlling(true);
    api.set_local_ice_credentials(own.clone());
    api.set_remote_ice_credentials(session.clone());
    checks_of(&mut agent, now, 1).remove(0).1
}

/// The agent remembers each address until a restart, whether the connection from there is closed or not.
#[test]
fn connections_that_are_closed_count_until_there_is_an_ice_restart() {
    let now = Instant::now();
    let (mut client, _, text, _) = offer(&[MediaKind::Video], Direction::RecvOnly, now);
    let mut own = client.direct_api().local_ice_credentials();
    let (mut transport, answer) = answer(Role::Viewer, &text, now);
    let mut session = credentials(&answer);
    // One after the other: each shows the password, and is closed. How many of them were let in.
    let connect =
        |transport: &mut Transport, ports: core::ops::Range<u16>, own: &IceCreds, session: &IceCreds| {
            ports.fold(0, |known, port| {
                let source = TransportAddress::tcp(SocketAddr::new([203, 0, 113, 9].into(), port));
                transport.handle_datagram(now, source, &check(own, session));
                let answered = transmitted(transport);
                assert_eq!(answered, transport.sources().len(), "{port}");
                transport.forget(source);
                transport.forget(source);
                known + answered
            })
        };
    assert_eq!(connect(&mut transport, 1..301, &own, &session), MAX_FORGOTTEN);
    let restart = |transport: &mut Transport, own: &IceCreds| {
        let anew = crate::wire::Credentials::new(&own.ufrag, &own.pass).unwrap();
        credentials(&transport.restart(now, anew).unwrap())
    };
    // With the credentials of before it is none.
    session = restart(&mut transport, &own);
    assert_eq!(connect(&mut transport, 301..303, &own, &session), 0);
    own = IceCreds { ufrag: "anew".into(), pass: "0123456789012345678901".into() };
    session = restart(&mut transport, &own);
    assert_eq!(connect(&mut transport, 303..306, &own, &session), 3);
    assert_eq!(transport.closed(), None);
}
