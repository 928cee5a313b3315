//! Cookies, conclusions, decisions.

use super::*;
use crate::wire::{Extensions, Handshake, HandshakeKind, HsFlags, SrtVersion};

/// A conclusion with the right cookie, changed, and what the listener makes of it.
fn conclude(change: impl FnOnce(&mut Handshake)) -> (usize, Verdict) {
    let now = Instant::now();
    let (mut listener, mut caller) = (listener(now), calling(now, Config::default()));
    let (_, conclusion, _) = request(now, &mut listener, &mut caller);
    let Control::Handshake(mut packet) = ControlPacket::decode(&conclusion).unwrap().control else {
        panic!("no handshake")
    };
    change(&mut packet);
    let mut fresh = super::listener(now);
    let datagram = control(SocketId::HANDSHAKE, Control::Handshake(packet));
    let verdict = fresh.handle_datagram(now, address(CALLER), &datagram);
    (fresh.kept(), verdict)
}

/// A handshake as bytes, for what cannot be said with types.
fn conclude_bytes(change: impl FnOnce(&mut Vec<u8>)) -> (usize, Verdict) {
    let now = Instant::now();
    let (mut first, mut caller) = (listener(now), calling(now, Config::default()));
    let (_, conclusion, _) = request(now, &mut first, &mut caller);
    let mut bytes = conclusion.to_vec();
    change(&mut bytes);
    let mut fresh = listener(now);
    let verdict = fresh.handle_datagram(now, address(CALLER), &Bytes::from(bytes));
    (fresh.kept(), verdict)
}

fn is_ignored(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Ignored(_))
}

fn is_rejected(verdict: &Verdict, reason: RejectReason) -> bool {
    matches!(verdict, Verdict::Refused { answer, .. } if rejected(answer) == Some(reason))
}

#[test]
fn s01_s03_what_is_no_handshake_is_not_answered() {
    let now = Instant::now();
    let (mut listener, mut caller) = (listener(now), calling(now, Config::default()));
    let induction = caller.sent.pop_front().unwrap();
    for length in 0..induction.len() {
        let verdict = listener.handle_datagram(now, address(CALLER), &induction.slice(..length));
        assert!(is_ignored(&verdict), "{length} bytes: {verdict:?}");
    }
    assert_eq!(listener.kept(), 0);
}

#[test]
fn s02_an_induction_gets_one_packet_that_is_no_longer_than_itself() {
    let now = Instant::now();
    let (mut listener, mut caller) = (listener(now), calling(now, Config::default()));
    let induction = caller.sent.pop_front().unwrap();
    let Verdict::Reply(reply) = listener.handle_datagram(now, address(CALLER), &induction) else {
        panic!("no reply")
    };
    assert!(reply.len() <= induction.len(), "{} > {}", reply.len(), induction.len());
    assert_eq!(listener.kept(), 0);
}

#[test]
fn s04_s05_a_cookie_that_was_not_given_is_never_taken() {
    let (kept, verdict) = conclude(|packet| packet.cookie = 0xDEAD_BEEF);
    assert!(is_ignored(&verdict) && kept == 0, "{verdict:?}");
    let (_, verdict) = conclude(|packet| packet.cookie = 0);
    assert!(is_ignored(&verdict), "{verdict:?}");
    // Of another address.
    let now = Instant::now();
    let (mut listener, mut caller) = (listener(now), calling(now, Config::default()));
    let (_, conclusion, _) = request(now, &mut listener, &mut caller);
    for other in ["192.0.2.1:40001", "192.0.2.3:40000", "[2001:db8::1]:40000"] {
        assert!(is_ignored(&listener.handle_datagram(now, address(other), &conclusion)), "{other}");
    }
}

#[test]
fn s04_a_cookie_lives_for_two_minutes() {
    let now = Instant::now();
    let (mut first, mut caller) = (listener(now), calling(now, Config::default()));
    let (_, conclusion, _) = request(now, &mut first, &mut caller);
    for (seconds, lives) in [(0, true), (59, true), (119, true), (120, false), (3_600, false)] {
        let mut fresh = listener(now);
        let verdict = fresh.handle_datagram(now + Duration::from_secs(seconds), address(CALLER), &conclusion);
        assert_eq!(matches!(verdict, Verdict::Request(_)), lives, "after {seconds} s: {verdict:?}");
    }
}

#[test]
fn s06_s07_extensions_that_run_over_the_end_are_rogue() {
    // The length of the first extension is at 16 + 48 + 2.
    for length in [0xFFFF_u16, 0, 2, 300] {
        let (kept, verdict) = conclude_bytes(|bytes| bytes[66..68].copy_from_slice(&length.to_be_bytes()));
        assert!(is_rejected(&verdict, RejectReason::ROGUE), "{length}: {verdict:?}");
        assert_eq!(kept, 0);
    }
    let (_, verdict) = conclude(|packet| packet.extension_field = 0);
    assert!(is_rejected(&verdict, RejectReason::ROGUE), "{verdict:?}");
}

