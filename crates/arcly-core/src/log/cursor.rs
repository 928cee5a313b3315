use core::ops::ControlFlow;
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

/// What one step of a reader yields.
#[derive(Debug)]
pub enum Step<T: LogItem> {
    /// A thing.
    Read(Read<T>),
    /// Nothing; not [`Progress::More`].
    Rest(Progress),
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
// In this order because there are thousands of them, and a frame goes through all: what every delivery looks at lies
// side by side, and what hardly any does comes last.
#[repr(C)]
pub struct Cursor<T: LogItem> {
    log: Arc<Log<T>>,
    key: WaitKey,
    /// The number to read next; `None` until there is something to start from.
    pub(super) next: Option<u64>,
    pub(super) context: Option<Arc<T::Context>>,
    pub(super) tracks: TrackMask,
    /// Tracks that have not had their keyframe since the start or the last skip.
    pub(super) awaiting: TrackMask,
    /// Tracks whose leading pictures refer to what came before the keyframe.
    pub(super) leading: TrackMask,
    pub(super) start: StartMode,
    thinning: bool,
    /// The reader has not been at the head since it was placed where it is.
    catching_up: bool,
    thinned: u64,
    choice: Option<Box<Choice<T>>>,
    rare: Box<Rare>,
}

/// What only those readers need that choose their tracks.
struct Choice<T: LogItem> {
    choose: TrackChoice<T::Context>,
    /// The context that it was last asked about.
    asked: Option<Arc<T::Context>>,
}

/// What only late and paced readers need.
struct Rare {
    lag: LagPolicy,
    /// Bytes and time behind the head when the reader was placed.
    placed_behind: (u64, TimeDelta),
    pace: Option<Pace>,
    skips: u32,
    skips_since: Option<Instant>,
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
            tracks: TrackMask::ALL,
            choice: None,
            next,
            context: None,
            awaiting: TrackMask::ALL,
            leading: TrackMask::NONE,
            thinning: false,
            catching_up: false,
            thinned: 0,
            rare: Box::new(Rare {
                lag,
                placed_behind: (0, TimeDelta::ZERO),
                pace: None,
                skips: 0,
                skips_since: None,
            }),
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
        self.choice = Some(Box::new(Choice { choose: choice, asked: None }));
    }

    pub(crate) fn track_choice(&self) -> Option<&TrackChoice<T::Context>> {
        self.choice.as_ref().map(|choice| &choice.choose)
    }

    fn choose_tracks(&mut self, context: &Arc<T::Context>) -> Result<(), CloseReason> {
        let Some(choice) = &mut self.choice else { return Ok(()) };
        if !choice.asked.as_ref().is_some_and(|known| Arc::ptr_eq(known, context)) {
            self.tracks = (choice.choose)(context).ok_or(CloseReason::Unsupported)?;
            choice.asked = Some(Arc::clone(context));
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
        each: impl FnMut(Read<T>),
    ) -> Result<Progress, CloseReason> {
        self.read_at(|| now, budget, each)
    }

    /// The same with a clock that is looked at when time matters only, which is for paced and for late readers.
    pub(crate) fn read_at(
        &mut self,
        now: impl Fn() -> Instant,
        budget: Budget,
        mut each: impl FnMut(Read<T>),
    ) -> Result<Progress, CloseReason> {
        let (mut items, mut bytes, mut first, mut may_be_late) = (0, 0usize, None, true);
        while items < budget.items && bytes < budget.bytes {
            let read = match self.step(&now, core::mem::take(&mut may_be_late))? {
                Step::Read(read) => read,
                Step::Rest(progress) => return Ok(progress),
            };
            let mut elapsed = TimeDelta::ZERO;
            if let Read::Item(entry) = &read {
                items += 1;
                bytes = bytes.saturating_add(entry.size());
                elapsed = entry.dts() - *first.get_or_insert(entry.dts());
            }
            each(read);
            if elapsed > budget.time {
                break;
            }
        }
        Ok(Progress::More)
    }

    /// Shows what this cursor would read of what is there, until `each` has seen enough; it stays where it is, or is put to
    /// where it begins.
    pub(crate) fn look_ahead(&mut self, mut each: impl FnMut(&T) -> ControlFlow<()>) {
        if !self.begin() {
            return;
        }
        let (place, thinned) = (self.place(), self.thinned);
        while let Ok(Some(entry)) = self.current() {
            if self.choose_tracks(entry.context()).is_err() {
                break;
            }
            self.seek(entry.sequence() + 1);
            if self.leaves_out(&entry) {
                continue;
            }
            self.note(&entry);
            if each(&entry).is_break() {
                break;
            }
        }
        self.go_back(place);
        self.thinned = thinned;
    }

    /// Reads one thing. A reader that takes in one go what it is behind is late at the first step, or not at all.
    #[inline]
    pub(crate) fn step(
        &mut self,
        now: impl Fn() -> Instant,
        may_be_late: bool,
    ) -> Result<Step<T>, CloseReason> {
        if !self.begin() {
            return Ok(Step::Rest(self.log.closed().map_or(Progress::CaughtUp, Progress::Ended)));
        }
        loop {
            let entry = match self.current() {
                Ok(Some(entry)) => entry,
                Ok(None) => return Ok(Step::Rest(self.at_head())),
                Err(skip) => return self.skipped(skip, now()),
            };
            if may_be_late && let Some(skip) = self.lateness(&entry).and_then(|reason| self.skip(reason)) {
                return self.skipped(skip, now());
            }
            if let Some(until) = self.paced(&now, entry.dts()) {
                return Ok(Step::Rest(Progress::PacedUntil(until)));
            }
            self.choose_tracks(entry.context())?;
            if self.leaves_out(&entry) {
                self.next = Some(entry.sequence() + 1);
                continue;
            }
            if !self.context.as_ref().is_some_and(|known| Arc::ptr_eq(known, entry.context())) {
                let context = Arc::clone(entry.context());
                self.context = Some(Arc::clone(&context));
                return Ok(Step::Read(Read::Context(context)));
            }
            self.next = Some(entry.sequence() + 1);
            self.note(&entry);
            return Ok(Step::Read(Read::Item(entry)));
        }
    }

    #[cold]
    fn skipped(&mut self, skip: Skip, now: Instant) -> Result<Step<T>, CloseReason> {
        self.count_skip(now)?;
        Ok(Step::Read(Read::Skipped(skip)))
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
            self.put(&entry);
        }
        self.next.is_some()
    }

