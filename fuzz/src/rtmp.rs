//! Targets over `arcly-rtmp`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::machine::{Machine, Output};
use arcly_core::{CloseReason, StreamKey};
use arcly_rtmp::wire::handshake::Entropy;
use arcly_rtmp::wire::{ChunkDecoder, ChunkLimits, ControlMessage, Invoke, Request, Response};
use arcly_rtmp::{ClientSession, Intent, RtmpUrl, ServerEvent, ServerSession, SessionConfig};

use crate::parts;

crate::targets!(rtmp_chunks, rtmp_server, rtmp_client, rtmp_url);

/// C0 and C1, or S0 and S1: a version, a time and the zeros of a plain handshake, and 1 528 more bytes.
const HELLO: usize = 1 + 1_536;
/// C2, or S2.
const ECHO: usize = 1_536;

/// A chunk stream in pieces: the same messages however it is cut, within the limits on what is held.
pub fn rtmp_chunks(data: &[u8]) {
    let limits =
        ChunkLimits { partial_bytes: 64 << 10, media_message_bytes: 32 << 10, ..ChunkLimits::default() };
    let Some((&step, stream)) = data.split_first() else { return };
    let whole = messages(limits, [stream].into_iter());
    let cut = messages(limits, stream.chunks(usize::from(step).max(1)));
    assert_eq!(whole, cut);
}

/// The messages of a chunk stream, as text, up to the first error.
fn messages<'a>(limits: ChunkLimits, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut decoder = ChunkDecoder::new(limits);
    let mut found = Vec::new();
    for mut piece in pieces {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(message)) => {
                    let _ = ControlMessage::decode(message.kind, &message.payload);
                    if let Ok(invoke) = Invoke::decode(message.kind, &message.payload) {
                        let _ = Request::decode(&invoke);
                        let _ = Response::decode(invoke);
                    }
                    found.push(format!("{message:?}"));
                }
                Ok(None) => break,
                Err(_) => return found,
            }
            assert!(decoder.partial_bytes() <= limits.partial_bytes);
        }
    }
    found
}

/// A server's session: the first byte says whether the peer has shaken hands and what the owner answers; each
/// part is one read from the socket, after which some time passes.
pub fn rtmp_server(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let start = Instant::now();
    let mut session = ServerSession::new(Arc::new(SessionConfig::default()), entropy(), start);
    if choice & 1 == 0 {
        shake(&mut session, start);
    }
    drive(session, start, rest, |session, now, event| match event {
        ServerEvent::PublishRequest { stream, .. } if choice & 2 == 0 => session.accept_publish(now, *stream),
        ServerEvent::PlayRequest { stream, .. } if choice & 4 == 0 => session.accept_play(now, *stream),
        ServerEvent::PublishRequest { stream, .. } | ServerEvent::PlayRequest { stream, .. } => {
            session.reject(*stream, CloseReason::Unauthorized, "no");
        }
        _ => {}
    });
}

/// A client's session against a server that says anything.
pub fn rtmp_client(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let start = Instant::now();
    let url: RtmpUrl = "rtmp://127.0.0.1/live/cam".parse().expect("a URL");
    let intent = if choice & 2 == 0 { Intent::Play } else { Intent::Publish };
    let mut session = ClientSession::new(Arc::new(SessionConfig::default()), url, intent, &entropy(), start);
    if choice & 1 == 0 {
        shake(&mut session, start);
    }
    drive(session, start, rest, |_, _, _| {});
}

/// A URL that is accepted names a stream that is accepted, or says why not.
pub fn rtmp_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(url) = text.parse::<RtmpUrl>() else { return };
    assert!(!url.tc_url().is_empty());
    let _ = StreamKey::from_parts(&url.app, &url.name());
}

/// The peer's half of a plain handshake.
fn shake<M: Machine>(session: &mut M, now: Instant) {
    let mut hello = vec![0; HELLO + ECHO];
    hello[0] = 3;
    session.handle_input(now, &hello).expect("a plain handshake is accepted");
}

/// Runs a machine as its owner does, and checks that it keeps the contract of [`Machine`].
fn drive<M: Machine>(
    mut session: M,
    start: Instant,
    data: &[u8],
    mut answer: impl FnMut(&mut M, Instant, &M::Event),
) {
    let mut now = start;
    let mut put_out = 0_usize;
    for part in parts(data) {
        let failed = session.handle_input(now, part).is_err();
        let wake = loop {
            match session.poll_output() {
                Output::Transmit(bytes) => {
                    assert!(!bytes.is_empty(), "nothing to transmit is no output");
                    put_out += bytes.len();
                }
                Output::Event(event) => answer(&mut session, now, &event),
                Output::Wait(wake) => break wake,
            }
        };
        // What a peer makes the session say is in proportion to what the peer said.
        assert!(put_out <= 64 * data.len() + (64 << 10), "{put_out} bytes of answers to {}", data.len());
        if failed {
            return;
        }
        now += Duration::from_millis(10);
        if wake.is_some_and(|wake| wake <= now) && session.handle_timeout(now).is_err() {
            return;
        }
    }
    // An hour of silence ends any session without a word from its peer, or leaves it waiting for input alone.
    let end = now + Duration::from_secs(3_600);
    for _ in 0..100_000 {
        match session.poll_output() {
            Output::Wait(None) => return,
            Output::Wait(Some(wake)) if wake > end => return,
            Output::Wait(Some(wake)) => {
                now = now.max(wake);
                if session.handle_timeout(now).is_err() {
                    return;
                }
            }
            _ => {}
        }
    }
    panic!("the session never rests");
}

fn entropy() -> Entropy {
    Entropy::from_fn(|bytes| bytes.iter_mut().zip(0_u8..=255).for_each(|(byte, n)| *byte = n))
}
