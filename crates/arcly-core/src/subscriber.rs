//! The reading end of a stream.

use core::future::poll_fn;
use core::ops::ControlFlow;
use core::pin::Pin;
use core::task::ready;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Instant, SystemTime};

use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::close::CloseReason;
use crate::contract::observe::EngineEvent;
use crate::derived::{DerivedCursor, Packetizer};
use crate::error::{Result, StreamError};
use crate::feed::Feed;
use crate::frame::MediaFrame;
use crate::key::StreamKey;
use crate::log::{
    Budget, Cursor, LagPolicy, Log, LogItem, Progress, Read, Skip, StartMode, Step, TrackChoice,
};
use crate::registry::ClientInfo;
use crate::sink::FrameSink;
use crate::stream::Stream;
use crate::track::{TrackMask, TrackSet};

/// What is known about a reader, for the API and for whoever has to end it.
#[derive(Debug)]
pub struct ReaderState {
    /// Its number, unique in this process.
    pub id: u64,
    /// What it reads.
    pub key: StreamKey,
    /// Who reads.
    pub client: ClientInfo,
    /// Since when.
    pub since: SystemTime,
    /// Until when it may.
    pub expires_at: Option<SystemTime>,
    hot: Arc<Hot>,
    last_skip: parking_lot::Mutex<Option<Skip>>,
    reason: OnceLock<CloseReason>,
    ended: CancellationToken,
    /// The task that waits for the stream, left here once, so that waiting for the end as well costs nothing.
    task: parking_lot::Mutex<Option<Waker>>,
    /// It looks at fixed times, and not whenever a frame comes.
    is_patient: AtomicBool,
}

/// What every read looks at or counts: in one cache line, and apart from what hardly anybody looks at, so that those of
/// many readers are close together.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Hot {
    items: AtomicU64,
    bytes: AtomicU64,
    lag: AtomicU64,
    skips: AtomicU64,
    skipped: AtomicU64,
    thinned: AtomicU64,
    /// Set once there is a reason.
    over: AtomicBool,
}

impl Hot {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Only the reader itself counts, so that no read-modify-write is needed.
    fn count_items(&self, items: u64, bytes: u64) {
        let add = |counter: &AtomicU64, more| {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        };
        add(&self.items, items);
        add(&self.bytes, bytes);
    }

    fn count_read(&self, items: u64, bytes: u64, (lag, thinned): (u64, u64)) {
        self.count_items(items, bytes);
        self.lag.store(lag, Ordering::Relaxed);
        self.thinned.store(thinned, Ordering::Relaxed);
    }
}

/// What a reader has had so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReaderStats {
    /// Frames, or the packets made of them.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Items behind the head when it last read.
    pub lag_items: u64,
    /// Times it was moved to a keyframe.
    pub skips: u64,
    /// Items it missed that way.
    pub skipped_items: u64,
    /// Disposable frames left out because it was late.
    pub thinned_items: u64,
    /// The last move.
    pub last_skip: Option<Skip>,
}

