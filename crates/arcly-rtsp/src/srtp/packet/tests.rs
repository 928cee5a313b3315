use aes::Aes128;
use aes::cipher::KeyInit as _;

use super::super::transform::{CounterMode, GaloisCounterMode, derive};
use super::*;

fn hex<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [0; N];
    for (n, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap();
    }
    out
}

fn master() -> MasterKey {
    let (key, salt) = (hex("E1F97A0D3E018BE0D64FA32C06DE4139"), hex("0EC675AD498AFEEBB6960B3AABE6"));
    MasterKey { key, salt, suite: Suite::AesCm }
}

fn rtp(seq: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 0, 1]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

fn pair() -> (Sender, Receiver) {
    pair_of(Suite::AesCm)
}

fn pair_of(suite: Suite) -> (Sender, Receiver) {
    let master = master().of_suite(suite);
    (Sender::new(&master), Receiver::new(&master))
}

const SUITES: [(Suite, usize); 2] = [(Suite::AesCm, TAG_LEN), (Suite::AesGcm, GCM_TAG_LEN)];

/// RFC 3711 appendix B.3.
#[test]
fn b3_key_derivation() {
    let (master, cipher) = (master(), Aes128::new(&master().key.into()));
    let mut key = [0; 16];
    derive(&cipher, &master, 0, &mut key);
    assert_eq!(key, hex("C61E7A93744F39EE10734AFE3FF7A087"));
    let mut salt = [0; 14];
    derive(&cipher, &master, 2, &mut salt);
    assert_eq!(salt, hex("30CBBC08863D8C85D49DB34A9AE1"));
    let mut auth = [0; 94];
    derive(&cipher, &master, 1, &mut auth);
    let expect = concat!(
        "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE",
        "E049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC25",
        "6D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2",
    );
    assert_eq!(auth, hex(expect));
}

