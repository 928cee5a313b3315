//! One 720p30 stream of 1.5 Mbit/s to N viewers over WHEP, beside a loop that does nothing but encrypt the same packets and send them.
//!
//! **Question.** What does a viewer over WHEP cost, and how much later than the publisher's message does a picture reach it?
//!
//! **Hypothesis.** Packets are made once and shared, and leave in bursts that the kernel cuts; so what a viewer costs is the encryption, the
//! copy that goes with it, and the system call, which the floor has as well. What str0m does for each packet beside that (a header, its
//! extensions, the pacer, the book of what may be asked for again) is the rest.
//!
//! The third party is the least server that can be made of str0m: one loop, one socket, a session for each viewer, and nothing else. What it
//! costs is the price of leaving the transport to a library (decision 14); what arcly costs beyond it is arcly's own.
//!
//! **Decision rule.** CPU time of the server's process in units of the floor's in the same round: ≤ 1.5, medians of the rounds. Delay from RTMP in
//! to WHEP out: p99 below 150 ms. A miss counts after five rounds.
//!
//! The server is this program again: an engine with RTMP and WebRTC and nothing else. Viewers are str0m in this process, each on a socket of its
//! own; they answer with reports as browsers do.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket as StdSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arcly_benches::load::scenario::{self, Options};
use arcly_benches::load::{AudienceReport, Clip, Feeder, Marker, Plan, Shape, UUID, clock_ns, cpu_of};
use arcly_benches::{Goal, median};
use arcly_core::contract::auth::Credentials;
use arcly_core::egress::udp::{Burst, UdpSocket};
use arcly_core::via::Via;
use arcly_core::{ClientInfo, Engine, StreamKey};
use arcly_testkit::process::Guard;
use arcly_webrtc::http::{SDP, Visit};
use arcly_webrtc::wire::Role;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use str0m::change::{SdpAnswer, SdpOffer};
use str0m::media::{Direction, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// 1.5 Mbit/s, a keyframe every 2 s, no sound.
const SHAPE: Shape = Shape { pictures: 30, gop: 60, key_bytes: 40_000, picture_bytes: 5_700, sound_bytes: 0 };
/// What a packet holds, as the server cuts them, and what is in front of it.
const PAYLOAD: usize = 1_120;
const HEADER: usize = 20;
/// Bytes of the NAL unit with the marker in it.
const SEI: usize = 40;
/// What this program is, too: the server, and the least that one can be made of str0m.
const SERVE: &str = "whep-serve";
const BARE: &str = "whep-bare";
const LIMIT: Duration = Duration::from_secs(60);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, SERVE] => return serve(),
        [_, BARE] => return bare(),
        [_, "whep-floor", to, viewers] => {
            return floor(to.parse().expect("an address"), viewers.parse().expect("a number"));
        }
        _ => {}
    }
    scenario::main("whep_play", |options| {
        for count in options.readers.clone().unwrap_or_else(|| vec![50, 200]) {
            compare(options, count);
        }
    });
}

/// What one round has shown.
struct Cell {
    cpu: f64,
    p50: f64,
    p99: f64,
    pictures: f64,
}

fn compare(options: &Options, count: usize) {
    let (mut floors, mut bares, mut cells) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let (floor, bare, own) =
            (measure_floor(options, count), measure(options, count, BARE), measure(options, count, SERVE));
        eprintln!(
            "round {round}, N = {count}: floor {floor:.3}, str0m {:.3}, arcly {:.3}",
            bare.cpu, own.cpu
        );
        floors.push(floor);
        bares.push(bare.cpu);
        cells.push(own);
    }
    let ratio = median(cells.iter().zip(&floors).map(|(cell, floor)| cell.cpu / floor).collect());
    let mid = |of: fn(&Cell) -> f64| median(cells.iter().map(of).collect()).unwrap_or(f64::NAN);
    let floor = median(floors);
    let unit = "CPU-s/1000 sub-s";
    options.report(&format!("N = {count}, encrypt and send"), floor.unwrap_or(f64::NAN), unit, Goal::NONE);
    let bare = Goal::NONE.over(floor, "encrypt and send");
    options.report(&format!("N = {count}, str0m by itself"), median(bares).unwrap_or(f64::NAN), unit, bare);
    let goal = Goal { target_ratio: Some(1.5), ..Goal::NONE }.over(floor, "encrypt and send");
    options.report(&format!("N = {count}, arcly"), mid(|cell| cell.cpu), unit, Goal { ratio, ..goal });
    let viewers = if floor.is_some() { 1_000.0 / mid(|cell| cell.cpu) } else { f64::NAN };
    options.report(&format!("N = {count}, viewers per core"), viewers, "viewers", Goal::NONE);
    options.report(&format!("N = {count}, p50"), mid(|cell| cell.p50), "ms", Goal::NONE);
    let late = Goal { target: Some(150.0), ..Goal::NONE };
    options.report(&format!("N = {count}, p99"), mid(|cell| cell.p99), "ms", late);
    options.report(
        &format!("N = {count}, pictures"),
        mid(|cell| cell.pictures),
        "per viewer and s",
        Goal::NONE,
    );
}

