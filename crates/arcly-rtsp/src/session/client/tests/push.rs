//! What is pushed.

use super::*;

fn tracks() -> TrackSet {
    let pcm = arcly_core::codec::PcmConfig { sample_rate: 8_000, channels: 1, bits_per_sample: 8 };
    let video = Track::new(TrackId::VIDEO, CodecId::Vp8, CodecConfig::None);
    let audio = Track::new(TrackId::AUDIO, CodecId::Pcma, CodecConfig::Pcm(pcm));
    TrackSet::new([video, audio])
}

fn frame_of(track: TrackId, millis: i64, channel: u8) -> Packet {
    let bytes = Frame { channel, payload: packet(96, 1, 0, 1, &[1; 10]) }.to_bytes();
    Packet { track, dts: Timestamp::from_millis(millis), flags: FrameFlags::KEYFRAME, bytes }
}

/// The same with a report before it.
fn reported(packet: &Packet) -> Packet {
    let channel = packet.bytes[1] + 1;
    let bytes = [Frame { channel, payload: report(1, 0, 0) }.to_bytes(), packet.bytes.clone()].concat();
    Packet { bytes: bytes.into(), ..packet.clone() }
}

#[test]
fn a_push_announces_sets_up_and_records() {
    let mut bench = Bench::push("rtsp://h/app/cam", Carriage::Automatic, &tracks());
    bench.answer(Method::Options, "Public: OPTIONS, ANNOUNCE, SETUP, RECORD\r\n", "");
    let announce = bench.answer(Method::Announce, "", "");
    assert_eq!(announce.headers.get("Content-Type"), Some("application/sdp"));
    let sdp = String::from_utf8(announce.body.to_vec()).unwrap();
    assert!(sdp.contains("VP8/90000") && sdp.contains("a=control:streamid=1"), "{sdp}");
    let setup = bench.answer(Method::Setup, "Session: 5\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n", "");
    assert_eq!(setup.uri, "rtsp://h/app/cam/streamid=0");
    assert_eq!(setup.headers.get("Transport"), Some("RTP/AVP/TCP;unicast;interleaved=0-1;mode=record"));
    // The server wants other channels for the second.
    bench.answer(Method::Setup, "Transport: RTP/AVP/TCP;interleaved=8-9\r\n", "");
    bench.answer(Method::Record, "", "");
    assert!(bench.session.is_flowing() && bench.session.announced().len() == 2);
    bench.session.send_packets(&frame_of(TrackId::VIDEO, 0, 0));
    bench.session.send_packets(&reported(&frame_of(TrackId::AUDIO, 0, 2)));
    bench.session.send_packets(&frame_of(TrackId::new(7).unwrap(), 0, 4));
    let channels: Vec<u8> = bench
        .said()
        .iter()
        .filter_map(|item| match item {
            Item::Frame(frame) => Some(frame.channel),
            _ => None,
        })
        .collect();
    assert_eq!(channels, [0, 9, 8]);
    // A picture was lost on the way.
    let mut pli = BytesMut::new();
    RtcpPacket::PictureLoss(arcly_rtp::wire::rtcp::PictureLoss { sender: 1, media: 2 }).encode(&mut pli);
    bench.frame(1, pli.freeze()).unwrap();
    bench.drain();
    assert_eq!(bench.events.last(), Some(&ClientEvent::KeyframeRequested));
}

#[test]
fn a_push_over_datagrams_when_the_connection_is_refused() {
    let mut bench = Bench::push("rtsp://h/app/cam", Carriage::Automatic, &tracks());
    bench.answer(Method::Options, "", "");
    bench.answer(Method::Announce, "", "");
    bench.answer_with(Method::Setup, "461 Unsupported Transport", "", "").unwrap();
    bench.drain();
    assert_eq!(bench.events, [ClientEvent::PortsNeeded(2)]);
    bench.session.set_ports(bench.clock.now(), vec![PortPair { rtp: 5_000, rtcp: 5_001 }; 2]);
    let transport = "Session: 5\r\nTransport: RTP/AVP;server_port=6000-6001\r\n";
    let setup = bench.answer(Method::Setup, transport, "");
    assert_eq!(setup.headers.get("Transport"), Some("RTP/AVP;unicast;client_port=5000-5001;mode=record"));
    bench.answer(Method::Setup, transport, "");
    bench.answer(Method::Record, "", "");
    bench.drain();
    bench.events.clear();
    bench.session.send_packets(&reported(&frame_of(TrackId::AUDIO, 0, 2)));
    let sent: Vec<_> = bench.datagrams().into_iter().map(|sent| (sent.medium, sent.control)).collect();
    assert_eq!(sent, [(1, true), (1, false)]);
    let nothing = TrackSet::new([Track::new(TrackId::VIDEO, CodecId::Amf, CodecConfig::None)]);
    let config = Arc::new(ClientSessionConfig::default());
    let url: RtspUrl = "rtsp://h/a".parse().unwrap();
    let refused =
        ClientSession::push(config, url, (&nothing, PacketizerOptions::new(1)), [0; 16], bench.clock.now());
    assert_eq!(refused.unwrap_err(), ClientError::NoMedia);
}

