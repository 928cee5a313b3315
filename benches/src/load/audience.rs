use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, Socket, Type};

use super::clip::{Frame, VIDEO};
use super::marker::clock_ns;
use super::peer::Peer;

/// What one read takes at most.
const SCRATCH: usize = 256 << 10;
const WAKER: Token = Token(usize::MAX);
/// How often readers that are held back are given something.
const THROTTLE_TICK: Duration = Duration::from_millis(50);
/// Addresses that readers come from: one address is not let in a thousand times at once, and should not be.
const ADDRESSES: usize = 250;

/// Makes the protocol's end of one more reader.
pub type MakePeer = Arc<dyn Fn() -> Box<dyn Peer> + Send + Sync>;

/// Readers that share a fate, and are reported together.
pub type Group = usize;

/// Readers by the thousand on one thread. All of them read into one buffer, so that what they receive is not copied, and
/// all of them count: every frame's marker is looked at.
#[derive(Debug)]
pub struct Audience {
    commands: Sender<Command>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Join { group: Group, count: usize, over: Duration },
    Leave { group: Group, count: usize },
    Throttle { group: Group, bytes_per_second: usize },
    Window(bool),
    Rest(Duration),
    Report(Sender<BTreeMap<Group, Report>>),
    Stop,
}

/// What a group of readers has seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Readers that are connected.
    pub connected: usize,
    /// Of those, readers that have had a keyframe.
    pub playing: usize,
    /// Readers that the server, or an error, has ended.
    pub dropped: u64,
    /// The first error.
    pub error: Option<String>,
    /// Frames that were left out.
    pub lost: u64,
    /// Frames that came again, or late.
    pub repeated: u64,
    /// From the wish to connect to the first keyframe, in microseconds.
    pub joins_us: Vec<u32>,
    /// From the publisher's `write` to the last byte, in microseconds, of every frame since the window was opened.
    pub latencies_us: Vec<u32>,
    /// Bytes since the window was opened.
    pub bytes: u64,
    /// The longest time that any of them was without a picture, since the window was opened.
    pub longest_gap: Duration,
    /// The earliest picture that any of them is at.
    pub slowest: u64,
    /// The latest picture that any of them is at.
    pub fastest: u64,
}

impl Report {
    /// The median, and the 99th percentile, of some of its microseconds, in milliseconds.
    #[must_use]
    pub fn p50_p99_ms(mut values: Vec<u32>) -> (f64, f64) {
        values.sort_unstable();
        let at = |per_cent: usize| {
            let index = (values.len() * per_cent / 100).min(values.len().saturating_sub(1));
            values.get(index).map_or(f64::NAN, |&us| f64::from(us) / 1_000.0)
        };
        (at(50), at(99))
    }
}

impl Audience {
    /// No readers yet, of what is at `addr`.
    ///
    /// # Panics
    /// When the system has no epoll instance for it.
    #[must_use]
    pub fn start(addr: SocketAddr, make: MakePeer) -> Self {
        let poll = Poll::new().expect("epoll");
        let waker = Waker::new(poll.registry(), WAKER).expect("a waker");
        let (commands, receiver) = channel();
        let hall = Hall {
            addr,
            make,
            poll,
            commands: receiver,
            members: Vec::new(),
            free: Vec::new(),
            reports: BTreeMap::new(),
            throttled: BTreeMap::new(),
            arrivals: Vec::new(),
            next_tick: Instant::now(),
            open: false,
            rest: Duration::ZERO,
            arrived: 0,
        };
        let thread = std::thread::Builder::new().name("audience".into());
        let thread = thread.spawn(move || hall.run()).expect("a thread");
        Self { commands, waker, thread: Some(thread) }
    }

    fn tell(&self, command: Command) {
        // The thread ends when it is told to, or has panicked.
        self.commands.send(command).expect("the audience's thread runs");
        self.waker.wake().expect("a waker");
    }

    /// Lets `count` readers join, evenly spread over that time. Returns at once.
    pub fn join(&self, group: Group, count: usize, over: Duration) {
        self.tell(Command::Join { group, count, over });
    }

    /// Lets the `count` readers leave that have been there longest.
    pub fn leave(&self, group: Group, count: usize) {
        self.tell(Command::Leave { group, count });
    }

    /// Lets the readers of a group read no faster than that, each.
    pub fn throttle(&self, group: Group, bytes_per_second: usize) {
        self.tell(Command::Throttle { group, bytes_per_second });
    }

    /// Opens or closes the window in which bytes, latencies and gaps are taken down.
    pub fn window(&self, open: bool) {
        self.tell(Command::Window(open));
    }

    /// Sleeps that long after each look at the sockets. A reader that is waited for costs the writer a wake-up for every
    /// write, and on a virtual machine an interrupt of the other core as well: noise in what is measured, and latencies that
    /// are a little better than with this.
    pub fn rest(&self, rest: Duration) {
        self.tell(Command::Rest(rest));
    }

