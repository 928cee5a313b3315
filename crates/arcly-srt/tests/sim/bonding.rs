//! Groups of connections over several paths: what happens to one of the paths.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arcly_srt::session::{Group, GroupEvent, GroupOutput, Listener, Message, Verdict};
use arcly_srt::wire::{GroupKind, SeqNumber, SocketId};
use arcly_srt::{Config, SessionError};
use bytes::Bytes;

use crate::net::{Link, Path};
use crate::world::{Media, entropy};

const LATENCY: u64 = 300;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn path(delay: u64) -> Path {
    Path { delay: ms(delay), ..Path::default() }
}

/// Addresses of the two ends of a path.
fn near(path: usize) -> SocketAddr {
    format!("192.0.2.{}:40000", path + 1).parse().unwrap()
}

fn far(path: usize) -> SocketAddr {
    format!("198.51.100.{}:8890", path + 1).parse().unwrap()
}

/// A path, both ways.
struct Way {
    to_callee: Link,
    to_caller: Link,
}

#[derive(Default)]
struct End {
    group: Option<Group>,
    messages: VecDeque<(Instant, Message)>,
    dropped: u64,
    joined: usize,
    left: usize,
    wanted: Vec<SocketAddr>,
    wake: Option<Instant>,
    error: Option<SessionError>,
}

impl End {
    fn drain(&mut self, now: Instant, mut send: impl FnMut(SocketAddr, Bytes)) {
        let Some(group) = &mut self.group else { return };
        loop {
            match group.poll_output() {
                GroupOutput::Transmit(_, to, datagram) => send(to, datagram),
                GroupOutput::Wait(wake) => {
                    self.wake = wake;
                    return;
                }
                GroupOutput::Event(GroupEvent::Message(message)) => self.messages.push_back((now, message)),
                GroupOutput::Event(GroupEvent::Dropped { packets }) => self.dropped += packets,
                GroupOutput::Event(GroupEvent::Joined(_)) => self.joined += 1,
                GroupOutput::Event(GroupEvent::Left(..)) => self.left += 1,
                GroupOutput::Event(GroupEvent::Wanted(remote)) => self.wanted.push(remote),
                GroupOutput::Event(_) => {}
            }
        }
    }

    fn time_out(&mut self, now: Instant) -> bool {
        let due = self.wake.is_some_and(|wake| wake <= now);
        if let Some(group) = self.group.as_mut().filter(|_| due) {
            self.wake = None;
            self.error = group.handle_timeout(now).err().or(self.error.take());
        }
        due
    }

    fn has(&self, id: SocketId) -> bool {
        self.group.as_ref().is_some_and(|group| group.members().any(|(member, ..)| member == id))
    }

    fn receive(&mut self, now: Instant, id: SocketId, datagram: Bytes) {
        if let Some(group) = &mut self.group {
            self.error = group.handle_datagram(now, id, datagram).err().or(self.error.take());
        }
    }
}

struct World {
    now: Instant,
    ways: Vec<Way>,
    caller: End,
    callee: End,
    listener: Listener,
    config: Config,
    next_id: u32,
    seed: u64,
}

impl World {
    fn new(seed: u64, kind: GroupKind, paths: &[(Path, u16)]) -> Self {
        let now = Instant::now();
        let mut config = Config::default();
        config.receiver_latency = ms(LATENCY);
        config.connect_timeout = Duration::from_secs(10);
        let ways = paths.iter().zip(0_u64..).map(|((path, _), n)| Way {
            to_callee: Link::new(seed * 100 + n, *path),
            to_caller: Link::new(seed * 100 + 50 + n, *path),
        });
        let weights: Vec<_> = paths.iter().enumerate().map(|(n, (_, weight))| (far(n), *weight)).collect();
        let seq = SeqNumber::new(SeqNumber::MAX - 300);
        let group = Group::calling(now, (7, kind), seq, config.clone(), &weights).unwrap();
        let mut world = Self {
            now,
            ways: ways.collect(),
            caller: End { group: Some(group), ..End::default() },
            callee: End::default(),
            listener: Listener::new(now, [7; 32]),
            config,
            next_id: 100,
            seed,
        };
        world.pump();
        world
    }

    fn connected(seed: u64, kind: GroupKind, paths: &[(Path, u16)]) -> Self {
        let mut world = Self::new(seed, kind, paths);
        world.run_for(Duration::from_secs(5));
        assert_eq!((world.caller.joined, world.callee.joined), (paths.len(), paths.len()), "seed {seed}");
        world
    }

