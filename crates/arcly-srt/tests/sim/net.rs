//! A path between two machines: what networks do to datagrams, in virtual time and from a seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use arcly_testkit::rng::Rng;
use bytes::{Bytes, BytesMut};

/// What a path does. The default does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Path {
    /// Of a million datagrams, how many are lost, on their own.
    pub loss_ppm: u32,
    /// Losses in bursts of this mean length, as many in all as `loss_ppm` says (Gilbert); 0 or 1 for none.
    pub burst: u32,
    pub delay: Duration,
    /// So much more or less, evenly spread; reorders.
    pub jitter: Duration,
    pub duplicate_ppm: u32,
    /// Of a million datagrams, how many have one bit changed.
    pub flip_ppm: u32,
    /// Datagrams longer than this are lost; 0 for no bound.
    pub mtu: usize,
    /// Bytes a second, with a queue of 200 ms; 0 for no bound.
    pub rate: u64,
    /// Everything is lost.
    pub down: bool,
}

/// One direction of a path.
pub(crate) struct Link {
    pub path: Path,
    rng: Rng,
    in_burst: bool,
    /// When what has been sent will have left, at the path's rate.
    busy_until: Option<Instant>,
    order: u64,
    in_flight: BinaryHeap<Reverse<(Instant, u64, Bytes)>>,
    pub sent: u64,
    /// Since when everything has been lost.
    silent_since: Option<Instant>,
    /// When nothing came through, from the first datagram that was lost to the next one that was not.
    pub outages: Vec<(Instant, Instant)>,
}

const QUEUE: Duration = Duration::from_millis(200);

impl Link {
    pub(crate) fn new(seed: u64, path: Path) -> Self {
        let rng = Rng::new(seed);
        Self {
            path,
            rng,
            in_burst: false,
            busy_until: None,
            order: 0,
            in_flight: BinaryHeap::new(),
            sent: 0,
            silent_since: None,
            outages: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, now: Instant, data: Bytes) {
        self.sent += 1;
        let lost = self.is_lost();
        if self.path.down || lost || (self.path.mtu > 0 && data.len() > self.path.mtu) {
            self.silent_since.get_or_insert(now);
            return;
        }
        self.outages.extend(self.silent_since.take().map(|since| (since, now)));
        let Some(left) = self.leave(now, data.len()) else { return };
        if self.chance(self.path.duplicate_ppm) {
            self.queue(left, data.clone());
        }
        self.queue(left, data);
    }

    fn chance(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.rng.below(1_000_000) < u64::from(ppm)
    }

    /// Gilbert's model: in a burst everything is lost, outside nothing.
    fn is_lost(&mut self) -> bool {
        if self.path.burst <= 1 {
            return self.chance(self.path.loss_ppm);
        }
        let (loss, burst) = (f64::from(self.path.loss_ppm) / 1e6, f64::from(self.path.burst));
        let enter = loss / (burst * (1.0 - loss));
        let p = if self.in_burst { 1.0 - 1.0 / burst } else { enter };
        self.in_burst = self.chance((p * 1e6) as u32);
        self.in_burst
    }

    /// When it has left a path of limited rate; `None` when the queue is full.
    fn leave(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        if self.path.rate == 0 {
            return Some(now);
        }
        let start = self.busy_until.map_or(now, |until| until.max(now));
        if start - now > QUEUE {
            return None;
        }
        let left = start + Duration::from_nanos(bytes as u64 * 1_000_000_000 / self.path.rate);
        self.busy_until = Some(left);
        Some(left)
    }

    fn queue(&mut self, left: Instant, data: Bytes) {
        let wander = self.rng.duration_below(self.path.jitter * 2);
        let at = left + (self.path.delay + wander).saturating_sub(self.path.jitter);
        let data = if self.chance(self.path.flip_ppm) { self.flip(&data) } else { data };
        self.order += 1;
        self.in_flight.push(Reverse((at, self.order, data)));
    }

    fn flip(&mut self, data: &Bytes) -> Bytes {
        let mut changed = BytesMut::from(&data[..]);
        let bit = usize::try_from(self.rng.below(data.len() as u64 * 8)).unwrap();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed.freeze()
    }

    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn receive(&mut self, now: Instant) -> Option<Bytes> {
        self.in_flight.peek().filter(|Reverse((at, ..))| *at <= now)?;
        self.in_flight.pop().map(|Reverse((.., data))| data)
    }
}
