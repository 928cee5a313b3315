//! What is pushed: a stream's packets, the same that viewers get.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use arcly_core::log::{Budget, LogRef, Progress, Read, StartMode};
use arcly_core::track::TrackMask;
use arcly_core::{CloseReason, DerivedSubscriber, Result, StreamError, Subscription, TrackSet, clock};

use crate::media::{Packetizer, RtpFrame};
use crate::session::{WhepSession, Wish};

/// Frames that are read before others have their turn.
const TURN: usize = 64;
/// How fast the current GOP is sent, as datagrams should not come in a burst, in percent of real time.
const SPEED: u32 = 400;

/// What comes next of a stream.
pub(super) enum Next {
    Frame(LogRef<RtpFrame>),
    /// From here on these.
    Tracks(Arc<TrackSet>),
    Ended(CloseReason),
}

/// A stream that is read for a server.
pub(super) struct Source {
    reader: DerivedSubscriber<Packetizer>,
    /// What is offered.
    wish: Option<Wish>,
    /// When a paced reader may go on.
    paced_until: Option<Instant>,
    /// Read, and not taken yet.
    batch: VecDeque<Next>,
}

impl Source {
    /// Reads from where the subscription says; where that is the newest keyframe at once, at a pace.
    pub(super) fn new(mut subscription: Subscription) -> Self {
        if subscription.start() == StartMode::Keyframe {
            subscription.set_start(StartMode::KeyframePaced { speed_percent: SPEED });
        }
        let key = subscription.stream().key().clone();
        let reader = subscription.into_derived(0, || Packetizer::new(key));
        Self { reader, wish: None, paced_until: None, batch: VecDeque::new() }
    }

    /// What is to be offered, once the tracks are known.
    pub(super) async fn wish(&mut self) -> Result<Wish> {
        let tracks = self.tracks().await?;
        let wish = Wish::publish(&tracks).map_err(|error| StreamError::protocol(error.to_string()))?;
        self.wish = Some(wish.clone());
        Ok(wish)
    }

    async fn tracks(&mut self) -> Result<Arc<TrackSet>> {
        loop {
            let subscription = self.reader.subscription();
            let tracks = subscription.tracks();
            if !tracks.is_empty() {
                return Ok(tracks);
            }
            let closed = subscription.log().closed().or_else(|| subscription.state().close_reason());
            if let Some(reason) = closed {
                return Err(StreamError::Closed(reason));
            }
            self.reader.ready().await;
        }
    }

    /// Sends these tracks from here on.
    ///
    /// # Errors
    /// They are not those that were offered, or the server does not take them.
    pub(super) fn choose(&mut self, session: &mut WhepSession, tracks: &TrackSet) -> Result<(), CloseReason> {
        if Wish::publish(tracks).ok() != self.wish {
            return Err(CloseReason::Unsupported);
        }
        let stream = self.reader.subscription().stream().key();
        let (mask, silent) = session.choose(tracks).map_err(|error| {
            tracing::info!(%stream, %error, "a server takes no such stream over WebRTC");
            CloseReason::Unsupported
        })?;
        if let Some(codec) = silent {
            tracing::info!(%stream, %codec, "a stream is pushed over WebRTC without its sound; publish Opus");
        }
        self.reader.set_tracks(mask);
        Ok(())
    }

    /// Somebody behind the server cannot go on without one.
    pub(super) fn request_keyframe(&self, tracks: TrackMask) {
        self.reader.subscription().stream().request_keyframe_of(tracks);
    }

    /// The next thing, where `flows`; the end alone, where not. Cancel safe.
    pub(super) async fn next(&mut self, flows: bool) -> Next {
        if !flows {
            let state = Arc::clone(self.reader.subscription().state());
            return Next::Ended(state.ended().await);
        }
        loop {
            if let Some(next) = self.batch.pop_front() {
                return next;
            }
            match self.paced_until {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => self.reader.ready().await,
            }
            self.read();
        }
    }

    fn read(&mut self) {
        let batch = &mut self.batch;
        let budget = Budget { items: TURN, ..Budget::default() };
        let progress = self.reader.read(budget, |read| match read {
            Read::Item(frame) => batch.push_back(Next::Frame(frame)),
            Read::Context(tracks) => batch.push_back(Next::Tracks(tracks)),
            Read::Skipped(_) => {}
        });
        self.paced_until = None;
        match progress {
            Ok(Progress::Ended(reason)) => batch.push_back(Next::Ended(reason)),
            Ok(Progress::PacedUntil(at)) => self.paced_until = Some(at.max(clock::now())),
            Ok(_) => {}
            Err(error) => batch.push_back(Next::Ended(error.reason())),
        }
    }
}
