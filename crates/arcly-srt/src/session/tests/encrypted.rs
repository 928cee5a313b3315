//! Keys in the handshake, and packets that are not what they should be.

use super::*;
use crate::crypto::{CryptoConfig, Passphrase};
use crate::wire::{Cipher, DataHeader, DataPacket, KeyLength, MsgNumber, Position};

fn config(passphrase: &str) -> Config {
    let crypto = CryptoConfig::new(passphrase.parse::<Passphrase>().unwrap());
    Config { crypto: Some(crypto), ..Config::default() }
}

const SECRET: &str = "correct horse";

#[test]
fn messages_arrive_with_every_cipher_and_key() {
    for cipher in [Cipher::Ctr, Cipher::Gcm] {
        for length in [KeyLength::Aes128, KeyLength::Aes192, KeyLength::Aes256] {
            let mut with = config(SECRET);
            with.crypto = with.crypto.map(|crypto| crypto.with_cipher(cipher).with_key_length(length));
            let mut pair = Pair::new(with.clone(), with);
            pair.caller.send(pair.now, b"there");
            pair.callee.send(pair.now, b"and back");
            let clear = pair.caller.sent.iter().any(|d| d.windows(5).any(|window| window == b"there"));
            assert!(!clear, "{cipher:?} {length:?}");
            pair.run_for(ms(200));
            assert_eq!(pair.callee.messages(), [b"there"]);
            assert_eq!(pair.caller.messages(), [b"and back"]);
            assert_eq!(pair.callee.connection.negotiated().unwrap().encrypted, Some(length));
        }
    }
}

#[test]
fn s33_who_has_not_the_passphrase_is_refused_with_the_right_code() {
    let other = "battery staple";
    assert_eq!(Pair::try_new(config(other), config(SECRET)).err(), Some(RejectReason::BAD_SECRET));
    assert_eq!(Pair::try_new(Config::default(), config(SECRET)).err(), Some(RejectReason::UNSECURE));
    assert_eq!(Pair::try_new(config(SECRET), Config::default()).err(), Some(RejectReason::UNSECURE));
}

#[test]
fn s33_without_enforcement_one_side_cannot_read_the_other() {
    let lax = |config: Config| Config { require_encryption: false, ..config };
    let mut pair = Pair::new(lax(config("battery staple")), lax(config(SECRET)));
    pair.caller.send(pair.now, b"data");
    pair.run_for(ms(200));
    assert!(pair.callee.messages().is_empty());
    assert!(pair.callee.connection.statistics(pair.now).totals.pkt_rcv_undecrypt > 0);
}

#[test]
fn s33_data_in_the_clear_is_dropped_on_an_encrypted_connection() {
    let mut pair = Pair::new(config(SECRET), config(SECRET));
    let header = DataHeader {
        position: Position::Only,
        destination: LISTENER_ID,
        ..DataHeader::new(SEQ, MsgNumber::FIRST)
    };
    let mut datagram = BytesMut::new();
    DataPacket { header, payload: Bytes::from_static(b"forged") }.encode(&mut datagram);
    pair.callee.hear(pair.now, datagram.freeze());
    pair.caller.send(pair.now, b"true");
    pair.run_for(ms(200));
    assert_eq!(pair.callee.messages(), [b"true"], "and it took nobody's place");
    assert_eq!(pair.callee.connection.statistics(pair.now).totals.pkt_rcv_undecrypt, 1);
}

#[test]
fn keys_change_while_packets_flow() {
    for cipher in [Cipher::Ctr, Cipher::Gcm] {
        let mut with = config(SECRET);
        with.crypto = with.crypto.map(|crypto| crypto.with_cipher(cipher).with_refresh(64, 16));
        let mut pair = Pair::new(with.clone(), with);
        for n in 0..1_000 {
            pair.caller.connection.send(pair.now, Bytes::from(format!("{n}")), Default::default()).unwrap();
            pair.caller.drain();
            pair.run_for(ms(5));
        }
        pair.run_for(ms(200));
        assert_eq!(pair.callee.messages().len(), 1_000, "{cipher:?}");
        assert_eq!(pair.callee.connection.statistics(pair.now).totals.pkt_rcv_undecrypt, 0);
    }
}
