//! Who counts as the peer, for how long, and how it ends: checks, certificates, restarts and good-byes.

use str0m::ice::{StunMessage, TransId};

use super::*;

#[test]
fn w01_an_offer_that_nobody_comes_for_ends_in_ten_seconds() {
    let now = Instant::now();
    let (_, _, offer, _) = offer(&BOTH, Direction::SendOnly, now);
    let (mut transport, _) = answer(Role::Publisher, &offer, now);
    let wake = |transport: &mut Transport| loop {
        if let Output::Wait(at) = transport.poll_output() {
            return at;
        }
    };
    let mut at = now;
    for _ in 0..100 {
        if transport.closed().is_some() {
            break;
        }
        at = wake(&mut transport).max(at + Duration::from_millis(1));
        transport.handle_timeout(at);
    }
    assert_eq!(transport.closed(), Some(CloseReason::Timeout(Phase::Handshake)));
    assert_eq!((at - now).as_secs(), 10);
}

#[test]
fn a_viewer_without_consent_ends_in_thirty_seconds() {
    let mut pair = viewer(&[MediaKind::Video]);
    pair.connect();
    pair.is_cut = true;
    pair.run(Duration::from_secs(28));
    assert_eq!(pair.session.closed(), None);
    pair.run(Duration::from_secs(6));
    assert_eq!(pair.session.closed(), Some(CloseReason::Timeout(Phase::Idle)));
}

#[test]
fn w16_w17_w18_w19_only_a_check_with_the_password_makes_an_address_count() {
    let mut pair = viewer(&[MediaKind::Video]);
    let (_, check) = checks_of(&mut pair.client, pair.now, 1).remove(0);
    let (now, transport) = (pair.now + Duration::from_millis(1), pair.session.transport_mut());
    // Not a check at all, a check that was changed on the way, and one for another session.
    let mut changed = check.clone();
    let last = changed.len() - 20;
    changed[last] ^= 1;
    let (_, _, other, _) = offer(&BOTH, Direction::RecvOnly, now);
    let (mut stranger, _) = answer(Role::Viewer, &other, now);
    let hello = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    let rtp = [0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3];
    for datagram in [&changed[..], &check[..19], &hello, &rtp, &[]] {
        transport.handle_datagram(now, udp(CLIENT), datagram);
        assert_eq!((transmitted(transport), transport.sources().len()), (0, 0), "{datagram:?}");
    }
    assert_eq!(transport.dropped(), 5);
    stranger.handle_datagram(now, udp(CLIENT), &check);
    assert_eq!((transmitted(&mut stranger), stranger.sources().len()), (0, 0));
    // One that is right counts where it came from first, however often it comes from there, and from nowhere else.
    let from = |port| TransportAddress::udp(SocketAddr::new([203, 0, 113, 9].into(), port));
    for (port, answered) in [(1, 1), (1, 1), (2, 0), (3, 0), (1, 1)] {
        transport.handle_datagram(now, from(port), &check);
        assert_eq!((transmitted(transport), transport.sources().len()), (answered, 1), "{port}");
    }
}

#[test]
fn a_peer_may_have_so_many_addresses() {
    let mut pair = viewer(&[MediaKind::Video]);
    for port in 1..=u16::try_from(MAX_SOURCES).unwrap() {
        let candidate = Candidate::host(SocketAddr::new([198, 51, 100, 8].into(), port), "udp").unwrap();
        pair.client.add_local_candidate(candidate).unwrap();
    }
    let checks = checks_of(&mut pair.client, pair.now, MAX_SOURCES + 1);
    let (now, transport) = (pair.now + Duration::from_millis(1), pair.session.transport_mut());
    for (n, (source, check)) in (1..).zip(&checks) {
        transport.handle_datagram(now, TransportAddress::udp(*source), check);
        assert_eq!(transmitted(transport), usize::from(n <= MAX_SOURCES), "{n}");
    }
    assert_eq!((transport.sources().len(), transport.dropped()), (MAX_SOURCES, 1));
}

#[test]
fn w22_a_certificate_that_is_not_the_offered_one_gets_no_media() {
    let now = Instant::now();
    let (mut client, mids, offer, pending) = offer(&[MediaKind::Video], Direction::RecvOnly, now);
    // Another digest of the same form.
    let at_digest = offer.find("sha-256 ").unwrap() + 8;
    let mut forged = offer.clone();
    let first = if &offer[at_digest..=at_digest] == "0" { "1" } else { "0" };
    forged.replace_range(at_digest..=at_digest, first);
    let (transport, text) = answer(Role::Viewer, &forged, now);
    client.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&text).unwrap()).unwrap();
    let mut pair = viewer(&[MediaKind::Video]);
    (pair.client, pair.mids, pair.session) = (client, mids, WhepSession::new(transport, 7));
    pair.now = now;
    pair.wakes = [now; 2];
    pair.run(Duration::from_secs(3));
    assert!(!pair.session.transport().is_connected());
    assert!(pair.session.closed().is_some());
    let (video, frames) = h264_track();
    let tracks = TrackSet::new([video]);
    pair.session.choose(&tracks).unwrap();
    for frame in packets(&tracks, &frames) {
        pair.session.send(pair.now, &frame);
    }
    pair.run(Duration::from_secs(1));
    assert_eq!((pair.packets.len(), pair.sent), (0, 0));
}

