//! What readers of a stream read: frames, the tracks in force, and what formats make of both.
//!
//! A stream has one feed of its own, with everything as it was published. A [rendition](crate::rendition) of it is
//! another one. Readers hold the feed they read; a rendition ends when nobody does.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use crate::derived::{Derived, DerivedLogs, Packetizer};
use crate::frame::MediaFrame;
use crate::log::{Log, LogUsage, Retention, Writer};
use crate::track::TrackSet;

/// A log of frames, and what goes with it.
pub struct Feed {
    log: Arc<Log<MediaFrame>>,
    tracks: ArcSwap<TrackSet>,
    derived: DerivedLogs,
    retention: Retention,
    dropped: CancellationToken,
}

impl core::fmt::Debug for Feed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.log.fmt(f)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.dropped.cancel();
    }
}

impl Feed {
    /// An empty feed, and the only writer of its log.
    pub(crate) fn new(retention: Retention) -> (Arc<Self>, Writer<MediaFrame>) {
        let (log, writer) = Log::new(retention);
        let feed = Self {
            log,
            tracks: ArcSwap::default(),
            derived: DerivedLogs::default(),
            retention,
            dropped: CancellationToken::new(),
        };
        (Arc::new(feed), writer)
    }

    /// Its frames.
    #[must_use]
    pub const fn log(&self) -> &Arc<Log<MediaFrame>> {
        &self.log
    }

    /// The tracks in force; empty before the first frame.
    #[must_use]
    pub fn tracks(&self) -> Arc<TrackSet> {
        self.tracks.load_full()
    }

    pub(crate) fn set_tracks(&self, tracks: Arc<TrackSet>) {
        self.tracks.store(tracks);
    }

    /// Fires when nobody holds the feed any more.
    pub(crate) const fn dropped(&self) -> &CancellationToken {
        &self.dropped
    }

    /// The derived log of a format, shared by all its readers and made for the first. `variant` keeps apart formats
    /// that one packetiser type makes with different parameters.
    pub fn derived<P: Packetizer>(&self, variant: u64, make: impl FnOnce() -> P) -> Arc<Derived<P>> {
        self.derived.get_or_make(variant, || Derived::new(&self.log, make(), self.retention))
    }

    /// What each format that somebody reads holds.
    pub(crate) fn formats(&self) -> Vec<LogUsage> {
        self.derived.usage()
    }
}
