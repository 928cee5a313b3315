use std::io;

use super::clip::{AUDIO, Frame, VIDEO};
use super::marker::{MARKER, Marker};
use super::peer::Peer;

/// What stands before each packet on the connection: `$`, channel, length.
const PREFIX: usize = 4;
/// The header of an RTP packet that has neither sources nor extensions.
const RTP: usize = 12;
/// Bytes of a packet that are kept: enough for parameter sets and the SEI message behind them.
const KEPT: usize = 192;
/// An answer's head, or its body.
const MAX_ANSWER: usize = 16 << 10;

const SLICE_OF_KEYFRAME: u8 = 5;
const SEI: u8 = 6;
const PARAMETER_SET: u8 = 7;
const AGGREGATE: u8 = 24;
const FRAGMENT: u8 = 28;
/// Where the marker of a picture is in its SEI NAL unit: behind the header, payload type, size, and the UUID.
const SEI_MARKER: usize = 19;
/// And that of a sound in its packet: behind the size of the headers, and the one header.
const SOUND_MARKER: usize = 4;

/// An RTSP client of all media of one stream over the connection: DESCRIBE, SETUP, PLAY, each after the answer to the last. Shares no
/// code with arcly's. It says nothing more, as no scenario takes as long as a session does to time out.
#[derive(Debug)]
pub struct RtspPeer {
    url: String,
    state: State,
    session: String,
    /// The answer that is being read.
    answer: Vec<u8>,
    /// What the description has, in its order: kinds, and names to set them up with.
    media: Vec<(u8, String)>,
    packets: PacketSkimmer,
    picture: Picture,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Describing,
    /// So many media are set up.
    SettingUp(usize),
    Starting,
    Playing,
}

/// What has come of a picture.
#[derive(Debug, Default)]
struct Picture {
    marker: Option<Marker>,
    key: bool,
}

impl RtspPeer {
    /// A client of the stream `app/name`.
    #[must_use]
    pub fn new(app: &str, stream: &str) -> Self {
        Self {
            url: format!("rtsp://127.0.0.1/{app}/{stream}"),
            state: State::Describing,
            session: String::new(),
            answer: Vec::new(),
            media: Vec::new(),
            packets: PacketSkimmer::new(),
            picture: Picture::default(),
        }
    }

    /// Reads what comes before the packets; what follows an answer is handed back.
    fn answers<'a>(&mut self, mut bytes: &'a [u8], out: &mut Vec<u8>) -> io::Result<&'a [u8]> {
        while self.state != State::Playing
            && let Some((&byte, rest)) = bytes.split_first()
        {
            bytes = rest;
            self.answer.push(byte);
            let Some(head) = self.answer.windows(4).position(|end| end == b"\r\n\r\n") else {
                if self.answer.len() > MAX_ANSWER {
                    return Err(bad("an answer has no end"));
                }
                continue;
            };
            let text = String::from_utf8_lossy(&self.answer).into_owned();
            let body = header(&text, "content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
            if body > MAX_ANSWER {
                return Err(bad("a body is too long"));
            }
            if self.answer.len() == head + 4 + body {
                self.answer.clear();
                self.answered(&text, out)?;
            }
        }
        Ok(bytes)
    }

    /// Goes on with what an answer allows.
    fn answered(&mut self, answer: &str, out: &mut Vec<u8>) -> io::Result<()> {
        if !answer.starts_with("RTSP/1.0 200") {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, answer.to_owned()));
        }
        if let Some(session) = header(answer, "session") {
            self.session = session.split(';').next().unwrap_or_default().to_owned();
        }
        self.state = match self.state {
            State::Describing => {
                self.media = described(answer);
                State::SettingUp(0)
            }
            State::SettingUp(done) => State::SettingUp(done + 1),
            State::Starting | State::Playing => State::Playing,
        };
        let State::SettingUp(done) = self.state else { return Ok(()) };
        let Some((_, name)) = self.media.get(done) else {
            self.state = State::Starting;
            self.request(out, "PLAY", &format!("{}/", self.url), "Range: npt=0.000-\r\n");
            return Ok(());
        };
        let channels = format!("{}-{}", 2 * done, 2 * done + 1);
        let transport = format!("Transport: RTP/AVP/TCP;unicast;interleaved={channels}\r\n");
        self.request(out, "SETUP", &format!("{}/{name}", self.url), &transport);
        Ok(())
    }

    fn request(&self, out: &mut Vec<u8>, method: &str, url: &str, headers: &str) {
        let number = match self.state {
            State::Describing => 1,
            State::SettingUp(done) => done + 2,
            State::Starting | State::Playing => self.media.len() + 2,
        };
        let session =
            if self.session.is_empty() { String::new() } else { format!("Session: {}\r\n", self.session) };
        let request = format!("{method} {url} RTSP/1.0\r\nCSeq: {number}\r\n{session}{headers}\r\n");
        out.extend(request.into_bytes());
    }
}