impl ReaderState {
    pub(crate) fn new(id: u64, key: StreamKey, client: ClientInfo, expires_at: Option<SystemTime>) -> Self {
        Self {
            id,
            key,
            client,
            since: SystemTime::now(),
            expires_at,
            hot: Arc::default(),
            last_skip: parking_lot::Mutex::default(),
            reason: OnceLock::new(),
            ended: CancellationToken::new(),
            task: parking_lot::Mutex::default(),
            is_patient: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_patient(&self) -> bool {
        self.is_patient.load(Ordering::Relaxed)
    }

    /// From here on it looks at fixed times. False when it was so already.
    pub(crate) fn be_patient(&self) -> bool {
        !self.is_patient.swap(true, Ordering::Relaxed)
    }

    /// What it has had so far.
    #[must_use]
    pub fn stats(&self) -> ReaderStats {
        ReaderStats {
            items: self.hot.items.load(Ordering::Relaxed),
            bytes: self.hot.bytes.load(Ordering::Relaxed),
            lag_items: self.hot.lag.load(Ordering::Relaxed),
            skips: self.hot.skips.load(Ordering::Relaxed),
            skipped_items: self.hot.skipped.load(Ordering::Relaxed),
            thinned_items: self.hot.thinned.load(Ordering::Relaxed),
            last_skip: *self.last_skip.lock(),
        }
    }

    /// Ends the reader; its next read fails with that reason. The first reason counts.
    pub fn end(&self, reason: CloseReason) {
        let _ = self.reason.set(reason);
        self.hot.over.store(true, Ordering::Release);
        self.ended.cancel();
        // The task stays registered: it leaves its waker again only when that changes.
        if let Some(task) = &*self.task.lock() {
            task.wake_by_ref();
        }
    }

    /// Why it was ended, if it was.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        if self.hot.is_over() { self.reason.get().copied() } else { None }
    }

    /// Completes when the reader is ended from outside. Cancel safe.
    pub async fn ended(&self) -> CloseReason {
        self.ended.cancelled().await;
        self.close_reason().unwrap_or(CloseReason::Shutdown)
    }

    pub(crate) fn count_items(&self, items: u64, bytes: u64) {
        self.hot.count_items(items, bytes);
    }

    /// Takes back what was counted and is read again.
    pub(crate) fn uncount_items(&self, items: u64, bytes: u64) {
        self.count_items(items.wrapping_neg(), bytes.wrapping_neg());
    }

    /// Leaves whom to wake when the reader is ended from outside.
    pub(crate) fn wake_at_end(&self, waker: &Waker) {
        *self.task.lock() = Some(waker.clone());
    }

    /// Counts what a reader has had in another way than through a [`Reader`]: an HLS client, in many requests at a time.
    pub fn count_served(&self, items: u64, bytes: u64) {
        self.hot.items.fetch_add(items, Ordering::Relaxed);
        self.hot.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes it has had.
    pub(crate) fn bytes(&self) -> u64 {
        self.hot.bytes.load(Ordering::Relaxed)
    }

    fn count_skip(&self, skip: Skip) {
        self.hot.skips.fetch_add(1, Ordering::Relaxed);
        self.hot.skipped.fetch_add(skip.items, Ordering::Relaxed);
        *self.last_skip.lock() = Some(skip);
    }
}

/// The right to read a stream, not yet decided in which form. Dropping it ends the reader.
#[derive(Debug)]
pub struct Subscription {
    stream: Arc<Stream>,
    /// What of the stream is read: itself, or a rendition of it.
    feed: Arc<Feed>,
    state: Arc<ReaderState>,
    /// Where to begin, and what to do when late: until the cursor knows.
    start: StartMode,
    lag: LagPolicy,
}

impl Subscription {
    pub(crate) const fn new(
        stream: Arc<Stream>,
        feed: Arc<Feed>,
        state: Arc<ReaderState>,
        (start, lag): (StartMode, LagPolicy),
    ) -> Self {
        Self { stream, feed, state, start, lag }
    }

    /// The stream.
    #[must_use]
    pub const fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// What of the stream is read: its own feed, or that of a [rendition](crate::rendition).
    #[must_use]
    pub const fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// The frames that are read.
    #[must_use]
    pub fn log(&self) -> &Arc<Log<MediaFrame>> {
        self.feed.log()
    }

    /// The tracks in force in what is read; empty before its first frame.
    #[must_use]
    pub fn tracks(&self) -> Arc<TrackSet> {
        self.feed.tracks()
    }

    /// What is known about this reader.
    #[must_use]
    pub const fn state(&self) -> &Arc<ReaderState> {
        &self.state
    }

    /// This reader looks at fixed times from here on, so that nobody needs to hurry for it: see [`Stream::is_awaited`].
    pub(crate) fn be_patient(&self) {
        if self.state.be_patient() {
            self.stream.await_less();
        }
    }

    #[cold]
    fn report_skip(&self, skip: Skip) {
        let state = &self.state;
        state.count_skip(skip);
        self.stream.events().emit(EngineEvent::FramesSkipped {
            key: state.key.clone(),
            reader: state.id,
            client: state.client.clone(),
            skip,
        });
    }

    /// Where it begins.
    #[must_use]
    pub const fn start(&self) -> StartMode {
        self.start
    }

    /// Changes where to begin.
    pub const fn set_start(&mut self, start: StartMode) {
        self.start = start;
    }

    /// Reads the frames as they are.
    #[must_use]
    pub fn into_frames(self) -> Subscriber {
        let cursor = Cursor::new(Arc::clone(self.log()), self.start, self.lag);
        Reader::new(self, cursor)
    }

    /// Reads the frames in a format: its derived log is shared with every other reader of it.
    #[must_use]
    pub fn into_derived<P: Packetizer>(self, variant: u64, make: impl FnOnce() -> P) -> DerivedSubscriber<P> {
        let derived = self.feed.derived(variant, make);
        let cursor = DerivedCursor::new(derived, self.start, self.lag);
        Reader::new(self, cursor)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.state.task.lock().take();
        self.stream.remove_reader(&self.state);
    }
}

/// A walk over a log: what [`Reader`] is built on.
pub trait Walk: Send {
    /// What is read.
    type Item: LogItem;
    /// See [`Cursor::poll_ready`].
    fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<()>;
    /// See [`Cursor::read`]. The clock is looked at only when time matters.
    ///
    /// # Errors
    /// [`CloseReason::SlowConsumer`], [`CloseReason::Unsupported`].
    fn read(
        &mut self,
        now: impl Fn() -> Instant,
        budget: Budget,
        each: impl FnMut(Read<Self::Item>),
    ) -> Result<Progress, CloseReason>;
    /// Reads one thing.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    fn step(&mut self, now: impl Fn() -> Instant) -> Result<Step<Self::Item>, CloseReason>;
    /// See [`Cursor::set_tracks`].
    fn set_tracks(&mut self, tracks: TrackMask);
    /// See [`Cursor::tracks`].
    fn tracks(&self) -> TrackMask;
    /// See [`Cursor::lag_items`] and [`Cursor::thinned`].
    fn lag_and_thinned(&self) -> (u64, u64);
}

impl<T: LogItem> Walk for Cursor<T> {
    type Item = T;
    fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.poll_ready(cx)
    }
    fn read(
        &mut self,
        now: impl Fn() -> Instant,
        budget: Budget,
        each: impl FnMut(Read<T>),
    ) -> Result<Progress, CloseReason> {
        self.read_at(now, budget, each)
    }
    fn step(&mut self, now: impl Fn() -> Instant) -> Result<Step<T>, CloseReason> {
        self.step(now, true)
    }
    fn set_tracks(&mut self, tracks: TrackMask) {
        self.set_tracks(tracks);
    }
    fn tracks(&self) -> TrackMask {
        self.tracks()
    }
    fn lag_and_thinned(&self) -> (u64, u64) {
        (self.lag_items(), self.thinned())
    }
}

impl<P: Packetizer> Walk for DerivedCursor<P> {
    type Item = P::Item;
    fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.poll_ready_at(clock::now, cx)
    }
    fn read(
        &mut self,
        now: impl Fn() -> Instant,
        budget: Budget,
        each: impl FnMut(Read<P::Item>),
    ) -> Result<Progress, CloseReason> {
        self.read_at(now, budget, each)
    }
    fn step(&mut self, now: impl Fn() -> Instant) -> Result<Step<P::Item>, CloseReason> {
        self.step(now)
    }
    fn set_tracks(&mut self, tracks: TrackMask) {
        self.set_tracks(tracks);
    }
    fn tracks(&self) -> TrackMask {
        self.cursor().tracks()
    }
    fn lag_and_thinned(&self) -> (u64, u64) {
        (self.cursor().lag_items(), self.cursor().thinned())
    }
}

