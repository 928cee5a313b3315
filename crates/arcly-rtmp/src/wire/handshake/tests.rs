use arcly_core::wire::DecodeError;
use proptest::prelude::*;

use super::digest::{Role, Scheme, find, sign, sign_answer, verify_answer};
use super::*;

fn entropy(seed: u8) -> Entropy {
    let mut state = u32::from(seed).wrapping_mul(0x9E37_79B9) | 1;
    Entropy::from_fn(|bytes| {
        for b in bytes {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            *b = state.to_le_bytes()[1];
        }
    })
}

/// C0 and C1 as FFmpeg 5.1.9 sends them (a digest in the first half).
const FFMPEG_C0C1: &[u8] = include_bytes!("../../../tests/captures/ffmpeg_5.1.9_c0c1.bin");
/// C0 and C1 as rtmpdump 2.4 sends them (plain).
const RTMPDUMP_C0C1: &[u8] = include_bytes!("../../../tests/captures/rtmpdump_2.4_c0c1.bin");

fn packet(bytes: &[u8]) -> [u8; PACKET] {
    *bytes.first_chunk().unwrap()
}

fn server_answer(c0c1: &[u8]) -> Bytes {
    let mut server = ServerHandshake::new(entropy(1));
    let mut input = c0c1;
    let progress = server.advance(&mut input).unwrap();
    assert!(input.is_empty() && !progress.done);
    progress.transmit.unwrap()
}

use bytes::Bytes;

#[test]
fn a_digest_is_found_where_it_was_put_and_nowhere_else() {
    for role in [Role::Player, Role::Server] {
        for scheme in [Scheme::First, Scheme::Second] {
            let mut c1 = packet(&entropy(2).0[..]);
            assert_eq!(find(&c1, role), None);
            let digest = sign(&mut c1, scheme, role);
            assert_eq!(find(&c1, role), Some((scheme, digest)));
            assert_eq!(find(&c1, if role == Role::Player { Role::Server } else { Role::Player }), None);
            let mut answer = packet(&entropy(3).0[..]);
            sign_answer(&mut answer, &digest, role);
            assert!(verify_answer(&answer, &digest, role));
            answer[700] ^= 1;
            assert!(!verify_answer(&answer, &digest, role));
        }
    }
}

#[test]
fn ffmpeg_gets_digests() {
    let (_, digest) = find(&packet(&FFMPEG_C0C1[1..]), Role::Player).expect("FFmpeg digests its C1");
    let answer = server_answer(FFMPEG_C0C1);
    assert_eq!((answer.len(), answer[0]), (1 + 2 * PACKET, VERSION));
    assert!(find(&packet(&answer[1..]), Role::Server).is_some());
    assert!(verify_answer(&packet(&answer[1 + PACKET..]), &digest, Role::Server));
}

#[test]
fn rtmpdump_gets_its_bytes_back() {
    assert_eq!(find(&packet(&RTMPDUMP_C0C1[1..]), Role::Player), None);
    let answer = server_answer(RTMPDUMP_C0C1);
    assert_eq!(answer[1 + PACKET..], RTMPDUMP_C0C1[1..]);
    assert_eq!(answer[5..9], [0; 4]);
}

#[test]
fn r44_a_wrong_digest_falls_back_to_plain() {
    let mut wrong = FFMPEG_C0C1.to_vec();
    wrong[1 + 1_000] ^= 0x55;
    let answer = server_answer(&wrong);
    assert_eq!(answer[1 + PACKET..], wrong[1..]);
}

#[test]
fn r01_r02_the_first_byte_decides() {
    for first in (0..=u8::MAX).filter(|&b| b != VERSION) {
        let mut server = ServerHandshake::new(entropy(1));
        let got = server.advance(&mut &[first][..]);
        assert_eq!(got, Err(DecodeError::Malformed { what: "C0 version", offset: 0 }));
    }
    let (mut client, _) = ClientHandshake::new(&entropy(4), Scheme::First);
    assert!(client.advance(&mut &b"HTTP/1.1 400"[..]).is_err());
}

#[test]
fn a_plain_server_gets_its_s1_back() {
    let (mut client, _) = ClientHandshake::new(&entropy(5), Scheme::First);
    let s1 = packet(&entropy(6).0[..]);
    let wire = [&[VERSION][..], &s1, &[0; PACKET], b"rest"].concat();
    let mut input = &wire[..];
    let progress = client.advance(&mut input).unwrap();
    assert_eq!(progress.transmit.unwrap(), s1[..]);
    assert!(progress.done);
    assert_eq!(input, b"rest");
}

proptest! {
    #[test]
    fn client_and_server_agree_in_any_pieces(
        second in any::<bool>(), seed in any::<u8>(), cuts in prop::collection::vec(1_usize..2_000, 1..8)
    ) {
        let scheme = if second { Scheme::Second } else { Scheme::First };
        let mut server = ServerHandshake::new(entropy(seed));
        let (mut client, c0c1) = ClientHandshake::new(&entropy(seed.wrapping_add(1)), scheme);
        let mut cuts = cuts.into_iter().cycle();
        let (mut to_server, mut to_client) = (c0c1.to_vec(), Vec::new());
        let (mut server_done, mut client_done) = (false, false);
        while !(server_done && client_done) {
            let mut cut = |wire: &mut Vec<u8>| {
                let n = cuts.next().unwrap_or(1).min(wire.len());
                wire.drain(..n).collect::<Vec<u8>>()
            };
            let piece = cut(&mut to_server);
            let got = server.advance(&mut &piece[..]).unwrap();
            server_done |= got.done;
            to_client.extend(got.transmit.into_iter().flatten());
            let piece = cut(&mut to_client);
            let got = client.advance(&mut &piece[..]).unwrap();
            client_done |= got.done;
            to_server.extend(got.transmit.into_iter().flatten());
        }
        prop_assert!(to_server.is_empty() && to_client.is_empty());
    }
}