/// RFC 3711 appendix B.2: the keystream of AES-CM.
#[test]
fn b2_keystream() {
    let key = hex("2B7E151628AED2A6ABF7158809CF4F3C");
    let keys = CounterMode::new(key, hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD"), [0; 20]);
    let mut stream = [0; 48];
    keys.crypt(Place { ssrc: 0, index: 0 }, &mut stream);
    let expect =
        "E03EAD0935C95E80E166B16DD92B4EB4D23513162B02D0F72A43A2FE4A5F97AB41E95B3BB0A2E8DD477901E4FCA894C0";
    assert_eq!(stream, hex(expect));
}

/// The packets that libsrtp validates itself with (srtp_driver, `srtp_validate`).
#[test]
fn a_packet_of_libsrtp() {
    let (mut sender, mut receiver) = pair();
    let mut plain = hex::<12>("800F1234DECAFBADCAFEBABE").to_vec();
    plain.extend([0xAB; 16]);
    let expect = hex::<38>("800F1234DECAFBADCAFEBABE4E55DC4CE79978D88CA4D215949D2402B78D6ACC99EA179B8DBB");
    let protected = sender.protect(&plain).unwrap();
    assert_eq!(protected[..], expect);
    assert_eq!(receiver.unprotect(&protected).unwrap()[..], plain);
}

/// The keys of RFC 7714 §16 and §17, which are no master keys.
fn rfc_7714() -> Keys {
    let key = hex("000102030405060708090A0B0C0D0E0F");
    Keys::Gcm(Box::new(GaloisCounterMode::new(key, hex("517569642070726F2071756F"))))
}

/// RFC 7714 §16.1.
#[test]
fn rfc_7714_16_1_rtp() {
    let mut packet = hex::<12>("8040F17B8041F8D35501A0B2").to_vec();
    packet.extend(b"Gallia est omnis divisa in partes tres");
    let place = Place { ssrc: 0x5501_A0B2, index: 0xF17B };
    let mut sealed = BytesMut::from(&packet[..]);
    rfc_7714().seal(place, 12, &mut sealed);
    let expect = concat!(
        "8040F17B8041F8D35501A0B2",
        "F24DE3A3FB34DE6CACBA861C9D7E4BCABE633BD50D294E6F42A5F47A51C7D19B36DE3ADF8833",
        "899D7F27BEB16A9152CF765EE4390CCE",
    );
    assert_eq!(sealed[..], hex::<66>(expect));
    let opened = rfc_7714().open(place, 12, &rfc_7714().split(&sealed, &[]).unwrap()).unwrap();
    assert_eq!(opened[..], packet);
}

/// RFC 7714 §17.1, and §17.3 for a packet that is authenticated alone.
#[test]
fn rfc_7714_17_rtcp() {
    let plain = hex::<52>(concat!(
        "81C8000D4D6172734E5450314E545032525450200000042A0000E9304C756E61",
        "DEADBEEFDEADBEEFDEADBEEFDEADBEEFDEADBEEF",
    ));
    let place = Place { ssrc: 0x4D61_7273, index: 0x5D4 };
    let sealed = hex::<72>(concat!(
        "81C8000D4D617273",
        "63E94885DCDAB67CA727D7662F6B7E997FF5C0F76C06F32DC676A5F1730D6FDA4CE09B4686303DED0BB9275B",
        "C84AA45896CF4D2FC5ABF87245D9EADE800005D4",
    ));
    let mut packet = BytesMut::from(&plain[..]);
    rfc_7714().seal_rtcp(place, &mut packet);
    assert_eq!(packet[..], sealed);
    let in_the_clear = [&plain[..], &hex::<20>("841DD9683DD78EC92AE58790125F62B3000005D4")].concat();
    for (packet, is_encrypted) in [(&sealed[..], true), (&in_the_clear, false)] {
        let keys = rfc_7714();
        let parts = keys.split_rtcp(packet, &[]).unwrap();
        assert_eq!(parts.index(), Ok((0x5D4, is_encrypted)));
        assert_eq!(keys.open_rtcp(place, &parts).unwrap()[..], plain);
    }
}

/// The packets that libsrtp validates itself with (srtp_driver, `srtp_validate_gcm`): keys are derived as it derives them.
#[test]
fn packets_of_libsrtp_with_aes_gcm() {
    let mut salt = [0; SALT_LEN];
    salt[..12].copy_from_slice(&hex::<12>("A0A1A2A3A4A5A6A7A8A9AAAB"));
    let key = hex("000102030405060708090A0B0C0D0E0F");
    let master = MasterKey { key, salt, suite: Suite::AesGcm };
    let (mut sender, mut receiver) = (Sender::new(&master), Receiver::new(&master));
    let mut plain = hex::<12>("800F1234DECAFBADCAFEBABE").to_vec();
    plain.extend([0xAB; 16]);
    let expect = concat!(
        "800F1234DECAFBADCAFEBABE",
        "C5002EDE04CFDD2EB91159E0880AA06ED2976826F796B201DF3131A127E8A392",
    );
    let protected = sender.protect(&plain).unwrap();
    assert_eq!(protected[..], hex::<44>(expect));
    assert_eq!(receiver.unprotect(&protected).unwrap()[..], plain);
    let mut plain = hex::<8>("81C8000BCAFEBABE").to_vec();
    plain.extend([0xAB; 16]);
    let expect = concat!(
        "81C8000BCAFEBABE",
        "C98B8B5DF0392A55852B6C21AC8E7025C52C6FBEA2B3B446EA31123BA88CE61E80000001",
    );
    let protected = sender.protect_rtcp(&plain).unwrap();
    assert_eq!(protected[..], hex::<44>(expect));
    assert_eq!(receiver.unprotect_rtcp(&protected).unwrap()[..], plain);
}

#[test]
fn packets_come_back_and_nothing_shows() {
    for (suite, tag) in SUITES {
        come_back(pair_of(suite), tag);
    }
}

fn come_back((mut sender, mut receiver): (Sender, Receiver), tag: usize) {
    for seq in 0..300 {
        let plain = rtp(seq, 7, b"a payload that nobody may read");
        let protected = sender.protect(&plain).unwrap();
        assert_eq!(protected.len(), plain.len() + tag);
        assert!(!protected.windows(7).any(|w| w == b"payload"));
        assert_eq!(receiver.unprotect(&protected).unwrap()[..], plain);
        assert_eq!(sender.protect(&plain), Err(SrtpError::Reused));
        let report = [&[0x80, 200, 0, 6, 0, 0, 0, 7][..], &[b'r'; 20]].concat();
        let protected = sender.protect_rtcp(&report).unwrap();
        assert_eq!(protected.len(), report.len() + tag + 4);
        assert!(!protected.windows(4).any(|w| w == b"rrrr"));
        assert_eq!(receiver.unprotect_rtcp(&protected).unwrap()[..], report);
        assert_eq!(receiver.unprotect_rtcp(&protected), Err(SrtpError::Replayed));
    }
}

/// Header, extension and sources stay as they are.
#[test]
fn headers_are_not_encrypted() {
    for (suite, _) in SUITES {
        header_stays(pair_of(suite));
    }
}

fn header_stays((mut sender, mut receiver): (Sender, Receiver)) {
    let mut plain = rtp(1, 7, &[]);
    plain[0] = 0x91;
    plain.extend([0, 0, 0, 9]);
    plain.extend([0xBE, 0xDE, 0, 1, 1, 2, 3, 4]);
    let header = plain.len();
    plain.extend(b"payload");
    let protected = sender.protect(&plain).unwrap();
    assert_eq!(protected[..header], plain[..header]);
    assert_ne!(protected[header..header + 7], plain[header..]);
    assert_eq!(receiver.unprotect(&protected).unwrap()[..], plain);
}

/// A player that paused gets the keyframe again that it had, and then packets that were made anew.
#[test]
fn what_goes_on_after_a_pause_is_numbered_behind_what_was_before() {
    let (mut sender, mut receiver) = pair();
    let mut next = 65_530_u16;
    for (run, first) in [65_530, 65_520, 3, 60_000, 200].into_iter().enumerate() {
        assert_eq!(sender.next_sequence(), (run > 0).then_some(next));
        for n in 0..100_u16 {
            let plain = rtp(u16::wrapping_add(first, n), 7, b"payload");
            let opened = receiver.unprotect(&sender.protect(&plain).unwrap()).unwrap();
            assert_eq!(opened[2..4], next.to_be_bytes(), "run {run}");
            assert_eq!((&opened[..2], &opened[4..]), (&plain[..2], &plain[4..]));
            next = next.wrapping_add(1);
        }
        assert_eq!(sender.protect(&rtp(first, 7, b"payload")), Err(SrtpError::Reused));
        assert_eq!(sender.next_sequence(), None);
        sender.resume();
    }
    // What cannot be protected leaves it to the next one.
    assert!(sender.protect(&[0x80]).is_err());
    assert_eq!(sender.next_sequence(), Some(next));
}

/// RFC 3711 §3.1, §3.4: the name stands before the tag, and is not authenticated.
#[test]
fn packets_may_name_their_key() {
    let (mut sender, receiver) = pair();
    let mut receiver = receiver.with_mki(Bytes::from_static(b"ab"));
    let name = |packet: Bytes, name: &[u8]| {
        let (body, tag) = packet.split_at(packet.len() - TAG_LEN);
        [body, name, tag].concat()
    };
    let (plain, report) = (rtp(1, 7, b"payload"), [0x80, 201, 0, 1, 0, 0, 0, 7]);
    let (packet, said) = (sender.protect(&plain).unwrap(), sender.protect_rtcp(&report).unwrap());
    for wrong in [&b""[..], b"a", b"ac", b"aab"] {
        assert!(receiver.unprotect(&name(packet.clone(), wrong)).is_err(), "{wrong:?}");
        assert!(receiver.unprotect_rtcp(&name(said.clone(), wrong)).is_err(), "{wrong:?}");
    }
    assert_eq!(receiver.unprotect(&name(packet, b"ab")).unwrap()[..], plain);
    assert_eq!(receiver.unprotect_rtcp(&name(said, b"ab")).unwrap()[..], report);
    // RFC 7714 §8.2, §9.2: it stands last.
    let (mut sender, receiver) = pair_of(Suite::AesGcm);
    let mut receiver = receiver.with_mki(Bytes::from_static(b"ab"));
    let named = |packet: &Bytes, name: &[u8]| [packet, name].concat();
    let (packet, said) = (sender.protect(&plain).unwrap(), sender.protect_rtcp(&report).unwrap());
    for wrong in [&b""[..], b"a", b"ac", b"aab"] {
        assert!(receiver.unprotect(&named(&packet, wrong)).is_err(), "{wrong:?}");
        assert!(receiver.unprotect_rtcp(&named(&said, wrong)).is_err(), "{wrong:?}");
    }
    assert_eq!(receiver.unprotect(&named(&packet, b"ab")).unwrap()[..], plain);
    assert_eq!(receiver.unprotect_rtcp(&named(&said, b"ab")).unwrap()[..], report);
}

/// F23.
#[test]
fn f23_sequence_numbers_wrap_and_come_out_of_order() {
    let (mut sender, mut receiver) = pair();
    let mut protected: Vec<_> = (0..200_000_u32)
        .map(|n| sender.protect(&rtp((n + 65_000) as u16, 7, &n.to_be_bytes())).unwrap())
        .collect();
    assert_eq!(sender.sources[0].newest >> 16, 4);
    for eight in protected.chunks_mut(8) {
        eight.reverse();
    }
    for (n, packet) in protected.iter().enumerate() {
        assert!(receiver.unprotect(packet).is_ok(), "packet {n}");
    }
    assert_eq!(receiver.unprotect(&protected[199_990]), Err(SrtpError::Replayed));
    // Of an earlier round, whose number is new in this one: it is not taken for it.
    assert_eq!(receiver.unprotect(&protected[3_536]), Err(SrtpError::NotAuthentic));
    let mut late = Receiver::new(&master());
    assert_eq!(late.unprotect(&protected[150_000]), Err(SrtpError::NotAuthentic), "its round is not known");
    late.announce(7, 3);
    assert!(late.unprotect(&protected[150_000]).is_ok());
}

#[test]
fn every_changed_bit_is_noticed_and_leaves_no_trace() {
    for (suite, _) in SUITES {
        changed_bits_are_noticed(pair_of(suite));
    }
    // What one suite has made is nothing to the other.
    let protected = pair_of(Suite::AesCm).0.protect(&rtp(9, 7, b"payload")).unwrap();
    assert_eq!(pair_of(Suite::AesGcm).1.unprotect(&protected), Err(SrtpError::NotAuthentic));
}

fn changed_bits_are_noticed((mut sender, mut receiver): (Sender, Receiver)) {
    let protected = sender.protect(&rtp(9, 7, b"payload")).unwrap();
    for bit in 0..protected.len() * 8 {
        let mut changed = protected.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(receiver.unprotect(&changed).is_err(), "bit {bit}");
    }
    for len in 0..protected.len() {
        assert!(receiver.unprotect(&protected[..len]).is_err(), "{len}");
    }
    assert!(receiver.rtp_sources.is_empty());
    assert!(receiver.unprotect(&protected).is_ok());
    let report = sender.protect_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 7]).unwrap();
    for bit in 0..report.len() * 8 {
        let mut changed = report.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(receiver.unprotect_rtcp(&changed).is_err(), "bit {bit}");
    }
    for len in 0..report.len() {
        assert!(receiver.unprotect_rtcp(&report[..len]).is_err(), "{len}");
    }
    assert!(receiver.unprotect_rtcp(&report).is_ok());
}

#[test]
fn sources_are_bounded() {
    let (mut sender, mut receiver) = pair();
    let limit = u32::try_from(MAX_SOURCES).unwrap();
    for ssrc in 0..limit {
        let protected = sender.protect(&rtp(1, ssrc, b"x")).unwrap();
        assert!(receiver.unprotect(&protected).is_ok());
    }
    assert_eq!(sender.protect(&rtp(1, limit, b"x")), Err(SrtpError::TooManySources));
    let mut other = Sender::new(&master());
    let protected = other.protect(&rtp(1, limit, b"x")).unwrap();
    assert_eq!(receiver.unprotect(&protected), Err(SrtpError::TooManySources));
}

#[test]
fn a_replay_window_has_an_end() {
    let mut replay = Replay::new(1_000);
    for index in [1_000, 1_005, 1_001] {
        assert!(replay.is_new(index));
        replay.note(index);
        assert!(!replay.is_new(index));
    }
    assert!(replay.is_new(1_002) && replay.is_new(878) && !replay.is_new(877));
    replay.note(1_000_000);
    assert!(!replay.is_new(1_005) && replay.is_new(999_999));
}