#[test]
fn s08_a_stream_id_that_cannot_be_one_is_refused() {
    for (length, byte) in [(1_320_usize, b'a'), (516, b'a')] {
        let (_, verdict) = conclude_bytes(|bytes| {
            bytes.extend_from_slice(&5_u16.to_be_bytes());
            bytes.extend_from_slice(&u16::try_from(length / 4).unwrap().to_be_bytes());
            bytes.extend(std::iter::repeat_n(byte, length));
        });
        assert!(is_rejected(&verdict, RejectReason::BAD_REQUEST), "{length}: {verdict:?}");
    }
}

#[test]
fn s10_s11_a_packet_size_that_nothing_fits_into_is_rogue() {
    for mtu in [0, 31, 75] {
        let (_, verdict) = conclude(|packet| packet.mtu = mtu);
        assert!(is_rejected(&verdict, RejectReason::ROGUE), "{mtu}: {verdict:?}");
    }
    let (_, verdict) = conclude(|packet| packet.mtu = u32::MAX);
    assert!(matches!(verdict, Verdict::Request(_)), "{verdict:?}");
}

#[test]
fn s15_key_material_is_bounded_before_it_is_looked_at() {
    let (_, verdict) = conclude_bytes(|bytes| {
        bytes.extend_from_slice(&3_u16.to_be_bytes());
        bytes.extend_from_slice(&325_u16.to_be_bytes());
        bytes.extend(std::iter::repeat_n(0x12, 1_300));
    });
    assert!(is_rejected(&verdict, RejectReason::ROGUE), "{verdict:?}");
}

#[test]
fn s16_a_rendezvous_with_a_listener_is_not_answered() {
    for kind in [HandshakeKind::WaveAHand, HandshakeKind::Agreement, HandshakeKind::Done] {
        let (_, verdict) = conclude(|packet| packet.kind = kind);
        assert!(is_ignored(&verdict), "{verdict:?}");
    }
}

#[test]
fn an_hsv4_caller_and_an_old_version_are_refused() {
    let (_, verdict) = conclude(|packet| packet.version = 4);
    assert!(is_rejected(&verdict, RejectReason::VERSION), "{verdict:?}");
    let now = Instant::now();
    let (mut listener, mut caller) = (listener(now), calling(now, Config::default()));
    let (_, conclusion, _) = request(now, &mut listener, &mut caller);
    let Control::Handshake(mut packet) = ControlPacket::decode(&conclusion).unwrap().control else {
        panic!("no handshake")
    };
    let mut extensions: Extensions = packet.decode_extensions().unwrap();
    let hs = extensions.hs.as_mut().unwrap();
    hs.version = SrtVersion::new(1, 2, 9);
    packet.set_extensions(&extensions);
    let mut fresh = super::listener(now);
    let datagram = control(SocketId::HANDSHAKE, Control::Handshake(packet));
    let request = request_of(fresh.handle_datagram(now, address(CALLER), &datagram));
    let refused = fresh.accept(now, request, LISTENER_ID, Config::default(), entropy(2));
    assert!(matches!(refused, Err((RejectReason::VERSION, _))), "{refused:?}");
}

/// A hundred thousand, or as many as `ARCLY_SRT_INDUCTIONS` says: the catalogue's million takes a debug build ten seconds and more.
#[test]
fn s30_a_hundred_thousand_inductions_leave_nothing() {
    let count = std::env::var("ARCLY_SRT_INDUCTIONS").map_or(100_000, |count| count.parse().unwrap());
    let now = Instant::now();
    let (mut listener, mut caller) = (listener(now), calling(now, Config::default()));
    let induction = caller.sent.pop_front().unwrap();
    for n in 0..count {
        let from = SocketAddr::from(((0x7F00_0000_u32 | n).to_be_bytes(), 1_024 + (n % 60_000) as u16));
        let verdict = listener.handle_datagram(now, from, &induction);
        assert!(matches!(verdict, Verdict::Reply(reply) if reply.len() <= induction.len()));
    }
    assert_eq!(listener.kept(), 0);
}

#[test]
fn pending_requests_are_bounded() {
    let now = Instant::now();
    let (mut listener, mut caller) = (listener(now), calling(now, Config::default()));
    let (_, conclusion, verdict) = request(now, &mut listener, &mut caller);
    let first = request_of(verdict);
    let Control::Handshake(packet) = ControlPacket::decode(&conclusion).unwrap().control else {
        panic!("no handshake")
    };
    let mut refused = 0;
    for id in 1_000..1_000 + u32::try_from(super::super::MAX_PENDING).unwrap() {
        let packet = Handshake { socket_id: SocketId(id), ..packet.clone() };
        let datagram = control(SocketId::HANDSHAKE, Control::Handshake(packet));
        let verdict = listener.handle_datagram(now, address(CALLER), &datagram);
        refused += usize::from(is_rejected(&verdict, RejectReason::BACKLOG));
    }
    assert_eq!((refused, listener.kept()), (1, super::super::MAX_PENDING));
    listener.reject(now, first, RejectReason::FORBIDDEN);
    let last = Handshake { socket_id: SocketId(9), ..packet };
    let datagram = control(SocketId::HANDSHAKE, Control::Handshake(last));
    let verdict = listener.handle_datagram(now, address(CALLER), &datagram);
    assert!(matches!(verdict, Verdict::Request(_)), "a decision makes room: {verdict:?}");
}

