//! A scripted server: each line of a test is what a server somewhere says.

mod media;
mod push;
mod quirks;

use arcly_core::{CodecConfig, CodecId, FrameFlags, Timestamp, Track};
use arcly_rtp::wire::rtcp::{RtcpPacket, SenderReport, compound};
use arcly_rtp::wire::{Header, NtpTime, RtpPacket};
use arcly_testkit::clock::Clock;
use bytes::BytesMut;

use super::*;
use crate::srtp::{Keyring, Message, Receiver, Sender, Suite};
use crate::wire::interleaved::Frame;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.2\r\ns=Session\r\nt=0 0\r\na=control:*\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:* nack pli\r\na=control:trackID=0\r\n\
    m=audio 0 RTP/AVP 0\r\na=control:trackID=1\r\n";

/// A session, and what it was sent and what it said.
struct Bench {
    clock: Clock,
    session: ClientSession,
    events: Vec<ClientEvent>,
    said: BytesMut,
}

impl Bench {
    fn pull(url: &str, carriage: Carriage) -> Self {
        let clock = Clock::new();
        let config = ClientSessionConfig { carriage, ..ClientSessionConfig::default() };
        let session = ClientSession::pull(Arc::new(config), url.parse().unwrap(), [7; 16], clock.now());
        Self { clock, session, events: Vec::new(), said: BytesMut::new() }
    }

    fn push(url: &str, carriage: Carriage, tracks: &TrackSet) -> Self {
        let clock = Clock::new();
        let config = Arc::new(ClientSessionConfig { carriage, ..ClientSessionConfig::default() });
        let what = (tracks, PacketizerOptions::new(1));
        let session = ClientSession::push(config, url.parse().unwrap(), what, [7; 16], clock.now()).unwrap();
        Self { clock, session, events: Vec::new(), said: BytesMut::new() }
    }

    fn drain(&mut self) -> Option<Instant> {
        loop {
            self.session.check_invariants();
            match self.session.poll_output() {
                Output::Transmit(bytes) => self.said.extend_from_slice(&bytes),
                Output::Event(event) => self.events.push(event),
                Output::Wait(at) => return at,
            }
        }
    }

    fn wait(&mut self, span: Duration) -> Result<(), ClientError> {
        let end = self.clock.now() + span;
        while let Some(at) = self.drain().filter(|at| *at <= end && self.session.closed().is_none()) {
            self.clock.advance_to(at.max(self.clock.now()));
            self.session.handle_timeout(self.clock.now())?;
            let again = self.drain();
            assert!(again.is_none_or(|next| next > self.clock.now()), "does not spin");
        }
        self.clock.advance_to(end);
        Ok(())
    }

    /// What the client has said since it was last asked.
    fn said(&mut self) -> Vec<Item> {
        self.drain();
        let mut decoder = Decoder::new(MessageLimits::default());
        decoder.allow_frames(true);
        decoder.push(&self.said.split());
        std::iter::from_fn(|| decoder.poll().unwrap()).collect()
    }

    /// The one request that the client has made since it was last asked.
    fn request(&mut self) -> Request {
        let mut said = self.said();
        match (said.len(), said.pop()) {
            (1, Some(Item::Request(request))) => request,
            other => panic!("{other:?}"),
        }
    }

    fn hears(&mut self, text: &str) -> Result<(), ClientError> {
        let heard = self.session.handle_input(self.clock.now(), text.as_bytes());
        self.session.check_invariants();
        heard
    }

    /// Answers what is asked next, which is that.
    #[track_caller]
    fn answer(&mut self, method: Method, headers: &str, body: &str) -> Request {
        self.answer_with(method, "200 OK", headers, body).unwrap()
    }