/// The keys that a description has.
fn described_keys(announce: &Request) -> Vec<Option<Message>> {
    let description: arcly_rtp::sdp::SessionDescription =
        str::from_utf8(&announce.body).unwrap().parse().unwrap();
    let key = |medium: &arcly_rtp::sdp::MediaDescription| {
        assert_eq!(medium.protocol.contains("SAVP"), medium.attribute("key-mgmt").is_some());
        let said = medium.attribute("key-mgmt").and_then(crate::wire::KeyMgmt::of_attribute)?;
        Some(Message::from_base64(said).unwrap())
    };
    description.media.iter().map(key).collect()
}

/// A push to where SETUP is answered with keys, or without.
fn pushes(url: &str, carriage: Carriage, theirs: Option<&Keyring>) -> (Bench, Vec<Option<Message>>) {
    let mut bench = Bench::push(url, carriage, &tracks());
    bench.session = bench.session.with_keys(keys(1));
    bench.answer(Method::Options, "", "");
    let said = described_keys(&bench.answer(Method::Announce, "", ""));
    if carriage == Carriage::Udp {
        bench.session.set_ports(bench.clock.now(), vec![PortPair { rtp: 5_000, rtcp: 5_001 }; 2]);
    }
    for (at, described) in said.iter().enumerate() {
        let key = |keys: &Keyring| {
            let data = keys.message(at, 0).unwrap().to_base64();
            format!("KeyMgmt: {}\r\n", crate::wire::KeyMgmt { uri: url.to_owned(), data })
        };
        let told = theirs.map(key).unwrap_or_default();
        let transport = match carriage {
            Carriage::Udp => "RTP/SAVP;server_port=6000-6001".to_owned(),
            _ => format!("RTP/SAVP/TCP;interleaved={}-{}", 2 * at, 2 * at + 1),
        };
        let setup =
            bench.answer(Method::Setup, &format!("Session: 5\r\nTransport: {transport}\r\n{told}"), "");
        let message = setup.headers.get("KeyMgmt").map(|header| {
            let header: crate::wire::KeyMgmt = header.parse().unwrap();
            Message::from_base64(&header.data).unwrap()
        });
        assert_eq!(message, *described, "SETUP says the key of the description");
        assert_eq!(setup.headers.get("Transport").unwrap().starts_with("RTP/SAVP"), message.is_some());
    }
    bench.answer(Method::Record, "", "");
    bench.drain();
    bench.events.clear();
    (bench, said)
}

#[test]
fn what_is_pushed_beside_tls_in_datagrams_or_where_the_url_asks_for_it_is_protected() {
    let theirs = keys(7);
    let (mut bench, said) = pushes("rtsps://h/app/cam", Carriage::Udp, Some(&theirs));
    let ours = said[1].clone().expect("a key");
    assert_eq!(Some(&ours.key), keys(1).key(1).as_ref());
    assert_ne!(said[0].as_ref().map(|message| &message.key), Some(&ours.key), "one for each medium");
    let packet = reported(&frame_of(TrackId::AUDIO, 0, 2));
    bench.session.send_packets(&packet);
    let mut receiver = Receiver::new(&ours.key);
    let sent = bench.datagrams();
    let plain: Vec<_> =
        arcly_rtp::media::interleaved(packet.bytes.clone()).map(|(_, packet)| packet).collect();
    assert_eq!(receiver.unprotect_rtcp(&sent[0].payload).unwrap(), plain[0]);
    assert_eq!(receiver.unprotect(&sent[1].payload).unwrap(), plain[1]);
    // What the server says is protected with its own key, or not listened to.
    let mut pli = BytesMut::new();
    RtcpPacket::PictureLoss(arcly_rtp::wire::rtcp::PictureLoss { sender: 1, media: 2 }).encode(&mut pli);
    let mut hears = |payload: Bytes| {
        let datagram = Datagram { medium: 0, control: true, payload };
        bench.session.handle_datagram(bench.clock.now(), &datagram).unwrap();
        bench.drain();
        core::mem::take(&mut bench.events)
    };
    assert!(hears(pli.clone().freeze()).is_empty());
    let mut sender = Sender::new(&theirs.key(0).unwrap());
    assert_eq!(hears(sender.protect_rtcp(&pli).unwrap()), [ClientEvent::KeyframeRequested]);

    // A server that says no key is sent what is protected all the same.
    let (mut bench, said) = pushes("rtsps://h/app/cam?srtp", Carriage::Automatic, None);
    bench.session.send_packets(&packet);
    let mut receiver = Receiver::new(&said[1].as_ref().unwrap().key);
    let frames: Vec<_> = bench
        .said()
        .into_iter()
        .filter_map(|item| match item {
            Item::Frame(frame) => Some((frame.channel, frame.payload)),
            _ => None,
        })
        .collect();
    assert_eq!(frames.iter().map(|(channel, _)| *channel).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(receiver.unprotect_rtcp(&frames[0].1).unwrap(), plain[0]);
    assert_eq!(receiver.unprotect(&frames[1].1).unwrap(), plain[1]);
}

#[test]
fn what_is_pushed_over_tls_alone_or_in_the_clear_has_no_keys() {
    for url in ["rtsps://h/app/cam", "rtsp://h/app/cam?srtp"] {
        let (_, said) = pushes(url, Carriage::Tcp, None);
        assert_eq!(said, [None, None], "{url}");
    }
}
