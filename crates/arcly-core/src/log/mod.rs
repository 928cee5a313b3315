//! The append-only log of a stream, and the cursors that walk it.
//!
//! ```text
//!            oldest join          newest join        head
//!                 │                    │               │
//!    forgotten ┄┄ K f f f f f f f f f f K f f f f f f f ·      one writer appends, never waits
//!                       ▲                  ▲         ▲
//!                     cursor             cursor    cursor      a reader is a number
//! ```
//!
//! There is no queue per reader and no second GOP buffer: instant start is a cursor placed at the newest *join
//! point*, and replay and live are one walk, so that there is no seam at which a frame could be lost or doubled. A
//! reader that falls behind is moved to a join point, never into the middle of a GOP, and told what it missed.
//!
//! | guarantee | shown by |
//! |---|---|
//! | no gap, no duplicate, at any reader speed | `tests/log_properties.rs`, `tests/loom.rs` |
//! | after a start or a skip, every track begins with a keyframe | `tests/log_properties.rs` |
//! | the writer never waits for a reader, and wakes a bounded number of tasks itself | `wake.rs`, `tests/loom.rs` |
//! | memory stays within [`Retention`], whatever readers do | `tests/log_properties.rs` |
//!
//! The same log carries a stream's frames ([`MediaFrame`](crate::MediaFrame)) and what a format makes of them
//! ([`Packet`](crate::derived::Packet), see [`derived`](crate::derived)).

mod batch;
mod cursor;
mod ring;
mod sync;
mod wake;
mod writer;

use std::sync::{Arc, OnceLock};
use std::task::Context;

pub use batch::Batch;
pub(crate) use batch::Place;
pub use cursor::{Budget, Cursor, LagPolicy, Progress, Read, Skip, SkipReason, StartMode, Step, TrackChoice};
pub use writer::{Retention, Writer};

use crate::close::CloseReason;
use crate::frame::FrameFlags;
use crate::time::{TimeDelta, Timestamp};
use crate::track::TrackId;
use ring::{Node, Ring};
use sync::{AtomicI64, AtomicU64, Ordering};
use wake::WaitSet;

/// What a log can hold.
pub trait LogItem: Send + Sync + 'static {
    /// What a reader needs before the first item that refers to it: the track set, or a format's headers.
    type Context: Send + Sync + 'static;

    /// The track it belongs to.
    fn track(&self) -> TrackId;
    /// Its place in time.
    fn dts(&self) -> Timestamp;
    /// Its flags; [`FrameFlags::KEYFRAME`] decides where a track may begin.
    fn flags(&self) -> FrameFlags;
    /// Bytes that it is accounted with.
    fn size(&self) -> usize;
}

/// An item with its place in bytes and the context in force.
struct Entry<T: LogItem> {
    /// Bytes of all items before it.
    offset: u64,
    context: Arc<T::Context>,
    /// A reader may start here.
    join: bool,
    item: T,
}

/// A shared reference to an item of a log; derefs to the item.
pub struct LogRef<T: LogItem>(Arc<Node<Entry<T>>>);

impl<T: LogItem> core::fmt::Debug for LogRef<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "#{} {} {:?} {:?}", self.sequence(), self.track(), self.dts(), self.flags())
    }
}

impl<T: LogItem> LogRef<T> {
    /// The item's number in its log: rises by one with every item, starting at 0.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.0.seq
    }

    /// The context in force for this item.
    #[must_use]
    pub fn context(&self) -> &Arc<T::Context> {
        &self.0.value.context
    }

    /// True when a reader may start here.
    #[must_use]
    pub fn is_join(&self) -> bool {
        self.0.value.join
    }

    fn offset(&self) -> u64 {
        self.0.value.offset
    }
}

impl<T: LogItem> Clone for LogRef<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: LogItem> core::ops::Deref for LogRef<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0.value.item
    }
}

/// What a log holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogUsage {
    /// Items kept.
    pub items: u64,
    /// Bytes of the items kept, and what each costs beyond its payload.
    pub bytes: u64,
    /// Items ever appended.
    pub appended: u64,
}

/// No join point is there.
const NONE: u64 = u64::MAX;

/// An append-only, bounded log with one [`Writer`] and any number of [`Cursor`]s.
pub struct Log<T: LogItem> {
    ring: Ring<Entry<T>>,
    waits: WaitSet,
    closed: OnceLock<CloseReason>,
    /// The newest and the oldest number from which a reader may start, or [`NONE`].
    newest_join: AtomicU64,
    oldest_join: AtomicU64,
    /// Bytes ever appended, and of those forgotten.
    bytes: AtomicU64,
    forgotten_bytes: AtomicU64,
    /// Highest DTS appended, in flicks.
    head_dts: AtomicI64,
}

impl<T: LogItem> core::fmt::Debug for Log<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Log")
            .field("usage", &self.usage())
            .field("closed", &self.closed())
            .finish_non_exhaustive()
    }
}

impl<T: LogItem> Log<T> {
    /// An empty log and its only writer.
    #[must_use]
    pub fn new(retention: Retention) -> (Arc<Self>, Writer<T>) {
        let log = Arc::new(Self {
            ring: Ring::new(retention.max_items.saturating_add(1)),
            waits: WaitSet::new(),
            closed: OnceLock::new(),
            newest_join: AtomicU64::new(NONE),
            oldest_join: AtomicU64::new(NONE),
            bytes: AtomicU64::new(0),
            forgotten_bytes: AtomicU64::new(0),
            head_dts: AtomicI64::new(i64::MIN),
        });
        let writer = Writer::new(Arc::clone(&log), retention);
        (log, writer)
    }

    /// Why the log has ended, once it has.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed.get().copied()
    }

    /// What it holds at the moment.
    #[must_use]
    pub fn usage(&self) -> LogUsage {
        let appended = self.ring.head();
        let forgotten = self.forgotten_bytes.load(Ordering::Relaxed);
        LogUsage {
            items: appended.saturating_sub(self.ring.tail()),
            bytes: self.bytes.load(Ordering::Relaxed).saturating_sub(forgotten),
            appended,
        }
    }

    /// True when a reader that starts now has a keyframe to start from.
    #[must_use]
    pub fn has_join_point(&self) -> bool {
        self.newest_join.load(Ordering::Acquire) != NONE
    }

    /// The newest item.
    #[must_use]
    pub fn last(&self) -> Option<LogRef<T>> {
        self.get(self.ring.head().checked_sub(1)?)
    }

    /// Time from the newest join point to the newest item.
    #[must_use]
    pub fn replay_time(&self) -> TimeDelta {
        let join = self.newest_join.load(Ordering::Acquire);
        match (self.get(join), self.last()) {
            (Some(first), Some(last)) => last.dts() - first.dts(),
            _ => TimeDelta::ZERO,
        }
    }

    fn get(&self, seq: u64) -> Option<LogRef<T>> {
        self.ring.get(seq).map(LogRef)
    }

    /// Calls `register` and then tells whether there already is something at `next`, or the log has ended.
    fn is_ready_at(&self, next: u64) -> bool {
        next < self.ring.head() || self.closed().is_some()
    }

    pub(crate) fn notify(&self) {
        self.waits.notify();
    }

    fn register(&self, key: &wake::WaitKey, cx: &Context<'_>) {
        self.waits.register(key, cx.waker());
    }
}