// The server.

/// An engine with RTMP and WebRTC; says where on the standard output, and answers offers over TCP.
fn serve() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let engine = Engine::builder().build();
        let context = engine.context(CancellationToken::new());
        let any = SocketAddr::new(LOCALHOST, 0);
        let rtmp = arcly_rtmp::Server::bind(any, arcly_rtmp::ServerConfig::default()).await.expect("a port");
        let mut config = arcly_webrtc::ServerConfig::default();
        (config.max_pending, config.max_pending_per_address) = (10_000, 10_000);
        let webrtc = Arc::new(arcly_webrtc::Server::bind(any, config).expect("a port"));
        let offers = tokio::net::TcpListener::bind(any).await.expect("a port");
        let (rtmp_at, offers_at) = (rtmp.local_addr().expect("bound"), offers.local_addr().expect("bound"));
        say(&format!("{rtmp_at} {offers_at}"));
        let endpoint = webrtc.endpoint(&context);
        let rtmp_context = engine.context(CancellationToken::new());
        tokio::spawn(async move { rtmp.run(rtmp_context).await });
        tokio::spawn(async move { webrtc.run(context).await });
        while let Ok((mut peer, remote)) = offers.accept().await {
            let endpoint = endpoint.clone();
            tokio::spawn(async move {
                let mut offer = Vec::new();
                peer.read_to_end(&mut offer).await.expect("an offer");
                let request = Request::post("/live/bench0/whep").header(header::CONTENT_TYPE, SDP).body(());
                let (parts, ()) = request.expect("a request").into_parts();
                let visit = Visit {
                    role: Role::Viewer,
                    stream: StreamKey::new("live", "bench0"),
                    client: ClientInfo::new("whep", remote),
                    credentials: Credentials::new("whep"),
                    via: Via::default(),
                    reached: vec![LOCALHOST],
                    session: None,
                };
                let answer = endpoint.handle(visit, &parts, Full::new(Bytes::from(offer))).await;
                peer.write_all(answer.body()).await.expect("an answer is read");
            });
        }
    });
}

/// Tells the program that has started this one.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("a pipe");
}

/// A program that has said where it is.
fn start(args: &[&str]) -> (Guard, String) {
    let program = std::env::current_exe().expect("a program");
    let mut child = Guard::spawn(Command::new(program).args(args).stdout(Stdio::piped()));
    let mut line = String::new();
    let output = child.child().stdout.take().expect("a pipe");
    BufReader::new(output).read_line(&mut line).expect("a line");
    (child, line)
}

// The viewers.

/// What viewers have seen.
#[derive(Default)]
struct Seen {
    connected: AtomicU64,
    pictures: AtomicU64,
    measuring: AtomicBool,
    latencies_us: Mutex<Vec<u32>>,
}

impl Seen {
    /// A packet; the first of a picture has the marker.
    fn packet(&self, payload: &[u8]) {
        let Some(at) = memchr::memmem::find(payload, &UUID) else { return };
        let Some(marker) = payload.get(at + UUID.len()..).and_then(Marker::decode) else { return };
        self.pictures.fetch_add(1, Ordering::Relaxed);
        if self.measuring.load(Ordering::Relaxed) {
            let late = clock_ns().saturating_sub(marker.sent_ns) / 1_000;
            self.latencies_us.lock().expect("no panic").push(u32::try_from(late).unwrap_or(u32::MAX));
        }
    }
}

