//! What a format makes of a stream's frames: built once, shared by every reader of that format.
//!
//! ```text
//!   frames ──► Packetizer ──► packets          one derived log per format and stream
//!    log        (a pump)        log            alive while somebody holds a reader of it
//!                 ▲              ▲ ▲ ▲
//!                 └── pumped by whichever reader looks first
//! ```
//!
//! No task runs for a derived log. A publisher's notification rings a bell that wakes the format's readers; the first
//! of them that looks turns the new frames into packets, the others find them there. A stream nobody reads in a
//! format costs that format nothing.

use core::ops::ControlFlow;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::close::CloseReason;
use crate::frame::{FrameFlags, MediaFrame};
use crate::log::{
    Budget, Cursor, LagPolicy, Log, LogItem, LogUsage, Progress, Read, Retention, Skip, StartMode, Step,
    TrackChoice, Writer,
};
use crate::time::Timestamp;
use crate::track::{TrackId, TrackMask, TrackSet};

/// Bytes that go on the wire for one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The track of the frame.
    pub track: TrackId,
    /// Its decode time.
    pub dts: Timestamp,
    /// Its flags.
    pub flags: FrameFlags,
    /// The serialised bytes.
    pub bytes: Bytes,
}

/// What a reader of a format gets before the first packet, and again when it changes: sequence headers,
/// metadata, an init segment.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    /// The tracks they describe.
    pub tracks: Arc<TrackSet>,
    /// Serialised headers in order; those with a track are for readers of that track only.
    pub parts: Vec<(Option<TrackId>, Bytes)>,
}

/// An item that goes on the wire as it is: what egress workers write.
///
/// A format whose bytes are a frame's payload behind a few of its own shares the payload with the stream's log.
pub trait Wire: LogItem<Context = Headers> {
    /// What comes before the [`body`](Self::body).
    fn head(&self) -> &[u8] {
        &[]
    }

    /// The serialised bytes, or what is left of them behind the [`head`](Self::head).
    fn body(&self) -> &Bytes;

    /// Bytes of both.
    fn wire_len(&self) -> usize {
        self.head().len().saturating_add(self.body().len())
    }
}

impl Wire for Packet {
    fn body(&self) -> &Bytes {
        &self.bytes
    }
}

impl LogItem for Packet {
    type Context = Headers;
    fn track(&self) -> TrackId {
        self.track
    }
    fn dts(&self) -> Timestamp {
        self.dts
    }
    fn flags(&self) -> FrameFlags {
        self.flags
    }
    fn size(&self) -> usize {
        self.bytes.len().saturating_add(size_of::<Self>() + ENTRY_COST)
    }
}

/// What an item costs in a log beyond its own fields: counts, number, offset, context.
pub const ENTRY_COST: usize = 56;

impl LogItem for MediaFrame {
    type Context = TrackSet;
    fn track(&self) -> TrackId {
        self.track
    }
    fn dts(&self) -> Timestamp {
        self.dts
    }
    fn flags(&self) -> FrameFlags {
        self.flags
    }
    fn size(&self) -> usize {
        self.payload.len().saturating_add(size_of::<Self>() + ENTRY_COST)
    }
}

/// Turns frames into a format's packets, in order. Pure: no I/O, no clock.
pub trait Packetizer: Send + 'static {
    /// What it makes; mostly [`Packet`].
    type Item: LogItem;

    /// The headers for `tracks`. Called before the first frame, and again whenever the set changes.
    fn headers(&mut self, tracks: &Arc<TrackSet>) -> Arc<<Self::Item as LogItem>::Context>;

    /// A reader may begin with the frame that comes next; formats without headers repeat what it needs.
    fn join(&mut self) {}

    /// Appends what goes on the wire for `frame`; nothing at all is fine.
    fn packetize(&mut self, frame: &MediaFrame, out: &mut Vec<Self::Item>);

    /// Frames were missed because nobody read for a while; every track goes on with a keyframe.
    fn skipped(&mut self, skip: &Skip) {
        let _ = skip;
    }
}