impl Peer for RtspPeer {
    fn open(&mut self, out: &mut Vec<u8>) {
        self.request(out, "DESCRIBE", &self.url, "Accept: application/sdp\r\n");
    }

    fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>, frames: &mut dyn FnMut(Frame)) -> io::Result<()> {
        let bytes = self.answers(bytes, out)?;
        let Self { packets, media, picture, .. } = self;
        packets.skim(bytes, |channel, packet| {
            let medium = media.get(usize::from(channel / 2)).filter(|_| channel % 2 == 0);
            let (Some((kind, _)), Some(payload)) = (medium, packet.get(RTP..)) else { return };
            let frame = match *kind {
                VIDEO => picture.take(payload, packet[1] & 0x80 != 0),
                _ => sound(payload),
            };
            frame.into_iter().for_each(&mut *frames);
        })
    }
}

impl Picture {
    /// Takes the front of a packet's payload; with its last one there is a picture.
    fn take(&mut self, payload: &[u8], last: bool) -> Option<Frame> {
        match payload {
            [first, ..] if first & 0x1F == SEI => self.unit(payload),
            [first, second, ..] if first & 0x1F == FRAGMENT => self.key |= second & 0x1F == SLICE_OF_KEYFRAME,
            [first, units @ ..] if first & 0x1F == AGGREGATE => {
                let mut units = units;
                while let [high, low, rest @ ..] = units {
                    let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
                    let (unit, others) = rest.split_at(len);
                    self.unit(unit);
                    units = others;
                }
            }
            _ => self.unit(payload),
        }
        if !last {
            return None;
        }
        let Self { marker, key } = core::mem::take(self);
        Some(Frame { kind: VIDEO, key, marker: marker? })
    }

    fn unit(&mut self, unit: &[u8]) {
        match unit.first().map(|first| first & 0x1F) {
            Some(SEI) => self.marker = Marker::decode(unit.get(SEI_MARKER..).unwrap_or_default()),
            Some(SLICE_OF_KEYFRAME | PARAMETER_SET) => self.key = true,
            _ => {}
        }
    }
}

fn sound(payload: &[u8]) -> Option<Frame> {
    let marker = Marker::decode(payload.get(SOUND_MARKER..SOUND_MARKER + MARKER)?)?;
    Some(Frame { kind: AUDIO, key: false, marker })
}

/// The kinds of a description's media, and the names to set them up with.
fn described(answer: &str) -> Vec<(u8, String)> {
    let mut media: Vec<(u8, String)> = Vec::new();
    for line in answer.lines() {
        if let Some(medium) = line.strip_prefix("m=") {
            media.push((if medium.starts_with("video") { VIDEO } else { AUDIO }, String::new()));
        }
        if let (Some(name), Some((_, control))) = (line.strip_prefix("a=control:"), media.last_mut()) {
            name.clone_into(control);
        }
    }
    media
}

/// The value of an answer's header.
fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = answer.lines().filter_map(|line| line.split_once(':'));
    headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("RTSP: {what}"))
}

/// Reads packets on a connection without keeping what is in them.
#[derive(Debug)]
struct PacketSkimmer {
    /// The front of the packet that is being passed, with what stands before it.
    head: [u8; PREFIX + KEPT],
    passed: usize,
    length: usize,
}

impl PacketSkimmer {
    const fn new() -> Self {
        Self { head: [0; PREFIX + KEPT], passed: 0, length: PREFIX }
    }