/// A reader of a stream's frames.
pub type Subscriber = Reader<Cursor<MediaFrame>>;
/// A reader of a stream in a format.
pub type DerivedSubscriber<P> = Reader<DerivedCursor<P>>;

/// A reader: a place in a log, and an entry in the stream's list of readers.
// In this order for the same reason as the cursor's: what every delivery looks at is side by side.
#[repr(C)]
pub struct Reader<W: Walk> {
    hot: Arc<Hot>,
    /// The waker that this reader's task left with its state.
    registered: Option<Waker>,
    walk: W,
    subscription: Box<Subscription>,
    /// Rings when a paced reader may go on.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<W: Walk> core::fmt::Debug for Reader<W> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.subscription.fmt(f)
    }
}

impl<W: Walk> Reader<W> {
    fn new(subscription: Subscription, walk: W) -> Self {
        Self {
            hot: Arc::clone(&subscription.state.hot),
            registered: None,
            walk,
            subscription: Box::new(subscription),
            alarm: None,
        }
    }

    /// The right to read that this reader has.
    #[must_use]
    pub const fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// The place in the log.
    #[must_use]
    pub const fn walk(&self) -> &W {
        &self.walk
    }

    /// The tracks that are read.
    #[must_use]
    pub fn tracks(&self) -> TrackMask {
        self.walk.tracks()
    }