/// Wakes the readers of a derived log when the source has something new.
struct Bell<T: LogItem>(Arc<Log<T>>);

impl<T: LogItem> Wake for Bell<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify();
    }
}

struct Pump<P: Packetizer> {
    source: Cursor<MediaFrame>,
    packetizer: P,
    writer: Writer<P::Item>,
    headers: Option<Arc<<P::Item as LogItem>::Context>>,
    made: Vec<P::Item>,
    bell: Waker,
}

impl<P: Packetizer> Pump<P> {
    /// Packetises everything there is, and leaves the bell with the source.
    fn run(&mut self, now: impl Fn() -> Instant) {
        while self.source.poll_ready(&Context::from_waker(&self.bell)).is_ready() {
            let Self { source, packetizer, writer, headers, made, .. } = self;
            let progress = source.read_at(&now, Budget::UNLIMITED, |read| match read {
                Read::Context(tracks) => *headers = Some(packetizer.headers(&tracks)),
                Read::Skipped(skip) => packetizer.skipped(&skip),
                Read::Item(frame) => {
                    let mut join = frame.is_join();
                    if join {
                        packetizer.join();
                    }
                    packetizer.packetize(&frame, made);
                    let Some(headers) = headers else { return made.clear() };
                    writer.append_all(
                        made.drain(..).map(|item| (item, Arc::clone(headers), core::mem::take(&mut join))),
                    );
                }
            });
            match progress {
                Ok(Progress::Ended(reason)) | Err(reason) => return writer.close(reason),
                Ok(_) => {}
            }
        }
    }
}

/// A format's packets of one stream. Held by its readers; gone with the last of them.
pub struct Derived<P: Packetizer> {
    log: Arc<Log<P::Item>>,
    pump: Mutex<Pump<P>>,
}

impl<P: Packetizer> core::fmt::Debug for Derived<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Derived").field("log", &self.log).finish_non_exhaustive()
    }
}

impl<P: Packetizer> Derived<P> {
    /// A derived log of `source` that begins at its newest keyframe.
    #[must_use]
    pub fn new(source: &Arc<Log<MediaFrame>>, packetizer: P, retention: Retention) -> Arc<Self> {
        let (log, writer) = Log::new(retention);
        let bell = Waker::from(Arc::new(Bell(Arc::clone(&log))));
        let source = Cursor::new(Arc::clone(source), StartMode::Keyframe, LagPolicy::PATIENT);
        let pump = Pump { source, packetizer, writer, headers: None, made: Vec::new(), bell };
        Arc::new(Self { log, pump: Mutex::new(pump) })
    }

    /// The packets.
    #[must_use]
    pub const fn log(&self) -> &Arc<Log<P::Item>> {
        &self.log
    }

    fn pump(&self, now: impl Fn() -> Instant) {
        self.pump.lock().run(now);
    }
}

/// A reader of a derived log.
pub struct DerivedCursor<P: Packetizer> {
    derived: Arc<Derived<P>>,
    cursor: Cursor<P::Item>,
}

impl<P: Packetizer> core::fmt::Debug for DerivedCursor<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.cursor.fmt(f)
    }
}

impl<P: Packetizer> DerivedCursor<P> {
    /// A reader that begins as `start` says.
    #[must_use]
    pub fn new(derived: Arc<Derived<P>>, start: StartMode, lag: LagPolicy) -> Self {
        let cursor = Cursor::new(Arc::clone(&derived.log), start, lag);
        Self { derived, cursor }
    }

    /// Chooses the tracks to read; see [`Cursor::set_tracks`].
    pub fn set_tracks(&mut self, tracks: TrackMask) {
        self.cursor.set_tracks(tracks);
    }

    /// Lets `choice` choose the tracks; see [`Cursor::set_track_choice`].
    pub fn set_track_choice(&mut self, choice: TrackChoice<<P::Item as LogItem>::Context>) {
        self.cursor.set_track_choice(choice);
    }

    /// The place in the packets' log.
    #[must_use]
    pub const fn cursor(&self) -> &Cursor<P::Item> {
        &self.cursor
    }