/// An offer, and the client that has made it.
fn dial(offers: SocketAddr) -> (Rtc, StdSocket) {
    let socket = StdSocket::bind((LOCALHOST, 0)).expect("a port");
    socket.set_nonblocking(true).expect("a socket");
    let mut rtc = Rtc::builder().set_rtp_mode(true).build(Instant::now());
    let candidate = Candidate::host(socket.local_addr().expect("bound"), "udp").expect("an address");
    rtc.add_local_candidate(candidate);
    let mut api = rtc.sdp_api();
    api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
    let (offer, pending) = api.apply().expect("something to offer");
    let mut signal = TcpStream::connect(offers).expect("it listens");
    signal.write_all(offer.to_sdp_string().as_bytes()).expect("it reads");
    signal.shutdown(std::net::Shutdown::Write).expect("connected");
    let mut answer = String::new();
    signal.read_to_string(&mut answer).expect("it answers");
    let answer = SdpAnswer::from_sdp_string(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
    rtc.sdp_api().accept_answer(pending, answer).expect("an answer to it");
    (rtc, socket)
}

/// Watches until it is dropped.
async fn watch(mut rtc: Rtc, socket: tokio::net::UdpSocket, seen: Arc<Seen>) {
    let (here, mut buffer) = (socket.local_addr().expect("bound"), [0; 2_000]);
    loop {
        let wake = loop {
            match rtc.poll_output().expect("a session") {
                Output::Timeout(at) => break at,
                Output::Transmit(transmit) => {
                    // What cannot be sent is lost, as anywhere.
                    let _ = socket.send_to(&transmit.contents, transmit.destination).await;
                }
                Output::Event(Event::Connected) => _ = seen.connected.fetch_add(1, Ordering::Relaxed),
                Output::Event(Event::RtpPacket(packet)) => seen.packet(&packet.payload),
                Output::Event(_) => {}
            }
        };
        let wait = wake.saturating_duration_since(Instant::now());
        let received = tokio::time::timeout(wait, socket.recv_from(&mut buffer)).await;
        let now = Instant::now();
        let input = match received {
            Ok(Ok((length, from))) => match Receive::new(Protocol::Udp, from, here, &buffer[..length]) {
                Ok(receive) => Input::Receive(now, receive),
                Err(_) => continue,
            },
            _ => Input::Timeout(now),
        };
        rtc.handle_input(input).expect("a session");
    }
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn measure(options: &Options, count: usize, server: &str) -> Cell {
    let (serves, (server, line)) = (server == SERVE, start(&[server]));
    let mut addresses = line.split_whitespace().map(|text| text.parse().expect("an address"));
    let (rtmp, offers) = (addresses.next().expect("two of them"), addresses.next().expect("two of them"));
    let feeder = serves.then(|| Feeder::start(Plan::live(rtmp, &Arc::new(Clip::new(SHAPE)))));
    wait_for(|| feeder.as_ref().is_none_or(|feeder| feeder.pictures() >= 10));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let (runtime, seen) = (runtime.expect("a runtime"), Arc::new(Seen::default()));
    for n in 1..=count as u64 {
        let (rtc, socket) = dial(offers);
        let _inside = runtime.enter();
        let socket = tokio::net::UdpSocket::from_std(socket).expect("a socket");
        runtime.spawn(watch(rtc, socket, Arc::clone(&seen)));
        // Twenty at a time: nobody's handshake is to time out because of the others'.
        wait_for(|| seen.connected.load(Ordering::Relaxed) + 20 > n);
    }
    wait_for(|| seen.connected.load(Ordering::Relaxed) == count as u64);
    std::thread::sleep(Duration::from_millis(3_000));
    seen.measuring.store(true, Ordering::Relaxed);
    let (cpu, pictures, began) = (cpu_of(server.id()), seen.pictures.load(Ordering::Relaxed), Instant::now());
    std::thread::sleep(options.time);
    let spent = (cpu_of(server.id()) - cpu).as_secs_f64();
    let subscriber_seconds = count as f64 * began.elapsed().as_secs_f64();
    let pictures = seen.pictures.load(Ordering::Relaxed) - pictures;
    let (p50, p99) =
        AudienceReport::p50_p99_ms(core::mem::take(&mut seen.latencies_us.lock().expect("no panic")));
    drop(runtime);
    Cell {
        cpu: spent / subscriber_seconds * 1_000.0,
        p50,
        p99,
        pictures: pictures as f64 / subscriber_seconds,
    }
}

fn wait_for(is_there: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_there() {
        assert!(Instant::now() < end, "viewers do not connect");
        std::thread::sleep(Duration::from_millis(5));
    }
}

// str0m by itself.

/// A viewer of the bare server.
struct Bare {
    rtc: Rtc,
    to: Option<SocketAddr>,
    wake: Instant,
    sequence: u64,
    format: Option<(Mid, Pt)>,
}

impl Bare {
    /// The session of an offer, and its answer.
    fn answer(offer: &str, here: SocketAddr) -> (Self, String) {
        let estimate = Some(str0m::bwe::Bitrate::bps(5_000_000));
        let config = Rtc::builder().set_rtp_mode(true).set_ice_lite(true).clear_codecs().enable_h264(true);
        let mut rtc = config.enable_bwe(estimate).build(Instant::now());
        rtc.add_local_candidate(Candidate::host(here, "udp").expect("an address"));
        let offer = SdpOffer::from_sdp_string(offer).expect("an offer");
        let answer = rtc.sdp_api().accept_offer(offer).expect("an answer").to_sdp_string();
        (Self { rtc, to: None, wake: Instant::now(), sequence: 1, format: None }, answer)
    }

    /// Everything that there is to send, in bursts.
    async fn drain(&mut self, socket: &UdpSocket, burst: &mut Burst) {
        let mut now = Instant::now();
        loop {
            match self.rtc.poll_output().expect("a session") {
                // The pacer lets one packet go at a time.
                Output::Timeout(at) if at <= now + Duration::from_micros(10) => {
                    now = now.max(at);
                    self.rtc.handle_input(Input::Timeout(now)).expect("a session");
                }
                Output::Timeout(at) => {
                    self.wake = at;
                    break;
                }
                Output::Transmit(transmit) => {
                    if self.to != Some(transmit.destination) || !burst.push(&transmit.contents) {
                        self.flush(socket, burst).await;
                        self.to = Some(transmit.destination);
                        let _ = burst.push(&transmit.contents);
                    }
                }
                Output::Event(Event::MediaAdded(added)) => {
                    let format = self.rtc.media(added.mid).and_then(|media| media.remote_pts().first());
                    self.format = format.map(|pt| (added.mid, *pt));
                }
                Output::Event(_) => {}
            }
        }
        self.flush(socket, burst).await;
    }

    async fn flush(&self, socket: &UdpSocket, burst: &mut Burst) {
        if let Some(to) = self.to.filter(|_| !burst.is_empty()) {
            let _ = socket.send(to, burst).await;
        }
    }

    async fn send(&mut self, picture: u32, packets: &[Arc<[u8]>], socket: &UdpSocket, burst: &mut Burst) {
        let Some((mid, pt)) = self.format.filter(|_| self.rtc.is_connected()) else { return };
        let now = Instant::now();
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx_by_mid(mid, None).expect("it sends");
        for (at, packet) in packets.iter().enumerate() {
            let write = RtpWrite::new(pt, self.sequence.into(), picture * 3_000, now, Arc::clone(packet));
            self.sequence += 1;
            stream.write_rtp(write.marker(at + 1 == packets.len()).nackable(true));
        }
        self.rtc.handle_input(Input::Timeout(now)).expect("a session");
        self.drain(socket, burst).await;
    }
}

/// What a server costs at least that leaves the transport to str0m: one loop, one socket, the packets of each picture shared by all.
fn bare() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let any = SocketAddr::new(LOCALHOST, 0);
        let socket = UdpSocket::new(StdSocket::bind(any).expect("a port")).expect("a socket");
        let offers = tokio::net::TcpListener::bind(any).await.expect("a port");
        let here = socket.local_addr().expect("bound");
        say(&format!("{here} {}", offers.local_addr().expect("bound")));
        let (mut viewers, mut known): (Vec<Bare>, HashMap<SocketAddr, usize>) = (Vec::new(), HashMap::new());
        let (mut buffer, mut burst, mut inbox) = (vec![0; 1 << 16], Burst::default(), Vec::new());
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(SHAPE.pictures).unwrap_or(1));
        let mut picture = 0_u32;
        loop {
            let wake = viewers.iter().map(|viewer| viewer.wake).min();
            let wake = wake.unwrap_or_else(|| Instant::now() + LIMIT);
            tokio::select! {
                offer = offers.accept() => {
                    let (mut peer, _) = offer.expect("a connection");
                    let mut offer = String::new();
                    peer.read_to_string(&mut offer).await.expect("an offer");
                    let (viewer, answer) = Bare::answer(&offer, here);
                    viewers.push(viewer);
                    peer.write_all(answer.as_bytes()).await.expect("an answer is read");
                }
                _ = ticks.tick() => {
                    picture += 1;
                    let packets = packets(picture);
                    for viewer in &mut viewers {
                        viewer.send(picture, &packets, &socket, &mut burst).await;
                    }
                }
                _ = socket.recv(&mut buffer, |from, datagram| inbox.push((from, datagram.to_vec()))) => {
                    for (from, datagram) in inbox.drain(..) {
                        let Ok(receive) = Receive::new(Protocol::Udp, from, here, &datagram) else { continue };
                        let input = Input::Receive(Instant::now(), receive);
                        let at = known.get(&from).copied();
                        let at = at.or_else(|| viewers.iter().position(|viewer| viewer.rtc.accepts(&input)));
                        let Some(viewer) = at.and_then(|at| viewers.get_mut(at)) else { continue };
                        known.extend(at.map(|at| (from, at)));
                        viewer.rtc.handle_input(input).expect("a session");
                        viewer.drain(&socket, &mut burst).await;
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {
                    let now = Instant::now();
                    for viewer in viewers.iter_mut().filter(|viewer| viewer.wake <= now) {
                        viewer.rtc.handle_input(Input::Timeout(now)).expect("a session");
                        viewer.drain(&socket, &mut burst).await;
                    }
                }
            }
        }
    });
}