    #[track_caller]
    fn answer_with(
        &mut self,
        method: Method,
        status: &str,
        headers: &str,
        body: &str,
    ) -> Result<Request, ClientError> {
        let request = self.request();
        assert_eq!(request.method, method, "{request:?}");
        let cseq = request.cseq().unwrap();
        let len = body.len();
        self.hears(&format!(
            "RTSP/1.0 {status}\r\nCSeq: {cseq}\r\n{headers}Content-Length: {len}\r\n\r\n{body}"
        ))?;
        Ok(request)
    }

    /// Goes to where media flows, over the connection.
    fn playing(url: &str) -> Self {
        let mut bench = Self::pull(url, Carriage::Tcp);
        bench.answer(Method::Options, "Public: OPTIONS, DESCRIBE, GET_PARAMETER\r\n", "");
        bench.answer(Method::Describe, "", SDP);
        bench.answer(
            Method::Setup,
            "Session: 9;timeout=20\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n",
            "",
        );
        bench.answer(Method::Setup, "Session: 9\r\nTransport: RTP/AVP/TCP;interleaved=2-3\r\n", "");
        bench.answer(Method::Play, "", "");
        assert!(bench.session.is_flowing());
        bench
    }

    fn frame(&mut self, channel: u8, payload: Bytes) -> Result<(), ClientError> {
        self.session.handle_input(self.clock.now(), &Frame { channel, payload }.to_bytes())
    }

    /// What has been sent in datagrams.
    fn datagrams(&mut self) -> Vec<Datagram> {
        self.drain();
        let datagram = |event| match event {
            ClientEvent::Datagram(datagram) => Some(datagram),
            _ => None,
        };
        self.events.drain(..).filter_map(datagram).collect()
    }

    fn frames(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, ClientEvent::Media(MediaEvent::Frame(_)))).count()
    }
}

/// G.711 in a packet: 20 ms.
fn sound(sequence: u16) -> Bytes {
    packet(0, sequence, u32::from(sequence) * 160, 2, &[0xD5; 160])
}

fn packet(payload_type: u8, sequence: u16, timestamp: u32, ssrc: u32, payload: &[u8]) -> Bytes {
    let header = Header { marker: true, payload_type, sequence, timestamp, ssrc };
    let mut out = BytesMut::new();
    RtpPacket { header, payload: Bytes::copy_from_slice(payload), ..RtpPacket::default() }.encode(&mut out);
    out.freeze()
}

fn report(ssrc: u32, seconds: u64, rtp_timestamp: u32) -> Bytes {
    let mut out = BytesMut::new();
    let ntp = NtpTime((3_900_000_000 + seconds) << 32);
    let report = SenderReport { ssrc, ntp, rtp_timestamp, ..SenderReport::default() };
    RtcpPacket::SenderReport(report).encode(&mut out);
    out.freeze()
}