    pub(crate) const fn cursor_mut(&mut self) -> &mut Cursor<P::Item> {
        &mut self.cursor
    }

    /// The format's packets, to hand further readers to.
    #[must_use]
    pub const fn derived(&self) -> &Arc<Derived<P>> {
        &self.derived
    }

    /// Completes when there is something to read or the stream has ended; see [`Cursor::poll_ready`].
    pub fn poll_ready(&mut self, now: Instant, cx: &Context<'_>) -> Poll<()> {
        self.poll_ready_at(|| now, cx)
    }

    /// The same with a clock that is looked at when time matters only.
    pub(crate) fn poll_ready_at(&mut self, now: impl Fn() -> Instant, cx: &Context<'_>) -> Poll<()> {
        self.derived.pump(&now);
        if self.cursor.poll_ready(cx).is_ready() {
            return Poll::Ready(());
        }
        // A frame may have come between the pump and the registration, with nobody there to hear the bell.
        self.derived.pump(now);
        self.cursor.poll_ready(cx)
    }

    /// Reads what is there; see [`Cursor::read`].
    ///
    /// # Errors
    /// [`CloseReason::SlowConsumer`] when the reader was moved more often than its policy allows.
    pub fn read(
        &mut self,
        now: Instant,
        budget: Budget,
        each: impl FnMut(Read<P::Item>),
    ) -> Result<Progress, CloseReason> {
        self.read_at(|| now, budget, each)
    }

    /// The same with a clock that is looked at when time matters only.
    pub(crate) fn read_at(
        &mut self,
        now: impl Fn() -> Instant,
        budget: Budget,
        each: impl FnMut(Read<P::Item>),
    ) -> Result<Progress, CloseReason> {
        self.derived.pump(&now);
        self.cursor.read_at(now, budget, each)
    }

    /// Shows what is there; see [`Cursor::look_ahead`].
    pub(crate) fn look_ahead(
        &mut self,
        now: impl Fn() -> Instant,
        each: impl FnMut(&P::Item) -> ControlFlow<()>,
    ) {
        self.derived.pump(now);
        self.cursor.look_ahead(each);
    }

    /// Reads one thing; see [`Cursor::step`].
    pub(crate) fn step(&mut self, now: impl Fn() -> Instant) -> Result<Step<P::Item>, CloseReason> {
        self.derived.pump(&now);
        self.cursor.step(now, true)
    }
}

/// A derived log whose format does not matter.
trait AnyDerived: Send + Sync {
    fn usage(&self) -> LogUsage;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<P: Packetizer> AnyDerived for Derived<P> {
    fn usage(&self) -> LogUsage {
        self.log.usage()
    }
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// The derived logs of one stream that somebody reads, by packetiser and variant.
#[derive(Default)]
pub(crate) struct DerivedLogs {
    logs: Mutex<HashMap<(TypeId, u64), Weak<dyn AnyDerived>>>,
}

impl DerivedLogs {
    /// The derived log of that packetiser and variant, made if nobody reads it yet.
    pub(crate) fn get_or_make<P: Packetizer>(
        &self,
        variant: u64,
        make: impl FnOnce() -> Arc<Derived<P>>,
    ) -> Arc<Derived<P>> {
        let mut logs = self.logs.lock();
        logs.retain(|_, log| log.strong_count() > 0);
        let key = (TypeId::of::<P>(), variant);
        let found = logs.get(&key).and_then(Weak::upgrade).map(|log| log.into_any().downcast::<Derived<P>>());
        if let Some(Ok(found)) = found {
            return found;
        }
        let made = make();
        let shared: Arc<dyn AnyDerived> = made.clone();
        logs.insert(key, Arc::downgrade(&shared));
        made
    }

    /// What each of them holds.
    pub(crate) fn usage(&self) -> Vec<LogUsage> {
        let logs: Vec<_> = self.logs.lock().values().filter_map(Weak::upgrade).collect();
        logs.iter().map(|log| log.usage()).collect()
    }
}
