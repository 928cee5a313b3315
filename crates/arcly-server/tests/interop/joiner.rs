//! A player of our own that measures how soon it has its first picture.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::TrackKind;
use arcly_core::machine::{Machine as _, Output};
use arcly_rtmp::wire::handshake::Entropy;
use arcly_rtmp::{ClientEvent, ClientSession, Intent, RtmpUrl, SessionConfig, Tag};

use super::LIMIT;

/// Plays `url` until the first coded picture: how long after `play` was sent it was there, and whether it is a
/// keyframe of H.264.
pub(crate) fn first_picture(url: &str) -> (Duration, bool) {
    let url: RtmpUrl = url.parse().expect("a URL");
    let mut socket = TcpStream::connect((&*url.host, url.port)).expect("the server listens");
    socket.set_nodelay(true).expect("a TCP socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a TCP socket");
    // What the handshake is filled with does not matter here.
    let entropy = Entropy::from_fn(|bytes| bytes.fill(7));
    let config = Arc::new(SessionConfig::default());
    let mut session = ClientSession::new(config, url, Intent::Play, &entropy, Instant::now());
    let mut buffer = vec![0; 65_536];
    let mut asked = None;
    loop {
        loop {
            match session.poll_output() {
                Output::Transmit(bytes) => {
                    // The string `play` of AMF0, with its length.
                    if bytes.windows(6).any(|six| six == b"\0\x04play") {
                        asked = Some(Instant::now());
                    }
                    socket.write_all(&bytes).expect("the server reads");
                }
                Output::Event(ClientEvent::Tag(tag)) if is_coded_picture(&tag) => {
                    let asked = asked.expect("`play` goes before pictures come");
                    return (asked.elapsed(), tag.payload.first().is_some_and(|byte| byte >> 4 == 1));
                }
                Output::Event(_) => {}
                Output::Wait(_) => break,
            }
        }
        let received = socket.read(&mut buffer).expect("a picture in time");
        assert!(received > 0, "the server hangs up before there is a picture");
        session.handle_input(Instant::now(), &buffer[..received]).expect("the server speaks RTMP");
    }
}

/// A video tag that is neither a sequence header nor the end of a sequence.
fn is_coded_picture(tag: &Tag) -> bool {
    tag.kind == TrackKind::Video && tag.payload.get(1) == Some(&1)
}