/// What the server makes packets of for a picture: a small NAL unit that says when it was made, and the picture.
fn sizes(picture: u64) -> impl Iterator<Item = usize> {
    let bytes = if picture.is_multiple_of(SHAPE.gop) { SHAPE.key_bytes } else { SHAPE.picture_bytes };
    core::iter::once(SEI).chain((0..bytes).step_by(PAYLOAD).map(move |at| PAYLOAD.min(bytes - at)))
}

/// The packets of a picture, of which the first says when it was made.
fn packets(picture: u32) -> Vec<Arc<[u8]>> {
    let mut packets: Vec<Vec<u8>> = sizes(picture.into()).map(|len| vec![7; len]).collect();
    let marker = [&UUID[..], &Marker { sequence: picture.into(), sent_ns: clock_ns() }.encode()].concat();
    packets[0][..marker.len()].copy_from_slice(&marker);
    packets.into_iter().map(Arc::from).collect()
}

// The floor.

/// Encrypts the packets of each picture for each viewer, with a key for each, and sends them as one burst.
fn floor(to: SocketAddr, viewers: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let socket = UdpSocket::new(StdSocket::bind((LOCALHOST, 0)).expect("a port")).expect("a socket");
        let key = |n: usize| {
            let bytes = [u8::try_from(n % 251).unwrap_or(0); 32];
            LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).expect("32 bytes"))
        };
        let keys: Vec<_> = (0..viewers).map(key).collect();
        let payload = vec![7; PAYLOAD];
        let (mut burst, mut datagram) = (Burst::default(), Vec::new());
        say("ready");
        let period = Duration::from_secs(1) / u32::try_from(SHAPE.pictures).unwrap_or(1);
        let mut ticks = tokio::time::interval(period);
        for picture in 0_u64.. {
            ticks.tick().await;
            for key in &keys {
                for take in sizes(picture) {
                    datagram.clear();
                    datagram.extend_from_slice(&[0x90; HEADER]);
                    let mut sealed = payload[..take].to_vec();
                    let nonce = Nonce::assume_unique_for_key([picture.to_be_bytes()[7]; 12]);
                    key.seal_in_place_append_tag(nonce, Aad::from(&datagram[..HEADER]), &mut sealed)
                        .expect("sealed");
                    datagram.extend_from_slice(&sealed);
                    if !burst.push(&datagram) {
                        socket.send(to, &mut burst).await.expect("loopback");
                        let _ = burst.push(&datagram);
                    }
                }
                socket.send(to, &mut burst).await.expect("loopback");
            }
        }
    });
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn measure_floor(options: &Options, count: usize) -> f64 {
    let sink = StdSocket::bind((LOCALHOST, 0)).expect("a port");
    sink.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
    let (to, over) = (sink.local_addr().expect("bound").to_string(), Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&over);
    let drain = std::thread::spawn(move || {
        let mut buffer = vec![0; 2_000];
        while !stop.load(Ordering::Relaxed) {
            let _ = sink.recv(&mut buffer);
        }
    });
    let (child, _) = start(&["whep-floor", &to, &count.to_string()]);
    std::thread::sleep(Duration::from_millis(1_000));
    let (cpu, began) = (cpu_of(child.id()), Instant::now());
    std::thread::sleep(options.time);
    let spent = (cpu_of(child.id()) - cpu).as_secs_f64();
    let subscriber_seconds = count as f64 * began.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    drop(child);
    drain.join().expect("no panic");
    spent / subscriber_seconds * 1_000.0
}
