//! Targets over `arcly-rtsp`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::derived::Packetizer as _;
use arcly_core::machine::{Machine, Output};
use arcly_core::{
    CloseReason, CodecConfig, CodecId, FrameFlags, MediaFrame, Timestamp, Track, TrackId, TrackSet,
};
use arcly_rtp::media::{Packetizer, PacketizerOptions};
use arcly_rtsp::session::{Access, Intent, Start};
use arcly_rtsp::srtp::{Message, Protection, Receiver, SrtpError};
use arcly_rtsp::wire::authorization::{Authorization, Nonces, challenges};
use arcly_rtsp::wire::range::{Range, Scale, Speed};
use arcly_rtsp::wire::rtp_info::RtpInfo;
use arcly_rtsp::wire::transport::transports;
use arcly_rtsp::wire::tunnel::{Base64Decoder, Opening, encode_base64};
use arcly_rtsp::wire::{Decoder, Item, KeyMgmt, MessageLimits, PortPair};
use arcly_rtsp::{
    Carriage, ClientEvent, ClientSession, ClientSessionConfig, Datagram, RtspUrl, ServerEvent, ServerSession,
    SessionConfig,
};
use bytes::{Bytes, BytesMut};

use crate::parts;

crate::targets!(rtsp_messages, rtsp_headers, rtsp_server, rtsp_client, rtsp_srtp, rtsp_url, rtsp_tunnel);

/// A connection in pieces: the same messages and frames however it is cut, and what is written of them is read back as
/// the same.
pub fn rtsp_messages(data: &[u8]) {
    let Some((&step, stream)) = data.split_first() else { return };
    let whole = items([stream].into_iter());
    let cut = items(stream.chunks(usize::from(step).max(1)));
    assert_eq!(whole, cut);
    // What is no UTF-8 is longer once it is replaced, and a length is written once more: both may lead beyond a limit.
    let grows = stream.len() > 1_024 || stream.iter().filter(|byte| **byte == b'\n').count() > 60;
    for item in whole.into_iter().filter(|_| !grows) {
        let mut out = BytesMut::new();
        match &item {
            Item::Request(request) => request.encode(&mut out),
            Item::Response(response) => response.encode(&mut out),
            Item::Frame(frame) => frame.encode(&mut out),
        }
        // What comes with a length is written with it twice, and stays one message.
        assert_eq!(items([&out[..]].into_iter()).len(), 1, "{item:?}");
    }
}

fn items<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Item> {
    let limits = MessageLimits::default();
    let mut decoder = Decoder::new(limits);
    decoder.allow_frames(true);
    let mut found = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.poll() {
                Ok(Some(item)) => found.push(item),
                Ok(None) => break,
                Err(_) => return found,
            }
        }
    }
    found
}

/// The values of headers: what is read is written so that it is read as the same again.
pub fn rtsp_headers(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for transport in transports(&text) {
        assert_eq!(transport.to_string().parse().as_ref(), Ok(&transport));
    }
    if let Ok(range) = text.parse::<Range>() {
        assert_eq!(range.to_string().parse(), Ok(range));
    }
    if let Ok(authorization) = text.parse::<Authorization>() {
        let _ = authorization.proves("DESCRIBE", "password");
    }
    let _ = text.parse::<Scale>();
    let _ = text.parse::<Speed>();
    let _ = text.parse::<RtpInfo>();
    if let Ok(header) = text.parse::<KeyMgmt>() {
        let again: KeyMgmt = header.to_string().parse().expect("what is written can be read");
        assert_eq!(again.data, header.data);
        assert_eq!(again.to_string().parse(), Ok(again));
    }
    let _ = challenges([&*text]);
}