    /// What the groups have seen.
    ///
    /// # Panics
    /// When the thread has.
    #[must_use]
    pub fn reports(&self) -> BTreeMap<Group, Report> {
        let (sender, receiver) = channel();
        self.tell(Command::Report(sender));
        receiver.recv().expect("the audience's thread runs")
    }

    /// What one group has seen.
    #[must_use]
    pub fn report(&self, group: Group) -> Report {
        self.reports().remove(&group).unwrap_or_default()
    }

    /// Waits until `count` readers of a group play, at most that long; what there is then.
    #[must_use]
    pub fn wait_playing(&self, group: Group, count: usize, limit: Duration) -> Report {
        let end = Instant::now() + limit;
        loop {
            let report = self.report(group);
            if report.playing >= count || report.dropped > 0 || Instant::now() >= end {
                return report;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Audience {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Stop);
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Member {
    group: Group,
    stream: TcpStream,
    peer: Box<dyn Peer>,
    out: Vec<u8>,
    since: Instant,
    /// The next picture, and the next sound.
    next: [Option<u64>; 2],
    last_picture_ns: u64,
    playing: bool,
}

struct Hall {
    addr: SocketAddr,
    make: MakePeer,
    poll: Poll,
    commands: Receiver<Command>,
    members: Vec<Option<Member>>,
    free: Vec<usize>,
    reports: BTreeMap<Group, Report>,
    throttled: BTreeMap<Group, usize>,
    /// Who is still to come, latest first.
    arrivals: Vec<(Instant, Group)>,
    next_tick: Instant,
    open: bool,
    rest: Duration,
    arrived: usize,
}

impl Hall {
    fn run(mut self) {
        let mut events = Events::with_capacity(1_024);
        let mut scratch = vec![0; SCRATCH];
        loop {
            let timeout = self.next_due().map(|due| due.saturating_duration_since(Instant::now()));
            if let Err(error) = self.poll.poll(&mut events, timeout) {
                assert_eq!(error.kind(), io::ErrorKind::Interrupted, "epoll: {error}");
            }
            for event in &events {
                if event.token() != WAKER {
                    self.serve(event.token().0, &mut scratch, usize::MAX);
                }
            }
            self.admit();
            self.tick(&mut scratch);
            if !self.rest.is_zero() {
                std::thread::sleep(self.rest);
            }
            while let Ok(command) = self.commands.try_recv() {
                if matches!(command, Command::Stop) {
                    return;
                }
                self.obey(command);
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let tick = (!self.throttled.is_empty()).then_some(self.next_tick);
        let arrival = self.arrivals.last().map(|(due, _)| *due);
        tick.into_iter().chain(arrival).min()
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Join { group, count, over } => {
                let now = Instant::now();
                let share = over / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
                let due = |n: usize| now + share * u32::try_from(n).unwrap_or(u32::MAX);
                self.arrivals.extend((0..count).map(|n| (due(n), group)));
                self.arrivals.sort_by_key(|(due, _)| core::cmp::Reverse(*due));
            }
            Command::Leave { group, count } => {
                let mut leaving: Vec<(Instant, usize)> = self
                    .members
                    .iter()
                    .enumerate()
                    .filter_map(|(at, member)| Some((at, member.as_ref()?)))
                    .filter(|(_, member)| member.group == group && member.playing)
                    .map(|(at, member)| (member.since, at))
                    .collect();
                leaving.sort_unstable();
                leaving.into_iter().take(count).for_each(|(_, at)| self.dismiss(at, None));
            }
            Command::Throttle { group, bytes_per_second } => {
                self.throttled.insert(group, bytes_per_second);
            }
            Command::Window(open) => {
                self.open = open;
                if open {
                    self.open_window();
                }
            }
            Command::Rest(rest) => self.rest = rest,
            Command::Report(to) => {
                // Whoever asked may have gone.
                let _ = to.send(self.report());
            }
            Command::Stop => {}
        }
    }

    fn open_window(&mut self) {
        for report in self.reports.values_mut() {
            report.latencies_us.clear();
            report.bytes = 0;
            report.longest_gap = Duration::ZERO;
        }
        let now = clock_ns();
        self.members.iter_mut().flatten().for_each(|member| member.last_picture_ns = now);
    }

    fn report(&mut self) -> BTreeMap<Group, Report> {
        let mut reports = self.reports.clone();
        let now = clock_ns();
        for report in reports.values_mut() {
            report.slowest = u64::MAX;
        }
        for member in self.members.iter().flatten() {
            let report = reports.entry(member.group).or_default();
            report.connected += 1;
            report.playing += usize::from(member.playing);
            let at = member.next[0].unwrap_or_default();
            report.slowest = report.slowest.min(at);
            report.fastest = report.fastest.max(at);
            if self.open && member.playing {
                let gap = Duration::from_nanos(now.saturating_sub(member.last_picture_ns));
                report.longest_gap = report.longest_gap.max(gap);
            }
        }
        reports
    }

    fn admit(&mut self) {
        while let Some(&(due, group)) = self.arrivals.last() {
            if due > Instant::now() {
                return;
            }
            self.arrivals.pop();
            if let Err(error) = self.connect(group) {
                self.note_error(group, error.to_string());
            }
        }
    }

    fn connect(&mut self, group: Group) -> io::Result<()> {
        let since = Instant::now();
        let mut stream = connect_from(self.arrived, self.addr)?;
        self.arrived += 1;
        let at = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            self.members.len() - 1
        });
        self.poll.registry().register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        let mut peer = (self.make)();
        let mut out = Vec::new();
        peer.open(&mut out);
        let member =
            Member { group, stream, peer, out, since, next: [None; 2], last_picture_ns: 0, playing: false };
        self.reports.entry(group).or_default();
        self.members[at] = Some(member);
        Ok(())
    }

    /// Readers that are held back get what they may have.
    fn tick(&mut self, scratch: &mut [u8]) {
        if self.throttled.is_empty() || Instant::now() < self.next_tick {
            return;
        }
        self.next_tick = Instant::now() + THROTTLE_TICK;
        for (group, rate) in self.throttled.clone() {
            let budget = (rate as u128 * THROTTLE_TICK.as_millis() / 1_000) as usize;
            for at in 0..self.members.len() {
                if self.members[at].as_ref().is_some_and(|member| member.group == group && member.playing) {
                    self.read(at, scratch, budget);
                }
            }
        }
    }

    fn serve(&mut self, at: usize, scratch: &mut [u8], budget: usize) {
        let Some(member) = self.members.get_mut(at).and_then(Option::as_mut) else { return };
        if let Err(error) = flush(member) {
            return self.dismiss(at, Some(error.to_string()));
        }
        let held_back = member.playing && self.throttled.contains_key(&member.group);
        if !held_back {
            self.read(at, scratch, budget);
        }
    }

    fn read(&mut self, at: usize, scratch: &mut [u8], mut budget: usize) {
        while budget > 0 {
            let Some(member) = self.members.get_mut(at).and_then(Option::as_mut) else { return };
            let room = scratch.len().min(budget);
            let read = match member.stream.read(&mut scratch[..room]) {
                Ok(0) => return self.dismiss(at, Some("the server has closed the connection".into())),
                Ok(read) => read,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                {
                    return;
                }
                Err(error) => return self.dismiss(at, Some(error.to_string())),
            };
            budget -= read;
            let Some(report) = self.reports.get_mut(&member.group) else { return };
            if let Err(error) = take(member, report, self.open, &scratch[..read]) {
                return self.dismiss(at, Some(error.to_string()));
            }
            if read < room {
                return;
            }
        }
    }

    /// Lets a reader go; with an error when it was not asked to.
    fn dismiss(&mut self, at: usize, error: Option<String>) {
        let Some(mut member) = self.members.get_mut(at).and_then(Option::take) else { return };
        let _ = self.poll.registry().deregister(&mut member.stream);
        self.free.push(at);
        if let Some(error) = error {
            self.note_error(member.group, error);
        }
    }

    fn note_error(&mut self, group: Group, error: String) {
        let report = self.reports.entry(group).or_default();
        report.dropped += 1;
        report.error.get_or_insert(error);
    }
}

fn take(member: &mut Member, report: &mut Report, open: bool, bytes: &[u8]) -> io::Result<()> {
    let now = clock_ns();
    if open {
        report.bytes += bytes.len() as u64;
    }
    let Member { peer, out, next, last_picture_ns, playing, since, .. } = member;
    let mut frames = |frame: Frame| {
        if frame.key && !*playing {
            *playing = true;
            report.joins_us.push(micros(since.elapsed().as_nanos()));
        }
        let next = &mut next[usize::from(frame.kind != VIDEO)];
        let sequence = frame.marker.sequence;
        let expected = next.unwrap_or(sequence);
        if sequence < expected {
            report.repeated += 1;
            return;
        }
        report.lost += sequence - expected;
        *next = Some(sequence + 1);
        if frame.kind == VIDEO {
            if open && *last_picture_ns > 0 {
                let gap = Duration::from_nanos(now.saturating_sub(*last_picture_ns));
                report.longest_gap = report.longest_gap.max(gap);
            }
            *last_picture_ns = now;
        }
        if open {
            report.latencies_us.push(micros(now.saturating_sub(frame.marker.sent_ns).into()));
        }
    };
    peer.receive(bytes, out, &mut frames)?;
    flush(member)
}

fn micros(nanos: u128) -> u32 {
    u32::try_from(nanos / 1_000).unwrap_or(u32::MAX)
}

/// Writes what there is to write, as far as the socket takes it.
fn flush(member: &mut Member) -> io::Result<()> {
    while !member.out.is_empty() {
        match member.stream.write(&member.out) {
            Ok(written) => drop(member.out.drain(..written)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Connects from the `n`th of our addresses.
pub(crate) fn connect_from(n: usize, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    let host = u8::try_from(n % ADDRESSES + 2).unwrap_or(2);
    let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, host)), 0);
    socket.bind(&from.into())?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            Err(error)
        }
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}
