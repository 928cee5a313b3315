//! What libsrt sends: decoded, encoded again to the same bytes, decrypted, and brought back when it is lost.

use std::net::Ipv4Addr;

use arcly_srt::wire::{Control, DataPacket, Handshake, HandshakeKind, MsgNumber, Packet};
use bytes::Bytes;

/// A datagram, and whether it came from the caller.
type Datagram = (bool, Bytes);

fn datagrams(capture: &'static [u8]) -> Vec<Datagram> {
    let (mut rest, mut datagrams) = (capture, Vec::new());
    while let Some(([direction, high, low], tail)) = rest.split_first_chunk() {
        let (datagram, after) = tail.split_at(u16::from_be_bytes([*high, *low]).into());
        datagrams.push((*direction == b'>', Bytes::from_static(datagram)));
        rest = after;
    }
    datagrams
}

macro_rules! captures {
    ($($name:ident = $file:literal;)*) => {
        $(fn $name() -> Vec<Datagram> {
            datagrams(include_bytes!(concat!("captures/libsrt_1.5.1_", $file, ".bin")))
        })*

        fn all() -> Vec<Vec<Datagram>> {
            vec![$($name()),*]
        }
    };
}

captures! {
    plain = "plain";
    aes128 = "aes128";
    aes192 = "aes192";
    aes256_refresh = "aes256_refresh";
    aes128_fec = "aes128_fec";
}

fn decode(datagram: &Bytes) -> Packet {
    Packet::decode(datagram).unwrap_or_else(|error| panic!("{error}: {datagram:?}"))
}

fn handshakes(capture: &[Datagram]) -> Vec<Handshake> {
    let handshake = |(_, datagram): &Datagram| match decode(datagram) {
        Packet::Control(packet) => match packet.control {
            Control::Handshake(handshake) => Some(handshake),
            _ => None,
        },
        Packet::Data(_) => None,
    };
    capture.iter().filter_map(handshake).collect()
}

/// Data of the caller, the packet filter's own packets among it.
fn data(capture: &[Datagram]) -> Vec<DataPacket> {
    let packet = |(from_caller, datagram): &Datagram| match decode(datagram) {
        Packet::Data(packet) if *from_caller => Some(packet),
        _ => None,
    };
    capture.iter().filter_map(packet).collect()
}

fn message(n: usize) -> String {
    format!("packet {n:03} of a capture, forty-eight bytes long\n")
}

#[test]
fn every_datagram_encodes_to_itself() {
    for (_, datagram) in all().concat() {
        let packet = decode(&datagram);
        let encoded = packet.to_bytes();
        assert_eq!(encoded, datagram, "{packet:?}");
    }
}

#[test]
fn handshakes_are_understood() {
    let handshakes = handshakes(&plain());
    let [induction, cookie, conclusion, answer] = &handshakes[..] else { panic!("{handshakes:?}") };
    assert_eq!((induction.version, induction.extension_field, induction.cookie), (4, Handshake::DATAGRAM, 0));
    assert_eq!((cookie.version, cookie.extension_field), (5, Handshake::MAGIC));
    assert_eq!((induction.kind, cookie.kind), (HandshakeKind::Induction, HandshakeKind::Induction));
    assert_eq!((conclusion.kind, answer.kind), (HandshakeKind::Conclusion, HandshakeKind::Conclusion));
    assert_eq!(conclusion.cookie, cookie.cookie);
    assert_eq!(conclusion.peer_ip, Ipv4Addr::LOCALHOST);
    let asked = conclusion.decode_extensions().unwrap();
    let answered = answer.decode_extensions().unwrap();
    assert_eq!((asked.flags(), answered.flags()), (conclusion.extension_field, answer.extension_field));
    assert_eq!(asked.stream_id.as_deref(), Some("publish:live/cam"));
    let delays = |hs: arcly_srt::wire::HsExtension| (hs.response, hs.receiver_delay_ms, hs.sender_delay_ms);
    assert_eq!(asked.hs.map(delays), Some((false, 60, 60)));
    assert_eq!(answered.hs.map(delays), Some((true, 80, 80)));
    for handshake in all().iter().flat_map(|capture| self::handshakes(capture)) {
        let mut again = handshake.clone();
        if again.kind == HandshakeKind::Conclusion {
            again.set_extensions(&handshake.decode_extensions().unwrap());
        }
        assert_eq!(again, handshake, "extensions encode to the same, in the same order");
    }
}