    pub(crate) const fn walk_mut(&mut self) -> &mut W {
        &mut self.walk
    }

    /// Chooses the tracks to read; see [`Cursor::set_tracks`].
    pub fn set_tracks(&mut self, tracks: TrackMask) {
        self.walk.set_tracks(tracks);
    }

    /// Completes when a read may yield something, or the reader was ended.
    pub fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.register(cx.waker());
        }
        // Looked at after the waker was left: whoever ends the reader from now on finds it.
        if self.hot.is_over() {
            return Poll::Ready(());
        }
        self.walk.poll_ready(cx)
    }

    #[cold]
    fn register(&mut self, waker: &Waker) {
        *self.subscription.state.task.lock() = Some(waker.clone());
        self.registered = Some(waker.clone());
    }

    /// Completes when a read may yield something, or the reader was ended. Cancel safe.
    pub async fn ready(&mut self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }

    /// Reads what is there, without waiting, and hands each thing to `each`.
    ///
    /// # Errors
    /// [`StreamError::Closed`] when the reader was ended, or is too slow.
    pub fn read(&mut self, budget: Budget, mut each: impl FnMut(Read<W::Item>)) -> Result<Progress> {
        self.check()?;
        let Self { hot, walk, subscription, .. } = self;
        let (mut items, mut bytes) = (0, 0);
        let progress = walk.read(clock::now, budget, |read| {
            match &read {
                Read::Item(item) => {
                    items += 1;
                    bytes += item.size() as u64;
                }
                Read::Skipped(skip) => subscription.report_skip(*skip),
                Read::Context(_) => {}
            }
            each(read);
        });
        hot.count_read(items, bytes, walk.lag_and_thinned());
        progress.map_err(|reason| self.fail(reason))
    }

    /// Waits until there is something, and appends everything that is there to `out`, up to the default
    /// [`Budget`]. Cancel safe: what was read is in `out`.
    ///
    /// # Errors
    /// [`StreamError::Closed`] when the reader was ended, or is too slow.
    pub async fn next_batch(&mut self, out: &mut Vec<Read<W::Item>>) -> Result<Progress> {
        poll_fn(|cx| self.poll_batch(cx, out)).await
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>, out: &mut Vec<Read<W::Item>>) -> Poll<Result<Progress>> {
        let before = out.len();
        loop {
            ready!(self.poll_ready(cx));
            let progress = self.read(Budget::default(), |read| out.push(read))?;
            if out.len() > before || matches!(progress, Progress::Ended(_)) {
                return Poll::Ready(Ok(progress));
            }
            ready!(self.poll_rest(progress, cx));
        }
    }

    /// The next thing, `None` once the stream has ended. Cancel safe.
    ///
    /// # Errors
    /// [`StreamError::Closed`] when the reader was ended, or is too slow.
    pub async fn next(&mut self) -> Result<Option<Read<W::Item>>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Read<W::Item>>>> {
        loop {
            ready!(self.poll_ready(cx));
            self.check()?;
            match self.walk.step(clock::now).map_err(|reason| self.fail(reason))? {
                Step::Read(read) => {
                    self.count(&read);
                    return Poll::Ready(Ok(Some(read)));
                }
                Step::Rest(Progress::Ended(_)) => return Poll::Ready(Ok(None)),
                Step::Rest(progress) => ready!(self.poll_rest(progress, cx)),
            }
        }
    }

    /// Waits for the time at which a paced reader may go on.
    fn poll_rest(&mut self, progress: Progress, cx: &mut Context<'_>) -> Poll<()> {
        if let Progress::PacedUntil(at) = progress {
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
            if alarm.deadline() != at.into() {
                alarm.as_mut().reset(at.into());
            }
            ready!(alarm.as_mut().poll(cx));
        }
        Poll::Ready(())
    }

    fn check(&self) -> Result<()> {
        if self.hot.is_over() { Err(self.over()) } else { Ok(()) }
    }

    #[cold]
    fn over(&self) -> StreamError {
        StreamError::Closed(self.subscription.state.close_reason().unwrap_or(CloseReason::Shutdown))
    }

    #[cold]
    fn fail(&self, reason: CloseReason) -> StreamError {
        self.subscription.state.end(reason);
        StreamError::Closed(reason)
    }

    fn count(&self, read: &Read<W::Item>) {
        match read {
            Read::Item(item) => self.hot.count_read(1, item.size() as u64, self.walk.lag_and_thinned()),
            Read::Skipped(skip) => self.subscription.report_skip(*skip),
            Read::Context(_) => {}
        }
    }
}

