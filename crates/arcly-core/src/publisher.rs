//! The writing end of a stream.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::close::CloseReason;
use crate::error::{Result, StreamError};
use crate::frame::MediaFrame;
use crate::ingest::Published;
use crate::key::StreamKey;
use crate::level::AudioLevel;
use crate::media::MediaEvent;
use crate::registry::ClientInfo;
use crate::stream::{KEYFRAME_INTERVAL, Stream};
use crate::track::{TrackId, TrackMask, TrackSet};
use crate::via::Via;

/// What is known about a publisher, for the API and for whoever has to end it.
#[derive(Debug)]
pub struct PublisherState {
    /// Who publishes.
    pub client: ClientInfo,
    /// Since when.
    pub since: SystemTime,
    /// Until when it may.
    pub expires_at: Option<SystemTime>,
    /// Where its stream has come through before, as it said when it asked.
    pub via: Via,
    pub(crate) frames: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) dropped: AtomicU64,
    revoked: OnceLock<CloseReason>,
    ended: CancellationToken,
    keyframe: Notify,
    /// The tracks that a keyframe is wanted of.
    wanted: AtomicU64,
    /// When one of all tracks was wanted last, of a publisher that can be asked for no other.
    all_asked: Mutex<Option<Instant>>,
}

impl PublisherState {
    pub(crate) fn new(client: ClientInfo, expires_at: Option<SystemTime>, via: Via) -> Self {
        Self {
            client,
            via,
            since: SystemTime::now(),
            expires_at,
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            revoked: OnceLock::new(),
            ended: CancellationToken::new(),
            keyframe: Notify::new(),
            wanted: AtomicU64::new(0),
            all_asked: Mutex::new(None),
        }
    }

    /// Frames that it has sent.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Payload bytes that it has sent.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Frames that did not go into the log: before the first keyframe, of an unknown track, or on standby.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Takes the right to publish away; the protocol session ends with that reason.
    pub fn revoke(&self, reason: CloseReason) {
        let _ = self.revoked.set(reason);
        self.ended.cancel();
    }

    pub(crate) fn ask_for_keyframe(&self, tracks: TrackMask) {
        self.wanted.fetch_or(tracks.bits(), Ordering::AcqRel);
        self.keyframe.notify_one();
    }
}

/// The right to publish a stream. Dropping it leaves the stream to its grace period.
///
/// Publishing never waits: every method but [`revoked`](Self::revoked) and
/// [`keyframe_requested`](Self::keyframe_requested) (and the one that says of which tracks) returns at once, whatever the readers do.
#[derive(Debug)]
pub struct Publisher {
    stream: Arc<Stream>,
    id: u64,
    state: Arc<PublisherState>,
}

impl Publisher {
    pub(crate) const fn new(stream: Arc<Stream>, id: u64, state: Arc<PublisherState>) -> Self {
        Self { stream, id, state }
    }

    /// The stream's name.
    #[must_use]
    pub fn key(&self) -> &StreamKey {
        self.stream.key()
    }

    /// The stream.
    #[must_use]
    pub const fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// What is known about this publisher.
    #[must_use]
    pub const fn state(&self) -> &Arc<PublisherState> {
        &self.state
    }

    /// Announces the tracks, or a change of them. They come into force with the next frame.
    ///
    /// # Errors
    /// [`StreamError::Closed`] when the right to publish was taken away, or the metadata says that the stream has come
    /// through here before.
    pub fn set_tracks(&mut self, tracks: TrackSet) -> Result<()> {
        self.stream.set_tracks(self.id, tracks).map_err(|reason| self.closed_by(reason))
    }

    /// Publishes a frame. Its timestamps may have any origin, jump and run backwards; the stream's own never do.
    ///
    /// # Errors
    /// [`StreamError::Closed`] when the right to publish was taken away, or the frame is larger than
    /// [`MAX_ACCESS_UNIT`](crate::ingest::MAX_ACCESS_UNIT).
    pub fn publish(&mut self, frame: MediaFrame) -> Result<Published> {
        self.state.frames.fetch_add(1, Ordering::Relaxed);
        self.state.bytes.fetch_add(frame.payload.len() as u64, Ordering::Relaxed);
        let published = self.stream.publish(self.id, frame).map_err(|reason| self.closed_by(reason))?;
        if published != Published::Logged {
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(published)
    }

    /// Takes what a demuxer puts out.
    ///
    /// # Errors
    /// See [`publish`](Self::publish).
    pub fn handle(&mut self, event: MediaEvent) -> Result<()> {
        match event {
            MediaEvent::Tracks(tracks) => self.set_tracks(tracks),
            MediaEvent::Frame(frame) => self.publish(frame).map(drop),
        }
    }

    /// Says how loud a track is now. Of a publisher that stands by, and of tracks that are no sound, it counts for nothing.
    pub fn handle_level(&mut self, track: TrackId, level: AudioLevel) {
        self.stream.handle_level(self.id, track, level);
    }

    fn closed_by(&self, reason: CloseReason) -> StreamError {
        StreamError::Closed(self.state.revoked.get().copied().unwrap_or(reason))
    }

    /// Why the right to publish was taken away, if it was.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.state.revoked.get().copied()
    }

    /// Completes when the right to publish is taken away. Cancel safe.
    pub async fn revoked(&self) -> CloseReason {
        self.state.ended.cancelled().await;
        self.close_reason().unwrap_or(CloseReason::Shutdown)
    }

    /// Completes when a reader needs a keyframe, of whatever track: for publishers that can only be asked for one of all. At most twice a
    /// second, whatever tracks are asked for, as each time it is all of them. Cancel safe.
    pub async fn keyframe_requested(&self) {
        loop {
            self.keyframe_requested_of().await;
            let now = clock::now();
            let mut asked = self.state.all_asked.lock();
            // What was asked for a moment ago comes for this one, too.
            if asked.is_none_or(|at| now.saturating_duration_since(at) >= KEYFRAME_INTERVAL) {
                *asked = Some(now);
                return;
            }
        }
    }

    /// Completes when a reader needs a keyframe, and says of which tracks: of each at most twice a second. There may be more in it than
    /// the publisher has. Cancel safe.
    pub async fn keyframe_requested_of(&self) -> TrackMask {
        loop {
            self.state.keyframe.notified().await;
            let wanted = TrackMask::from_bits(self.state.wanted.swap(0, Ordering::AcqRel));
            // What was asked for behind the last look may have come with it.
            if !wanted.is_empty() {
                return wanted;
            }
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let reason = self.close_reason().unwrap_or(CloseReason::PeerClosed);
        self.stream.release(self.id, &self.state, reason);
    }
}