#[test]
fn a_pull_over_the_connection_from_first_to_last() {
    let mut bench = Bench::pull("rtsp://u:p@h/cam?x=1", Carriage::Tcp);
    let options = bench.answer(Method::Options, "Public: OPTIONS, GET_PARAMETER\r\n", "");
    assert_eq!((options.uri.as_str(), options.headers.get("Authorization")), ("rtsp://h/cam?x=1", None));
    let describe = bench.answer(Method::Describe, "Content-Base: rtsp://10.1.2.3:99/cam/\r\n", SDP);
    assert_eq!(describe.headers.get("Accept"), Some("application/sdp"));
    let answer = "Session: ab12;timeout=20\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=1\r\n";
    let setup = bench.answer(Method::Setup, answer, "");
    assert_eq!(setup.uri, "rtsp://h/cam/trackID=0");
    assert_eq!(setup.headers.get("Transport"), Some("RTP/AVP/TCP;unicast;interleaved=0-1"));
    let setup = bench.answer(Method::Setup, "Session: ab12\r\n", "");
    assert_eq!((setup.uri.as_str(), setup.headers.get("Session")), ("rtsp://h/cam/trackID=1", Some("ab12")));
    let info = "RTP-Info: url=rtsp://h/cam/trackID=1;seq=0;rtptime=0\r\n";
    let play = bench.answer(Method::Play, info, "");
    assert_eq!((play.uri.as_str(), play.headers.get("Range")), ("rtsp://h/cam/", Some("npt=0.000-")));
    bench.drain();
    assert_eq!(bench.events, [ClientEvent::Started]);
    for n in 0..100 {
        bench.frame(2, sound(n)).unwrap();
        bench.wait(Duration::from_millis(20)).unwrap();
    }
    assert!(bench.frames() > 80, "{}", bench.frames());
    for n in 100..1_000 {
        bench.frame(2, sound(n)).unwrap();
        bench.wait(Duration::from_millis(20)).unwrap();
    }
    let said = bench.said();
    let reports = said.iter().filter(|item| matches!(item, Item::Frame(frame) if frame.channel == 3)).count();
    assert!((3..=4).contains(&reports), "one in five seconds: {reports}");
    let Some(Item::Request(kept)) = said.iter().find(|item| matches!(item, Item::Request(_))) else {
        panic!("half of the session's time is over: {said:?}")
    };
    assert_eq!((&kept.method, kept.headers.get("Session")), (&Method::GetParameter, Some("ab12")));
    bench.session.finish(bench.clock.now(), CloseReason::Shutdown);
    assert_eq!(bench.request().method, Method::Teardown);
    assert_eq!(bench.session.closed(), Some(CloseReason::Shutdown));
}

/// H23: where it is said, and what no list of hops is counts for none.
#[test]
fn h23_a_pull_learns_where_the_presentation_has_come_through() {
    for (headers, hops) in [
        ("", ""),
        ("Arcly-Via: 00000000000000ff,0123456789ABCDEF\r\n", "00000000000000ff,0123456789abcdef"),
        ("arcly-via: 1.1 proxy, ff\r\n", ""),
    ] {
        let mut bench = Bench::pull("rtsp://h/cam", Carriage::Tcp);
        bench.answer(Method::Options, "", "");
        let describe = bench.answer(Method::Describe, headers, SDP);
        assert_eq!(describe.headers.get(via::HEADER), None, "what feeds nothing yet says nothing");
        assert_eq!(bench.session.came_through().to_string(), hops);
    }
}

#[test]
fn datagrams_are_punched_for_and_reported_by_datagrams() {
    let mut bench = Bench::pull("rtsp://h/cam", Carriage::Automatic);
    bench.answer(Method::Options, "", "");
    bench.answer(Method::Describe, "", SDP);
    bench.drain();
    assert_eq!(bench.events.drain(..).collect::<Vec<_>>(), [ClientEvent::PortsNeeded(2)]);
    let pair = |rtp| PortPair { rtp, rtcp: rtp + 1 };
    bench.session.set_ports(bench.clock.now(), vec![pair(5_000), pair(5_002)]);
    let answer = "Session: 1\r\nTransport: RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001\r\n";
    let setup = bench.answer(Method::Setup, answer, "");
    assert_eq!(setup.headers.get("Transport"), Some("RTP/AVP;unicast;client_port=5000-5001"));
    bench.answer(Method::Setup, "Transport: RTP/AVP;source=10.9.8.7\r\n", "");
    bench.drain();
    let source = "10.9.8.7".parse().ok();
    let peers = [
        ClientEvent::Peer { medium: 0, ports: Some(pair(6_000)), source: None },
        ClientEvent::Peer { medium: 1, ports: None, source },
    ];
    assert_eq!(bench.events[..2], peers);
    let punched: Vec<_> = bench.events.drain(..).skip(2).collect();
    assert!(punched.iter().all(|event| matches!(event, ClientEvent::Datagram(_))) && punched.len() == 4);
    bench.answer(Method::Play, "", "");
    for n in 0..400 {
        let datagram = Datagram { medium: 1, control: false, payload: sound(n) };
        bench.session.handle_datagram(bench.clock.now(), &datagram).unwrap();
        bench.wait(Duration::from_millis(20)).unwrap();
    }
    assert!(bench.frames() > 350);
    let reported = bench
        .events
        .iter()
        .filter(|event| matches!(event, ClientEvent::Datagram(Datagram { medium: 1, control: true, .. })));
    assert_eq!(reported.count(), 1);
}

