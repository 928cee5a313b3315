//! A stream that goes on through everything: one publisher and a reader of each protocol, whose frames are numbered.
//!
//! A frame's delay counts from the moment it was sent, so that a test that is late itself blames nobody. What it may be is
//! measured at the same time: an echo between two threads of the test over loopback has everything that a frame's way
//! has, but the server; and the kernel says how long the server's threads have waited for a core ([`Starved`]) while the
//! frame was on its way, and those of the test that sent and read it. What the machine does to everybody is no fault of
//! the server's; what the server does by itself (a lock, a worker that computes for long or waits longer than it should)
//! shows in the frames alone.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arcly_codec::flv::TagKind;

use super::eventually;
use super::feed::{Feed, FlvTag, Sequence};
use super::http::FlvReader;
use super::peer::{PATIENCE, Peer};
use super::starved::{Starved, this_thread};

/// The witness's stream.
pub const STREAM: &str = "live/witness";

/// How much longer a frame may take than the slowest echo since the last check, and than the server waited for a core.
pub const MAX_DELAY: Duration = Duration::from_millis(100);
/// Between two echoes: as often as there are frames, or more so.
const ECHO: Duration = Duration::from_millis(10);
/// Between two looks at what the server has waited, and how many are kept: for frames that are ten seconds late.
const LOOK: Duration = Duration::from_millis(25);
const LOOKS: usize = 400;
/// Delays below this are not looked into.
const SMALL: Duration = Duration::from_millis(20);

/// What one reader has seen.
#[derive(Debug, Default)]
struct Seen {
    sequence: Sequence,
    /// The longest delay, less what the server waited for a core meanwhile.
    slowest: Duration,
    /// By how much each picture came later after the one before it than it was sent after it.
    stretched: Vec<Duration>,
    /// What the newest picture was late by.
    late: Option<Duration>,
    /// The newest picture.
    picture: Option<u32>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// The base of all times, and when each picture and each sound was sent.
    sent: Mutex<[Vec<Instant>; 2]>,
    pictures: AtomicU32,
    /// The slowest echo: how busy the machine is.
    echo: Mutex<Duration>,
    /// What the threads of the server, and those of this process, had waited for a core at each look.
    looks: Mutex<VecDeque<(Instant, [Starved; 2])>>,
    /// The thread that publishes.
    publisher: AtomicU32,
    readers: [Mutex<Seen>; 2],
}

/// The same between two checks.
#[derive(Debug)]
struct Window {
    lost: u32,
    repeated: u32,
    slowest: Duration,
}

impl Seen {
    fn take_window(&mut self) -> Window {
        Window {
            lost: std::mem::take(&mut self.sequence.lost),
            repeated: std::mem::take(&mut self.sequence.repeated),
            slowest: std::mem::take(&mut self.slowest),
        }
    }
}

const READERS: [&str; 2] = ["RTMP", "HTTP-FLV"];

/// The stream, until it is dropped.
#[derive(Debug)]
pub struct Witness {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Witness {
    /// Starts the stream, and returns when every reader has had its first picture.
    pub fn start(rtmp: SocketAddr, http: SocketAddr, pid: u32) -> Self {
        let shared = Arc::new(Shared::default());
        let mut witness = Self { threads: Vec::new(), shared: Arc::clone(&shared) };
        witness.echo();
        witness.run(move |shared| look(shared, pid));
        let mut peer = Peer::open(rtmp).publishing("witness");
        witness.run(move |shared| publish(shared, &mut peer));
        assert!(eventually(PATIENCE, || shared.pictures.load(Ordering::Acquire) > 1));
        let mut player = Peer::open(rtmp).playing("witness");
        witness.run(move |shared| read(shared, 0, |end| player.next_tag(end)));
        let mut flv = FlvReader::open(http, &format!("/{STREAM}.flv")).expect("the witness's stream");
        witness.run(move |shared| read(shared, 1, |end| flv.next_tag(end)));
        let all_see = || shared.readers.iter().all(|seen| lock(seen).picture.is_some());
        assert!(eventually(PATIENCE, all_see), "the witness does not start");
        witness
    }

    fn run(&mut self, work: impl FnOnce(&Shared) + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        self.threads.push(thread::spawn(move || work(&shared)));
    }

    /// Starts the two ends of the echo.
    fn echo(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        self.run(move |_| {
            let mut byte = [0];
            while far.read_exact(&mut byte).and_then(|()| far.write_all(&byte)).is_ok() {}
        });
        self.run(move |shared| {
            let mut byte = [0];
            while !shared.stop.load(Ordering::Acquire) {
                // That it wakes late counts too: so do the readers and the server.
                let due = Instant::now() + ECHO;
                thread::sleep(ECHO);
                near.write_all(&byte).and_then(|()| near.read_exact(&mut byte)).unwrap();
                let mut slowest = lock(&shared.echo);
                *slowest = slowest.max(due.elapsed());
            }
        });
    }

