//! What happens in an engine, told to observers and carried on its event bus.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast;

use crate::close::CloseReason;
use crate::key::StreamKey;
use crate::log::Skip;
use crate::registry::ClientInfo;
use crate::track::TrackSet;

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EngineEvent {
    /// Somebody was let in as a publisher. Frames follow, or not.
    StreamPublished {
        /// The stream.
        key: StreamKey,
        /// Who publishes.
        client: ClientInfo,
    },
    /// A stream's tracks came into force, first or anew.
    TracksChanged {
        /// The stream.
        key: StreamKey,
        /// The tracks.
        tracks: Arc<TrackSet>,
    },
    /// A publisher is gone: it left, or was ended. Without another one the stream waits for its grace period.
    StreamUnpublished {
        /// The stream.
        key: StreamKey,
        /// Who published.
        client: ClientInfo,
        /// Why it left.
        reason: CloseReason,
        /// What it did.
        totals: SessionTotals,
    },
    /// A stream is over.
    StreamEnded {
        /// The stream.
        key: StreamKey,
        /// Why.
        reason: CloseReason,
    },
    /// Somebody was let in as a reader.
    ReaderJoined {
        /// The stream.
        key: StreamKey,
        /// The reader's number.
        reader: u64,
        /// Who reads.
        client: ClientInfo,
    },
    /// A reader is gone.
    ReaderLeft {
        /// The stream.
        key: StreamKey,
        /// The reader's number.
        reader: u64,
        /// Who read.
        client: ClientInfo,
        /// Why it left.
        reason: CloseReason,
        /// What it had.
        totals: SessionTotals,
    },
    /// A reader was late and was moved to a keyframe.
    FramesSkipped {
        /// The stream.
        key: StreamKey,
        /// The reader's number.
        reader: u64,
        /// Who reads.
        client: ClientInfo,
        /// What it missed, and why.
        skip: Skip,
    },
    /// A file of a stream's recording was begun.
    RecordingStarted {
        /// The stream.
        key: StreamKey,
        /// The file, as the storage calls it.
        name: Arc<str>,
    },
    /// A file of a stream's recording is complete.
    RecordingFinished {
        /// The stream.
        key: StreamKey,
        /// The file, as the storage calls it.
        name: Arc<str>,
        /// From its first frame to the end of its last.
        duration: Duration,
        /// Its size.
        bytes: u64,
    },
    /// Something of a stream's recording could not be written. What was written before stays; another file is tried soon.
    RecordingFailed {
        /// The stream.
        key: StreamKey,
        /// The file, as the storage calls it, if it has a name.
        name: Option<Arc<str>>,
        /// Why: mostly `io`.
        reason: CloseReason,
        /// The storage's words.
        why: Arc<str>,
    },
    /// A protocol session ended: exactly one for each connection that was accepted.
    SessionClosed {
        /// The protocol's short name.
        protocol: &'static str,
        /// The peer.
        remote: Option<SocketAddr>,
        /// Why.
        reason: CloseReason,
    },
}

/// What went through a session that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTotals {
    /// Since when it was there.
    pub since: SystemTime,
    /// Frames published, or items read.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Somebody who is told what happens, at once and in place: the call is made by the task that it happens in, so that
/// an observer must return quickly and must not call back into the engine.
pub trait Observer: Send + Sync {
    /// Something happened. The default does nothing.
    fn on_event(&self, event: &EngineEvent) {
        let _ = event;
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}

/// Events kept for a receiver that is busy.
pub const EVENT_BACKLOG: usize = 1_024;

/// Carries events to any number of tasks. Sending never waits: a receiver that is more than [`EVENT_BACKLOG`] behind
/// loses the oldest events, and is told how many.
#[derive(Clone, Debug)]
pub struct EventBus(broadcast::Sender<EngineEvent>);

impl Default for EventBus {
    fn default() -> Self {
        Self(broadcast::Sender::new(EVENT_BACKLOG))
    }
}

impl EventBus {
    /// Hands an event to everybody who has subscribed.
    pub fn send(&self, event: EngineEvent) {
        // Nobody listening is the normal case.
        let _ = self.0.send(event);
    }

    /// A receiver of everything sent from now on.
    #[must_use]
    pub fn subscribe(&self) -> EventReceiver {
        EventReceiver(self.0.subscribe())
    }
}

/// What a receiver gets.
#[derive(Clone, Debug)]
pub enum EventItem {
    /// An event.
    Event(EngineEvent),
    /// So many events were lost because the receiver was too slow.
    Lost(u64),
}

/// One task's end of the event bus.
#[derive(Debug)]
pub struct EventReceiver(broadcast::Receiver<EngineEvent>);

impl EventReceiver {
    /// The next event, `None` once the engine is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<EventItem> {
        match self.0.recv().await {
            Ok(event) => Some(EventItem::Event(event)),
            Err(broadcast::error::RecvError::Lagged(lost)) => Some(EventItem::Lost(lost)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(stream: u32) -> EngineEvent {
        EngineEvent::StreamEnded {
            key: StreamKey::new("live", &stream.to_string()),
            reason: CloseReason::Shutdown,
        }
    }

    fn stream(item: Option<EventItem>) -> Option<String> {
        match item {
            Some(EventItem::Event(EngineEvent::StreamEnded { key, .. })) => Some(key.stream().to_owned()),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_slow_receiver_is_told_what_it_lost_and_delays_nobody() {
        let bus = EventBus::default();
        bus.send(ended(1_000_000));
        let (mut slow, mut prompt) = (bus.subscribe(), bus.subscribe());
        let sent = EVENT_BACKLOG as u32 + 6;
        for n in 0..sent {
            bus.send(ended(n));
            assert_eq!(stream(prompt.next().await), Some(n.to_string()));
        }
        assert!(matches!(slow.next().await, Some(EventItem::Lost(6))));
        for n in 6..sent {
            assert_eq!(stream(slow.next().await), Some(n.to_string()));
        }
        drop(bus);
        assert!(slow.next().await.is_none());
    }
}
