//! A stream between two engines: everything that a server and a client do but for their sockets, in virtual time.
//!
//! ```text
//!   source ─► engine ─► player ─► sessions ─► links that lose, reorder, repeat ─► sessions ─► receiver ─► engine ─► what came
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arcly_core::log::{Budget, LagPolicy, Progress, Read, StartMode};
use arcly_core::machine::{Machine, Output};
use arcly_core::{
    Engine, MediaFrame, PlayRequest, PlaybackRegistry as _, PublishRegistry as _, PublishRequest, Publisher,
    StreamKey, Subscriber, Subscription, Timestamp, TrackId, clock,
};
use arcly_rtp::media::{Packetizer, PacketizerOptions, Reports, interleaved};
use arcly_rtsp::media::{Ingest, Player, starts};
use arcly_rtsp::session::{Access, Intent};
use arcly_rtsp::wire::authorization::Nonces;
use arcly_rtsp::wire::{Frame, PortPair};
use arcly_rtsp::{
    Carriage, ClientEvent, ClientSession, ClientSessionConfig, Datagram, ServerEvent, ServerSession,
};
use arcly_testkit::media::Source;
use arcly_testkit::net::{Conditions, DatagramLink, Link as _, Pieces, StreamLink};
use bytes::Bytes;

const URL: &str = "rtsp://server/live/cam";
/// Bytes of a number at the end of a frame.
const STAMP: usize = 8;
/// How long the sockets' bytes take, each way.
const DELAY: Duration = Duration::from_millis(10);
/// Rounds of one instant after which it has no end.
const ENDLESS: usize = 100_000;

/// What the wall shows in virtual time.
fn wall() -> SystemTime {
    static ZERO: LazyLock<Instant> = LazyLock::new(Instant::now);
    UNIX_EPOCH + Duration::from_secs(1_800_000_000) + clock::now().saturating_duration_since(*ZERO)
}

/// Who sends media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The server, to a client that plays.
    Pull,
    /// The client, to a server that records.
    Push,
}

/// What a server's sender reports say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// What is so.
    Right,
    /// Nothing: there are none.
    Nothing,
    /// That the sound is an hour later.
    HourOff,
}

/// A world as it begins.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) way: Way,
    pub(crate) carriage: Carriage,
    pub(crate) conditions: Conditions,
    pub(crate) told: Told,
    pub(crate) key: u64,
    pub(crate) mtu: usize,
    pub(crate) source: Source,
    /// What is published instead of the source's frames.
    pub(crate) frames: Option<Vec<MediaFrame>>,
    pub(crate) seed: u64,
    /// How long the stream is there before the client connects.
    pub(crate) late: Duration,
    /// Times are whole milliseconds, as those of what came over RTMP are.
    pub(crate) from_rtmp: bool,
}

impl Setting {
    pub(crate) fn new(way: Way, carriage: Carriage) -> Self {
        let (conditions, source) = (Conditions { delay: DELAY, ..Conditions::default() }, Source::h264_aac());
        Self {
            way,
            carriage,
            conditions,
            told: Told::Right,
            key: 7,
            mtu: 1_200,
            source,
            frames: None,
            seed: 1,
            late: Duration::ZERO,
            from_rtmp: false,
        }
    }
}

/// A frame that was published, by its number on its track.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) dts: Timestamp,
    pub(crate) pts: Timestamp,
    pub(crate) key: bool,
    pub(crate) at: Instant,
}

/// A frame that came out at the other end.
#[derive(Clone, Debug)]
pub(crate) struct Came {
    pub(crate) number: usize,
    pub(crate) frame: MediaFrame,
    pub(crate) at: Instant,
}

/// What receives.
enum Sink {
    Waiting(Publisher),
    Pulled(Publisher),
    Recorded(Box<Ingest>),
}

/// What is published, when it is due.
pub(crate) struct Feed {
    began: Instant,
    start: Timestamp,
    source: std::iter::Peekable<Box<dyn Iterator<Item = MediaFrame>>>,
    from_rtmp: bool,
    origin: Publisher,
    /// By track: pictures, sounds.
    pub(crate) sent: [Vec<Sent>; 2],
}

