//! Both ends of a connection, keys that change, and what must not be taken.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::*;
use crate::wire::{DataHeader, KeyFlags, KeyMaterial, KeyResponse, KeySpec, MsgNumber, SeqNumber};

const RETRY: Duration = Duration::from_millis(150);

/// Bytes that count up: as good as random for a test, and the same every time.
fn entropy(seed: u8) -> impl FnMut(&mut [u8]) + Send {
    let mut next = seed;
    move |out: &mut [u8]| {
        for byte in out {
            *byte = next;
            next = next.wrapping_mul(5).wrapping_add(17);
        }
    }
}

fn config(passphrase: &str) -> CryptoConfig {
    CryptoConfig::new(passphrase.parse().unwrap())
}

fn crypto(config: &CryptoConfig) -> Crypto {
    Crypto::new(config).unwrap()
}

/// An initiator and a responder that have shaken hands.
fn pair(initiator: &CryptoConfig, responder: &CryptoConfig) -> (Crypto, Crypto) {
    let (mut a, mut b) = (crypto(initiator), crypto(responder));
    let keys = a.initiate(&mut entropy(1));
    b.handle_request(Instant::now(), &keys).unwrap();
    assert!(!a.is_secured());
    assert_eq!(a.handle_response(&KeyResponse::Accepted(keys)), ResponseOutcome::Confirmed);
    assert!(a.is_secured() && b.is_secured());
    (a, b)
}

fn header(n: u32) -> DataHeader {
    DataHeader::new(SeqNumber::new(n), MsgNumber::FIRST)
}

/// Seals at one end and opens at the other; the header as it was sent.
fn pass(from: &mut Crypto, to: &Crypto, n: u32) -> DataHeader {
    let (mut header, plain) = (header(n), vec![0x47; usize::try_from(n % 1_400).unwrap()]);
    let mut payload = BytesMut::from(&plain[..]);
    from.seal(&mut header, &mut payload);
    assert_eq!(payload.len(), plain.len() + from.overhead());
    assert!(payload.len() < 16 || payload != plain[..]);
    let repeated = DataHeader { retransmitted: true, ..header };
    to.open(&repeated, &mut payload).unwrap();
    assert_eq!(payload, plain);
    header
}

fn every_kind() -> impl Iterator<Item = CryptoConfig> {
    let lengths = [KeyLength::Aes128, KeyLength::Aes192, KeyLength::Aes256];
    let ciphers = [Cipher::Ctr, Cipher::Gcm];
    lengths.into_iter().flat_map(move |length| {
        ciphers
            .into_iter()
            .map(move |cipher| config("0123456789abc").with_key_length(length).with_cipher(cipher))
    })
}

#[test]
fn payloads_pass_both_ways() {
    for kind in every_kind() {
        let (mut a, mut b) = pair(&kind, &config("0123456789abc"));
        assert_eq!((b.key_length(), b.cipher()), (kind.key_length, kind.cipher));
        for n in [0, 1, 15, 16, 17, 1_316, SeqNumber::MAX] {
            assert_eq!(pass(&mut a, &b, n).key, KeySpec::Even);
            assert_eq!(pass(&mut b, &a, n).key, KeySpec::Even);
        }
    }
}

#[test]
fn keys_change_when_they_are_due_and_confirmed() {
    for config in every_kind() {
        let config = config.with_refresh(20, 5);
        let (mut a, mut b) = pair(&config, &config);
        let (mut now, mut random) = (Instant::now(), entropy(99));
        let mut used = Vec::new();
        for n in 0..100 {
            used.push(pass(&mut a, &b, n).key);
            if let Some(keys) = a.poll_request(now, RETRY, &mut random) {
                assert_eq!((keys.keys, keys.key_length), (KeyFlags::Both, config.key_length));
                assert_eq!(a.poll_timeout(), Some(now + RETRY));
                b.handle_request(now, &keys).unwrap();
                let response = KeyResponse::Accepted(keys);
                assert_eq!(a.handle_response(&response), ResponseOutcome::Confirmed);
                assert_eq!(a.handle_response(&response), ResponseOutcome::Ignored, "only once");
                assert_eq!(a.poll_timeout(), None);
            }
            now += Duration::from_secs(1);
        }
        let expected = (0..100).map(|n| if n / 20 % 2 == 0 { KeySpec::Even } else { KeySpec::Odd });
        assert_eq!(used, expected.collect::<Vec<_>>());
    }
}

