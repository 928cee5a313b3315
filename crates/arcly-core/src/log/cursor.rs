use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::sync::Ordering;
use super::wake::WaitKey;
use super::{Log, LogItem, LogRef, NONE};
use crate::close::CloseReason;
use crate::frame::FrameFlags;
use crate::time::{TimeDelta, Timestamp};
use crate::track::TrackMask;

/// Where a reader begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartMode {
    /// At the newest keyframe that is there, all at once: a picture at once, and the live edge right after.
    #[default]
    Keyframe,
    /// At the newest keyframe, delivered at `speed_percent` of real time until the live edge is reached: for
    /// receivers that cannot take a burst. 100 never catches up; 150 does.
    KeyframePaced {
        /// Percent of real time, at least 1.
        speed_percent: u32,
    },
    /// At the next keyframe to come: lowest delay, no picture until then.
    LiveEdge,
    /// At the oldest keyframe kept.
    Oldest,
}

/// When a reader counts as late, and what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LagPolicy {
    /// Bytes behind the head from which the reader is moved to the newest keyframe. As long as it has not caught up for
    /// the first time, what it was behind when it was placed does not count.
    pub max_bytes: u64,
    /// Time behind the head from which the reader is moved to the newest keyframe.
    pub max_time: TimeDelta,
    /// Percent of the two bounds from which disposable frames are left out first; 100 and more never do.
    pub drop_disposable_percent: u8,
    /// Moves allowed within `skip_window`; one more gives the reader up as a slow consumer. `None` allows any number.
    pub max_skips: Option<u32>,
    /// How long a move counts.
    pub skip_window: Duration,
}

impl Default for LagPolicy {
    /// 8 MiB or 5 s; disposable frames go from half of that on; given up at the fourth move within a minute.
    fn default() -> Self {
        Self {
            max_bytes: 8 << 20,
            max_time: TimeDelta::from_millis(5_000),
            drop_disposable_percent: 50,
            max_skips: Some(3),
            skip_window: Duration::from_secs(60),
        }
    }
}

impl LagPolicy {
    /// Never moves a reader while the log still has its place: for recorders and packetisers, which keep up or stop.
    pub const PATIENT: Self = Self {
        max_bytes: u64::MAX,
        max_time: TimeDelta(i64::MAX),
        drop_disposable_percent: 100,
        max_skips: None,
        skip_window: Duration::ZERO,
    };
}

/// Why a reader was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// It was more than [`LagPolicy::max_bytes`] behind.
    LagBytes,
    /// It was more than [`LagPolicy::max_time`] behind.
    LagTime,
    /// What it should have read next was forgotten already.
    Overwritten,
}

impl SkipReason {
    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LagBytes => "lag_bytes",
            Self::LagTime => "lag_time",
            Self::Overwritten => "overwritten",
        }
    }
}

/// What a reader missed in one move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Why.
    pub reason: SkipReason,
    /// Items passed over, on all tracks.
    pub items: u64,
    /// Bytes passed over; 0 when they were forgotten before they could be counted.
    pub bytes: u64,
    /// Time passed over; zero when unknown.
    pub time: TimeDelta,
}

/// One thing read from a log.
pub enum Read<T: LogItem> {
    /// What the items that follow refer to. First of all, and again whenever it changes.
    Context(Arc<T::Context>),
    /// The next item.
    Item(LogRef<T>),
    /// Items were passed over; every track goes on with a keyframe.
    Skipped(Skip),
}

impl<T: LogItem> core::fmt::Debug for Read<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Context(_) => f.write_str("Context"),
            Self::Item(item) => item.fmt(f),
            Self::Skipped(skip) => skip.fmt(f),
        }
    }
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The budget is used up; there may be more.
    More,
    /// Everything there is was read.
    CaughtUp,
    /// More is there, but a paced reader gets it at this instant.
    PacedUntil(Instant),
    /// Everything was read and nothing more will come.
    Ended(CloseReason),
}

/// How much one read may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Items.
    pub items: usize,
    /// Bytes; the item that exceeds it is the last.
    pub bytes: usize,
    /// Time from the first to the last item; the item that exceeds it is the last.
    pub time: TimeDelta,
}

impl Budget {
    /// Everything there is.
    pub const UNLIMITED: Self = Self { items: usize::MAX, bytes: usize::MAX, time: TimeDelta(i64::MAX) };
}

impl Default for Budget {
    /// 256 items or 1 MiB.
    fn default() -> Self {
        Self { items: 256, bytes: 1 << 20, time: TimeDelta(i64::MAX) }
    }
}

