use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::audience::connect_from;
use super::chunks::put_message;
use super::clip::{Clip, Position, VIDEO};
use super::marker::{clock_ns, due};
use super::peer::Peer;
use super::rtmp::{Role, RtmpPeer};

/// A publisher that is to go as fast as it can keeps so much ready for its socket.
const READY: usize = 512 << 10;
const SCRATCH: usize = 16 << 10;

/// When a publisher sends what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// When it is due.
    Live,
    /// As fast as the server takes it.
    Flood,
}

/// Publishers on one thread, over RTMP.
#[derive(Debug)]
pub struct Feeder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    publishing: AtomicU64,
    bytes: AtomicU64,
    pictures: AtomicU64,
    failed: AtomicU64,
}

/// What publishers do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server's RTMP address.
    pub addr: SocketAddr,
    /// What each of them sends.
    pub clip: Arc<Clip>,
    /// The application; the streams are `bench0`, `bench1`, ….
    pub app: String,
    /// How many.
    pub count: usize,
    /// The chunk size they announce.
    pub chunk_size: usize,
    /// When they send.
    pub pace: Pace,
    /// Whether they say who they are; floors do not ask.
    pub protocol: bool,
}

impl Plan {
    /// One live publisher of `live/bench0` with chunks of 4 096 bytes, as OBS sends them.
    #[must_use]
    pub fn live(addr: SocketAddr, clip: &Arc<Clip>) -> Self {
        let clip = Arc::clone(clip);
        Self { addr, clip, app: "live".into(), count: 1, chunk_size: 4_096, pace: Pace::Live, protocol: true }
    }

    /// The same for a floor.
    #[must_use]
    pub fn without_protocol(self) -> Self {
        Self { protocol: false, ..self }
    }
}

impl Feeder {
    /// Starts to publish, and waits until every publisher was let in.
    ///
    /// # Panics
    /// When that does not happen within twenty seconds.
    #[must_use]
    pub fn start(plan: Plan) -> Self {
        let shared = Arc::new(Shared::default());
        let count = plan.count as u64;
        let thread = std::thread::Builder::new().name("feeder".into());
        let crew = Crew::new(plan, Arc::clone(&shared));
        let thread = thread.spawn(move || crew.run()).expect("a thread");
        let feeder = Self { shared, thread: Some(thread) };
        let end = Instant::now() + Duration::from_secs(20);
        while feeder.shared.publishing.load(Ordering::Relaxed) < count {
            assert!(Instant::now() < end, "the server has not let {count} publishers in");
            std::thread::sleep(Duration::from_millis(10));
        }
        feeder
    }

    /// Bytes that the server has taken.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Pictures that were sent, of all publishers.
    #[must_use]
    pub fn pictures(&self) -> u64 {
        self.shared.pictures.load(Ordering::Relaxed)
    }

    /// Publishers that the server, or an error, has ended.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Publisher {
    stream: TcpStream,
    peer: RtmpPeer,
    out: Vec<u8>,
    written: usize,
    /// When the stream began.
    start: Option<Instant>,
    position: Position,
    next_due: Instant,
}

struct Crew {
    plan: Plan,
    shared: Arc<Shared>,
    poll: Poll,
    publishers: Vec<Option<Publisher>>,
    body: Vec<u8>,
}

impl Crew {
    fn new(plan: Plan, shared: Arc<Shared>) -> Self {
        let poll = Poll::new().expect("epoll");
        let publishers = (0..plan.count).map(|n| Some(Publisher::connect(&plan, n, &poll))).collect();
        Self { plan, shared, poll, publishers, body: Vec::new() }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(256);
        let mut scratch = vec![0; SCRATCH];
        while !self.shared.stop.load(Ordering::Relaxed) {
            let wait = self.next_due().saturating_duration_since(Instant::now());
            if let Err(error) = self.poll.poll(&mut events, Some(wait)) {
                assert_eq!(error.kind(), io::ErrorKind::Interrupted, "epoll: {error}");
            }
            for event in &events {
                self.serve(event.token().0, &mut scratch);
            }
            let now = Instant::now();
            for at in 0..self.publishers.len() {
                let is_due = self.publishers[at]
                    .as_ref()
                    .is_some_and(|publisher| publisher.start.is_some() && publisher.next_due <= now);
                if is_due {
                    self.send(at, now);
                }
            }
        }
    }

