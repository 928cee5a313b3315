use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::outlet::Run;
use super::placement::Measured;
use super::tick::Beat;

/// Writes of one turn. A stream with ten thousand readers takes as many turns as it needs, and the others have theirs
/// in between.
pub(super) const TURN_WRITES: usize = 128;
/// Bytes of one turn.
pub(super) const TURN_BYTES: usize = 2 << 20;

/// After so many bytes the first turn of a reader is over: it has its headers and the keyframe, or a good part of that, and
/// those who have nothing yet come before the rest of its GOP.
const FIRST_TURN_BYTES: usize = 64 << 10;

/// A reader that goes its own way has something to do: group and seat.
pub(super) type Errand = (usize, usize);

/// What a worker lends to a group for its turn.
pub(super) struct Desk {
    pub(super) now: Instant,
    pub(super) beat: Beat,
    /// Tickets of readers that have ended.
    pub(super) ended: Vec<u64>,
    pub(super) errands: VecDeque<Errand>,
    /// Readers that have had nothing yet.
    pub(super) joins: VecDeque<Errand>,
    /// Readers that go on by themselves at an instant.
    pub(super) alarms: Vec<(Instant, Errand)>,
    pub(super) run: Run,
    pub(super) counts: Counts,
    /// How long the worker itself could not look after its readers before this sweep.
    pub(super) stood_still: Duration,
    /// What was written in this turn.
    writes: usize,
    bytes: usize,
}

impl Desk {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            now,
            beat: Beat::new(now),
            ended: Vec::new(),
            errands: VecDeque::new(),
            joins: VecDeque::new(),
            alarms: Vec::new(),
            run: Run::default(),
            counts: Counts::default(),
            stood_still: Duration::ZERO,
            writes: 0,
            bytes: 0,
        }
    }

    pub(super) const fn begin_turn(&mut self, now: Instant) {
        self.now = now;
        self.writes = 0;
        self.bytes = 0;
    }

    /// The turn of a reader that has had nothing yet.
    pub(super) const fn begin_first_turn(&mut self, now: Instant) {
        self.begin_turn(now);
        self.bytes = TURN_BYTES - FIRST_TURN_BYTES;
    }

    pub(super) const fn wrote(&mut self, bytes: usize) {
        self.writes += 1;
        self.bytes += bytes;
        self.counts.writes += 1;
        self.counts.bytes += bytes as u64;
    }

    /// The turn is over, as soon as that can be.
    pub(super) const fn is_spent(&self) -> bool {
        self.writes >= TURN_WRITES || self.bytes >= TURN_BYTES
    }
}

/// What a worker has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) wakes: u64,
    pub(super) batches: u64,
    pub(super) packets: u64,
    pub(super) writes: u64,
    pub(super) bytes: u64,
}

/// What a worker shows to others.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) readers: AtomicUsize,
    /// Readers attached since `measured` was.
    pub(super) fresh: AtomicUsize,
    pub(super) measured: Measured,
    pub(super) level: AtomicU8,
    /// Ticks stay as they are, whatever the load.
    pub(super) is_steady: AtomicBool,
    wakes: AtomicU64,
    batches: AtomicU64,
    packets: AtomicU64,
    writes: AtomicU64,
    bytes: AtomicU64,
}

impl Gauges {
    pub(super) fn show(&self, counts: &Counts, level: u8) {
        self.wakes.store(counts.wakes, Ordering::Relaxed);
        self.batches.store(counts.batches, Ordering::Relaxed);
        self.packets.store(counts.packets, Ordering::Relaxed);
        self.writes.store(counts.writes, Ordering::Relaxed);
        self.bytes.store(counts.bytes, Ordering::Relaxed);
        self.level.store(level, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            wakes: self.wakes.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            packets: self.packets.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}