#[test]
fn without_datagrams_or_with_461_it_goes_over_the_connection() {
    let at_setup = || {
        let mut bench = Bench::pull("rtsp://h/cam", Carriage::Automatic);
        bench.answer(Method::Options, "", "");
        bench.answer(Method::Describe, "", SDP);
        bench.drain();
        let ports = PortPair { rtp: 5_000, rtcp: 5_001 };
        bench.session.set_ports(bench.clock.now(), vec![ports; 2]);
        bench
    };
    // Refused at once: on the same connection.
    let mut bench = at_setup();
    bench.answer_with(Method::Setup, "461 Unsupported Transport", "", "").unwrap();
    let setup = bench.answer(Method::Setup, "", "");
    assert!(setup.headers.get("Transport").unwrap().starts_with("RTP/AVP/TCP"));
    // Refused for the second medium: on another one.
    let mut bench = at_setup();
    bench.answer(Method::Setup, "Session: 1\r\n", "");
    bench.answer_with(Method::Setup, "461 Unsupported Transport", "", "").unwrap();
    assert_eq!(bench.request().method, Method::Teardown);
    assert!(bench.events.contains(&ClientEvent::NoDatagrams) && bench.session.closed().is_some());
    // Agreed on, and nothing comes.
    let mut bench = at_setup();
    bench.answer(Method::Setup, "Session: 1\r\n", "");
    bench.answer(Method::Setup, "Session: 1\r\n", "");
    bench.answer(Method::Play, "", "");
    bench.wait(Duration::from_millis(2_999)).unwrap();
    assert!(bench.session.is_flowing());
    bench.wait(Duration::from_millis(1)).unwrap();
    assert!(bench.events.contains(&ClientEvent::NoDatagrams) && bench.session.closed().is_some());
    // No ports to be had.
    let mut bench = Bench::pull("rtsp://h/cam", Carriage::Automatic);
    bench.answer(Method::Options, "", "");
    bench.answer(Method::Describe, "", SDP);
    bench.session.set_ports(bench.clock.now(), vec![]);
    assert!(bench.request().headers.get("Transport").unwrap().starts_with("RTP/AVP/TCP"));
    let mut bench = Bench::pull("rtsp://h/cam", Carriage::Udp);
    bench.answer(Method::Options, "", "");
    bench.answer(Method::Describe, "", SDP);
    bench.session.set_ports(bench.clock.now(), vec![]);
    assert_eq!(bench.session.closed(), Some(CloseReason::Io));
}

#[test]
fn challenges_are_answered_once() {
    let asked =
        "WWW-Authenticate: Digest realm=\"cam\", nonce=\"abc\"\r\nWWW-Authenticate: Basic realm=\"cam\"\r\n";
    let mut bench = Bench::pull("rtsp://admin:12%3A45@h/cam", Carriage::Tcp);
    bench.answer(Method::Options, "", "");
    bench.answer_with(Method::Describe, "401 Unauthorized", asked, "").unwrap();
    let again = bench.answer(Method::Describe, "", SDP);
    let proof: crate::wire::authorization::Authorization =
        again.headers.get("Authorization").unwrap().parse().unwrap();
    assert!(proof.proves("DESCRIBE", "12:45"));
    // Each further request brings its own; a nonce that is too old is taken in stride.
    let stale = "WWW-Authenticate: Digest realm=\"cam\", nonce=\"def\", stale=true\r\n";
    bench.answer_with(Method::Setup, "401 Unauthorized", stale, "").unwrap();
    let setup = bench.answer(Method::Setup, "", "");
    assert!(setup.headers.get("Authorization").unwrap().contains("nonce=\"def\""));
    // Twice the same answer is enough.
    bench.answer_with(Method::Setup, "401 Unauthorized", asked, "").unwrap();
    let wrong = bench.answer_with(Method::Setup, "401 Unauthorized", asked, "");
    assert_eq!(wrong.unwrap_err(), ClientError::Unauthorized);
    assert_eq!(bench.session.closed(), Some(CloseReason::Unauthorized));
    // Nothing to answer with, and nothing that can be answered.
    for (url, asked) in [
        ("rtsp://h/cam", asked),
        ("rtsp://u:p@h/cam", "WWW-Authenticate: Bearer\r\n"),
        ("rtsp://u:p@h/c", ""),
    ] {
        let mut bench = Bench::pull(url, Carriage::Tcp);
        bench.answer(Method::Options, "", "");
        let refused = bench.answer_with(Method::Describe, "401 Unauthorized", asked, "");
        assert_eq!(refused.unwrap_err(), ClientError::Unauthorized, "{url}");
    }
}

