//! A peer of WebRTC: str0m as a full agent on a socket of its own, which comes by WHIP or WHEP.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::format::Codec;
use str0m::media::{Direction, Frequency, MediaKind, MediaTime, Mid};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc};

use super::http::{Answer, Http};

/// The media type of offers.
pub const SDP: &str = "application/sdp";
/// That of candidates.
pub const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// For whatever works, on a machine that is busy with other tests.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How long a peer waits at a time, so that nobody else waits long for it.
const STEP: Duration = Duration::from_millis(20);

/// Pictures and sound.
pub const BOTH: &[MediaKind] = &[MediaKind::Video, MediaKind::Audio];

/// An offer that nobody has answered.
pub struct Offer {
    rtc: Rtc,
    socket: UdpSocket,
    mids: Vec<Mid>,
    pending: SdpPendingOffer,
    pub sdp: String,
}

impl Offer {
    /// To send, or to receive.
    pub fn new(direction: Direction, kinds: &[MediaKind]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut rtc = Rtc::builder().build(Instant::now());
        rtc.add_local_candidate(Candidate::host(socket.local_addr().unwrap(), "udp").unwrap());
        let mut api = rtc.sdp_api();
        let mids = kinds.iter().map(|kind| api.add_media(*kind, direction, None, None, None)).collect();
        let (offer, pending) = api.apply().unwrap();
        Self { sdp: offer.to_sdp_string(), rtc, socket, mids, pending }
    }

    /// A peer whose offer was answered.
    #[track_caller]
    pub fn answered(self, answer: &Answer) -> Peer {
        assert_eq!(answer.status, 201, "{}\n{}", answer.head, answer.body);
        let Self { mut rtc, socket, mids, pending, .. } = self;
        let sdp = SdpAnswer::from_sdp_string(&answer.body).unwrap();
        rtc.sdp_api().accept_answer(pending, sdp).unwrap();
        let header = |name| answer.header(name).unwrap_or_default().to_owned();
        Peer {
            location: header("location"),
            etag: header("etag"),
            frames: mids.iter().map(|_| Vec::new()).collect(),
            rtc,
            socket,
            mids,
            connected: false,
            closed: false,
        }
    }
}

/// A peer with a session.
pub struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    mids: Vec<Mid>,
    /// Its session.
    pub location: String,
    /// Its ICE session.
    pub etag: String,
    pub connected: bool,
    /// The server has said good-bye.
    pub closed: bool,
    /// What came of each medium.
    pub frames: Vec<Vec<Arc<[u8]>>>,
}

impl Peer {
    /// A publisher of pictures and sound.
    #[track_caller]
    pub fn publishing(http: SocketAddr, stream: &str) -> Self {
        let offer = Offer::new(Direction::SendOnly, BOTH);
        let answer = post(http, &format!("/{stream}/whip"), "", &offer.sdp);
        offer.answered(&answer)
    }

    /// A viewer of a stream that is there.
    #[track_caller]
    pub fn viewing(http: SocketAddr, stream: &str) -> Self {
        let offer = Offer::new(Direction::RecvOnly, BOTH);
        let answer = post(http, &format!("/{stream}/whep"), "", &offer.sdp);
        offer.answered(&answer)
    }

    /// Does what there is to do, and then waits for a datagram, at most for a while.
    pub fn step(&mut self) {
        let Some(wake) = self.drain() else { return };
        let wait = wake.saturating_duration_since(Instant::now()).min(STEP);
        self.socket.set_read_timeout(Some(wait.max(Duration::from_millis(1)))).unwrap();
        let mut buffer = [0; 2_000];
        let received = self.socket.recv_from(&mut buffer);
        let (now, here) = (Instant::now(), self.socket.local_addr().unwrap());
        let input = match received {
            Ok((count, from)) => match Receive::new(Protocol::Udp, from, here, &buffer[..count]) {
                Ok(receive) => Input::Receive(now, receive),
                Err(_) => return,
            },
            Err(_) => Input::Timeout(now),
        };
        self.rtc.handle_input(input).unwrap();
    }

    /// Sends what there is to send; when it wants to be woken, unless it is over.
    fn drain(&mut self) -> Option<Instant> {
        while self.rtc.is_alive() {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(at) => return Some(at),
                Output::Transmit(transmit) => {
                    // Whoever is gone gets nothing.
                    let _ = self.socket.send_to(&transmit.contents, transmit.destination);
                }
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::MediaData(data)) => {
                    let medium = self.mids.iter().position(|mid| *mid == data.mid).unwrap();
                    self.frames[medium].push(data.data);
                }
                Output::Event(Event::Closed) => self.closed = true,
                Output::Event(_) => {}
            }
        }
        self.closed = true;
        None
    }

    /// Sends a picture of VP8 and a sound of Opus, numbers `n` of thirty a second, of which every thirtieth is a keyframe.
    pub fn write_both(&mut self, n: u64) {
        let mut picture = vec![if n.is_multiple_of(30) { 0x10 } else { 0x11 }, 0, 0];
        if n.is_multiple_of(30) {
            // The start code, and 16 by 16 (RFC 6386 §9.1).
            picture.extend([0x9D, 0x01, 0x2A, 16, 0, 16, 0]);
        }
        picture.extend([7; 20]);
        self.write(0, Codec::Vp8, n * 3_000, &picture);
        self.write(1, Codec::Opus, n * 3_000, &[0xF8, 1, 2, 3]);
    }

    /// Goes on until it is so.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !is_so(self) {
            assert!(Instant::now() < end, "still not so: {what}");
            assert!(!self.closed || is_so(self), "closed before it was so: {what}");
            self.step();
        }
    }

    /// Connected.
    #[track_caller]
    pub fn up(mut self) -> Self {
        self.until("connected", |peer| peer.connected);
        self
    }

    /// Sends a frame of a medium in that codec, `at` ticks of 90 kHz from the beginning.
    pub fn write(&mut self, medium: usize, codec: Codec, at: u64, frame: &[u8]) {
        let Some(writer) = self.rtc.writer(self.mids[medium]) else { return };
        let known = writer.payload_params().find(|params| params.spec().codec == codec);
        let (pt, time) =
            (known.expect("the server knows it").pt(), MediaTime::new(at, Frequency::NINETY_KHZ));
        writer.write(pt, Instant::now(), time, frame).unwrap();
        self.rtc.handle_input(Input::Timeout(Instant::now())).unwrap();
        self.drain();
    }
}

/// Posts an offer, with further header lines, each with its CRLF.
#[track_caller]
pub fn post(http: SocketAddr, path: &str, fields: &str, offer: &str) -> Answer {
    ask(http, &format!("POST {path}"), &format!("Content-Type: {SDP}\r\n{fields}"), offer.as_bytes())
}

/// A request with a body, on a connection of its own.
#[track_caller]
pub fn ask(http: SocketAddr, what: &str, fields: &str, body: &[u8]) -> Answer {
    let mut connection = Http::open(http);
    let request = request(what, &format!("Connection: close\r\n{fields}"), body);
    connection.send(&request).answer_within(LIMIT).unwrap_or_else(|| panic!("{what}: no answer"))
}

/// The bytes of a request, to be sent at once: who is answered before its body has come may be cut off with it.
pub fn request(what: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("{what} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
    [head.as_bytes(), body].concat()
}
