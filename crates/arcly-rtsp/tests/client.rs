//! The client over real sockets: against our own server, cameras that are scripted, and FFmpeg as a server.
#![allow(clippy::unwrap_used, reason = "tests")]

mod serving;

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use arcly_core::contract::auth::{ActionSet, NameRule, StaticUsers};
use arcly_core::log::{LagPolicy, Read, StartMode};
use arcly_core::net::Backoff;
use arcly_core::{
    AppSpec, CloseReason, Engine, MediaFrame, PlayRequest, PlaybackRegistry as _, PublishRegistry,
    PublishRequest, Publisher, StreamError, Subscriber, Takeover, TrackId,
};
use arcly_rtp::wire::Header;
use arcly_rtsp::wire::{Decoder, Frame, Item, MessageLimits, Method, Request, Transport};
use arcly_rtsp::{Carriage, Client, ClientConfig, RtspPull, RtspRelay, ServerConfig};
use arcly_testkit::media::Source;
use arcly_testkit::need;
use arcly_testkit::ports::{free_address, free_port};
use arcly_testkit::program::Program;
use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use serving::{LIMIT, LONG, Serving, key, port_pair};

const SOON: Backoff = Backoff { first: Duration::from_millis(20), longest: Duration::from_millis(100) };

fn engine() -> Arc<Engine> {
    Engine::builder().default_app(AppSpec::new("").wait_for_stream(LIMIT)).build()
}

async fn reader(engine: &Engine) -> Subscriber {
    let request = PlayRequest::internal(key(), "test").start(StartMode::Oldest).lag(LagPolicy::PATIENT);
    engine.subscribe(request.wait(LIMIT)).await.unwrap().into_frames()
}

fn config(carriage: Carriage) -> ClientConfig {
    let mut config = ClientConfig::default();
    config.session.carriage = carriage;
    config
}

