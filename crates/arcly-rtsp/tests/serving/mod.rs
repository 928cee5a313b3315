//! A server of one's own for each test, and a client that says what it is told to.
#![allow(dead_code, reason = "no test program uses all of it")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arcly_core::contract::auth::StreamAuthenticator;
use arcly_core::contract::observe::{EngineEvent, Observer};
use arcly_core::derived::Packetizer as _;
use arcly_core::log::{LagPolicy, Read, Retention, StartMode};
use arcly_core::{
    AppSpec, CloseReason, Engine, MediaFrame, PlayRequest, PlaybackRegistry as _, PublishRegistry as _,
    PublishRequest, StreamKey, Subscriber, TimeDelta, Timestamp, TrackSet,
};
use arcly_rtp::media::{Packetizer, PacketizerOptions};
use arcly_rtp::sdp::{Attribute, SessionDescription, describe, formats};
use arcly_rtsp::wire::{Decoder, Item, MessageLimits, Method, PortPair, Request, Response, Status};
use arcly_rtsp::{Server, ServerConfig};
use arcly_testkit::media::Source;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// No test waits longer for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// Seconds of a publication that nobody comes too late for, on a machine that stands still now and then. It is aborted when it has
/// served.
pub(crate) const LONG: u32 = 60;

pub(crate) fn key() -> StreamKey {
    StreamKey::new("live", "cam")
}

/// Waits until a player has written what it is to write. It may not be told of the end before: what it has received by then, and not
/// looked at, is lost. Nor may its own end be waited for where it is GStreamer: `rtspsrc` hangs or crashes on its way out now and then
/// (one in 120 times with 1.22), and what `filesink` has not written by then is lost too.
pub(crate) async fn until_written(what: &str, is_all: impl Fn() -> bool) {
    let all = async {
        while !is_all() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, all).await.unwrap_or_else(|_| panic!("not all of {what}"));
}

/// Remembers why sessions ended.
#[derive(Debug, Default)]
pub(crate) struct Closed(Mutex<Vec<CloseReason>>);

impl Observer for Closed {
    fn on_event(&self, event: &EngineEvent) {
        if let EngineEvent::SessionClosed { reason, .. } = event {
            self.0.lock().unwrap().push(*reason);
        }
    }
}