pub(crate) struct World {
    setting: Setting,
    pub(crate) feed: Feed,
    /// The sender's engine, and what sends from it.
    engine: Arc<Engine>,
    /// The receiver's.
    elsewhere: Arc<Engine>,
    subscription: Option<Subscription>,
    player: Option<Player>,
    paced: Option<Instant>,
    pub(crate) server: ServerSession,
    pub(crate) client: ClientSession,
    wakes: [Option<Instant>; 2],
    to_server: StreamLink,
    to_client: StreamLink,
    /// Media in datagrams, each behind its channel.
    pub(crate) datagrams: DatagramLink,
    sink: Option<Sink>,
    got: Subscriber,
    /// Media has stopped, though nobody says so.
    pub(crate) stalled: bool,
    /// By track, as what was sent.
    pub(crate) came: [Vec<Came>; 2],
    pub(crate) keyframes_asked: usize,
}

fn key() -> StreamKey {
    StreamKey::new("live", "cam")
}

fn of(track: TrackId) -> usize {
    usize::from(track != TrackId::VIDEO)
}

async fn publisher(engine: &Engine) -> Publisher {
    engine.publish(PublishRequest::internal(key(), "sim")).await.unwrap()
}

async fn subscription(engine: &Engine, start: StartMode) -> Subscription {
    let request = PlayRequest::internal(key(), "sim").start(start).lag(LagPolicy::PATIENT);
    engine.subscribe(request).await.unwrap()
}

/// The frame with a number at its end, where no parser looks.
fn stamped(frame: &MediaFrame, number: usize) -> MediaFrame {
    let mut payload = frame.payload.to_vec();
    if frame.track == TrackId::VIDEO {
        let mut at = 0;
        loop {
            let length: [u8; 4] = payload[at..at + 4].try_into().unwrap();
            let length = u32::from_be_bytes(length) as usize;
            if at + 4 + length == payload.len() {
                let grown = u32::try_from(length + STAMP).unwrap();
                payload[at..at + 4].copy_from_slice(&grown.to_be_bytes());
                break;
            }
            at += 4 + length;
        }
    }
    // No start code in it.
    payload.extend((0..STAMP).map(|n| 0x80 | (number >> (7 * n) & 0x7F) as u8));
    MediaFrame { payload: payload.into(), ..frame.clone() }
}

/// The number at a frame's end.
pub(crate) fn number(payload: &[u8]) -> usize {
    let stamp = &payload[payload.len() - STAMP..];
    stamp.iter().rev().fold(0, |number, byte| number << 7 | usize::from(byte & 0x7F))
}

/// A report that says what it does not mean: that what it is about was an hour later.
fn an_hour_off(payload: &Bytes) -> Bytes {
    let mut report = payload.to_vec();
    let seconds = u32::from_be_bytes(report[8..12].try_into().unwrap()) + 3_600;
    report[8..12].copy_from_slice(&seconds.to_be_bytes());
    report.into()
}

impl Feed {
    fn new(mut origin: Publisher, setting: &Setting) -> Self {
        let Setting { source, frames, from_rtmp, .. } = setting.clone();
        origin.set_tracks(source.tracks()).unwrap();
        let source: Box<dyn Iterator<Item = MediaFrame>> = match frames {
            Some(frames) => Box::new(frames.into_iter()),
            None => Box::new(source),
        };
        let mut source = source.peekable();
        let start = source.peek().unwrap().dts;
        Self { began: clock::now(), start, source, from_rtmp, origin, sent: [vec![], vec![]] }
    }

    fn due(&mut self) -> Option<Instant> {
        self.source.peek().map(|frame| self.began + (frame.dts - self.start).to_duration())
    }

    /// Publishes what is due.
    fn publish(&mut self) {
        let now = clock::now();
        while self.due().is_some_and(|due| due <= now)
            && let Some(mut frame) = self.source.next()
        {
            if self.from_rtmp {
                let rounded = |at: Timestamp| Timestamp::from_millis(at.to_millis());
                (frame.dts, frame.pts) = (rounded(frame.dts), rounded(frame.pts));
            }
            let sent = &mut self.sent[of(frame.track)];
            self.origin.publish(stamped(&frame, sent.len())).unwrap();
            sent.push(Sent { dts: frame.dts, pts: frame.pts, key: frame.is_keyframe(), at: now });
        }
    }

    /// Publishes alone for a while.
    async fn until(&mut self, end: Instant) {
        while let Some(due) = self.due().filter(|due| *due < end) {
            tokio::time::advance(due.saturating_duration_since(clock::now())).await;
            self.publish();
        }
        tokio::time::advance(end.saturating_duration_since(clock::now())).await;
    }
}