#[test]
fn answers_survive_a_server_that_hangs_up_after_its_question() {
    let mut bench = Bench::pull("rtsp://u:p@h/cam", Carriage::Tcp);
    assert!(bench.session.answers().is_none());
    let asked = "WWW-Authenticate: Basic realm=\"cam\"\r\n";
    bench.answer_with(Method::Options, "401 Unauthorized", asked, "").unwrap();
    let answers = bench.session.answers().unwrap();
    let mut next = Bench::pull("rtsp://u:p@h/cam", Carriage::Tcp);
    next.session.set_answers(answers);
    assert_eq!(next.request().headers.get("Authorization"), Some("Basic dTpw"));
}

#[test]
fn what_is_refused_says_so_in_the_servers_words() {
    let cases = [
        ("404 Stream Not Found", CloseReason::NotFound),
        ("403", CloseReason::Forbidden),
        ("453 Not Enough Bandwidth", CloseReason::Overloaded),
        ("500 Oops\x07", CloseReason::Forbidden),
    ];
    for (status, reason) in cases {
        let mut bench = Bench::pull("rtsp://h/cam", Carriage::Tcp);
        bench.answer(Method::Options, "", "");
        let status_line = status.trim_end_matches('\x07');
        let error = bench.answer_with(Method::Describe, status_line, "", "").unwrap_err();
        assert_eq!((error.reason(), bench.session.closed()), (reason, Some(reason)), "{error}");
    }
    for sdp in ["", "v=0\r\n", "m=video 0 RTP/AVP 96\r\na=rtpmap:96 JPEG2000/90000\r\n", "m=video x\r\n"] {
        let mut bench = Bench::pull("rtsp://h/cam", Carriage::Tcp);
        bench.answer(Method::Options, "", "");
        assert!(bench.answer_with(Method::Describe, "200 OK", "", sdp).is_err(), "{sdp}");
    }
}

#[test]
fn redirections_end_the_session_and_say_where() {
    let mut bench = Bench::pull("rtsp://u:p@h/cam", Carriage::Tcp);
    bench.answer(Method::Options, "", "");
    bench.answer_with(Method::Describe, "302 Found", "Location: rtsp://other:555/b\r\n", "").unwrap();
    bench.drain();
    let Some(ClientEvent::Moved(url)) = bench.events.pop() else { panic!("{:?}", bench.events) };
    assert_eq!((url.request_uri().as_str(), &url.login), ("rtsp://other:555/b", &None));
    for location in ["", "Location: http://h/\r\n", "Location: \r\n"] {
        let mut bench = Bench::pull("rtsps://h/cam", Carriage::Tcp);
        let moved = bench.answer_with(Method::Options, "301 Moved", location, "");
        assert!(moved.is_err(), "{location}");
    }
    let mut bench = Bench::playing("rtsp://h/cam");
    bench.hears("REDIRECT rtsp://h/cam RTSP/1.0\r\nCSeq: 1\r\nLocation: rtsp://h:556/cam\r\n\r\n").unwrap();
    bench.drain();
    assert!(matches!(bench.events.last(), Some(ClientEvent::Moved(url)) if url.port == 556));
}

