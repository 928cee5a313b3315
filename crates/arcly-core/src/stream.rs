//! One live stream: its log, its publishers and its readers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::app::AppSpec;
use crate::clock;
use crate::close::CloseReason;
use crate::contract::observe::{EngineEvent, SessionTotals};
use crate::derived::{Derived, Packetizer};
use crate::events::Events;
use crate::feed::Feed;
use crate::frame::MediaFrame;
use crate::ingest::{Ingest, Published};
use crate::key::StreamKey;
use crate::level::{AudioLevel, TrackLevel};
use crate::log::{Log, LogUsage};
use crate::publisher::PublisherState;
use crate::qos::TrackQos;
use crate::rendition::{AudioChoice, RenditionInfo, Renditions, Workshop};
use crate::subscriber::ReaderState;
use crate::track::{TrackId, TrackMask, TrackSet};
use crate::via::{Hop, Via};

/// Shortest time between two requests to a publisher for a keyframe of one track.
pub(crate) const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);
/// How long a stream without publisher and readers is kept.
const IDLE: Duration = Duration::from_secs(5);

/// What a stream is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamState {
    /// Readers wait for a publisher that was never there.
    Waiting,
    /// Somebody publishes.
    Live,
    /// The publisher left; the stream waits for it to come back.
    Grace,
    /// Over. A new publisher starts a new stream of the same name.
    Ended(CloseReason),
}

impl StreamState {
    /// The name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Live => "live",
            Self::Grace => "grace",
            Self::Ended(_) => "ended",
        }
    }
}

/// A picture of a stream, for the API and metrics.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamInfo {
    /// Its name.
    pub key: StreamKey,
    /// What it is doing.
    pub state: StreamState,
    /// Since when it exists.
    pub since: SystemTime,
    /// Who publishes, or stands by to.
    pub publishers: Vec<Arc<PublisherState>>,
    /// The tracks in force.
    pub tracks: Arc<TrackSet>,
    /// Measured quality of each track that has frames.
    pub qos: Vec<(TrackId, TrackQos)>,
    /// Readers at the moment.
    pub readers: usize,
    /// Readers that wait for its publisher.
    pub waiting: usize,
    /// Payload bytes and frames logged.
    pub bytes_in: u64,
    /// Frames logged.
    pub frames_in: u64,
    /// Bytes handed to readers.
    pub bytes_out: u64,
    /// What its log holds.
    pub log: LogUsage,
    /// Formats that somebody reads it in.
    pub formats: usize,
    /// Bytes that those formats hold.
    pub format_bytes: u64,
    /// The stream with other sound, for readers that need it.
    pub renditions: Vec<RenditionInfo>,
}

/// One live stream. Made by the engine when somebody publishes it, or waits for it.
pub struct Stream {
    key: StreamKey,
    hop: Hop,
    app: Arc<AppSpec>,
    since: SystemTime,
    feed: Arc<Feed>,
    renditions: Renditions,
    ingest: Mutex<Ingest>,
    state: watch::Sender<StreamState>,
    readers: Mutex<HashMap<u64, Arc<ReaderState>>>,
    /// Readers that want each frame as it comes.
    awaiting: AtomicUsize,
    /// Tracks that the publisher was asked for a keyframe of, and when; each is in one at most of those that count.
    keyframes_asked: Mutex<Vec<(TrackMask, Instant)>>,
    bytes_in: AtomicU64,
    frames_in: AtomicU64,
    /// Bytes handed to readers that have left; the others know what they have had.
    bytes_out: AtomicU64,
    events: Arc<Events>,
}

impl core::fmt::Debug for Stream {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stream").field("key", &self.key).field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Stream {
    pub(crate) fn new(
        key: StreamKey,
        hop: Hop,
        app: Arc<AppSpec>,
        events: Arc<Events>,
        workshop: Arc<Workshop>,
    ) -> Arc<Self> {
        let (feed, writer) = Feed::new(app.retention);
        Arc::new(Self {
            key,
            hop,
            since: SystemTime::now(),
            ingest: Mutex::new(Ingest::new(Arc::clone(&feed), writer, hop, clock::now())),
            feed,
            renditions: Renditions::new(workshop),
            state: watch::Sender::new(StreamState::Waiting),
            readers: Mutex::default(),
            awaiting: AtomicUsize::new(0),
            keyframes_asked: Mutex::default(),
            bytes_in: AtomicU64::new(0),
            frames_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            app,
            events,
        })
    }