impl World {
    /// Sender and receiver with a connection between them on which nothing was said.
    pub(crate) async fn new(setting: Setting) -> Self {
        let (engine, elsewhere) = (Engine::builder().build(), Engine::builder().build());
        let tracks = setting.source.tracks();
        let mut feed = Feed::new(publisher(&engine).await, &setting);
        feed.until(clock::now() + setting.late).await;
        let now = clock::now();
        let pushed = match setting.way {
            Way::Push => Some(subscription(&engine, StartMode::Keyframe).await),
            Way::Pull => None,
        };
        let sink = publisher(&elsewhere).await;
        let got = subscription(&elsewhere, StartMode::Oldest).await.into_frames();
        let access = Access {
            random: [1; 16],
            nonces: Nonces::new(&[2; 32], now),
            udp: Some(PortPair { rtp: 8_000, rtcp: 8_001 }),
        };
        let server = ServerSession::new(Arc::default(), access, now);
        let mut config = ClientSessionConfig::default();
        config.carriage = setting.carriage;
        let (config, url) = (Arc::new(config), URL.parse().unwrap());
        let mut options = PacketizerOptions::new(setting.key);
        options.mtu = setting.mtu;
        let client = match setting.way {
            Way::Pull => ClientSession::pull(config, url, [3; 16], now),
            Way::Push => ClientSession::push(config, url, (&tracks, options), [3; 16], now).unwrap(),
        };
        let link = |seed| StreamLink::new(seed).with_delay(DELAY, DELAY).with_pieces(Pieces::Random(4_096));
        Self {
            feed,
            engine,
            elsewhere,
            subscription: pushed,
            player: None,
            paced: None,
            server,
            client,
            wakes: [None; 2],
            to_server: link(setting.seed),
            to_client: link(setting.seed + 1),
            datagrams: DatagramLink::new(setting.seed + 2, setting.conditions),
            sink: Some(Sink::Waiting(sink)),
            got,
            stalled: false,
            came: [vec![], vec![]],
            keyframes_asked: 0,
            setting,
        }
    }

    /// Lets time pass, as far as the client's session goes on.
    pub(crate) async fn run(&mut self, span: Duration) {
        let end = clock::now() + span;
        while self.client.closed().is_none() {
            self.settle().await;
            let now = clock::now();
            let Some(next) = self.next_due().filter(|next| *next <= end) else { break };
            assert!(next > now, "nothing is due that was not done");
            tokio::time::advance(next - now).await;
        }
        if self.client.closed().is_none() {
            tokio::time::advance(end.saturating_duration_since(clock::now())).await;
            self.settle().await;
        }
    }

    /// Nothing here runs for so long. Then sockets are asked before timers, as the drivers do.
    pub(crate) async fn hold_up(&mut self, span: Duration) {
        tokio::time::advance(span).await;
        self.deliver();
    }

    fn next_due(&mut self) -> Option<Instant> {
        let links =
            [self.to_server.next_arrival(), self.to_client.next_arrival(), self.datagrams.next_arrival()];
        let ingest = match &self.sink {
            Some(Sink::Recorded(ingest)) => ingest.deadline(),
            _ => None,
        };
        links.into_iter().chain(self.wakes).chain([self.feed.due(), self.paced, ingest]).flatten().min()
    }

    /// Everything that happens at this instant.
    async fn settle(&mut self) {
        for _ in 0..ENDLESS {
            self.feed.publish();
            self.send();
            let moved = self.time_out() | self.drain_server().await | self.drain_client() | self.deliver();
            self.collect();
            if !moved {
                return;
            }
        }
        panic!("they talk without end, and no time passes");
    }

    /// What a player of the receiver gets who comes now: tracks and numbers, in the order of its log.
    pub(crate) async fn joins(&self) -> Vec<(usize, usize)> {
        let mut player = subscription(&self.elsewhere, StartMode::Keyframe).await.into_frames();
        let mut got = Vec::new();
        let progress = player.read(Budget::UNLIMITED, |read| {
            if let Read::Item(frame) = read {
                got.push((of(frame.track), number(&frame.payload)));
            }
        });
        progress.unwrap();
        got
    }

