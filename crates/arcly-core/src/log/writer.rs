use std::collections::VecDeque;
use std::sync::Arc;

use super::sync::Ordering;
use super::{Entry, Log, LogItem, NONE};
use crate::close::CloseReason;
use crate::time::{TimeDelta, Timestamp};

/// How much a log keeps.
///
/// At least the newest GOP is kept, and as many older ones as `window_bytes` and `window_time` ask for, so that a
/// reader which is a little late does not lose its place. The `max_*` bounds hold always: whole GOPs go first, and if
/// a single GOP exceeds them, its oldest items go and nobody can join until the next keyframe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bytes, counting payloads and what each item costs beyond its payload.
    pub max_bytes: u64,
    /// Items of all tracks.
    pub max_items: usize,
    /// Time from the oldest to the newest item.
    pub max_time: TimeDelta,
    /// Bytes behind the head worth keeping for late readers.
    pub window_bytes: u64,
    /// Time behind the head worth keeping for late readers.
    pub window_time: TimeDelta,
}

impl Default for Retention {
    /// 32 MiB, 1 500 items, 30 s; 8 MiB or 5 s for late readers.
    fn default() -> Self {
        Self {
            max_bytes: 32 << 20,
            max_items: 1_500,
            max_time: TimeDelta::from_millis(30_000),
            window_bytes: 8 << 20,
            window_time: TimeDelta::from_millis(5_000),
        }
    }
}

/// A place where a reader may start.
#[derive(Clone, Copy, Debug)]
struct Join {
    seq: u64,
    offset: u64,
    dts: Timestamp,
}

/// The one writer of a [`Log`].
///
/// [`append`](Self::append) takes no lock that a reader can hold and wakes a bounded number of tasks, however many
/// readers there are. Dropping the writer without [`close`](Self::close) leaves the log open.
#[derive(Debug)]
pub struct Writer<T: LogItem> {
    log: Arc<Log<T>>,
    retention: Retention,
    joins: VecDeque<Join>,
    /// Bytes ever appended, and DTS of the oldest item kept.
    offset: u64,
    oldest_dts: Option<Timestamp>,
    head_dts: Timestamp,
}

impl<T: LogItem> Writer<T> {
    pub(super) fn new(log: Arc<Log<T>>, retention: Retention) -> Self {
        Self {
            log,
            retention,
            joins: VecDeque::new(),
            offset: 0,
            oldest_dts: None,
            head_dts: Timestamp(i64::MIN),
        }
    }

    /// The log that is written.
    #[must_use]
    pub const fn log(&self) -> &Arc<Log<T>> {
        &self.log
    }

    /// Appends an item and wakes the readers. `join` says that a reader may start here.
    pub fn append(&mut self, item: T, context: &Arc<T::Context>, join: bool) -> u64 {
        let seq = self.push(item, context, join);
        self.log.waits.notify();
        seq
    }

    /// Appends several items with one wake-up.
    pub fn append_all(&mut self, items: impl IntoIterator<Item = (T, Arc<T::Context>, bool)>) {
        let before = self.log.ring.head();
        for (item, context, join) in items {
            self.push(item, &context, join);
        }
        if self.log.ring.head() != before {
            self.log.waits.notify();
        }
    }

    fn push(&mut self, item: T, context: &Arc<T::Context>, join: bool) -> u64 {
        let (dts, size, offset) = (item.dts(), item.size() as u64, self.offset);
        let seq = self.log.ring.head();
        self.head_dts = self.head_dts.max(dts);
        self.oldest_dts.get_or_insert(dts);
        self.offset = offset.saturating_add(size);
        self.log.bytes.store(self.offset, Ordering::Relaxed);
        self.log.head_dts.store(self.head_dts.0, Ordering::Relaxed);
        if join {
            self.joins.push_back(Join { seq, offset, dts });
        }
        // Room is made first, so that the bound holds while the item is in flight too.
        self.retain(seq + 1);
        self.log.ring.push(Entry { offset, context: Arc::clone(context), join, item });
        self.announce_joins();
        seq
    }

    /// Readers get no more items after those that are there, and are told why.
    pub fn close(&mut self, reason: CloseReason) {
        let _ = self.log.closed.set(reason);
        self.log.waits.notify();
    }

    fn announce_joins(&self) {
        let seq = |join: Option<&Join>| join.map_or(NONE, |join| join.seq);
        self.log.oldest_join.store(seq(self.joins.front()), Ordering::Release);
        self.log.newest_join.store(seq(self.joins.back()), Ordering::Release);
    }

    /// Forgets what the retention does not ask for, given that the head is about to be `head`.
    fn retain(&mut self, head: u64) {
        while self.joins.len() >= 2 {
            let Some(&second) = self.joins.get(1) else { break };
            let enough = self.offset.saturating_sub(second.offset) >= self.retention.window_bytes
                || self.head_dts - second.dts >= self.retention.window_time;
            if !enough && !self.exceeds(head) {
                break;
            }
            self.joins.pop_front();
            self.forget_to(second.seq, second.offset, Some(second.dts));
        }
        while self.exceeds(head) && self.forget_one() {}
    }

    fn exceeds(&self, head: u64) -> bool {
        let kept_bytes = self.offset.saturating_sub(self.log.forgotten_bytes.load(Ordering::Relaxed));
        head.saturating_sub(self.log.ring.tail()) > self.retention.max_items as u64
            || kept_bytes > self.retention.max_bytes
            || self.oldest_dts.is_some_and(|oldest| self.head_dts - oldest > self.retention.max_time)
    }

    /// Forgets the oldest item, and with it the join point of its GOP. False when nothing is left.
    fn forget_one(&mut self) -> bool {
        let tail = self.log.ring.tail();
        let Some(oldest) = self.log.get(tail) else { return false };
        let end = oldest.offset().saturating_add(oldest.size() as u64);
        drop(oldest);
        while self.joins.front().is_some_and(|join| join.seq <= tail) {
            self.joins.pop_front();
        }
        let next_dts = self.log.get(tail + 1).map(|entry| entry.dts());
        self.forget_to(tail + 1, end, next_dts);
        true
    }

    fn forget_to(&mut self, seq: u64, offset: u64, oldest_dts: Option<Timestamp>) {
        self.announce_joins();
        self.log.ring.clear_to(seq);
        self.log.forgotten_bytes.store(offset, Ordering::Relaxed);
        self.oldest_dts = oldest_dts;
    }
}