/// A server with an engine behind it.
pub(crate) struct Serving {
    pub(crate) engine: Arc<Engine>,
    pub(crate) address: SocketAddr,
    pub(crate) ports: PortPair,
    pub(crate) server: Arc<Server>,
    pub(crate) closed: Arc<Closed>,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Serving {
    pub(crate) async fn start() -> Self {
        Self::with(ServerConfig::default(), None).await
    }

    pub(crate) async fn with(config: ServerConfig, users: Option<Arc<dyn StreamAuthenticator>>) -> Self {
        Self::made(config, users, |server| server).await
    }

    /// The same with whatever `make` adds to the server.
    pub(crate) async fn made(
        config: ServerConfig,
        users: Option<Arc<dyn StreamAuthenticator>>,
        make: impl FnOnce(Server) -> Server,
    ) -> Self {
        let closed = Arc::new(Closed::default());
        let mut builder = Engine::builder().observer(Arc::clone(&closed) as _);
        // Who begins to read when all has been published has missed nothing.
        let all = TimeDelta::from_millis(2 * 1_000 * i64::from(LONG));
        let retention =
            Retention { max_items: 1 << 14, max_time: all, window_time: all, ..Retention::default() };
        let app = AppSpec::new("").wait_for_stream(Duration::from_secs(5)).retention(retention);
        builder = builder.default_app(app);
        if let Some(users) = users {
            builder = builder.authenticator(users);
        }
        let engine = builder.build();
        let server = Server::bind("127.0.0.1:0", config).await.unwrap();
        let server = Arc::new({
            let (rtp, rtcp) = port_pair();
            make(server.with_udp_sockets(rtp, rtcp).unwrap())
        });
        let (address, ports) = (server.local_addr().unwrap(), server.udp_ports().unwrap().unwrap());
        let stop = CancellationToken::new();
        let context = engine.context(stop.clone());
        let task = tokio::spawn({
            let server = Arc::clone(&server);
            async move { server.run(context).await.unwrap() }
        });
        Self { engine, address, ports, server, closed, stop, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("rtsp://{}/live/cam", self.address)
    }

    /// Everything that is published from now on.
    pub(crate) async fn reader(&self) -> Subscriber {
        let request = PlayRequest::internal(key(), "test").start(StartMode::Oldest).lag(LagPolicy::PATIENT);
        self.engine.subscribe(request.wait(LIMIT)).await.unwrap().into_frames()
    }

    /// Publishes the frames of a source in real time, for so many seconds.
    pub(crate) fn publish(&self, seconds: u32) -> JoinHandle<Vec<MediaFrame>> {
        let source = Source::h264_aac();
        let (tracks, frames) = (source.tracks(), source.seconds(seconds));
        self.publish_frames(tracks, frames)
    }

    /// The same as another stream.
    pub(crate) fn publish_as(&self, key: StreamKey, seconds: u32) -> JoinHandle<Vec<MediaFrame>> {
        let source = Source::h264_aac();
        self.publish_frames_as(key, source.tracks(), source.seconds(seconds))
    }

    pub(crate) fn publish_frames(
        &self,
        tracks: TrackSet,
        frames: Vec<MediaFrame>,
    ) -> JoinHandle<Vec<MediaFrame>> {
        self.publish_frames_as(key(), tracks, frames)
    }

    /// The same, from when somebody has read of it: before that there is the first frame alone.
    pub(crate) fn publish_to_a_reader(&self, tracks: TrackSet, frames: Vec<MediaFrame>) -> JoinHandle<()> {
        let engine = Arc::clone(&self.engine);
        tokio::spawn(async move {
            let mut publisher = engine.publish(PublishRequest::internal(key(), "test")).await.unwrap();
            publisher.set_tracks(tracks).unwrap();
            let mut frames = frames.into_iter();
            let first = frames.next().unwrap();
            let start = first.dts;
            publisher.publish(first).unwrap();
            let read = async {
                let readers = || engine.stream(&key()).map(|stream| stream.readers()).unwrap_or_default();
                while readers().iter().all(|reader| reader.stats().items == 0) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(LIMIT, read).await.expect("somebody who reads");
            let began = tokio::time::Instant::now();
            for frame in frames {
                tokio::time::sleep_until(began + (frame.dts - start).to_duration()).await;
                publisher.publish(frame).unwrap();
            }
        })
    }

    fn publish_frames_as(
        &self,
        key: StreamKey,
        tracks: TrackSet,
        frames: Vec<MediaFrame>,
    ) -> JoinHandle<Vec<MediaFrame>> {
        let engine = Arc::clone(&self.engine);
        tokio::spawn(async move {
            let mut publisher = engine.publish(PublishRequest::internal(key, "test")).await.unwrap();
            publisher.set_tracks(tracks).unwrap();
            let began = tokio::time::Instant::now();
            for frame in &frames {
                tokio::time::sleep_until(began + (frame.dts - Timestamp::ZERO).to_duration()).await;
                publisher.publish(frame.clone()).unwrap();
            }
            frames
        })
    }

    /// Waits until so many sessions have ended, and says why.
    pub(crate) async fn reasons(&self, count: usize) -> Vec<CloseReason> {
        let all = async {
            loop {
                let reasons = self.closed.0.lock().unwrap().clone();
                if reasons.len() >= count {
                    return reasons;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, all).await.expect("sessions that end")
    }
}

/// A source as a publisher describes it, and what makes its packets.
pub(crate) fn publication(source: &Source) -> (String, Packetizer) {
    let tracks = source.tracks();
    let mut session = SessionDescription::default();
    for (at, (track, format)) in formats(&tracks).iter().enumerate() {
        let mut media = describe(tracks.get(*track).unwrap(), format);
        media.attributes.push(Attribute::new("control", format!("streamid={at}")));
        session.media.push(media);
    }
    let mut packetizer = Packetizer::new(PacketizerOptions::new(9));
    packetizer.headers(&Arc::new(tracks));
    (session.to_string(), packetizer)
}

/// Goes to where a publisher's media may flow.
pub(crate) async fn announce(raw: &mut Raw, url: &str, source: &Source, transports: [&str; 2]) {
    let (sdp, _) = publication(source);
    let announced = raw.ask(Request::new(Method::Announce, url).with_body("application/sdp", sdp)).await;
    assert_eq!(announced.status, Status::OK);
    for (at, transport) in transports.into_iter().enumerate() {
        let setup = Request::new(Method::Setup, format!("{url}/streamid={at}"));
        assert_eq!(raw.ask(setup.with("Transport", transport)).await.status, Status::OK);
    }
    assert_eq!(raw.ask(Request::new(Method::Record, url)).await.status, Status::OK);
}

/// Two sockets on ports that follow each other.
pub(crate) fn port_pair() -> (UdpSocket, UdpSocket) {
    let bind = |port| UdpSocket::bind(("127.0.0.1", port));
    let mut pairs = std::iter::repeat_with(|| {
        let first = bind(0).unwrap();
        let next = first.local_addr().unwrap().port().checked_add(1)?;
        Some((first, bind(next).ok()?))
    });
    pairs.by_ref().take(100).flatten().next().expect("two free ports")
}

/// Frames of a reader up to the end of its stream, with the tracks in force at the end.
pub(crate) async fn collect(mut reader: Subscriber) -> (Arc<TrackSet>, Vec<MediaFrame>) {
    let (mut tracks, mut frames) = (Arc::default(), Vec::new());
    let all = async {
        while let Ok(Some(read)) = reader.next().await {
            match read {
                Read::Context(context) => tracks = context,
                Read::Item(frame) => frames.push((*frame).clone()),
                Read::Skipped(skip) => panic!("{skip:?}"),
            }
        }
    };
    tokio::time::timeout(LIMIT, all).await.expect("a stream that ends");
    (tracks, frames)
}

/// What a [`Raw`] client speaks over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A client that speaks as it is told.
pub(crate) struct Raw {
    stream: Box<dyn Stream>,
    decoder: Decoder,
    cseq: u32,
    pub(crate) session: Option<String>,
    /// Frames that came before what was waited for.
    pub(crate) frames: Vec<(u8, bytes::Bytes)>,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        let mut decoder = Decoder::new(MessageLimits::default());
        decoder.allow_frames(true);
        Self { stream: Box::new(stream), decoder, cseq: 0, session: None, frames: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // The server may have closed already.
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next thing that comes, `None` at the end.
    pub(crate) async fn item(&mut self) -> Option<Item> {
        let next = async {
            loop {
                if let Some(item) = self.decoder.poll().expect("RTSP") {
                    return Some(item);
                }
                let mut buffer = [0; 8_192];
                match self.stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return None,
                    Ok(n) => self.decoder.push(&buffer[..n]),
                }
            }
        };
        tokio::time::timeout(LIMIT, next).await.expect("something comes")
    }

    /// The next response; `None` when the connection ends before it.
    pub(crate) async fn response(&mut self) -> Option<Response> {
        loop {
            match self.item().await? {
                Item::Response(response) => return Some(response),
                Item::Frame(frame) => self.frames.push((frame.channel, frame.payload)),
                Item::Request(_) => {}
            }
        }
    }

    /// The next frame of a channel; `None` when the connection ends before it.
    pub(crate) async fn frame(&mut self, channel: u8) -> Option<bytes::Bytes> {
        if let Some(at) = self.frames.iter().position(|(of, _)| *of == channel) {
            return Some(self.frames.remove(at).1);
        }
        loop {
            match self.item().await? {
                Item::Frame(frame) if frame.channel == channel => return Some(frame.payload),
                Item::Frame(frame) => self.frames.push((frame.channel, frame.payload)),
                _ => {}
            }
        }
    }

    /// Sends a request with the next number, in the session if there is one, and waits for the answer.
    pub(crate) async fn ask(&mut self, request: Request) -> Response {
        self.cseq += 1;
        let mut request = request.with("CSeq", self.cseq);
        if let Some(session) = &self.session {
            request = request.with("Session", session);
        }
        self.send(&request.to_bytes()).await;
        let response = self.response().await.expect("an answer");
        assert_eq!(response.cseq(), Some(self.cseq));
        if let Some(session) = response.headers.get("Session") {
            self.session = session.split(';').next().map(str::to_owned);
        }
        response
    }

    /// True when the server closes the connection.
    pub(crate) async fn is_closed(&mut self) -> bool {
        while self.item().await.is_some() {}
        true
    }
}