    /// Its name.
    #[must_use]
    pub const fn key(&self) -> &StreamKey {
        &self.key
    }

    /// What tells it from every other stream, here and elsewhere.
    #[must_use]
    pub const fn hop(&self) -> Hop {
        self.hop
    }

    /// Where it has come through, itself last.
    #[must_use]
    pub fn via(&self) -> Via {
        self.ingest.lock().via()
    }

    /// The policy it is under.
    #[must_use]
    pub const fn app(&self) -> &Arc<AppSpec> {
        &self.app
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> StreamState {
        *self.state.borrow()
    }

    /// Its frames.
    #[must_use]
    pub fn log(&self) -> &Arc<Log<MediaFrame>> {
        self.feed.log()
    }

    /// The tracks in force; empty before the first frame.
    #[must_use]
    pub fn tracks(&self) -> Arc<TrackSet> {
        self.feed.tracks()
    }

    /// Its frames, tracks and formats, as they were published.
    #[must_use]
    pub const fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// What a reader reads that can take such sound: a [rendition](crate::rendition) where it has to be made, and can be.
    /// Making one takes a tokio runtime.
    #[must_use]
    pub fn feed_for(&self, audio: AudioChoice) -> Arc<Feed> {
        let made = self.renditions.feed_for(&self.feed, audio, self.app.retention);
        made.unwrap_or_else(|| Arc::clone(&self.feed))
    }

    /// The tracks of what [`feed_for`](Self::feed_for) would return, without making it: none as long as they are not known.
    pub(crate) fn tracks_for(&self, audio: AudioChoice) -> Arc<TrackSet> {
        self.renditions.tracks_for(&self.feed, audio).unwrap_or_else(|| self.tracks())
    }

    /// Readers at the moment.
    #[must_use]
    pub fn reader_count(&self) -> usize {
        self.readers.lock().len()
    }

    /// Its readers.
    #[must_use]
    pub fn readers(&self) -> Vec<Arc<ReaderState>> {
        self.readers.lock().values().cloned().collect()
    }

    /// True while somebody waits for the stream, or a reader of it is there that `counts`.
    pub fn is_wanted(&self, counts: impl Fn(&ReaderState) -> bool) -> bool {
        self.state.receiver_count() > 0 || self.readers.lock().values().any(|reader| counts(reader))
    }

    /// True when somebody wants each frame as it comes. Otherwise nobody reads it but egress workers at their
    /// [ticks](crate::egress::Tick), if anybody does, and what a publisher hands over between two of those may come together.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.awaiting.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn await_less(&self) {
        self.awaiting.fetch_sub(1, Ordering::Relaxed);
    }

    fn readers_and_bytes_out(&self) -> (usize, u64) {
        let readers = self.readers.lock();
        let left = self.bytes_out.load(Ordering::Relaxed);
        (readers.len(), readers.values().fold(left, |sum, reader| sum.wrapping_add(reader.bytes())))
    }

    /// A picture of it.
    #[must_use]
    pub fn info(&self) -> StreamInfo {
        let (publishers, qos) = {
            let ingest = self.ingest.lock();
            (ingest.publishers().cloned().collect(), ingest.qos(clock::now()))
        };
        let mut formats = self.feed.formats();
        formats.extend(self.renditions.formats());
        let (readers, bytes_out) = self.readers_and_bytes_out();
        StreamInfo {
            key: self.key.clone(),
            state: self.state(),
            since: self.since,
            publishers,
            tracks: self.tracks(),
            qos,
            readers,
            waiting: self.state.receiver_count(),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            frames_in: self.frames_in.load(Ordering::Relaxed),
            bytes_out,
            log: self.log().usage(),
            formats: formats.len(),
            format_bytes: formats.iter().map(|usage| usage.bytes).sum(),
            renditions: self.renditions.infos(),
        }
    }