/// What a paced reader's clock was set by.
#[derive(Clone, Copy, Debug)]
struct Pace {
    began: Instant,
    first: Timestamp,
    speed_percent: u32,
}

/// Which tracks a reader can take under a context: asked whenever the context changes, so that a reader that knows
/// some codecs only is right after a change in mid-stream too. `None` ends the reader as unsupported.
pub type TrackChoice<C> = Arc<dyn Fn(&C) -> Option<TrackMask> + Send + Sync>;

/// A reader's place in a [`Log`]: a number, and what it needs to land on keyframes.
///
/// Reading never blocks and never waits; [`poll_ready`](Self::poll_ready) is the only thing that does.
pub struct Cursor<T: LogItem> {
    log: Arc<Log<T>>,
    key: WaitKey,
    pub(super) start: StartMode,
    lag: LagPolicy,
    pub(super) tracks: TrackMask,
    choice: Option<TrackChoice<T::Context>>,
    /// The context that `choice` was last asked about.
    chosen_for: Option<Arc<T::Context>>,
    /// The number to read next; `None` until there is something to start from.
    pub(super) next: Option<u64>,
    pub(super) context: Option<Arc<T::Context>>,
    /// Tracks that have not had their keyframe since the start or the last skip.
    pub(super) awaiting: TrackMask,
    /// Tracks whose leading pictures refer to what came before the keyframe.
    pub(super) leading: TrackMask,
    thinning: bool,
    /// Bytes and time behind the head when the reader was placed; nothing once it has caught up.
    placed_behind: (u64, TimeDelta),
    pace: Option<Pace>,
    skips: u32,
    skips_since: Option<Instant>,
    thinned: u64,
}

impl<T: LogItem> core::fmt::Debug for Cursor<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Cursor").field("next", &self.next).field("start", &self.start).finish_non_exhaustive()
    }
}

impl<T: LogItem> Drop for Cursor<T> {
    fn drop(&mut self) {
        self.log.waits.leave(&self.key);
    }
}

impl<T: LogItem> Cursor<T> {
    /// A reader of every track, placed where `start` says if there is such a place already, else when it comes.
    #[must_use]
    pub fn new(log: Arc<Log<T>>, start: StartMode, lag: LagPolicy) -> Self {
        let key = log.waits.enter();
        let next = matches!(start, StartMode::LiveEdge).then(|| log.ring.head());
        let mut cursor = Self {
            log,
            key,
            start,
            lag,
            tracks: TrackMask::ALL,
            choice: None,
            chosen_for: None,
            next,
            context: None,
            awaiting: TrackMask::ALL,
            leading: TrackMask::NONE,
            thinning: false,
            placed_behind: (0, TimeDelta::ZERO),
            pace: None,
            skips: 0,
            skips_since: None,
            thinned: 0,
        };
        cursor.begin();
        cursor
    }

    /// Chooses the tracks to read; the others are passed over without a word.
    pub fn set_tracks(&mut self, tracks: TrackMask) {
        self.tracks = tracks;
    }

    /// Lets `choice` choose the tracks, now and whenever the context changes.
    pub fn set_track_choice(&mut self, choice: TrackChoice<T::Context>) {
        self.choice = Some(choice);
        self.chosen_for = None;
    }

    pub(crate) const fn track_choice(&self) -> Option<&TrackChoice<T::Context>> {
        self.choice.as_ref()
    }

    fn choose_tracks(&mut self, context: &Arc<T::Context>) -> Result<(), CloseReason> {
        let Some(choice) = &self.choice else { return Ok(()) };
        if !self.chosen_for.as_ref().is_some_and(|known| Arc::ptr_eq(known, context)) {
            self.tracks = choice(context).ok_or(CloseReason::Unsupported)?;
            self.chosen_for = Some(Arc::clone(context));
        }
        Ok(())
    }

    /// The tracks that are read.
    #[must_use]
    pub const fn tracks(&self) -> TrackMask {
        self.tracks
    }

    /// The log that is read.
    #[must_use]
    pub const fn log(&self) -> &Arc<Log<T>> {
        &self.log
    }

    /// Items between this reader and the head.
    #[must_use]
    pub fn lag_items(&self) -> u64 {
        self.next.map_or(0, |next| self.log.ring.head().saturating_sub(next))
    }

    /// Disposable frames that were left out because the reader was late.
    #[must_use]
    pub const fn thinned(&self) -> u64 {
        self.thinned
    }