    /// Notes how far behind the reader is by where it was put.
    fn put(&mut self, entry: &LogRef<T>) {
        self.rare.placed_behind = self.behind(entry);
        self.catching_up = true;
    }

    fn is_at_head(&self) -> bool {
        self.next.is_some_and(|next| next >= self.log.ring.head())
    }

    fn at_head(&mut self) -> Progress {
        self.catching_up = false;
        match self.log.closed() {
            // The log is closed after its last item, so that a look at the head comes second.
            Some(reason) if self.is_at_head() => Progress::Ended(reason),
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
        if entry.sequence() + 1 >= self.log.ring.head() {
            // Nothing is newer, so that there is nothing to be late for.
            self.thinning = false;
            self.catching_up = false;
            return None;
        }
        let (bytes, time) = self.behind(entry);
        // Whoever has just been placed at a keyframe is as far behind as that keyframe is old, and not late.
        let placed = if self.catching_up { self.rare.placed_behind } else { (0, TimeDelta::ZERO) };
        let (bytes, time) = (bytes.saturating_sub(placed.0), time - placed.1);
        let percent = u64::from(self.rare.lag.drop_disposable_percent);
        self.thinning = percent < 100
            && (bytes > self.rare.lag.max_bytes / 100 * percent
                || time.0 > self.rare.lag.max_time.0 / 100 * percent as i64);
        if bytes > self.rare.lag.max_bytes {
            Some(SkipReason::LagBytes)
        } else if time > self.rare.lag.max_time {
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
        self.catching_up = false;
        if let Some(new) = &new {
            self.put(new);
        }
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
        if self
            .rare
            .skips_since
            .is_none_or(|since| now.saturating_duration_since(since) > self.rare.lag.skip_window)
        {
            self.rare.skips_since = Some(now);
            self.rare.skips = 0;
        }
        self.rare.skips = self.rare.skips.saturating_add(1);
        if self.rare.lag.max_skips.is_some_and(|max| self.rare.skips > max) {
            Err(CloseReason::SlowConsumer)
        } else {
            Ok(())
        }
    }

    /// Whether the reader does not get the item, given the tracks it chose and the keyframes it has had.
    fn leaves_out(&mut self, item: &T) -> bool {
        let (track, flags) = (item.track(), item.flags());
        if !self.tracks.contains(track) {
            return true;
        }
        if flags.contains(FrameFlags::KEYFRAME) {
            return false;
        }
        if self.awaiting.contains(track)
            || (flags.contains(FrameFlags::LEADING) && self.leading.contains(track))
        {
            return true;
        }
        let thinned = self.thinning && flags.contains(FrameFlags::DISPOSABLE);
        self.thinned += u64::from(thinned);
        thinned
    }

    /// Notes that the reader gets the item.
    fn note(&mut self, item: &T) {
        if !item.flags().contains(FrameFlags::KEYFRAME) {
            return;
        }
        // Leading pictures of the keyframe that a reader begins with refer to what it has not got.
        let track = item.track();
        if self.awaiting.contains(track) {
            self.leading.insert(track);
        } else {
            self.leading.remove(track);
        }
        self.awaiting.remove(track);
    }

    /// When a paced reader may have the item at `dts`, if not yet.
    fn paced(&mut self, now: impl Fn() -> Instant, dts: Timestamp) -> Option<Instant> {
        let StartMode::KeyframePaced { speed_percent } = self.start else { return None };
        let now = now();
        let pace = *self.rare.pace.get_or_insert(Pace {
            began: now,
            first: dts,
            speed_percent: speed_percent.max(1),
        });
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