/// A server's session: the first byte says what the owner answers; each part is one read from the socket, after which
/// some time passes.
pub fn rtsp_server(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let mut now = Instant::now();
    let access = Access {
        random: [1; 16],
        nonces: Nonces::new(&[2; 32], now),
        udp: (choice & 1 == 0).then_some(PortPair { rtp: 8_000, rtcp: 8_001 }),
    };
    let mut session = ServerSession::new(Arc::new(SessionConfig::default()), access, now);
    let tracks = Arc::new(tracks());
    for part in parts(rest) {
        let failed = session.handle_input(now, part).is_err();
        let mut sent = Vec::new();
        loop {
            match session.poll_output() {
                Output::Transmit(bytes) => sent.extend_from_slice(&bytes),
                Output::Event(event) => match event {
                    ServerEvent::Open { .. } if choice & 2 != 0 => {
                        session.reject(now, CloseReason::Unauthorized)
                    }
                    ServerEvent::Open { intent: Intent::Play, .. } => {
                        session.opened_play(now, Arc::clone(&tracks), 3);
                    }
                    ServerEvent::Open { .. } => session.opened_publish(now),
                    ServerEvent::Play if choice & 4 != 0 => session.reject(now, CloseReason::NotFound),
                    ServerEvent::Play => session.accept_play(now, &[Start::default()]),
                    ServerEvent::Packet { medium, packet, .. } => {
                        session.send_control(medium, packet);
                    }
                    _ => {}
                },
                Output::Wait(_) => break,
            }
        }
        assert!(!failed || session.closed().is_some());
        assert_rtsp(&sent);
        now += Duration::from_millis(u64::from(choice) * 10);
        let _ = session.handle_timeout(now);
    }
}

fn tracks() -> TrackSet {
    TrackSet::new([
        Track::new(TrackId::AUDIO, CodecId::Opus, CodecConfig::None),
        Track::new(TrackId::VIDEO, CodecId::Vp8, CodecConfig::None),
    ])
}

/// Whatever a session says is RTSP, in whole messages.
fn assert_rtsp(said: &[u8]) {
    let mut decoder = Decoder::new(MessageLimits::default());
    decoder.allow_frames(true);
    decoder.push(said);
    while decoder.poll().unwrap_or_else(|error| panic!("{error}: {}", said.escape_ascii())).is_some() {}
    assert_eq!(decoder.buffered(), 0, "whole messages");
}

/// A client's session against a server that says anything. The first byte says what the client wants; each part is one read from the
/// socket, or, when it begins with a number below four and the first byte wants datagrams, a datagram to that port.
pub fn rtsp_client(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let mut now = Instant::now();
    let url = if choice & 1 == 0 { "rtsp://h/cam" } else { "rtsp://u:p@h/cam" };
    let mut config = ClientSessionConfig::default();
    let udp = choice & 2 != 0;
    config.carriage = if udp { Carriage::Automatic } else { Carriage::Tcp };
    let (config, url) = (Arc::new(config), url.parse().expect("a URL"));
    let mut session = if choice & 4 == 0 {
        ClientSession::pull(config, url, [1; 16], now)
    } else {
        let what = (&tracks(), PacketizerOptions::new(1));
        ClientSession::push(config, url, what, [1; 16], now).expect("tracks with formats")
    };
    for part in parts(rest) {
        let wake = drain_client(&mut session, now, data.len());
        if wake.is_some_and(|wake| wake <= now) {
            let _ = session.handle_timeout(now);
        }
        let taken = match part.split_first() {
            Some((&port, payload)) if udp && port < 4 => {
                let payload = Bytes::copy_from_slice(payload);
                let datagram = Datagram { medium: usize::from(port / 2), control: port % 2 == 1, payload };
                session.handle_datagram(now, &datagram)
            }
            _ => session.handle_input(now, part),
        };
        assert!(taken.is_ok() || session.closed().is_some(), "errors are final");
        now += Duration::from_millis(u64::from(choice >> 3) * 10);
    }
    // An hour without a word: it ends, or waits.
    let end = now + Duration::from_secs(3_600);
    for _ in 0..100_000 {
        match drain_client(&mut session, now, data.len()) {
            Some(wake) if wake <= end => now = now.max(wake),
            _ => return,
        }
        let _ = session.handle_timeout(now);
    }
    panic!("the session never rests");
}

