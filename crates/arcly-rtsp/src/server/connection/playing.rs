//! Players: from the stream that they ask for to the worker, the datagrams or the group that they get it by.

use core::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::contract::auth::Credentials;
use arcly_core::egress::{Finished, Latency};
use arcly_core::log::{Cursor, LagPolicy, StartMode};
use arcly_core::rendition::audio_from_query;
use arcly_core::{CloseReason, PlayRequest, Result, StreamError, Subscription, clock};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, Decision, Sink, datagram_media};
use crate::media::{goodbyes, moments, player, starts};
use crate::server::guard::{Guard, Guarded};
use crate::server::multicast::Sender;
use crate::server::scatter::Scatter;
use crate::session::{Agreed, Intent, Target};
use crate::wire::PortPair;

impl<R, W> Connection<R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    pub(super) fn request_play(
        &mut self,
        target: &Target,
        credentials: Option<Credentials>,
        decision: fn(Result<Subscription>) -> Decision,
    ) {
        let mut request = PlayRequest::internal(target.key.clone(), self.protocol);
        request.client = self.client();
        request.credentials = credentials;
        // Most clients can take anything; who cannot says so.
        request.audio = target.query.as_deref().and_then(audio_from_query).flatten();
        request.via = self.session.via().clone();
        let registry = Arc::clone(&self.shared.context.playback);
        let patience = self.shared.session.timeouts.setup;
        self.decision = Some(Box::pin(async move {
            let opened = async {
                let subscription = registry.subscribe(request).await?;
                begun(&subscription, patience).await?;
                Ok(subscription)
            };
            decision(opened.await)
        }));
    }

    pub(super) fn open_decided(&mut self, now: Instant, result: Result<Subscription>) {
        match result {
            Ok(subscription) => {
                let key = self.shared.key(&subscription.state().key);
                let tracks = subscription.tracks();
                self.subscription = Some(subscription);
                self.session.opened_play(now, tracks, key);
            }
            Err(error) => self.refuse(now, &error),
        }
    }

    /// The stream that was opened is played, or asked for again where it was played before.
    pub(super) fn begin_play(&mut self) {
        let Some(target) = self.session.presentation().map(|presentation| presentation.target.clone()) else {
            return;
        };
        match self.subscription.take() {
            Some(subscription) => {
                self.decision = Some(Box::pin(core::future::ready(Decision::Play(Ok(subscription)))));
            }
            None => self.request_play(&target, None, Decision::Play),
        }
    }

    pub(super) fn play_decided(&mut self, now: Instant, result: Result<Subscription>) {
        let subscription = match result {
            Ok(subscription) => subscription,
            Err(error) => return self.refuse(now, &error),
        };
        // The writer comes back first.
        if matches!(self.sink, Sink::Egress { .. }) {
            self.subscription = Some(subscription);
            return;
        }
        self.play(now, subscription);
    }

    pub(super) fn reserve(&mut self, now: Instant) {
        let target = self.session.presentation().map(|presentation| &presentation.target);
        self.group = target.zip(self.shared.groups.as_ref()).and_then(|(t, groups)| groups.reserve(&t.key));
        self.session.offer_group(now, self.group.as_ref().map(|reserved| reserved.group()));
    }

    /// Receives the stream from its group; the reader counts, and is asked nothing.
    fn join(&mut self, subscription: Subscription) {
        let (Some(group), Some(presentation)) = (self.group.clone(), self.session.presentation().cloned())
        else {
            return;
        };
        self.subscription = Some(subscription);
        let shared = Arc::clone(&self.shared);
        self.decision =
            Some(Box::pin(async move { Decision::Join(group.join(&shared, &presentation).await) }));
    }

    pub(super) fn join_decided(&mut self, now: Instant, result: Result<Arc<Sender>>) {
        let sender = match result {
            Ok(sender) => sender,
            Err(error) => return self.refuse(now, &error),
        };
        let (Some(subscription), Some(presentation)) =
            (self.subscription.take(), self.session.presentation())
        else {
            return;
        };
        // Those who come when it is sent already begin with the next one.
        subscription.stream().request_keyframe();
        let at = subscription.stream().log().last().map(|frame| frame.dts);
        let starts = moments(presentation, self.shared.key(&subscription.state().key), at);
        self.session.accept_play(now, &starts);
        self.member = Some(Box::pin(async move {
            tokio::select! {
                reason = sender.ended() => reason,
                reason = subscription.state().ended() => reason,
            }
        }));
    }

    /// Hands the reader to an egress worker, and the socket with it where it is played over the connection.
    fn play(&mut self, now: Instant, mut subscription: Subscription) {
        let Some(presentation) = self.session.presentation().cloned() else { return };
        self.begin_talk(now);
        if presentation.is_multicast() {
            return self.join(subscription);
        }
        let media = datagram_media(presentation.agreed().map(|(at, _, agreed)| (at, agreed)));
        if presentation.played().next().is_none() {
            // Who talks only is sent nothing.
            self.session.accept_play(now, &[]);
            self.subscription = Some(subscription);
            return self.open_inbox(&media);
        }
        let key = self.shared.key(&subscription.state().key);
        if !media.is_empty() {
            let speed_percent = self.shared.config.udp_speed_percent;
            subscription.set_start(StartMode::KeyframePaced { speed_percent });
        }
        let mut reader = player(subscription, &presentation, key, self.shared.config.mtu);
        self.guard = Guard::of(self.guard.take(), &presentation);
        let mut starts = starts(&mut reader, &presentation, key);
        for (start, (at, ..)) in starts.iter_mut().zip(presentation.played()) {
            let renumbered = self.guard.as_ref().and_then(|guard| guard.next_sequence(at));
            start.sequence = renumbered.or(start.sequence);
        }
        self.session.accept_play(now, &starts);
        self.drain();
        let egress = &self.shared.egress;
        let query = presentation.target.query.as_deref().unwrap_or_default();
        let tick = Latency::from_query(query).tick(egress.tick());
        tracing::debug!(peer = %self.remote, stream = %presentation.target.key, "playing");
        if let Some((ports, _)) = self.shared.ports.as_ref().filter(|_| !media.is_empty()) {
            let address = self.remote.ip();
            let to = |pair: PortPair| ((address, pair.rtp).into(), (address, pair.rtcp).into());
            let scatter =
                Scatter::new(ports.sockets(), media.iter().map(|(medium, pair)| (*medium, to(*pair))));
            let scatter = scatter.with_guard(self.guard.clone());
            self.scattered = Some(egress.attach_at(tick, reader, scatter, Bytes::new()));
            return self.open_inbox(&media);
        }
        match core::mem::replace(&mut self.sink, Sink::Gone) {
            Sink::Own(mut writer) => {
                writer.set_guard(self.guard.clone());
                let attached = egress.attach_at(tick, reader, writer, self.outbox.take());
                // What waited is the worker's now, and so is the time that it waits.
                self.note_backlog(now, true);
                self.sink = Sink::Egress { attached, recalled: false };
            }
            sink => self.sink = sink,
        }
    }

    /// Tells the player, if it is one by now, and ends the session.
    pub(super) fn end_play(&mut self, reason: CloseReason, plays: bool) {
        if let Some(presentation) = self.session.presentation().filter(|p| plays && p.intent == Intent::Play)
        {
            let key = self.shared.key(&presentation.target.key);
            for (medium, agreed, packet) in goodbyes(presentation, key) {
                let channel = u8::try_from(medium.saturating_mul(2).saturating_add(1)).unwrap_or(u8::MAX);
                let protected = match &self.guard {
                    Some(guard) => guard.protect(channel, &packet),
                    None => Some(packet),
                };
                let Some(packet) = protected else { continue };
                match (agreed, &self.shared.ports) {
                    (Agreed::Udp(ports), Some((sockets, _))) => {
                        let to = SocketAddr::new(self.remote.ip(), ports.rtcp);
                        sockets.sockets().send_control(to, &packet);
                    }
                    _ => _ = self.session.send_control(medium, packet),
                }
            }
        }
        self.session.end(reason);
    }

    /// Ends what is played; what has the socket gives it back.
    pub(super) fn recall(&mut self) {
        (self.scattered, self.member) = (None, None);
        if let Sink::Egress { attached, recalled } = &mut self.sink {
            attached.detach(CloseReason::PeerClosed);
            *recalled = true;
        }
    }

    /// The writer comes back from the worker, if it still can be written to.
    pub(super) fn finished(&mut self, finished: Finished<Guarded<W>>) -> Option<CloseReason> {
        let sink = core::mem::replace(&mut self.sink, Sink::Gone);
        let Sink::Egress { recalled, .. } = sink else { return None };
        let Some(mut writer) = finished.writer else { return Some(finished.reason) };
        writer.set_guard(None);
        self.sink = Sink::Own(writer);
        if !recalled {
            self.end_play(finished.reason, true);
        } else if self.session.is_undecided()
            && let Some(subscription) = self.subscription.take()
        {
            self.play(clock::now(), subscription);
        }
        None
    }
}

/// Waits until there is something to play: before it a stream has no tracks to be described.
async fn begun(subscription: &Subscription, patience: Duration) -> Result<()> {
    let log = Arc::clone(subscription.log());
    let mut cursor = Cursor::new(log, StartMode::Keyframe, LagPolicy::PATIENT);
    let ready = poll_fn(|cx| cursor.poll_ready(cx));
    let key = || subscription.state().key.clone();
    tokio::select! {
        () = ready => {}
        reason = subscription.state().ended() => return Err(StreamError::Closed(reason)),
        () = tokio::time::sleep(patience) => {
            return Err(StreamError::Refused { key: key(), reason: CloseReason::NotFound });
        }
    }
    if subscription.tracks().is_empty() {
        return Err(StreamError::Refused { key: key(), reason: CloseReason::NotFound });
    }
    Ok(())
}