impl<P: Packetizer> DerivedSubscriber<P> {
    /// Shows what is there to be read, without reading it, until `each` has seen enough and says so or there is no more.
    /// A reader that has no place yet is given one first, so that what is shown is what it reads next, as far as it keeps up.
    pub fn look_ahead(&mut self, each: impl FnMut(&P::Item) -> ControlFlow<()>) {
        self.walk.look_ahead(clock::now, each);
    }

    /// Lets `choice` choose the tracks, now and whenever the format's headers change; see
    /// [`Cursor::set_track_choice`].
    pub fn set_track_choice(&mut self, choice: TrackChoice<<P::Item as LogItem>::Context>) {
        self.walk.set_track_choice(choice);
    }
}

impl Subscriber {
    /// Feeds a sink until the stream ends, the sink fails or `shutdown` fires, and tells the sink why it was.
    ///
    /// # Errors
    /// The sink's error, or [`StreamError::Closed`] when the reader was ended, or is too slow.
    pub async fn drive_to(
        mut self,
        sink: &mut dyn FrameSink,
        shutdown: &CancellationToken,
    ) -> Result<CloseReason> {
        let mut batch = Vec::new();
        let result = loop {
            match self.drive_once(&mut batch, sink, shutdown).await {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(reason)) => break Ok(reason),
                Err(error) => break Err(error),
            }
        };
        let reason = result.as_ref().map_or_else(StreamError::reason, |reason| *reason);
        self.subscription.state.end(reason);
        sink.finish(reason).await?;
        result
    }

    async fn drive_once(
        &mut self,
        batch: &mut Vec<Read<MediaFrame>>,
        sink: &mut dyn FrameSink,
        shutdown: &CancellationToken,
    ) -> Result<ControlFlow<CloseReason>> {
        let progress = tokio::select! {
            progress = self.next_batch(batch) => progress?,
            () = shutdown.cancelled() => return Ok(ControlFlow::Break(CloseReason::Shutdown)),
        };
        if !batch.is_empty() {
            sink.write(batch).await?;
            batch.clear();
        }
        Ok(match progress {
            Progress::Ended(reason) => ControlFlow::Break(reason),
            _ => ControlFlow::Continue(()),
        })
    }
}