#[test]
fn the_responder_may_refresh_keys_too() {
    let config = config("0123456789abc").with_refresh(20, 5);
    let (mut a, mut b) = pair(&config, &config);
    let (now, mut random) = (Instant::now(), entropy(3));
    for n in 0..50 {
        pass(&mut a, &b, n);
        pass(&mut b, &a, n);
        for _ in 0..2 {
            if let Some(keys) = b.poll_request(now, RETRY, &mut random) {
                a.handle_request(now, &keys).unwrap();
                assert_eq!(b.handle_response(&KeyResponse::Accepted(keys)), ResponseOutcome::Confirmed);
            }
            std::mem::swap(&mut a, &mut b);
        }
    }
}

#[test]
fn an_announcement_is_repeated_and_the_old_key_stays_until_it_is_confirmed() {
    let config = config("0123456789abc").with_refresh(10, 4);
    let (mut a, b) = pair(&config, &config);
    let (start, mut random) = (Instant::now(), entropy(3));
    for n in 0..6 {
        assert_eq!(a.poll_request(start, RETRY, &mut random), None, "packet {n}");
        pass(&mut a, &b, n);
    }
    let keys = a.poll_request(start, RETRY, &mut random).unwrap();
    let just_before = start + RETRY - Duration::from_nanos(1);
    assert_eq!(a.poll_request(just_before, RETRY, &mut random), None);
    assert_eq!(a.poll_request(start + RETRY, RETRY, &mut random), Some(keys));
    for n in 6..40 {
        assert_eq!(pass(&mut a, &b, n).key, KeySpec::Even);
    }
    let refused = KeyResponse::Refused(KmState::BadSecret);
    assert_eq!(a.handle_response(&refused), ResponseOutcome::Refused(KmState::BadSecret));
    assert_eq!(a.poll_request(start + RETRY * 2, RETRY, &mut random), None, "not at once");
    for n in 40..44 {
        assert_eq!(pass(&mut a, &b, n).key, KeySpec::Even);
    }
    assert!(a.poll_request(start + RETRY * 2, RETRY, &mut random).is_some());
}

#[test]
fn s31_an_answer_to_nothing_changes_nothing() {
    let config = config("0123456789abc");
    let mut fresh = crypto(&config);
    assert_eq!(fresh.handle_response(&KeyResponse::Refused(KmState::BadSecret)), ResponseOutcome::Ignored);
    let (mut a, b) = pair(&config, &config);
    for state in [KmState::BadSecret, KmState::NoSecret, KmState::Unsecured] {
        assert_eq!(a.handle_response(&KeyResponse::Refused(state)), ResponseOutcome::Ignored);
    }
    let foreign = crypto(&config).initiate(&mut entropy(77));
    assert_eq!(a.handle_response(&KeyResponse::Accepted(foreign)), ResponseOutcome::Ignored);
    pass(&mut a, &b, 9);
}

#[test]
fn s33_another_passphrase_is_a_bad_secret() {
    let mut a = crypto(&config("0123456789abc"));
    let keys = a.initiate(&mut entropy(1));
    let mut b = crypto(&config("0123456789abd"));
    let refused = Err(RequestError::Refused(KmState::BadSecret));
    assert_eq!(b.handle_request(Instant::now(), &keys), refused);
    assert!(!b.is_secured());
    let answer = KeyResponse::Refused(KmState::BadSecret);
    assert_eq!(a.handle_response(&answer), ResponseOutcome::Refused(KmState::BadSecret));
    assert!(!a.is_secured());
    let changed = KeyMaterial { wrapped: keys.wrapped.iter().map(|byte| byte ^ 1).collect(), ..keys };
    assert_eq!(crypto(&config("0123456789abc")).handle_request(Instant::now(), &changed), refused);
}