    /// The number that is read next, once the reader has started.
    #[must_use]
    pub const fn position(&self) -> Option<u64> {
        self.next
    }

    pub(super) const fn seek(&mut self, seq: u64) {
        self.next = Some(seq);
    }

    /// Completes when there is something to read or the log has ended. A place in the wait set is kept between
    /// calls, so that waiting allocates nothing.
    pub fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.log.waits.help();
        if self.is_ready() {
            return Poll::Ready(());
        }
        self.log.register(&self.key, cx);
        if self.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn is_ready(&self) -> bool {
        match self.next {
            Some(next) => self.log.is_ready_at(next),
            None => self.log.has_join_point() || self.log.closed().is_some(),
        }
    }

    /// Reads what is there, up to `budget`, and hands each thing to `each`. `now` paces and dates skips.
    ///
    /// # Errors
    /// [`CloseReason::SlowConsumer`] when the reader was moved more often than its policy allows,
    /// [`CloseReason::Unsupported`] when its [`TrackChoice`] finds nothing for it.
    pub fn read(
        &mut self,
        now: Instant,
        budget: Budget,
        mut each: impl FnMut(Read<T>),
    ) -> Result<Progress, CloseReason> {
        if !self.begin() {
            return Ok(self.log.closed().map_or(Progress::CaughtUp, Progress::Ended));
        }
        let (mut items, mut bytes, mut first, mut checked) = (0, 0usize, None, false);
        while items < budget.items && bytes < budget.bytes {
            let entry = match self.current() {
                Ok(Some(entry)) => entry,
                Ok(None) => return Ok(self.at_head()),
                Err(skip) => {
                    self.count_skip(now)?;
                    each(Read::Skipped(skip));
                    continue;
                }
            };
            if !core::mem::replace(&mut checked, true)
                && let Some(skip) = self.lateness(&entry).and_then(|reason| self.skip(reason))
            {
                self.count_skip(now)?;
                each(Read::Skipped(skip));
                continue;
            }
            if let Some(until) = self.paced(now, entry.dts()) {
                return Ok(Progress::PacedUntil(until));
            }
            self.choose_tracks(entry.context())?;
            self.next = Some(entry.sequence() + 1);
            if !self.wants(&entry) {
                continue;
            }
            if !self.context.as_ref().is_some_and(|known| Arc::ptr_eq(known, entry.context())) {
                let context = Arc::clone(entry.context());
                self.context = Some(Arc::clone(&context));
                each(Read::Context(context));
            }
            items += 1;
            bytes = bytes.saturating_add(entry.size());
            let elapsed = entry.dts() - *first.get_or_insert(entry.dts());
            each(Read::Item(entry));
            if elapsed > budget.time {
                break;
            }
        }
        Ok(Progress::More)
    }

    /// Finds the place to start. False as long as there is none.
    fn begin(&mut self) -> bool {
        if self.next.is_some() {
            return true;
        }
        let join = match self.start {
            StartMode::Oldest => &self.log.oldest_join,
            _ => &self.log.newest_join,
        };
        self.next = Some(join.load(Ordering::Acquire)).filter(|&seq| seq != NONE);
        if let Some(entry) = self.next.and_then(|next| self.log.get(next)) {
            self.placed_behind = self.behind(&entry);
        }
        self.next.is_some()
    }

    fn at_head(&mut self) -> Progress {
        self.placed_behind = (0, TimeDelta::ZERO);
        match self.log.closed() {
            // The log is closed after its last item, so that a look at the head comes second.
            Some(reason) if self.next.is_some_and(|next| next >= self.log.ring.head()) => {
                Progress::Ended(reason)
            }
            Some(_) => Progress::More,
            None => Progress::CaughtUp,
        }
    }

    /// The item to read next, `None` at the head, or what was lost because it was forgotten.
    fn current(&mut self) -> Result<Option<LogRef<T>>, Skip> {
        let next = self.next.unwrap_or_default();
        if next >= self.log.ring.head() {
            return Ok(None);
        }
        match self.log.get(next) {
            Some(entry) => Ok(Some(entry)),
            None => Err(self.skip(SkipReason::Overwritten).unwrap_or(Skip {
                reason: SkipReason::Overwritten,
                items: 0,
                bytes: 0,
                time: TimeDelta::ZERO,
            })),
        }
    }