    /// Passes `input`, and calls `each` with the channel and the first bytes of every packet that ends in it.
    fn skim(&mut self, mut input: &[u8], mut each: impl FnMut(u8, &[u8])) -> io::Result<()> {
        while !input.is_empty() {
            let (now, later) = input.split_at((self.length - self.passed).min(input.len()));
            input = later;
            if let Some(room) = self.head.get_mut(self.passed..) {
                let kept = room.len().min(now.len());
                room[..kept].copy_from_slice(&now[..kept]);
            }
            self.passed += now.len();
            if self.passed < self.length {
                continue;
            }
            let [dollar, channel, high, low, ..] = self.head;
            let len = usize::from(u16::from_be_bytes([high, low]));
            if dollar != b'$' {
                return Err(bad("something else than a packet"));
            }
            if self.length == PREFIX && len > 0 {
                self.length = PREFIX + len;
                continue;
            }
            each(channel, &self.head[PREFIX..self.length.min(self.head.len())]);
            (self.passed, self.length) = (0, PREFIX);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arcly_core::derived::Packetizer as _;
    use arcly_core::{MediaFrame, Timestamp, TrackId};
    use arcly_rtp::media::{Packetizer, PacketizerOptions};
    use arcly_testkit::media::Source;
    use bytes::Bytes;

    use super::super::clip::{Clip, Shape};
    use super::*;

    const SDP: &str = "v=0\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\na=control:track0\r\nm=audio 0 RTP/AVP 97\r\na=control:track1\r\n";

    /// What a server of the clip says, one answer for each request, and packets behind the last.
    fn conversation() -> Vec<Vec<u8>> {
        let ok = |headers: &str, body: &str| {
            let length =
                if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
            format!("RTSP/1.0 200 OK\r\nCSeq: 1\r\n{headers}{length}\r\n{body}").into_bytes()
        };
        let setup = ok("Session: abc;timeout=60\r\n", "");
        let mut played = ok("", "");
        let mut packetizer = Packetizer::new(PacketizerOptions::new(1));
        packetizer.headers(&Source::h264_aac().tracks().into());
        let clip = Clip::new(Shape::HD);
        let (mut position, mut packets) = (clip.position(), Vec::new());
        for n in 0..300 {
            let tag = clip.next(&mut position);
            let mut body = Vec::new();
            tag.put(&mut body, n);
            let (track, header) = if tag.kind == VIDEO { (TrackId::VIDEO, 5) } else { (TrackId::AUDIO, 2) };
            let at = Timestamp::from_millis(tag.timestamp().into());
            let mut frame = MediaFrame::new(track, at, Bytes::copy_from_slice(&body[header..]));
            if tag.kind == AUDIO || body[0] >> 4 == 1 {
                frame.flags = arcly_core::FrameFlags::KEYFRAME;
            }
            packetizer.packetize(&frame, &mut packets);
        }
        packets.iter().for_each(|packet| played.extend_from_slice(&packet.bytes));
        vec![ok("", SDP), setup.clone(), setup, played]
    }

    #[test]
    fn every_frame_is_seen_whatever_the_cuts() {
        let answers = conversation();
        for step in [1, 100, 1_000_000] {
            let (mut peer, mut asked, mut seen, mut keys) =
                (RtspPeer::new("live", "cam"), Vec::new(), Vec::new(), 0);
            peer.open(&mut asked);
            for answer in &answers {
                for piece in answer.chunks(step) {
                    let mut each = |frame: Frame| {
                        seen.push(frame.marker.sent_ns);
                        keys += usize::from(frame.key);
                    };
                    peer.receive(piece, &mut asked, &mut each).expect("our own bytes");
                }
            }
            assert_eq!(seen, (0..300).collect::<Vec<_>>(), "{step}");
            assert_eq!(keys, 2, "{step}");
            let asked = String::from_utf8(asked).expect("text");
            for said in [
                "DESCRIBE rtsp://127.0.0.1/live/cam RTSP/1.0\r\nCSeq: 1\r\n",
                "SETUP rtsp://127.0.0.1/live/cam/track0 RTSP/1.0\r\nCSeq: 2\r\n",
                "SETUP rtsp://127.0.0.1/live/cam/track1 RTSP/1.0\r\nCSeq: 3\r\nSession: abc\r\n",
                "PLAY rtsp://127.0.0.1/live/cam/ RTSP/1.0\r\nCSeq: 4\r\nSession: abc\r\n",
            ] {
                assert!(asked.contains(said), "{said} in {asked}");
            }
        }
    }

    #[test]
    fn a_refusal_is_an_error() {
        let mut peer = RtspPeer::new("live", "cam");
        let refused = peer.receive(b"RTSP/1.0 404 Not Found\r\n\r\n", &mut Vec::new(), &mut |_| {});
        assert!(refused.is_err_and(|error| error.to_string().contains("404")));
    }
}