    /// Waits until everything that has been sent by now is there, and fails when anything was lost, came twice or
    /// came late since the last time.
    #[track_caller]
    pub fn check(&self, id: &str) {
        let newest = self.shared.pictures.load(Ordering::Acquire).saturating_sub(1);
        let readers = self.shared.readers.iter().zip(READERS);
        let arrived = readers.clone().map(|(seen, _)| {
            eventually(PATIENCE, || lock(seen).picture.is_some_and(|n| n >= newest)) && !lock(seen).ended
        });
        let arrived: Vec<bool> = arrived.collect();
        // Everything begins anew with each check, also after one that has failed.
        let echo = std::mem::take(&mut *lock(&self.shared.echo));
        let window = readers.map(|(seen, protocol)| (protocol, lock(seen).take_window()));
        let window: Vec<_> = window.collect();
        if super::bench::shows_rows() {
            eprintln!("{id}: witness {window:?}, echo {echo:?}");
        }
        for ((protocol, window), arrived) in window.iter().zip(arrived) {
            assert!(
                arrived,
                "{id}: the witness's {protocol} reader does not get on: {window:?}, sent {newest}"
            );
            assert_eq!((window.lost, window.repeated), (0, 0), "{id}: the witness over {protocol}");
            assert!(
                window.slowest <= echo + MAX_DELAY,
                "{id}: a frame of the witness took {:?} over {protocol}, an echo {echo:?}",
                window.slowest
            );
        }
    }

    /// By how much 99 of 100 gaps between pictures were no longer than between their sending, since this was asked last.
    pub fn stretch_p99(&self) -> Duration {
        let take = |seen: &Mutex<Seen>| std::mem::take(&mut lock(seen).stretched);
        let mut all: Vec<_> = self.shared.readers.iter().flat_map(take).collect();
        assert!(all.len() >= 100, "{} gaps are too few", all.len());
        all.sort_unstable();
        all[all.len() * 99 / 100]
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // A thread that failed has said so, and the test fails by its own checks.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn look(shared: &Shared, pid: u32) {
    while !shared.stop.load(Ordering::Acquire) {
        // Before its time, so that nothing of what comes after that time is missing.
        let starved = [pid, std::process::id()].map(Starved::of);
        let mut looks = lock(&shared.looks);
        looks.push_back((Instant::now(), starved));
        if looks.len() > LOOKS {
            looks.pop_front();
        }
        drop(looks);
        thread::sleep(LOOK);
    }
}

/// How long a frame took that was sent then, less what the server waited for a core since, and the two threads that sent
/// and read it.
fn delay(shared: &Shared, sent: Instant, reader: u32) -> Duration {
    let delay = sent.elapsed();
    if delay < SMALL {
        return delay;
    }
    let looks = lock(&shared.looks);
    let Some((_, [server, here])) = looks.iter().rfind(|(at, _)| *at <= sent) else { return delay };
    let now = Starved::of(std::process::id());
    let threads = [reader, shared.publisher.load(Ordering::Acquire)];
    let waited = threads.map(|thread| now.thread_since(here, thread)).iter().sum();
    delay.saturating_sub(server.elapsed()).saturating_sub(waited)
}

fn publish(shared: &Shared, peer: &mut Peer) {
    shared.publisher.store(this_thread(), Ordering::Release);
    let mut feed = Feed::new();
    feed.headers().iter().for_each(|tag| _ = peer.tag(tag));
    let start = Instant::now();
    while !shared.stop.load(Ordering::Acquire) {
        let tag = feed.frame();
        let due = start + Duration::from_millis(tag.timestamp.into());
        // Reading what the server sends is how it waits.
        while peer.next_message(due).is_some() {}
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if peer.ended {
            return;
        }
        lock(&shared.sent)[usize::from(tag.kind == TagKind::Audio)].push(Instant::now());
        peer.tag(&tag);
        if tag.kind == TagKind::Video {
            shared.pictures.fetch_add(1, Ordering::AcqRel);
        }
    }
}

fn read(shared: &Shared, at: usize, mut next: impl FnMut(Instant) -> Option<FlvTag>) {
    let (mut joined, this) = (false, this_thread());
    while !shared.stop.load(Ordering::Acquire) {
        let end = Instant::now() + Duration::from_millis(500);
        let Some(tag) = next(end) else {
            if Instant::now() < end && !shared.stop.load(Ordering::Acquire) {
                lock(&shared.readers[at]).ended = true;
                return;
            }
            continue;
        };
        let mut seen = lock(&shared.readers[at]);
        let Some(number) = seen.sequence.note(&tag) else { continue };
        let sent = lock(&shared.sent)[usize::from(tag.kind == TagKind::Audio)][number as usize];
        let is_picture = tag.kind == TagKind::Video;
        if is_picture {
            // What was there before the reader came is old, and no delay.
            joined |= sent.elapsed() < Duration::from_millis(200) || seen.picture.is_some_and(|n| n > 50);
            seen.picture = Some(number);
        }
        if joined {
            let late = delay(shared, sent, this);
            seen.slowest = seen.slowest.max(late);
            if is_picture {
                let before = seen.late.replace(late);
                seen.stretched.extend(before.map(|before| late.saturating_sub(before)));
            }
        }
    }
}