#[test]
fn s35_a_conclusion_opens_one_connection_and_after_its_end_none() {
    let mut pair = Pair::live();
    let from = address(CALLER);
    let mut answers = 0;
    for _ in 0..100 {
        let verdict = pair.listener.handle_datagram(pair.now, from, &pair.conclusion);
        assert!(matches!(verdict, Verdict::Repeated(LISTENER_ID)), "{verdict:?}");
        pair.callee.hear(pair.now, pair.conclusion.clone());
        answers += pair.callee.sent.drain(..).count();
        pair.now += ms(1);
    }
    assert_eq!(answers, 1, "one in 50 ms");
    pair.listener.forget(pair.now, &pair.callee.connection);
    for seconds in [0, 30, 90] {
        let now = pair.now + Duration::from_secs(seconds);
        assert!(is_ignored(&pair.listener.handle_datagram(now, from, &pair.conclusion)), "{seconds} s");
    }
    let later = pair.now + Duration::from_secs(121);
    assert!(is_ignored(&pair.listener.handle_datagram(later, from, &pair.conclusion)));
    assert_eq!(pair.listener.kept(), 0, "and is forgotten with its cookie");
}

/// Callers with a port and a socket id of their own that never change, who have started anew: after a good-bye, after a
/// refusal, and while nobody has noticed yet that they were gone.
#[test]
fn a_caller_that_comes_back_as_the_same_socket_is_let_in() {
    let mut pair = Pair::live();
    let from = address(CALLER);
    let again = |listener: &mut Listener, now, seq| {
        let endpoint = Endpoint { initial_seq: SeqNumber::new(seq), ..endpoint() };
        let connection = Connection::connect(now, endpoint, Config::default(), entropy(3)).unwrap();
        let mut caller = End::new(connection);
        let (_, conclusion, verdict) = request(now, listener, &mut caller);
        (conclusion, request_of(verdict))
    };
    let (second, asked) = again(&mut pair.listener, pair.now, 6_000);
    let reply = pair.listener.reject(pair.now, asked, RejectReason::CONFLICT);
    assert_eq!(rejected(&reply), Some(RejectReason::CONFLICT), "the first is still there");
    pair.listener.forget(pair.now, &pair.callee.connection);
    let (third, asked) = again(&mut pair.listener, pair.now, 7_000);
    let accepted = pair.listener.accept(pair.now, asked, SocketId(71), Config::default(), entropy(4));
    assert_eq!(accepted.map(|_| ()).map_err(|(reason, _)| reason), Ok(()));
    // What is late of those before opens nothing, and does not touch the last.
    for old in [&pair.conclusion, &second] {
        assert!(is_ignored(&pair.listener.handle_datagram(pair.now, from, old)));
    }
    let verdict = pair.listener.handle_datagram(pair.now + Duration::from_secs(1), from, &third);
    assert!(matches!(verdict, Verdict::Repeated(SocketId(71))), "{verdict:?}");
}

#[test]
fn a_rejection_reaches_the_caller_with_its_code() {
    for reason in [RejectReason::NOT_FOUND, RejectReason::CONFLICT, RejectReason::new(2_005)] {
        let now = Instant::now();
        let (mut listener, mut caller) = (listener(now), calling(now, Config::default()));
        let (_, conclusion, verdict) = request(now, &mut listener, &mut caller);
        let reply = listener.reject(now, request_of(verdict), reason);
        assert!(reply.len() <= conclusion.len());
        caller.hear(now, reply);
        assert_eq!(caller.error, Some(SessionError::Rejected(reason)));
        assert!(is_ignored(&listener.handle_datagram(now, address(CALLER), &conclusion)));
    }
}

#[test]
fn a_request_says_what_it_asks_for() {
    let now = Instant::now();
    let config = Config { stream_id: Some("#!::m=publish,r=live/cam".into()), ..Config::default() };
    let (mut listener, mut caller) = (listener(now), calling(now, config));
    let (_, _, verdict) = request(now, &mut listener, &mut caller);
    let request = request_of(verdict);
    assert_eq!(request.stream_id.as_deref(), Some("#!::m=publish,r=live/cam"));
    assert_eq!((request.remote, request.peer), (address(CALLER), CALLER_ID));
    assert_eq!((request.version, request.encrypted), (SrtVersion::CURRENT, None));
}

#[test]
fn the_flags_are_those_of_libsrt_in_live_mode() {
    let pair = Pair::live();
    let flags = pair.callee.connection.negotiated().unwrap().peer_flags;
    assert_eq!(flags.bits(), 0xBF, "{flags:?}");
    assert!(!flags.contains(HsFlags::STREAM));
}