#[test]
fn groups_are_received_from_where_they_are_asked_for_offered_or_answered() {
    let group = |port| ClientEvent::Group {
        medium: 0,
        address: Ipv4Addr::new(239, 1, 2, 3),
        ports: PortPair { rtp: port, rtcp: port + 1 },
        source: None,
    };
    let sdp = "v=0\r\nc=IN IP4 239.1.2.3/16\r\nm=audio 6000 RTP/AVP 0\r\na=control:a\r\n";
    let plain = "v=0\r\nm=audio 0 RTP/AVP 0\r\na=control:a\r\n";
    let described = |carriage, sdp: &str| {
        let mut bench = Bench::pull("rtsp://h/cam", carriage);
        bench.answer(Method::Options, "", "");
        bench.answer(Method::Describe, "", sdp);
        bench
    };
    // On request; the answer counts, and the description where it says nothing.
    for (answer, port) in [
        ("RTP/AVP;multicast;destination=239.1.2.3;port=5000-5001;ttl=16", 5_000),
        ("RTP/AVP/UDP;multicast;destination=239.1.2.3;client_port=5000-5001", 5_000),
        ("RTP/AVP;multicast", 6_000),
    ] {
        let mut bench = described(Carriage::Multicast, sdp);
        let setup = bench.answer(Method::Setup, &format!("Transport: {answer}\r\n"), "");
        assert_eq!(setup.headers.get("Transport"), Some("RTP/AVP;multicast"));
        bench.answer(Method::Play, "", "");
        assert!(bench.events.contains(&group(port)), "{answer}: {:?}", bench.events);
        assert!(
            !bench.events.iter().any(|event| matches!(event, ClientEvent::Datagram(_))),
            "nothing is sent"
        );
        let datagram = Datagram { medium: 0, control: false, payload: sound(1) };
        bench.session.handle_datagram(bench.clock.now(), &datagram).unwrap();
    }
    let mut bench = described(Carriage::Multicast, plain);
    let nowhere = bench.answer_with(Method::Setup, "200 OK", "Transport: RTP/AVP;multicast\r\n", "");
    assert!(matches!(nowhere, Err(ClientError::Rejected { status: 461, .. })), "{nowhere:?}");
    // As a last resort, where the description names one.
    for (sdp, last) in [(sdp, Some("RTP/AVP;multicast")), (plain, None)] {
        let mut bench = described(Carriage::Automatic, sdp);
        bench.session.set_ports(bench.clock.now(), vec![PortPair { rtp: 5_000, rtcp: 5_001 }]);
        let udp = bench.answer_with(Method::Setup, "461 Unsupported Transport", "", "").unwrap();
        assert!(udp.headers.get("Transport").unwrap().contains("client_port"));
        let tcp = bench.answer_with(Method::Setup, "461 Unsupported Transport", "", "");
        assert_eq!(tcp.is_ok(), last.is_some());
        let asked = last.map(|_| bench.request());
        assert_eq!(asked.as_ref().and_then(|request| request.headers.get("Transport")), last);
    }
    // Servers that know nothing else.
    let mut bench = described(Carriage::Udp, plain);
    bench.session.set_ports(bench.clock.now(), vec![PortPair { rtp: 5_000, rtcp: 5_001 }]);
    let answer = "Transport: RTP/AVP;multicast;destination=239.1.2.3;port=5000-5001\r\n";
    bench.answer(Method::Setup, answer, "");
    bench.drain();
    assert!(bench.events.contains(&group(5_000)));
}