/// Takes what the session has to say; when it is to be woken.
fn drain_client(session: &mut ClientSession, now: Instant, heard: usize) -> Option<Instant> {
    let mut said = Vec::new();
    let wake = loop {
        match session.poll_output() {
            Output::Transmit(bytes) => said.extend_from_slice(&bytes),
            Output::Event(ClientEvent::PortsNeeded(count)) => {
                session.set_ports(now, vec![PortPair { rtp: 5_000, rtcp: 5_001 }; count.min(2)]);
            }
            Output::Event(ClientEvent::Started) => {
                let frame = MediaFrame::new(TrackId::AUDIO, Timestamp::ZERO, Bytes::from_static(b"sound"))
                    .with_flags(FrameFlags::KEYFRAME);
                let mut packetizer = Packetizer::new(PacketizerOptions::new(1));
                packetizer.headers(&tracks().into());
                let mut packets = Vec::new();
                packetizer.packetize(&frame, &mut packets);
                packets.iter().for_each(|packet| session.send_packets(packet));
            }
            Output::Event(_) => {}
            Output::Wait(wake) => break wake,
        }
    };
    assert_rtsp(&said);
    assert!(said.len() <= 64 * heard + (64 << 10), "{} bytes of answers to {heard}", said.len());
    wake
}

/// Keys, and packets that are protected with them. The first part is a MIKEY message; the others are packets, which are protected and
/// come back, and packets of somebody who may have the key.
pub fn rtsp_srtp(data: &[u8]) {
    let mut parts = parts(data);
    let Some(first) = parts.next() else { return };
    let _ = Message::from_base64(&String::from_utf8_lossy(first));
    let Ok(message) = Message::decode(first) else { return };
    assert_eq!(Message::decode(&message.to_bytes()).as_ref(), Ok(&message));
    assert_eq!(Message::from_base64(&message.to_base64()).as_ref(), Ok(&message));
    let protection = Protection { ours: message.key.clone(), theirs: Some(message) };
    let (mut sender, mut peer) = (protection.sender(), Receiver::new(&protection.ours));
    let mut receiver = protection.receiver().expect("their key");
    for packet in parts {
        let _ = (receiver.unprotect(packet), receiver.unprotect_rtcp(packet));
        if let Ok(protected) = sender.protect(packet) {
            assert_eq!(peer.unprotect(&protected).as_deref(), Ok(packet));
            assert!(peer.unprotect(&protected).is_err(), "once");
        }
        match sender.protect_rtcp(packet).map(|protected| peer.unprotect_rtcp(&protected)) {
            Ok(Ok(report)) => assert_eq!(&*report, packet),
            Ok(Err(error)) => assert_eq!(error, SrtpError::TooManySources),
            Err(_) => {}
        }
    }
}

/// URLs, and behind a line break what a server means by one: whatever it says, its requests go to the server that the URL names.
pub fn rtsp_url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (url, given) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok(url) = url.parse::<RtspUrl>() else { return };
    let place = |url: &RtspUrl| (url.tls, url.host.clone(), url.port);
    let again: RtspUrl = url.request_uri().parse().expect("what is asked for is a URL");
    assert_eq!((place(&again), again.path_and_query()), (place(&url), url.path_and_query()));
    assert!(again.login.is_none(), "without a secret");
    assert!(!url.to_string().contains('?'), "nor is one logged");
    for meant in [url.resolve(given), url.rebased(given)] {
        if let Ok(meant) = meant.parse::<RtspUrl>() {
            assert_eq!((place(&meant), meant.login), (place(&url), None), "{given}");
        }
    }
    if let Some(elsewhere) = url.redirected(given) {
        assert!(elsewhere.tls || !url.tls, "not into the clear");
    }
}

/// The text of a tunnel: the same bytes however it is cut, and what is written is read back; and the requests that open one.
pub fn rtsp_tunnel(data: &[u8]) {
    let Some((&step, text)) = data.split_first() else { return };
    let whole = decode_base64([text].into_iter());
    let cut = decode_base64(text.chunks(usize::from(step).max(1)));
    assert_eq!(whole, cut);
    assert!(whole.is_none_or(|bytes| bytes.len() <= text.len() / 4 * 3));
    let written = encode_base64(text);
    assert_eq!(decode_base64(written.chunks(usize::from(step).max(1))).as_deref(), Some(text));
    for item in items([text].into_iter()) {
        if let Item::Request(request) = item
            && let Err(refusal) = Opening::of(&request)
        {
            assert!(refusal.status.0 >= 400);
            assert_eq!(items([&refusal.to_bytes()[..]].into_iter()).len(), 1);
        }
    }
}

/// `None` for what is no Base64.
fn decode_base64<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let (mut decoder, mut out) = (Base64Decoder::default(), BytesMut::new());
    for piece in pieces {
        decoder.push(piece, &mut out).ok()?;
    }
    Some(out.to_vec())
}