/// The next `count` frames.
async fn frames(reader: &mut Subscriber, count: usize) -> Vec<MediaFrame> {
    let mut got = Vec::new();
    while got.len() < count {
        match tokio::time::timeout(LIMIT, reader.next()).await.expect("a frame in time").unwrap() {
            Some(Read::Item(frame)) => got.push((*frame).clone()),
            Some(Read::Context(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    got
}

/// What came is a piece of what was sent, bit for bit, of each track.
fn assert_piece(sent: &[MediaFrame], got: &[MediaFrame]) {
    for track in [TrackId::VIDEO, TrackId::AUDIO] {
        let of = |frames: &[MediaFrame]| -> Vec<MediaFrame> {
            frames.iter().filter(|frame| frame.track == track).cloned().collect()
        };
        let (sent, got) = (of(sent), of(got));
        assert!(got.len() > 10, "{track}: {} frames", got.len());
        let at = (0..sent.len()).find(|at| sent[*at..].iter().zip(&got).all(|(a, b)| a.payload == b.payload));
        let at = at.unwrap_or_else(|| panic!("{track}: not what was sent"));
        // Tracks are brought together when reports say how far they are apart, which takes a moment.
        let half = got.len() / 2;
        let shift = got[half].pts - sent[at + half].pts;
        let clock = arcly_core::Timescale::MPEG;
        for (sent, got) in sent[at + half..].iter().zip(&got[half..]) {
            assert_eq!((sent.pts + shift).to_ticks(clock), got.pts.to_ticks(clock), "{track}");
            assert!(!got.flags.intersects(arcly_core::FrameFlags::CORRUPT));
        }
    }
}

async fn pulled_over(carriage: Carriage) {
    let serving = Serving::start().await;
    let publishing = serving.publish(LONG);
    let (here, stop) = (engine(), CancellationToken::new());
    let pull = RtspPull::new(Arc::clone(&here) as _, serving.url()).unwrap().with_config(config(carriage));
    let pull = tokio::spawn(pull.run(key(), stop.clone()));
    let got = frames(&mut reader(&here).await, 100).await;
    stop.cancel();
    tokio::time::timeout(LIMIT, pull).await.unwrap().unwrap().unwrap();
    publishing.abort();
    assert_piece(&Source::h264_aac().seconds(LONG), &got);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_over_the_connection_is_what_was_sent() {
    pulled_over(Carriage::Tcp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_in_datagrams_is_what_was_sent() {
    pulled_over(Carriage::Udp).await;
}

/// A server where whoever comes later wins.
async fn yielding() -> Serving {
    let serving = Serving::start().await;
    let app = AppSpec::new("live").takeover(Takeover::Replace).wait_for_stream(LIMIT);
    serving.engine.set_policies([app], None, 8);
    serving
}

/// H23: a stream that has been pulled here is neither pulled from here by whom it comes from, nor pushed back.
#[tokio::test(flavor = "multi_thread")]
async fn h23_a_pulled_stream_does_not_come_back() {
    for carriage in [Carriage::Tcp, Carriage::Udp] {
        let (there, here) = (yielding().await, yielding().await);
        let camera = there.publish(LONG);
        let stop = CancellationToken::new();
        let pull = RtspPull::new(Arc::clone(&here.engine) as _, there.url()).unwrap();
        let pull = tokio::spawn(pull.with_config(config(carriage)).run(key(), stop.clone()));
        frames(&mut here.reader().await, 5).await;
        let (from, to) = (there.engine.via(&key()), here.engine.via(&key()));
        assert!(to.meets(&from) && to != from, "{from} is not all of {to}");
        let back = Client::new(here.url()).unwrap().with_config(config(carriage));
        let pulled = back.pull(Arc::clone(&there.engine) as _, key(), stop.clone()).await;
        assert_conflict(&pulled);
        let read = here.engine.subscribe(PlayRequest::internal(key(), "test")).await.unwrap();
        let back = Client::new(there.url()).unwrap().with_config(config(carriage));
        assert_conflict(&back.push(read, &stop).await);
        assert!(!camera.is_finished(), "the camera stays");
        camera.abort();
        stop.cancel();
        pull.await.unwrap().unwrap();
    }
}

/// Does not say what it feeds.
struct Silent(Arc<Engine>);

#[async_trait]
impl PublishRegistry for Silent {
    async fn publish(&self, request: PublishRequest) -> arcly_core::Result<Publisher> {
        self.0.publish(request).await
    }
}

/// H23: the server cannot know yet that the stream comes back to itself; who pulls it sees that in the answer.
#[tokio::test(flavor = "multi_thread")]
async fn h23_a_stream_is_not_published_as_what_it_comes_from() {
    let serving = yielding().await;
    let camera = serving.publish(LONG);
    let client = Client::new(serving.url()).unwrap().with_config(config(Carriage::Tcp));
    let silent = Arc::new(Silent(Arc::clone(&serving.engine)));
    let pulled = client.pull(silent, key(), CancellationToken::new()).await;
    assert!(matches!(&pulled, Err(StreamError::Refused { reason: CloseReason::Conflict, .. })), "{pulled:?}");
    assert!(!camera.is_finished(), "the camera stays");
    camera.abort();
}

#[track_caller]
fn assert_conflict<T: std::fmt::Debug>(refused: &Result<T, StreamError>) {
    let said = matches!(refused, Err(StreamError::Rejected(words)) if words.contains("409"));
    assert!(said, "{refused:?}");
}

/// A server whose ports are in the order that `Transport` has them in.
async fn in_order() -> Serving {
    loop {
        let serving = Serving::start().await;
        if serving.ports.rtp < serving.ports.rtcp {
            return serving;
        }
    }
}

async fn pushed_over(carriage: Carriage) {
    let serving = in_order().await;
    let here = Serving::start().await;
    let publishing = here.publish(LONG);
    let stop = CancellationToken::new();
    let relay = RtspRelay::new(Arc::clone(&here.engine) as _, serving.url()).unwrap();
    let mut relay = tokio::spawn(relay.with_config(config(carriage)).run(key(), stop.clone()));
    let got = async { frames(&mut serving.reader().await, 100).await };
    let got = tokio::select! {
        got = got => got,
        ended = &mut relay => panic!("the relay has ended: {ended:?}"),
    };
    stop.cancel();
    tokio::time::timeout(LIMIT, relay).await.unwrap().unwrap().unwrap();
    publishing.abort();
    assert_piece(&Source::h264_aac().seconds(LONG), &got);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_over_the_connection_is_what_was_sent() {
    pushed_over(Carriage::Automatic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_in_datagrams_is_what_was_sent() {
    pushed_over(Carriage::Udp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_proven_and_a_wrong_one_is_refused_with_the_servers_words() {
    let users = StaticUsers::new();
    let users =
        users.with_user("door", "o:pen", ActionSet::PLAY, NameRule::parse("live/*").unwrap()).unwrap();
    let serving = Serving::with(ServerConfig::default(), Some(Arc::new(users))).await;
    let publishing = serving.publish(LONG);
    let (here, stop) = (engine(), CancellationToken::new());
    let url = |login: &str| serving.url().replace("rtsp://", &format!("rtsp://{login}@"));
    let wrong = Client::new(url("door:shut")).unwrap().with_config(config(Carriage::Tcp));
    let refused = wrong.pull(Arc::clone(&here) as _, key(), stop.clone()).await;
    assert!(matches!(&refused, Err(StreamError::Rejected(_))), "{refused:?}");
    assert!(!format!("{refused:?} {wrong:?}").contains("shut"), "no secrets in what is shown");
    let right = Client::new(url("door:o%3Apen")).unwrap().with_config(config(Carriage::Tcp));
    let pull = tokio::spawn({
        let (here, stop) = (Arc::clone(&here), stop.clone());
        async move { right.pull(here, key(), stop).await }
    });
    let got = frames(&mut reader(&here).await, 40).await;
    stop.cancel();
    pull.await.unwrap().unwrap();
    publishing.abort();
    assert_piece(&Source::h264_aac().seconds(LONG), &got);
}

#[tokio::test(flavor = "multi_thread")]
async fn f60_nobody_there_and_no_such_stream() {
    let nobody = free_address();
    let client = Client::new(format!("rtsp://{nobody}/live/cam")).unwrap();
    let refused = client.pull(engine(), key(), CancellationToken::new()).await;
    assert!(matches!(refused, Err(StreamError::Io(_) | StreamError::Closed(_))), "{refused:?}");
    assert!(Client::new("http://h/cam").is_err() && RtspPull::new(engine(), "rtsp://").is_err());
}

/// One connection of a camera that is scripted.
struct Camera {
    stream: TcpStream,
    decoder: Decoder,
    /// What it sends datagrams from, and where they go.
    datagrams: Option<(UdpSocket, SocketAddr)>,
}

/// The n-th 20 ms of G.711.
fn sound(n: u16) -> Vec<u8> {
    let header = Header { sequence: n, timestamp: u32::from(n) * 160, ssrc: 9, ..Header::default() };
    [&header.encode()[..], &[0xD5; 160]].concat()
}

impl Camera {
    async fn accept(listener: &TcpListener) -> Self {
        let accepted = tokio::time::timeout(LIMIT, listener.accept()).await.expect("somebody connects");
        let mut decoder = Decoder::new(MessageLimits::default());
        decoder.allow_frames(true);
        Self { stream: accepted.unwrap().0, decoder, datagrams: None }
    }

    async fn request(&mut self) -> Request {
        loop {
            if let Some(Item::Request(request)) = self.decoder.poll().unwrap() {
                return request;
            }
            let mut buffer = [0; 4_096];
            let read = tokio::time::timeout(LIMIT, self.stream.read(&mut buffer)).await.expect("a request");
            let read = read.unwrap();
            assert!(read > 0, "the client has gone");
            self.decoder.push(&buffer[..read]);
        }
    }

    async fn answer(&mut self, status: &str, headers: &str, body: &str) -> Request {
        let request = self.request().await;
        self.say(&request, status, headers, body).await;
        request
    }

    async fn say(&mut self, request: &Request, status: &str, headers: &str, body: &str) {
        let (cseq, len) = (request.cseq().unwrap(), body.len());
        let text = format!(
            "RTSP/1.0 {status}\r\nCSeq: {cseq}\r\nSession: 1\r\n{headers}Content-Length: {len}\r\n\r\n{body}"
        );
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Up to where media flows: G.711, on channel 0 or in datagrams.
    async fn play(&mut self) {
        let sdp = "v=0\r\nm=audio 0 RTP/AVP 0\r\na=control:t0\r\n";
        self.answer("200 OK", "", "").await;
        self.answer("200 OK", "", sdp).await;
        let (rtp, rtcp) = port_pair();
        let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
        let request = self.request().await;
        let asked: Transport = request.headers.get("Transport").unwrap().parse().unwrap();
        let granted = match asked.client_port {
            Some(_) => format!("RTP/AVP;unicast;server_port={}-{}", port(&rtp), port(&rtcp)),
            None => "RTP/AVP/TCP;interleaved=0-1".to_owned(),
        };
        self.say(&request, "200 OK", &format!("Transport: {granted}\r\n"), "").await;
        let to = asked.client_port.map(|ports| SocketAddr::from(([127, 0, 0, 1], ports.rtp)));
        self.datagrams = to.map(|to| (rtp, to));
        assert_eq!(self.answer("200 OK", "", "").await.method, Method::Play);
    }

    async fn sounds(&mut self, count: u16) {
        for packet in (0..count).map(sound) {
            match &self.datagrams {
                Some((rtp, to)) => _ = rtp.send_to(&packet, to).unwrap(),
                None => {
                    let frame = Frame { channel: 0, payload: packet.into() }.to_bytes();
                    self.stream.write_all(&frame).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn q09_a_camera_that_hangs_up_with_its_question() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rtsp://u:p@{}/cam", listener.local_addr().unwrap());
    let (here, stop) = (engine(), CancellationToken::new());
    let client = Client::new(url).unwrap().with_config(config(Carriage::Tcp));
    let pull = tokio::spawn({
        let (here, stop) = (Arc::clone(&here), stop.clone());
        async move { client.pull(here, key(), stop).await }
    });
    let mut first = Camera::accept(&listener).await;
    first.answer("401 Unauthorized", "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n", "").await;
    drop(first);
    let mut second = Camera::accept(&listener).await;
    let options = second.answer("200 OK", "", "").await;
    assert!(options.headers.get("Authorization").unwrap().starts_with("Digest"));
    stop.cancel();
    let _ = pull.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn f60_a_camera_that_stalls_is_pulled_again_and_its_readers_stay() {
    stalls(Carriage::Tcp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f60_a_camera_whose_datagrams_stall_is_pulled_again_and_its_readers_stay() {
    stalls(Carriage::Udp).await;
}

async fn stalls(carriage: Carriage) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rtsp://{}/cam", listener.local_addr().unwrap());
    let (here, stop) = (engine(), CancellationToken::new());
    let mut config = config(carriage);
    config.session.stall = Duration::from_secs(1);
    let pull = RtspPull::new(Arc::clone(&here) as _, url).unwrap().with_config(config).with_reconnect(SOON);
    let pull = tokio::spawn(pull.run(key(), stop.clone()));
    let mut camera = Camera::accept(&listener).await;
    camera.play().await;
    camera.sounds(50).await;
    let mut reader = reader(&here).await;
    assert_eq!(frames(&mut reader, 50).await.len(), 50);
    // It says nothing more, and is there all the same.
    let mut again = Camera::accept(&listener).await;
    again.play().await;
    again.sounds(50).await;
    assert_eq!(frames(&mut reader, 50).await.len(), 50);
    drop(camera);
    stop.cancel();
    pull.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn redirections_are_followed_and_not_without_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let moved = format!("Location: rtsp://{address}/elsewhere\r\n");
    let client = Client::new(format!("rtsp://{address}/cam")).unwrap().with_config(config(Carriage::Tcp));
    let pull = tokio::spawn(async move { client.pull(engine(), key(), CancellationToken::new()).await });
    for n in 0..8 {
        let mut camera = Camera::accept(&listener).await;
        let request = camera.answer("302 Found", &moved, "").await;
        assert_eq!(request.uri.ends_with("/elsewhere"), n > 0);
    }
    let refused = pull.await.unwrap();
    assert!(matches!(&refused, Err(StreamError::Protocol(_))), "{refused:?}");
    // Whoever has checked an address is not led to another.
    let mut checked = config(Carriage::Tcp);
    checked.addresses = vec![address];
    let client = Client::new("rtsp://no-such-host.invalid/cam").unwrap().with_config(checked);
    let pull = tokio::spawn(async move { client.pull(engine(), key(), CancellationToken::new()).await });
    Camera::accept(&listener).await.answer("302 Found", &moved, "").await;
    assert!(matches!(pull.await.unwrap(), Err(StreamError::Protocol(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn q12_ffmpeg_as_a_server_takes_a_push() {
    let ffmpeg = need!(ffmpeg);
    let port = free_port();
    let url = format!("rtsp://127.0.0.1:{port}/live/cam");
    let folder = tempfile::tempdir().unwrap();
    let listing = folder.path().join("packets");
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-rtsp_flags", "listen", "-i", &url]);
    command.args(["-t", "2", "-c", "copy", "-f", "framemd5"]).arg(&listing);
    let mut program = Program::start("ffmpeg", &mut command);
    let here = Serving::start().await;
    let publishing = here.publish_frames(Source::h264_aac().tracks(), Source::h264_aac().seconds(LONG));
    let stop = CancellationToken::new();
    let relay = RtspRelay::new(Arc::clone(&here.engine) as _, url).unwrap().with_reconnect(SOON);
    let relay = tokio::spawn(relay.run(key(), stop.clone()));
    tokio::task::spawn_blocking(move || program.end_ok(LIMIT)).await.unwrap();
    stop.cancel();
    publishing.abort();
    relay.await.unwrap().unwrap();
    let text = std::fs::read_to_string(listing).unwrap();
    let packets = |track: &str| text.lines().filter(|line| line.starts_with(track)).count();
    assert!(packets("0,") >= 40 && packets("1,") >= 60, "{text}");
}