    /// The derived log of a format, shared by all its readers and made for the first. `variant` keeps apart formats
    /// that one packetiser type makes with different parameters.
    pub fn derived<P: Packetizer>(
        self: &Arc<Self>,
        variant: u64,
        make: impl FnOnce() -> P,
    ) -> Arc<Derived<P>> {
        self.feed.derived(variant, make)
    }

    /// How loud its tracks are, as far as the publisher says so (RFC 6464: over WebRTC).
    #[must_use]
    pub fn levels(&self) -> Vec<(TrackId, TrackLevel)> {
        self.ingest.lock().levels(clock::now())
    }

    pub(crate) fn handle_level(&self, id: u64, track: TrackId, level: AudioLevel) {
        self.ingest.lock().handle_level(clock::now(), id, track, level);
    }

    /// Asks the publisher for a keyframe of every track; see [`request_keyframe_of`](Self::request_keyframe_of).
    pub fn request_keyframe(&self) {
        self.request_keyframe_of(TrackMask::ALL);
    }

    /// Asks the publisher for a keyframe of these tracks, of each at most once in 500 ms, whoever wants it. Where a picture comes in several
    /// layers, each of them is a track. Publishers that can only be asked for one of all are.
    pub fn request_keyframe_of(&self, tracks: TrackMask) {
        let now = clock::now();
        let mut asked = self.keyframes_asked.lock();
        asked.retain(|(_, at)| now.saturating_duration_since(*at) < KEYFRAME_INTERVAL);
        let wanted = asked.iter().fold(tracks, |wanted, (recent, _)| wanted.difference(*recent));
        if wanted.is_empty() {
            return;
        }
        asked.push((wanted, now));
        drop(asked);
        let publisher = self.ingest.lock().publisher().cloned();
        if let Some(publisher) = publisher {
            publisher.ask_for_keyframe(wanted);
        }
    }

    /// Takes the right to publish from everybody who has it. The stream goes into its grace period.
    pub fn disconnect_publishers(&self, reason: CloseReason) {
        let publishers: Vec<_> = self.ingest.lock().publishers().cloned().collect();
        publishers.iter().for_each(|publisher| publisher.revoke(reason));
    }

    pub(crate) fn admit(&self, id: u64, state: Arc<PublisherState>) -> Result<(), CloseReason> {
        let mut ingest = self.ingest.lock();
        ingest.admit(&self.app, clock::now(), id, state)?;
        // Sent under the lock, so that the states of a publisher that leaves at once come in order.
        self.state.send_replace(StreamState::Live);
        Ok(())
    }

    pub(crate) fn release(&self, id: u64, publisher: &PublisherState, reason: CloseReason) {
        let mut ingest = self.ingest.lock();
        ingest.release(id, clock::now());
        if ingest.is_vacant() {
            self.state.send_if_modified(|state| {
                let live = *state == StreamState::Live;
                if live {
                    *state = StreamState::Grace;
                }
                live
            });
        }
        drop(ingest);
        self.events.emit(EngineEvent::StreamUnpublished {
            key: self.key.clone(),
            client: publisher.client.clone(),
            reason,
            totals: SessionTotals {
                since: publisher.since,
                items: publisher.frames(),
                bytes: publisher.bytes(),
            },
        });
    }

    pub(crate) fn set_tracks(&self, id: u64, tracks: TrackSet) -> Result<(), CloseReason> {
        self.ingest.lock().set_tracks(id, tracks)
    }