    /// Bytes and time between an entry and the head.
    fn behind(&self, entry: &LogRef<T>) -> (u64, TimeDelta) {
        let bytes = self.log.bytes.load(Ordering::Relaxed).saturating_sub(entry.offset());
        (bytes, Timestamp(self.log.head_dts.load(Ordering::Relaxed)) - entry.dts())
    }

    /// Whether a reader that is at `entry` is late, and whether it should leave out disposable frames.
    fn lateness(&mut self, entry: &LogRef<T>) -> Option<SkipReason> {
        let (bytes, time) = self.behind(entry);
        // Whoever has just been placed at a keyframe is as far behind as that keyframe is old, and not late.
        let (bytes, time) = (bytes.saturating_sub(self.placed_behind.0), time - self.placed_behind.1);
        let percent = u64::from(self.lag.drop_disposable_percent);
        self.thinning = percent < 100
            && (bytes > self.lag.max_bytes / 100 * percent
                || time.0 > self.lag.max_time.0 / 100 * percent as i64);
        if bytes > self.lag.max_bytes {
            Some(SkipReason::LagBytes)
        } else if time > self.lag.max_time {
            Some(SkipReason::LagTime)
        } else {
            None
        }
    }

    /// Moves to the newest join point if that is further on. A late reader without one stays where it is, as long as
    /// its place is still kept; one whose place is gone goes to the head and waits there for keyframes.
    fn skip(&mut self, reason: SkipReason) -> Option<Skip> {
        let from = self.next?;
        let join = self.log.newest_join.load(Ordering::Acquire);
        let to = match (join, reason) {
            (join, _) if join != NONE && join > from => join,
            (_, SkipReason::Overwritten) => self.log.ring.head(),
            _ => return None,
        };
        let (old, new) = (self.log.get(from), self.log.get(to));
        let new_offset = new.as_ref().map_or_else(|| self.log.bytes.load(Ordering::Relaxed), LogRef::offset);
        self.next = Some(to);
        self.placed_behind = new.as_ref().map_or((0, TimeDelta::ZERO), |new| self.behind(new));
        self.awaiting = TrackMask::ALL;
        self.leading = TrackMask::NONE;
        Some(Skip {
            reason,
            items: to.saturating_sub(from),
            bytes: old.as_ref().map_or(0, |old| new_offset.saturating_sub(old.offset())),
            time: old.zip(new).map_or(TimeDelta::ZERO, |(old, new)| new.dts() - old.dts()),
        })
    }

    fn count_skip(&mut self, now: Instant) -> Result<(), CloseReason> {
        if self.skips_since.is_none_or(|since| now.saturating_duration_since(since) > self.lag.skip_window) {
            self.skips_since = Some(now);
            self.skips = 0;
        }
        self.skips = self.skips.saturating_add(1);
        if self.lag.max_skips.is_some_and(|max| self.skips > max) {
            Err(CloseReason::SlowConsumer)
        } else {
            Ok(())
        }
    }

    /// Whether the reader gets the item, given the tracks it chose and the keyframes it has had.
    fn wants(&mut self, item: &T) -> bool {
        let (track, flags) = (item.track(), item.flags());
        if !self.tracks.contains(track) {
            return false;
        }
        if flags.contains(FrameFlags::KEYFRAME) {
            // Leading pictures of the keyframe that a reader begins with refer to what it has not got.
            if self.awaiting.contains(track) {
                self.leading.insert(track)
            } else {
                self.leading.remove(track)
            }
            self.awaiting.remove(track);
            return true;
        }
        if self.awaiting.contains(track)
            || (flags.contains(FrameFlags::LEADING) && self.leading.contains(track))
        {
            return false;
        }
        if self.thinning && flags.contains(FrameFlags::DISPOSABLE) {
            self.thinned += 1;
            return false;
        }
        true
    }

    /// When a paced reader may have the item at `dts`, if not yet.
    fn paced(&mut self, now: Instant, dts: Timestamp) -> Option<Instant> {
        let StartMode::KeyframePaced { speed_percent } = self.start else { return None };
        let pace =
            *self.pace.get_or_insert(Pace { began: now, first: dts, speed_percent: speed_percent.max(1) });
        let ahead = (dts - pace.first).to_duration().saturating_mul(100) / pace.speed_percent;
        let due = pace.began.checked_add(ahead)?;
        if due > now {
            return Some(due);
        }
        // Caught up with the live edge: from here on frames come as they are published.
        if self.next.is_some_and(|next| next + 1 >= self.log.ring.head()) {
            self.start = StartMode::Keyframe;
        }
        None
    }
}