#[test]
fn good_byes_are_heard_on_both_sides() {
    let mut pair = publisher(&BOTH);
    pair.connect();
    pair.client.close().unwrap();
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.session.closed(), Some(CloseReason::PeerClosed));

    let mut pair = publisher(&BOTH);
    pair.connect();
    pair.session.close(CloseReason::Shutdown);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.session.closed(), Some(CloseReason::Shutdown));
    assert!(!pair.client.is_alive() || !pair.client.is_connected());
}

/// An ICE restart by the client; the credentials of the session from then on.
fn restart(pair: &mut Pair<WhepSession>) -> IceCreds {
    let before = pair.session.transport().fragment().to_owned();
    let mut api = pair.client.sdp_api();
    api.ice_restart(true);
    let (offer, pending) = api.apply().unwrap();
    let offer = Offer::decode(Role::Viewer, offer.to_sdp_string().as_bytes()).unwrap();
    let now = pair.now;
    let answer = pair.session.transport_mut().restart(now, offer.credentials().clone()).unwrap();
    assert_ne!(pair.session.transport().fragment(), before);
    pair.client.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&answer).unwrap()).unwrap();
    credentials(&answer)
}

/// A check of that priority, which asks for media or does not.
fn check(client: &mut Rtc, session: &IceCreds, priority: u32, nominates: bool) -> Vec<u8> {
    let own = client.direct_api().local_ice_credentials();
    let user = format!("{}:{}", session.ufrag, own.ufrag);
    let request = StunMessage::binding_request(&user, TransId::new(), true, 1, priority, nominates);
    let hmac = str0m::crypto::from_feature_flags().sha1_hmac_provider;
    let mut bytes = vec![0; 256];
    let len =
        request.to_bytes(Some(session.pass.as_bytes()), &mut bytes, |key, parts| hmac.sha1_hmac(key, parts));
    bytes.truncate(len.unwrap());
    bytes
}

/// Who knows the password may have media sent elsewhere, and may say so in the name of others: once a second.
#[test]
fn w17_media_go_elsewhere_once_a_second_at_the_most() {
    let mut pair = viewer(&[MediaKind::Video]);
    pair.connect();
    let session = restart(&mut pair);
    let (video, frames) = h264_track();
    let tracks = TrackSet::new([video]);
    pair.session.choose(&tracks).unwrap();
    pair.run(Duration::from_secs(2));
    let mut frames = packets(&tracks, &frames).into_iter();
    let place = |n: u16| TransportAddress::udp(SocketAddr::new([203, 0, 113, 9].into(), n));
    let begin = pair.now;
    // When which address asks, and where media go then.
    for (priority, (ms, from, to)) in (2_000_000_000..).zip([
        (0, 1, 1),
        (300, 2, 1),
        (990, 2, 1),
        (1_010, 2, 2),
        (1_500, 3, 2),
        (2_050, 3, 3),
    ]) {
        let now = begin + Duration::from_millis(ms);
        let check = check(&mut pair.client, &session, priority, true);
        pair.session.handle_datagram(now, place(from), &check);
        pair.session.send(now, &frames.next().unwrap());
        let (mut went, mut answered, mut at) = (Vec::new(), 0, now);
        while at < now + Duration::from_millis(20) {
            pair.session.handle_timeout(at);
            loop {
                match pair.session.poll_output() {
                    Output::Transmit { to, datagram } => match crate::wire::Kind::of(&datagram) {
                        Some(crate::wire::Kind::Stun) => answered += 1,
                        _ => went.push(to),
                    },
                    Output::Event(_) => {}
                    Output::Wait(_) => break,
                }
            }
            at += Duration::from_millis(1);
        }
        assert_eq!(answered, usize::from(from == to), "{ms} ms");
        assert!(!went.is_empty() && went.iter().all(|one| *one == place(to)), "{ms} ms: {went:?}");
    }
}

/// Ports of before are nobody's any more, so that a peer may change its network as often as it has to.
#[test]
fn an_ice_restart_gives_addresses_back() {
    let mut pair = viewer(&[MediaKind::Video]);
    pair.connect();
    for n in 0..10 {
        let session = restart(&mut pair);
        for port in 0..8 {
            let from = TransportAddress::udp(SocketAddr::new([203, 0, 113, 9].into(), 100 * n + port));
            let check = check(&mut pair.client, &session, 1, false);
            let (now, transport) = (pair.now, pair.session.transport_mut());
            transport.handle_datagram(now, from, &check);
            assert!(transmitted(transport) > 0, "it is not answered");
            assert!(transport.sources().contains(&from), "restart {n}, port {port}");
        }
        assert!(pair.session.transport().sources().len() <= 9);
        pair.now += Duration::from_secs(2);
    }
}

#[test]
fn an_ice_restart_goes_on_with_what_was_there() {
    let mut pair = viewer(&[MediaKind::Video]);
    pair.connect();
    restart(&mut pair);
    let (video, frames) = h264_track();
    let tracks = TrackSet::new([video]);
    pair.session.choose(&tracks).unwrap();
    pair.run(Duration::from_secs(2));
    let frames = packets(&tracks, &frames);
    for frame in &frames {
        pair.session.send(pair.now, frame);
        pair.run(Duration::from_millis(20));
    }
    pair.run(Duration::from_secs(40));
    assert_eq!(pair.session.closed(), None, "its checks count with the new password");
    assert_eq!(pair.packets.len(), frames.iter().map(|frame| frame.packets.len()).sum::<usize>());
}