    pub(crate) fn publish(&self, id: u64, frame: MediaFrame) -> Result<Published, CloseReason> {
        let bytes = frame.payload.len() as u64;
        let (published, tracks) = self.ingest.lock().publish(&self.app, clock::now(), id, frame)?;
        if published == Published::Logged {
            self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
            self.frames_in.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(tracks) = tracks {
            self.events.emit(EngineEvent::TracksChanged { key: self.key.clone(), tracks });
        }
        Ok(published)
    }

    /// Whether one more may read.
    pub(crate) fn has_room(&self) -> Result<(), CloseReason> {
        self.has_room_beside(self.reader_count())
    }

    fn has_room_beside(&self, readers: usize) -> Result<(), CloseReason> {
        if readers < self.app.max_readers { Ok(()) } else { Err(CloseReason::Limit("subscribers")) }
    }

    pub(crate) fn add_reader(&self, state: Arc<ReaderState>) -> Result<(), CloseReason> {
        let mut readers = self.readers.lock();
        self.has_room_beside(readers.len())?;
        readers.insert(state.id, state);
        self.awaiting.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn remove_reader(&self, state: &ReaderState) {
        let mut readers = self.readers.lock();
        let removed = readers.remove(&state.id).is_some();
        if removed {
            self.bytes_out.fetch_add(state.bytes(), Ordering::Relaxed);
            if !state.is_patient() {
                self.await_less();
            }
        }
        drop(readers);
        if removed {
            let stats = state.stats();
            self.events.emit(EngineEvent::ReaderLeft {
                key: self.key.clone(),
                reader: state.id,
                client: state.client.clone(),
                reason: state.close_reason().unwrap_or(CloseReason::PeerClosed),
                totals: SessionTotals { since: state.since, items: stats.items, bytes: stats.bytes },
            });
        }
    }

    pub(crate) const fn events(&self) -> &Arc<Events> {
        &self.events
    }

    pub(crate) fn watch(&self) -> watch::Receiver<StreamState> {
        self.state.subscribe()
    }

    /// True when a reader of a stream in this state has something to read, or soon may have.
    pub(crate) fn is_there(&self) -> bool {
        matches!(self.state(), StreamState::Live | StreamState::Grace)
    }

    pub(crate) fn end(&self, reason: CloseReason) {
        let ended = {
            let mut ingest = self.ingest.lock();
            if self.log().closed().is_some() {
                return;
            }
            ingest.close(reason, clock::now());
            self.state.send_replace(StreamState::Ended(reason))
        };
        if ended != StreamState::Waiting {
            self.events.emit(EngineEvent::StreamEnded { key: self.key.clone(), reason });
        }
    }

    /// Ends the stream if its time has come, else says when to look again. `None` when nothing is due.
    pub(crate) fn maintain(&self, now: Instant, wall: SystemTime) -> Upkeep {
        self.expire(wall);
        self.renditions.maintain(now);
        let mut ingest = self.ingest.lock();
        if self.log().closed().is_some() {
            return Upkeep::Remove;
        }
        if !ingest.is_vacant() {
            return Upkeep::Keep;
        }
        let readers = self.reader_count() + self.state.receiver_count();
        let allowed = match (readers, ingest.has_begun()) {
            (0, _) => self.app.grace.min(IDLE),
            (_, true) => self.app.grace,
            // Nobody has published yet; those who wait have their own deadlines.
            (_, false) => return Upkeep::Keep,
        };
        if now.saturating_duration_since(ingest.vacant_since()) < allowed {
            return Upkeep::Keep;
        }
        let reason = CloseReason::PeerClosed;
        ingest.close(reason, now);
        let before = self.state.send_replace(StreamState::Ended(reason));
        drop(ingest);
        if before != StreamState::Waiting {
            self.events.emit(EngineEvent::StreamEnded { key: self.key.clone(), reason });
        }
        Upkeep::Remove
    }

    /// Ends whoever's permission has run out.
    fn expire(&self, wall: SystemTime) {
        let expired = |at: Option<SystemTime>| at.is_some_and(|at| at <= wall);
        let publishers: Vec<_> =
            self.ingest.lock().publishers().filter(|p| expired(p.expires_at)).cloned().collect();
        publishers.iter().for_each(|publisher| publisher.revoke(CloseReason::Unauthorized));
        let readers: Vec<_> =
            self.readers.lock().values().filter(|r| expired(r.expires_at)).cloned().collect();
        readers.iter().for_each(|reader| reader.end(CloseReason::Unauthorized));
    }
}

/// What the engine does with a stream after looking at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upkeep {
    Keep,
    Remove,
}