#[test]
fn messages_in_the_clear_are_there() {
    let data = data(&plain());
    for (n, packet) in data.iter().enumerate() {
        assert_eq!(packet.payload, message(n + 1));
        assert_eq!(packet.header.message.value() as usize, n + 1);
    }
    assert_eq!(data.len(), 12);
}

#[cfg(feature = "encryption")]
mod encrypted {
    use std::time::Instant;

    use arcly_srt::crypto::{Crypto, CryptoConfig};
    use arcly_srt::wire::{KeyLength, KeySpec, KmExtension};
    use bytes::BytesMut;

    use super::*;

    /// A listener that knows the passphrase, and has the keys of the caller's conclusion.
    fn listener(capture: &[Datagram]) -> Crypto {
        let config = CryptoConfig::new("0123456789abc".parse().expect("long enough"));
        let mut crypto = Crypto::new(&config).expect("encryption");
        let keys = handshakes(capture).into_iter().find_map(|handshake| {
            match handshake.decode_extensions().ok()?.km {
                Some(KmExtension::Request(keys)) => Some(keys),
                _ => None,
            }
        });
        crypto
            .handle_request(Instant::now(), &keys.expect("keys in the conclusion"))
            .expect("the right passphrase");
        crypto
    }

    fn open(crypto: &Crypto, packet: &DataPacket) -> Bytes {
        let mut payload = BytesMut::from(&packet.payload[..]);
        crypto.open(&packet.header, &mut payload).expect("a key that was given");
        payload.freeze()
    }

    #[test]
    fn messages_are_decrypted_with_keys_of_each_length() {
        for (capture, length) in [(aes128(), KeyLength::Aes128), (aes192(), KeyLength::Aes192)] {
            let crypto = listener(&capture);
            assert_eq!(crypto.key_length(), length);
            let data = data(&capture);
            for (n, packet) in data.iter().enumerate() {
                assert_eq!(packet.header.key, KeySpec::Even);
                assert_eq!(open(&crypto, packet), message(n + 1));
            }
            assert_eq!(data.len(), 12);
        }
    }

    #[test]
    fn a_key_that_changes_is_followed_and_its_request_answered_as_libsrt_does() {
        let capture = aes256_refresh();
        let (mut crypto, mut requests, mut n) = (listener(&capture), Vec::new(), 0);
        assert_eq!(crypto.key_length(), KeyLength::Aes256);
        for (from_caller, datagram) in &capture {
            match decode(datagram) {
                Packet::Data(packet) if *from_caller => {
                    n += 1;
                    assert_eq!(packet.header.key, if n <= 64 { KeySpec::Even } else { KeySpec::Odd });
                    assert_eq!(open(&crypto, &packet), message(n));
                }
                Packet::Control(packet) => match packet.control {
                    Control::KeyRequest(keys) => {
                        crypto.handle_request(Instant::now(), &keys).expect("the same passphrase");
                        requests.push(keys);
                    }
                    Control::KeyResponse(response) => {
                        let expected =
                            requests.last().map(|keys| arcly_srt::wire::KeyResponse::Accepted(keys.clone()));
                        assert_eq!(Some(response), expected);
                    }
                    _ => {}
                },
                Packet::Data(_) => {}
            }
        }
        assert_eq!((n, requests.len()), (110, 1));
    }