    fn packetizer(&self, key: u64) -> Packetizer {
        let mut options = PacketizerOptions::new(key);
        options.mtu = self.setting.mtu;
        let packetizer = Packetizer::new(options);
        if self.setting.told == Told::Nothing {
            return packetizer;
        }
        let anchor = self.feed.origin.stream().log().last().map(|frame| (frame.dts, wall()));
        packetizer.with_reports(Reports { cname: "sim".to_owned(), clock: wall, anchor })
    }

    /// The sender begins anew in the middle of a GOP, as an encoder behind a camera's server does: other numbers.
    pub(crate) async fn restart(&mut self, key: u64) {
        let subscription = subscription(&self.engine, StartMode::Keyframe).await;
        let packetizer = self.packetizer(key);
        let mut player = subscription.into_derived(key, || packetizer);
        // What was there already was sent.
        player.read(Budget::UNLIMITED, |_| {}).unwrap();
        self.player = Some(player);
    }

    /// Hands on what the player has.
    fn send(&mut self) {
        let Some(player) = &mut self.player else { return };
        self.paced = self.paced.filter(|at| *at > clock::now());
        if player.poll_ready(&Context::from_waker(Waker::noop())).is_pending() {
            return;
        }
        let mut packets = VecDeque::new();
        let progress = player.read(Budget::UNLIMITED, |read| {
            if let Read::Item(packet) = read {
                packets.push_back(packet);
            }
        });
        self.paced = match progress.unwrap() {
            Progress::PacedUntil(at) => Some(at),
            _ => None,
        };
        let now = clock::now();
        if self.stalled {
            return;
        }
        for packet in packets {
            if self.setting.way == Way::Push {
                self.client.send_packets(&packet);
                continue;
            }
            for (channel, payload) in interleaved(packet.bytes.clone()) {
                let lie = self.setting.told == Told::HourOff && channel == 3;
                self.carry(now, channel, if lie { an_hour_off(&payload) } else { payload });
            }
        }
    }

    /// Sends a packet of a pull.
    fn carry(&mut self, now: Instant, channel: u8, payload: Bytes) {
        let bytes = Frame { channel, payload }.to_bytes();
        if self.setting.carriage == Carriage::Udp {
            self.datagrams.send(now, bytes);
        } else {
            self.to_client.send(now, bytes);
        }
    }

    async fn drain_server(&mut self) -> bool {
        let (now, mut moved) = (clock::now(), false);
        loop {
            match self.server.poll_output() {
                Output::Transmit(bytes) => self.to_client.send(now, bytes),
                Output::Event(event) => self.server_event(now, event).await,
                Output::Wait(wake) => {
                    self.wakes[0] = wake;
                    return moved;
                }
            }
            moved = true;
        }
    }

    async fn server_event(&mut self, now: Instant, event: ServerEvent) {
        match event {
            ServerEvent::Open { intent: Intent::Play, .. } => {
                let start = match self.setting.carriage {
                    Carriage::Udp => StartMode::KeyframePaced { speed_percent: 150 },
                    _ => StartMode::Keyframe,
                };
                let subscription = subscription(&self.engine, start).await;
                let tracks = subscription.tracks();
                self.subscription = Some(subscription);
                self.server.opened_play(now, tracks, self.setting.key);
            }
            ServerEvent::Open { .. } => self.server.opened_publish(now),
            ServerEvent::Play => {
                let packetizer = self.packetizer(self.setting.key);
                let subscription = self.subscription.take().unwrap();
                let mut player = subscription.into_derived(self.setting.key, || packetizer);
                let presentation = self.server.presentation().unwrap().clone();
                let starts = starts(&mut player, &presentation, self.setting.key);
                self.player = Some(player);
                self.server.accept_play(now, &starts);
            }
            ServerEvent::Record => {
                let Some(Sink::Waiting(publisher)) = self.sink.take() else { panic!("recorded twice") };
                let presentation = self.server.presentation().unwrap();
                self.sink = Some(Sink::Recorded(Box::new(Ingest::new(publisher, presentation, 9))));
            }
            ServerEvent::Packet { medium, control, packet } => self.record(now, medium, control, &packet),
            other => panic!("{other:?}"),
        }
    }

    fn record(&mut self, now: Instant, medium: usize, control: bool, packet: &Bytes) {
        self.server.keep_alive(now);
        if let Some(Sink::Recorded(ingest)) = &mut self.sink {
            ingest.handle_packet(now, medium, control, packet).unwrap();
        }
    }

