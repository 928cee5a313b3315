//! One caller: what it asks for, and whether it gets it.

use core::pin::pin;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arcly_core::contract::auth::{Action, Credentials};
use arcly_core::key::NameError;
use arcly_core::net::Admission;
use arcly_core::rendition::TS_AUDIO;
use arcly_core::{
    ClientInfo, CloseReason, PlayRequest, PublishRequest, StreamError, StreamKey, Subscription,
};
use arcly_mux::ts::{Muxer, Packetizer};

use super::{PROTOCOL, Shared};
use crate::config::Config;
use crate::media::{self, closed};
use crate::socket::Incoming;
use crate::wire::{RejectReason, StreamId, StreamMode};

/// How long a caller waits for the stream that it wants before it is connected all the same: less than callers wait for an
/// answer. From then on it is told by the end of the connection that there is none.
const UNCONNECTED: Duration = Duration::from_secs(1);

/// Somebody at the door, and what is known of them.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) incoming: Incoming,
    pub(super) remote: SocketAddr,
    /// Until something has authorised the caller.
    pub(super) admission: Admission,
}

/// What a caller wants.
struct Wish {
    id: StreamId,
    key: StreamKey,
    action: Action,
}

impl Session {
    /// Decides, makes the connection, and serves it to its end.
    pub(super) async fn run(self) -> CloseReason {
        let Self { shared, mut incoming, remote, admission } = self;
        let wish = match Wish::of(&incoming, &shared) {
            Ok(wish) => wish,
            Err((told, reason)) => return refuse(incoming, told, reason),
        };
        let config = shared.config.connection_for(&wish.key, wish.action);
        if config.crypto.is_some() {
            incoming = match check(&shared, incoming, config.clone()).await {
                Ok(incoming) => incoming,
                Err(reason) => return reason,
            };
        } else if let Err(told) = incoming.check(&config) {
            return refuse(incoming, told, told.into());
        }
        let door = Door { shared, incoming, remote, config };
        match wish.action {
            Action::Publish => door.publish(wish, admission).await,
            _ => door.play(wish, admission).await,
        }
    }
}

impl Wish {
    fn of(incoming: &Incoming, shared: &Shared) -> Result<Self, (RejectReason, CloseReason)> {
        let asked = incoming.stream_id().filter(|id| !id.is_empty());
        let asked = asked.or(shared.config.default_stream_id.as_deref()).unwrap_or_default();
        let id: StreamId = asked.parse().map_err(|_| (RejectReason::BAD_REQUEST, CloseReason::Malformed))?;
        let key = StreamKey::parse(&id.resource).map_err(|error| match error {
            NameError::Empty => (RejectReason::UNAUTHORIZED, CloseReason::Unauthorized),
            error => (RejectReason::FORBIDDEN, error.into()),
        })?;
        let action = match id.mode {
            StreamMode::Publish => Action::Publish,
            StreamMode::Request => Action::Play,
            StreamMode::Bidirectional => return Err((RejectReason::BAD_MODE, CloseReason::Forbidden)),
        };
        Ok(Self { id, key, action })
    }

    fn credentials(&self, remote: SocketAddr) -> Credentials {
        let mut credentials = Credentials::new(PROTOCOL);
        (credentials.user, credentials.password) = (self.id.user.clone(), self.id.secret.clone());
        credentials.query.clone_from(&self.id.query);
        credentials.remote = Some(remote);
        credentials
    }
}

/// Looks at the caller's keys, on a thread that may be busy for a while: a few callers at a time, so that a burst of them
/// holds up nothing else (S33).
async fn check(shared: &Shared, mut incoming: Incoming, config: Config) -> Result<Incoming, CloseReason> {
    let turn = shared.unwrapping.acquire().await.map_err(|_| CloseReason::Shutdown)?;
    let checking = tokio::task::spawn_blocking(move || {
        let checked = incoming.check(&config);
        (incoming, checked)
    });
    let (incoming, checked) = checking.await.map_err(|_| CloseReason::Internal)?;
    drop(turn);
    match checked {
        Ok(()) => Ok(incoming),
        Err(told) => Err(refuse(incoming, told, told.into())),
    }
}

fn refuse(incoming: Incoming, told: RejectReason, reason: CloseReason) -> CloseReason {
    incoming.reject(told);
    reason
}

fn refuse_for(incoming: Incoming, error: &StreamError) -> CloseReason {
    let reason = error.reason();
    refuse(incoming, reason.into(), reason)
}

/// A caller whose passphrase is right.
struct Door {
    shared: Arc<Shared>,
    incoming: Incoming,
    remote: SocketAddr,
    config: Config,
}

impl Door {
    async fn publish(self, wish: Wish, admission: Admission) -> CloseReason {
        let Self { shared, incoming, remote, config } = self;
        let client = ClientInfo::new(PROTOCOL, remote);
        let request = PublishRequest::new(wish.key.clone(), client, wish.credentials(remote));
        shared.table.until_left(&wish.key).await;
        let publisher = match shared.context.publish.publish(request).await {
            Ok(publisher) => publisher,
            Err(error) => return refuse_for(incoming, &error),
        };
        let opening = shared.table.open(&wish.key);
        drop(admission);
        match incoming.accept(config).await {
            Ok(peer) => {
                let _entry = shared.table.enter(&peer, remote, &wish.key, true);
                drop(opening);
                shared.until_shutdown(media::publish(&peer, publisher)).await
            }
            Err(error) => {
                publisher.state().revoke(error.reason());
                drop(publisher);
                drop(opening);
                error.reason()
            }
        }
    }

    async fn play(self, wish: Wish, admission: Admission) -> CloseReason {
        let Self { shared, incoming, remote, config } = self;
        let client = ClientInfo::new(PROTOCOL, remote);
        let request = PlayRequest::new(wish.key.clone(), client, wish.credentials(remote));
        let request = request.audio_or_as_asked(TS_AUDIO);
        let playback = Arc::clone(&shared.context.playback);
        let mut subscribing = pin!(playback.subscribe(request));
        let subscribed = match tokio::time::timeout(UNCONNECTED, &mut subscribing).await {
            Ok(Ok(subscription)) if !can_carry(&subscription) => {
                return refuse(incoming, RejectReason::UNACCEPTABLE, CloseReason::Unsupported);
            }
            Ok(Ok(subscription)) => Some(subscription),
            Ok(Err(error)) => return refuse_for(incoming, &error),
            Err(_) => None,
        };
        let peer = match incoming.accept(config).await {
            Ok(peer) => peer,
            Err(error) => return error.reason(),
        };
        let _entry = shared.table.enter(&peer, remote, &wish.key, false);
        let work = async {
            let subscription = match subscribed {
                Some(subscription) => subscription,
                None => tokio::select! {
                    subscribed = subscribing => match subscribed {
                        Ok(subscription) => subscription,
                        Err(error) => return error.reason(),
                    },
                    error = closed(&peer) => return error.reason(),
                },
            };
            drop(admission);
            media::play(&peer, subscription.into_derived(0, Packetizer::new)).await
        };
        shared.until_shutdown(work).await
    }
}

/// Tracks that nobody knows yet may turn out to be anything.
fn can_carry(subscription: &Subscription) -> bool {
    let tracks = subscription.tracks();
    tracks.is_empty() || Muxer::can_carry(&tracks)
}