    #[test]
    fn what_is_sealed_here_is_what_libsrt_sealed() {
        for capture in [aes128(), aes192()] {
            // The listener sends with the caller's key, so that its ciphertext is the caller's.
            let mut crypto = listener(&capture);
            for (n, packet) in data(&capture).iter().enumerate() {
                let mut header = arcly_srt::wire::DataHeader { key: KeySpec::None, ..packet.header };
                let mut payload = BytesMut::from(message(n + 1).as_bytes());
                crypto.seal(&mut header, &mut payload);
                assert_eq!((header, &payload[..]), (packet.header, &packet.payload[..]));
            }
        }
    }

    #[test]
    fn a_lost_packet_comes_back_sealed_and_is_opened() {
        let capture = aes128_fec();
        let (crypto, packets) = (listener(&capture), data(&capture));
        let messages = packets.iter().filter(|packet| packet.header.message != MsgNumber::CONTROL).count();
        assert_eq!((messages, packets.len()), (40, 40 + 10 + 11));
        let recovered =
            recover(&packets, packets.iter().position(|packet| packet.header.message.value() == 18));
        assert_eq!(open(&crypto, &recovered.expect("the eighteenth")), message(18));
    }
}

/// What comes back of the packet at this place, when it alone is lost.
fn recover(packets: &[DataPacket], lost: Option<usize>) -> Option<DataPacket> {
    let first = packets.first()?.header.seq;
    let mut receiver = arcly_srt::filter::FecReceiver::new(fec_layout(), first);
    packets
        .iter()
        .enumerate()
        .filter(|(n, _)| Some(*n) != lost)
        .for_each(|(_, packet)| receiver.handle_packet(packet));
    receiver.poll_recovered()
}

fn fec_layout() -> arcly_srt::filter::FecLayout {
    let handshakes = handshakes(&aes128_fec());
    let filters = handshakes.iter().filter_map(|handshake| handshake.decode_extensions().ok()?.filter);
    let filters: Vec<String> = filters.collect();
    let [asked, agreed] = &filters[..] else { panic!("{filters:?}") };
    assert_eq!(agreed, "fec,arq:onreq,cols:4,layout:staircase,rows:3");
    let ours: arcly_srt::filter::FilterConfig = "fec".parse().expect("a filter");
    let layout =
        ours.merge(&asked.parse().expect("a filter")).and_then(|config| config.layout()).expect("agreed");
    assert_eq!(
        agreed.parse::<arcly_srt::filter::FilterConfig>().and_then(|config| config.layout()),
        Ok(layout)
    );
    layout
}

#[test]
fn every_packet_that_is_lost_alone_comes_back() {
    let packets = data(&aes128_fec());
    for (lost, packet) in packets.iter().enumerate() {
        let recovered = recover(&packets, Some(lost));
        if packet.header.message == MsgNumber::CONTROL {
            assert_eq!(recovered, None, "the filter's own packets are not missed");
            continue;
        }
        let header = arcly_srt::wire::DataHeader { retransmitted: true, ..packet.header };
        assert_eq!(recovered, Some(DataPacket { header, payload: packet.payload.clone() }));
    }
}

#[test]
fn the_filter_here_sends_what_libsrt_sends() {
    let packets = data(&aes128_fec());
    let mut sender = arcly_srt::filter::FecSender::new(fec_layout(), packets[0].header.seq);
    let mut parities = 0;
    for packet in &packets {
        if packet.header.message != MsgNumber::CONTROL {
            assert_eq!(sender.poll_packet(), None);
            sender.handle_packet(&packet.header, &packet.payload);
            continue;
        }
        let mut ours = sender.poll_packet().expect("where libsrt sends one");
        ours.header.destination = packet.header.destination;
        assert_eq!(ours.header, packet.header);
        // libsrt fills up with zeros to the largest payload.
        let (same, filled) = packet.payload.split_at(ours.payload.len());
        assert_eq!(ours.payload, same);
        assert!(filled.iter().all(|byte| *byte == 0));
        parities += 1;
    }
    assert!(parities > 15, "{parities}");
}