    /// When there is something to do; soon in any case, so that a stop is heard.
    fn next_due(&self) -> Instant {
        let soon = Instant::now() + Duration::from_millis(100);
        let going = self.publishers.iter().flatten().filter(|publisher| publisher.start.is_some());
        let paced = going.filter(|_| self.plan.pace == Pace::Live);
        paced.map(|publisher| publisher.next_due).fold(soon, Instant::min)
    }

    fn serve(&mut self, at: usize, scratch: &mut [u8]) {
        let Some(publisher) = self.publishers.get_mut(at).and_then(Option::as_mut) else { return };
        let was_ready = publisher.start.is_some();
        let result = publisher.receive(scratch).and_then(|()| publisher.flush(&self.shared));
        let ready = publisher.peer.is_ready() || !self.plan.protocol;
        if result.is_err() {
            return self.fail(at);
        }
        if ready && !was_ready {
            self.shared.publishing.fetch_add(1, Ordering::Relaxed);
            self.begin(at);
        }
        if ready && self.plan.pace == Pace::Flood {
            self.send(at, Instant::now());
        }
    }

    /// The sequence headers; publishers begin at different moments, so that their keyframes do not coincide.
    fn begin(&mut self, at: usize) {
        let Some(publisher) = self.publishers.get_mut(at).and_then(Option::as_mut) else { return };
        for (kind, body) in self.plan.clip.headers() {
            put_message(&mut publisher.out, kind, 0, body, self.plan.chunk_size);
        }
        let stagger = Duration::from_micros(2_000_000 * at as u64 / self.plan.count as u64);
        publisher.start = Some(Instant::now() + stagger);
        publisher.next_due = Instant::now() + stagger;
    }

    /// Sends what is due, or as much as there is room for.
    fn send(&mut self, at: usize, now: Instant) {
        let Some(publisher) = self.publishers.get_mut(at).and_then(Option::as_mut) else { return };
        let Some(start) = publisher.start else { return };
        let flood = self.plan.pace == Pace::Flood;
        let result = loop {
            let more = if flood { publisher.waiting() < READY } else { publisher.next_due <= now };
            if more {
                let tag = self.plan.clip.next(&mut publisher.position);
                self.body.clear();
                tag.put(&mut self.body, clock_ns());
                put_message(&mut publisher.out, tag.kind, tag.timestamp(), &self.body, self.plan.chunk_size);
                self.shared.pictures.fetch_add(u64::from(tag.kind == VIDEO), Ordering::Relaxed);
                let mut peek = publisher.position;
                publisher.next_due = due(start, self.plan.clip.next(&mut peek).at_us);
                continue;
            }
            let result = publisher.flush(&self.shared);
            // A flood goes on until the socket is full.
            let full = publisher.waiting() > 0;
            if !flood || full || result.is_err() || self.shared.stop.load(Ordering::Relaxed) {
                break result;
            }
        };
        if result.is_err() {
            self.fail(at);
        }
    }

    fn fail(&mut self, at: usize) {
        if let Some(mut publisher) = self.publishers.get_mut(at).and_then(Option::take) {
            let _ = self.poll.registry().deregister(&mut publisher.stream);
            self.shared.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Publisher {
    fn connect(plan: &Plan, n: usize, poll: &Poll) -> Self {
        let mut stream = connect_from(n, plan.addr).expect("a connection to the server");
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(n), interest).expect("epoll");
        let mut peer = RtmpPeer::new(Role::Publish(plan.chunk_size), &plan.app, &format!("bench{n}"));
        let mut out = Vec::new();
        if plan.protocol {
            peer.open(&mut out);
        }
        let next_due = Instant::now();
        Self { stream, peer, out, written: 0, start: None, position: plan.clip.position(), next_due }
    }

    const fn waiting(&self) -> usize {
        self.out.len() - self.written
    }

    fn receive(&mut self, scratch: &mut [u8]) -> io::Result<()> {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.peer.receive(&scratch[..read], &mut self.out, &mut drop)?,
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn flush(&mut self, shared: &Shared) -> io::Result<()> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(written) => {
                    self.written += written;
                    shared.bytes.fetch_add(written as u64, Ordering::Relaxed);
                }
                Err(error) if is_later(&error) => {
                    if self.written > READY {
                        self.out.drain(..self.written);
                        self.written = 0;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}