#[test]
fn servers_ask_too() {
    let mut bench = Bench::playing("rtsp://h/cam");
    for method in ["OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "ANNOUNCE"] {
        bench.hears(&format!("{method} * RTSP/1.0\nCSeq: 77\nSession: 9\n\n")).unwrap();
        let said = bench.said();
        let [Item::Response(response)] = &said[..] else { panic!("{said:?}") };
        assert_eq!((response.status, response.cseq()), (Status::OK, Some(77)), "{method}");
    }
    bench.hears("SETUP * RTSP/1.0\r\nCSeq: 78\r\n\r\n").unwrap();
    assert!(matches!(&bench.said()[..], [Item::Response(r)] if r.status == Status::NOT_IMPLEMENTED));
    assert_eq!(bench.hears("TEARDOWN * RTSP/1.0\r\nCSeq: 79\r\n\r\n"), Err(ClientError::Ended));
}

fn keys(byte: u8) -> Keyring {
    let mut random = Box::new([byte; Keyring::RANDOM]);
    random.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= u8::try_from(at % 251).unwrap());
    Keyring::new(random, NtpTime(1))
}

/// A dialogue that is right, and two thousand that are not quite.
#[test]
fn whatever_a_server_says_is_taken_or_ends_the_session() {
    use arcly_testkit::rng::Rng;
    let mut right = Vec::new();
    let answer = |out: &mut Vec<u8>, cseq: u32, headers: &str, body: &str| {
        let len = body.len();
        let text = format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{headers}Content-Length: {len}\r\n\r\n{body}");
        out.extend_from_slice(text.as_bytes());
    };
    answer(&mut right, 1, "Public: OPTIONS, GET_PARAMETER\r\n", "");
    right.extend_from_slice(
        b"RTSP/1.0 401 Unauthorized\r\nCSeq: 2\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n\r\n",
    );
    answer(&mut right, 3, "Content-Base: rtsp://h/cam/\r\n", SDP);
    answer(&mut right, 4, "Session: 1;timeout=9\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n", "");
    answer(&mut right, 5, "Transport: RTP/AVP/TCP;interleaved=2-3\r\n", "");
    answer(&mut right, 6, "RTP-Info: url=trackID=0;seq=1;rtptime=2,url=trackID=1;seq=1;rtptime=0\r\n", "");
    for n in 0..5 {
        right.extend_from_slice(&Frame { channel: 2, payload: sound(n) }.to_bytes());
        right.extend_from_slice(&Frame { channel: 3, payload: report(2, n.into(), 0) }.to_bytes());
    }
    right.extend_from_slice(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    let mut flowed = 0;
    for seed in 0..2_000_u64 {
        let mut rng = Rng::new(seed);
        let mut below = |bound: usize| usize::try_from(rng.below(bound as u64)).unwrap();
        let mut said = right.clone();
        for _ in 0..below(6) {
            let (at, to) = (below(said.len()), below(said.len()));
            match below(4) {
                0 => said[at] = u8::try_from(below(256)).unwrap(),
                1 => drop(said.drain(at.min(to)..at.max(to).min(at.min(to) + 40))),
                2 => said.insert(at, said[to]),
                _ => {
                    let part = said[at..(at + 30).min(said.len())].to_vec();
                    said.splice(to..to, part);
                }
            }
        }
        let mut bench = Bench::pull("rtsp://u:p@h/cam", Carriage::Tcp);
        bench.drain();
        let mut rest = &said[..];
        while !rest.is_empty() && bench.session.closed().is_none() {
            let (piece, after) = rest.split_at(rest.len().min(1 + below(200)));
            rest = after;
            let heard = bench.session.handle_input(bench.clock.now(), piece);
            assert!(heard.is_ok() || bench.session.closed().is_some(), "{seed}: errors are final");
            bench.drain();
            if bench.session.closed().is_none() {
                let _ = bench.wait(Duration::from_millis(u64::try_from(below(300)).unwrap()));
            }
        }
        flowed += usize::from(bench.session.is_flowing());
    }
    assert!(flowed > 300, "most of what is right is still taken: {flowed}");
}