    fn drain_client(&mut self) -> bool {
        let (now, mut moved) = (clock::now(), false);
        loop {
            match self.client.poll_output() {
                Output::Transmit(bytes) => self.to_server.send(now, bytes),
                Output::Event(event) => self.client_event(now, event),
                Output::Wait(wake) => {
                    self.wakes[1] = wake;
                    return moved;
                }
            }
            moved = true;
        }
    }

    fn client_event(&mut self, now: Instant, event: ClientEvent) {
        match event {
            ClientEvent::PortsNeeded(count) => {
                let pair = |n: usize| 5_000 + 2 * u16::try_from(n).unwrap();
                let pairs = (0..count).map(|n| PortPair { rtp: pair(n), rtcp: pair(n) + 1 });
                self.client.set_ports(now, pairs.collect());
            }
            ClientEvent::Media(event) => {
                if let Some(Sink::Waiting(publisher) | Sink::Pulled(publisher)) = self.sink.take() {
                    let mut publisher = publisher;
                    publisher.handle(event).unwrap();
                    self.sink = Some(Sink::Pulled(publisher));
                }
            }
            // Reports of a receiver, and what opens firewalls, meet no fate.
            ClientEvent::Datagram(_) if self.setting.way == Way::Pull => self.server.keep_alive(now),
            ClientEvent::Datagram(Datagram { medium, control, payload }) => {
                let channel = u8::try_from(medium).unwrap() * 2 + u8::from(control);
                self.datagrams.send(now, Frame { channel, payload }.to_bytes());
            }
            ClientEvent::KeyframeRequested => self.keyframes_asked += 1,
            ClientEvent::Started if self.setting.way == Way::Push => {
                let packetizer = self.packetizer(self.setting.key);
                let subscription = self.subscription.take().unwrap();
                self.player = Some(subscription.into_derived(self.setting.key, || packetizer));
            }
            ClientEvent::Started | ClientEvent::Peer { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    /// What has arrived.
    fn deliver(&mut self) -> bool {
        let (now, mut moved) = (clock::now(), false);
        while let Some(bytes) = self.to_server.receive(now) {
            self.server.handle_input(now, &bytes).unwrap();
            moved = true;
        }
        while let Some(bytes) = self.to_client.receive(now) {
            self.client.handle_input(now, &bytes).unwrap();
            moved = true;
        }
        while let Some(bytes) = self.datagrams.receive(now) {
            moved = true;
            for (channel, payload) in interleaved(bytes) {
                let (medium, control) = (usize::from(channel / 2), channel % 2 == 1);
                if self.setting.way == Way::Push {
                    self.record(now, medium, control, &payload);
                } else {
                    self.client.handle_datagram(now, &Datagram { medium, control, payload }).unwrap();
                }
            }
        }
        moved
    }

    fn time_out(&mut self) -> bool {
        let (now, mut moved) = (clock::now(), false);
        let due = |wake: Option<Instant>| wake.is_some_and(|wake| wake <= now);
        if due(self.wakes[0].take_if(|wake| *wake <= now)) {
            self.server.handle_timeout(now).unwrap();
            moved = true;
        }
        if due(self.wakes[1].take_if(|wake| *wake <= now)) {
            // It is closed then, and a test asks why.
            _ = self.client.handle_timeout(now);
            moved = true;
        }
        let Some(Sink::Recorded(ingest)) = &mut self.sink else { return moved };
        if due(ingest.deadline()) {
            ingest.handle_timeout(now).unwrap();
            moved = true;
        }
        // What a server tells its publisher gets there, whichever way.
        for (medium, payload) in ingest.control(now) {
            self.client.handle_datagram(now, &Datagram { medium, control: true, payload }).unwrap();
            moved = true;
        }
        moved
    }

    fn collect(&mut self) {
        let (now, came) = (clock::now(), &mut self.came);
        let _ = self.got.poll_ready(&Context::from_waker(Waker::noop()));
        let progress = self.got.read(Budget::UNLIMITED, |read| match read {
            Read::Item(frame) => {
                let number = number(&frame.payload);
                came[of(frame.track)].push(Came { number, frame: (*frame).clone(), at: now });
            }
            Read::Context(_) => {}
            Read::Skipped(skipped) => panic!("{skipped:?}"),
        });
        progress.unwrap();
    }
}