    fn set_down(&mut self, path: usize, down: bool) {
        self.ways[path].to_callee.path.down = down;
        self.ways[path].to_caller.path.down = down;
    }

    fn fresh_id(&mut self) -> SocketId {
        self.next_id += 1;
        SocketId(self.next_id)
    }

    fn call_wanted(&mut self) {
        for remote in std::mem::take(&mut self.caller.wanted) {
            let id = self.fresh_id();
            let entropy = entropy(self.seed + u64::from(id.0));
            self.caller.group.as_mut().unwrap().call(self.now, remote, id, entropy).unwrap();
        }
    }

    fn send(&mut self, payload: Bytes) {
        self.caller.group.as_mut().unwrap().send(self.now, payload, Default::default()).unwrap();
        self.flush();
    }

    fn flush(&mut self) {
        let (now, ways) = (self.now, &mut self.ways);
        self.caller.drain(now, |to, datagram| {
            let way = (0..ways.len()).find(|path| far(*path) == to).unwrap();
            ways[way].to_callee.send(now, datagram);
        });
        self.callee.drain(now, |to, datagram| {
            let way = (0..ways.len()).find(|path| near(*path) == to).unwrap();
            ways[way].to_caller.send(now, datagram);
        });
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            self.pump();
            let arrivals =
                self.ways.iter().flat_map(|way| [way.to_callee.next_arrival(), way.to_caller.next_arrival()]);
            let next = arrivals.chain([self.caller.wake, self.callee.wake]).flatten().min();
            match next {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => break,
            }
        }
        self.now = end;
    }

    fn pump(&mut self) {
        for step in 0.. {
            assert!(step < 1_000_000, "seed {}: they talk without end", self.seed);
            self.flush();
            self.call_wanted();
            self.flush();
            let mut moved = self.caller.time_out(self.now) | self.callee.time_out(self.now);
            for path in 0..self.ways.len() {
                if let Some(datagram) = self.ways[path].to_callee.receive(self.now) {
                    self.arrive(path, datagram);
                    moved = true;
                }
                if let Some(datagram) = self.ways[path].to_caller.receive(self.now)
                    && let Some(id) = arcly_srt::wire::destination(&datagram)
                {
                    self.caller.receive(self.now, id, datagram);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn arrive(&mut self, path: usize, datagram: Bytes) {
        let id = arcly_srt::wire::destination(&datagram).unwrap();
        if self.callee.has(id) {
            return self.callee.receive(self.now, id, datagram);
        }
        match self.listener.handle_datagram(self.now, near(path), &datagram) {
            Verdict::Ignored(_) => {}
            Verdict::Reply(reply) | Verdict::Refused { answer: reply, .. } => {
                self.ways[path].to_caller.send(self.now, reply)
            }
            Verdict::Repeated(id) => self.callee.receive(self.now, id, datagram),
            Verdict::Request(request) => {
                let asked = request.group.expect("a group");
                let (now, config, seq) = (self.now, self.config.clone(), request.initial_seq());
                let group = self
                    .callee
                    .group
                    .get_or_insert_with(|| Group::listening(now, (9, asked.kind), seq, config).unwrap());
                let member = group.member_config(asked.weight);
                self.next_id += 1;
                let id = SocketId(self.next_id);
                let accepted =
                    self.listener.accept(now, *request, id, member, entropy(self.seed + u64::from(id.0)));
                group.accept(now, accepted.unwrap(), asked.weight).unwrap();
            }
        }
    }

    /// Media for so long, continuing at `media`.
    fn run_media(&mut self, media: &mut Media, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.send(Media::payload(media.sent, media.size));
            media.sent += 1;
            self.run_for(media.interval);
        }
    }

    /// Checks the order, and says how many messages have come and how long the slowest took to be handed over.
    fn take(&mut self, media: &Media, from: Instant) -> (u64, Duration) {
        let (mut next, mut received, mut slowest) = (0, 0, Duration::ZERO);
        for (at, message) in self.callee.messages.drain(..) {
            let number = u64::from_be_bytes(*message.payload.first_chunk().unwrap());
            assert!(number >= next, "seed {}: {number} after {next}", self.seed);
            assert_eq!(message.payload, Media::payload(number, media.size), "seed {}", self.seed);
            (next, received) = (number + 1, received + 1);
            slowest = slowest.max(at - (from + media.interval * u32::try_from(number).unwrap()));
        }
        (received, slowest)
    }

    /// The path that the caller sends over, of a group that uses one.
    fn in_use(&self) -> Vec<SocketAddr> {
        let group = self.caller.group.as_ref().unwrap();
        let active: Vec<SocketId> = group.active().collect();
        let members = group.members().filter(|(id, ..)| active.contains(id));
        members.map(|(_, remote, _)| remote).collect()
    }
}

const BROADCAST: GroupKind = GroupKind::Broadcast;
const BACKUP: GroupKind = GroupKind::Backup;

#[test]
fn broadcast_loses_nothing_when_a_path_dies_and_comes_back() {
    for seed in 1..=4 {
        let mut world = World::connected(seed, BROADCAST, &[(path(20), 0), (path(35), 0)]);
        let (from, mut media) = (world.now, Media::TABLE);
        let dying = usize::try_from(seed % 2).unwrap();
        world.run_media(&mut media, ms(2_000));
        world.set_down(dying, true);
        world.run_media(&mut media, ms(8_000));
        assert_eq!((world.caller.left, world.callee.left), (1, 1), "seed {seed}: five seconds of silence");
        world.set_down(dying, false);
        world.run_media(&mut media, ms(6_000));
        assert_eq!((world.caller.joined, world.callee.joined), (3, 3), "seed {seed}");
        // Now the other one.
        world.set_down(1 - dying, true);
        world.run_media(&mut media, ms(2_000));
        world.run_for(ms(1_000));
        let (received, slowest) = world.take(&media, from);
        assert_eq!((received, world.callee.dropped), (media.sent, 0), "seed {seed}");
        assert!(slowest <= ms(LATENCY + 35 + 10), "seed {seed}: {slowest:?}");
        assert_eq!((&world.caller.error, &world.callee.error), (&None, &None));
    }
}

#[test]
fn broadcast_over_two_bad_paths_is_better_than_either() {
    let bad = |delay| Path { loss_ppm: 300_000, jitter: ms(5), ..path(delay) };
    let (mut lost, mut repeated) = (0, 0);
    for seed in 1..=4 {
        let mut world = World::connected(seed, BROADCAST, &[(bad(50), 0), (bad(70), 0)]);
        let (from, mut media) = (world.now, Media::TABLE);
        world.run_media(&mut media, ms(10_000));
        world.run_for(ms(1_000));
        let (received, _) = world.take(&media, from);
        assert_eq!(media.sent - received, world.callee.dropped, "seed {seed}");
        lost += media.sent - received;
        let members = world.caller.group.as_ref().unwrap().connections();
        repeated += members.map(|member| member.statistics(world.now).totals.pkt_retrans).sum::<u64>();
    }
    // A path of 30 % loss alone leaves more than a tenth of these at three round trips.
    assert!(lost <= 160, "{lost} of 16 000, {repeated} repeated");
}

#[test]
fn backup_uses_one_path_and_another_one_within_its_time_out() {
    for seed in 1..=4 {
        let mut world = World::connected(seed, BACKUP, &[(path(15), 10), (path(20), 5), (path(20), 1)]);
        let (from, mut media) = (world.now, Media::TABLE);
        world.run_media(&mut media, ms(2_000));
        assert_eq!(world.in_use(), [far(0)], "seed {seed}");
        let idle = world.ways[1].to_callee.sent;
        world.run_media(&mut media, ms(2_000));
        assert!(world.ways[1].to_callee.sent - idle <= 10, "seed {seed}: nothing but signs of life");
        world.set_down(0, true);
        let dead = world.now;
        while !world.in_use().contains(&far(1)) {
            world.run_media(&mut media, Media::TABLE.interval);
            assert!(world.now - dead <= ms(150), "seed {seed}: two round trips, and what they vary by");
        }
        world.run_media(&mut media, ms(2_000));
        assert_eq!(world.in_use(), [far(0), far(1)], "seed {seed}: the better one may come back");
        world.run_media(&mut media, ms(5_000));
        assert_eq!(world.in_use(), [far(1)], "seed {seed}: and is gone then");
        world.set_down(0, false);
        world.run_media(&mut media, ms(4_000));
        assert_eq!(world.in_use(), [far(0)], "seed {seed}: the better one is back");
        world.run_for(ms(1_000));
        let (received, slowest) = world.take(&media, from);
        assert_eq!((received, world.callee.dropped), (media.sent, 0), "seed {seed}");
        assert!(slowest <= ms(LATENCY + 20 + 10), "seed {seed}: {slowest:?}");
    }
}

#[test]
fn a_short_silence_of_the_main_path_silences_the_backup_again() {
    let mut world = World::connected(1, BACKUP, &[(path(15), 10), (path(20), 5)]);
    let (from, mut media) = (world.now, Media::TABLE);
    world.run_media(&mut media, ms(1_000));
    world.set_down(0, true);
    world.run_media(&mut media, ms(400));
    world.set_down(0, false);
    world.run_media(&mut media, ms(400));
    assert_eq!(world.in_use(), [far(0), far(1)]);
    world.run_media(&mut media, ms(4_000));
    assert_eq!(world.in_use(), [far(0)]);
    world.run_for(ms(1_000));
    assert_eq!((world.take(&media, from).0, world.callee.left), (media.sent, 0));
}

#[test]
fn the_callee_sends_over_the_group_too() {
    for kind in [BROADCAST, BACKUP] {
        let mut world = World::connected(5, kind, &[(path(15), 2), (path(20), 1)]);
        let mut media = Media::TABLE;
        world.run_media(&mut media, ms(500));
        for n in 0..400 {
            if n == 200 {
                world.set_down(0, true);
            }
            let payload = Media::payload(n, 100);
            world.callee.group.as_mut().unwrap().send(world.now, payload, Default::default()).unwrap();
            world.run_for(ms(3));
        }
        world.run_for(ms(1_000));
        let got: Vec<Bytes> = world.caller.messages.drain(..).map(|(_, message)| message.payload).collect();
        assert!(
            got == (0..400).map(|n| Media::payload(n, 100)).collect::<Vec<_>>(),
            "{kind:?}: {}",
            got.len()
        );
    }
}

#[test]
fn a_goodbye_on_every_path_is_the_end() {
    let mut world = World::connected(6, BROADCAST, &[(path(15), 0), (path(20), 0)]);
    let (from, mut media) = (world.now, Media::TABLE);
    world.run_media(&mut media, ms(50));
    world.caller.group.as_mut().unwrap().close(world.now);
    world.run_for(ms(100));
    // What was sent before is there, though it is not yet due.
    assert_eq!((world.take(&media, from).0, world.callee.dropped), (media.sent, 0));
    assert_eq!((world.callee.error, world.callee.left), (Some(SessionError::PeerClosed), 2));
    assert!(world.callee.group.unwrap().is_over());
}

#[test]
fn nobody_there_is_the_end_of_a_group_that_never_was() {
    let down = Path { down: true, ..path(10) };
    let mut world = World::new(7, BROADCAST, &[(down, 0), (down, 0)]);
    world.run_for(Duration::from_secs(11));
    let timeout = SessionError::Timeout(arcly_core::Phase::Handshake);
    assert_eq!((world.caller.error, world.caller.left), (Some(timeout), 2));
}

/// Minutes over three paths that come and go, of which one at least is there.
#[test]
fn groups_live_on_whatever_path_is_left() {
    for seed in 1..=6 {
        let mut rng = arcly_testkit::rng::Rng::new(seed);
        let kind = if seed % 2 == 0 { BROADCAST } else { BACKUP };
        let paths = [0_u16, 1, 2].map(|weight| {
            let delay = 5 + rng.below(30);
            (Path { loss_ppm: 5_000, jitter: ms(2), duplicate_ppm: 5_000, ..path(delay) }, weight)
        });
        let mut world = World::connected(seed, kind, &paths);
        let mut media = Media { interval: ms(10), size: 200, sent: 0 };
        let from = world.now;
        for _ in 0..20 {
            let path = usize::try_from(rng.below(3)).unwrap();
            world.set_down(path, true);
            world.run_media(&mut media, ms(500 + rng.below(8_000)));
            world.set_down(path, false);
            // It is called again each second, and believed in again after four latencies.
            world.run_media(&mut media, ms(4_000 + rng.below(2_000)));
        }
        world.run_for(ms(1_000));
        let (received, _) = world.take(&media, from);
        assert_eq!((&world.caller.error, &world.callee.error), (&None, &None), "seed {seed}");
        let lost = media.sent - received;
        assert!(lost * 500 <= media.sent, "seed {seed}, {kind:?}: {lost} of {}", media.sent);
    }
}