#[test]
fn s33_payloads_that_are_not_sealed_are_not_taken() {
    let config = config("0123456789abc");
    let (_, b) = pair(&config, &config);
    let mut payload = BytesMut::from(&b"in the clear"[..]);
    assert_eq!(b.open(&header(1), &mut payload), Err(OpenError::InTheClear));
    let odd = DataHeader { key: KeySpec::Odd, ..header(1) };
    assert_eq!(b.open(&odd, &mut payload), Err(OpenError::NoKey));
    let mut early = crypto(&config);
    early.seal(&mut header(1), &mut payload);
    assert!(payload.is_empty(), "nothing goes out in the clear");
}

#[test]
fn s33_a_storm_of_key_requests_is_bounded() {
    let config = config("0123456789abc");
    let mut b = crypto(&config);
    let start = Instant::now();
    let storm: Vec<KeyMaterial> = (0..20).map(|n| crypto(&config).initiate(&mut entropy(n))).collect();
    let take = |b: &mut Crypto, now| storm.iter().filter(|keys| b.handle_request(now, keys).is_ok()).count();
    assert_eq!(take(&mut b, start), REQUEST_BURST as usize);
    // A repetition of what was taken last costs nothing, and is always answered.
    assert_eq!(take(&mut b, start + Duration::from_millis(999)), 1);
    assert_eq!(take(&mut b, start + Duration::from_secs(2)), 2);
    assert_eq!(take(&mut b, start + Duration::from_secs(2)), 1);
}

#[test]
fn what_is_changed_on_the_way_shows_in_gcm() {
    let config = config("0123456789abc").with_cipher(Cipher::Gcm);
    let (mut a, b) = pair(&config, &config);
    let mut header = header(7);
    let mut sealed = BytesMut::from(&b"a payload"[..]);
    a.seal(&mut header, &mut sealed);
    for byte in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[byte] ^= 0x20;
        assert_eq!(b.open(&header, &mut changed), Err(OpenError::Forged), "byte {byte}");
    }
    let changes = [
        DataHeader { seq: header.seq.next(), ..header },
        DataHeader { message: header.message.next(), ..header },
        DataHeader { timestamp: crate::wire::TimeStamp::new(1), ..header },
        DataHeader { destination: crate::wire::SocketId(1), ..header },
        DataHeader { in_order: true, ..header },
    ];
    for changed in changes {
        assert_eq!(b.open(&changed, &mut sealed.clone()), Err(OpenError::Forged), "{changed:?}");
    }
    for len in 0..sealed.len() {
        let mut cut = sealed.clone();
        cut.truncate(len);
        assert_eq!(b.open(&header, &mut cut), Err(OpenError::Forged), "{len} bytes");
    }
    assert_eq!(b.open(&header, &mut sealed), Ok(()));
}

#[test]
fn who_wants_gcm_takes_nothing_weaker() {
    let (weak, strong) = (config("0123456789abc"), config("0123456789abc").with_cipher(Cipher::Gcm));
    let keys = crypto(&weak).initiate(&mut entropy(1));
    let refused = Err(RequestError::Refused(KmState::BadCipher));
    assert_eq!(crypto(&strong).handle_request(Instant::now(), &keys), refused);
    let keys = crypto(&strong).initiate(&mut entropy(1));
    assert_eq!(crypto(&weak).handle_request(Instant::now(), &keys), Ok(()));
}

#[test]
fn passphrases_have_bounds_and_are_not_shown() {
    for (len, good) in [(0, false), (9, false), (10, true), (79, true), (80, false)] {
        assert_eq!("x".repeat(len).parse::<Passphrase>().is_ok(), good, "{len} bytes");
    }
    let (a, _) = pair(&config("hunter2hunter2"), &config("hunter2hunter2"));
    assert!(!format!("{:?} {a:?}", config("hunter2hunter2")).contains("hunter2"));
    assert_eq!(config("0123456789abc").with_refresh(10, 9).announce_packets, 5);
}
