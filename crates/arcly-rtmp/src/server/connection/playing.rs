//! What a connection plays: from the request to the reader that has the socket, and back.

use std::sync::Arc;
use std::time::Instant;

use arcly_core::contract::auth::Credentials;
use arcly_core::derived::Headers;
use arcly_core::egress::{Finished, Latency};
use arcly_core::log::TrackChoice;
use arcly_core::rendition::{AudioChoice, RTMP_AUDIO};
use arcly_core::{CloseReason, FourCc, PlayRequest, Result, Subscription, Track, TrackKind, clock};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, Decision, Player, Sink};
use crate::io::{PLAYER_SEND_BUFFER, SendBuffer};
use crate::media::{Direction, MESSAGE_STREAM, MessagePacketizer, playable};
use crate::server::lane::Lanes;
use crate::server::pace::Park;
use crate::session::{StreamId, Target};
use crate::wire::Capabilities;

impl<R, W> Connection<R, W>
where
    R: AsyncRead + Park<W> + Unpin + Send,
    W: AsyncWrite + SendBuffer + Unpin + Send + 'static,
{
    pub(super) fn request_play(
        &mut self,
        stream: StreamId,
        target: &Target,
        credentials: Option<Credentials>,
    ) {
        let mut request = PlayRequest::internal(target.key.clone(), self.protocol);
        request.client = self.client();
        request.credentials = credentials;
        request.via = self.session.client().via.clone();
        let request = request.audio_or_as_asked(sound(self.session.capabilities()));
        let registry = Arc::clone(&self.shared.context.playback);
        self.session.hold(clock::now(), stream);
        let decision = async move { Decision::Play(stream, registry.subscribe(request).await) };
        self.decisions.push((stream, Box::pin(decision)));
    }

    pub(super) fn play_decided(&mut self, now: Instant, stream: StreamId, result: Result<Subscription>) {
        let Some(at) = self.playing.iter().position(|player| player.stream == stream) else { return };
        let subscription = match result {
            Ok(subscription) => subscription,
            Err(error) => {
                self.playing.remove(at);
                return self.refuse(stream, &error);
            }
        };
        self.session.accept_play(now, stream);
        self.drain();
        self.attach(stream, subscription);
    }

    /// Hands the socket to an egress worker.
    pub(super) fn attach(&mut self, stream: StreamId, subscription: Subscription) {
        let Some(player) = self.playing.iter().find(|player| player.stream == stream) else { return };
        if player.paused {
            return;
        }
        let egress = &self.shared.egress;
        let query = player.target.query.as_deref().unwrap_or_default();
        let tick = Latency::from_query(query).tick(egress.tick());
        let choice = choice(self.session.capabilities().clone(), player.audio, player.video);
        let mut reader =
            subscription.into_derived(Direction::Play.variant(), || MessagePacketizer::new(Direction::Play));
        reader.set_track_choice(choice);
        tracing::debug!(peer = %self.remote, stream = %reader.subscription().state().key, "playing");
        if let Sink::Own(writer) = &self.sink
            && !self.publishing.is_empty()
        {
            writer.set_send_buffer(PLAYER_SEND_BUFFER);
        }
        // Messages are stamped for the first message stream, so that a worker can have the socket for that one only.
        let alone = self.playing.len() == 1 && stream.get() == MESSAGE_STREAM;
        match core::mem::replace(&mut self.sink, Sink::Gone) {
            Sink::Own(writer) if alone => {
                let attached = egress.attach_at(tick, reader, writer, self.outbox.take());
                // What waited is the worker's now, and so is the time that it waits.
                self.note_backlog(clock::now(), true);
                self.sink = Sink::Egress { stream, attached, recalled: false };
            }
            sink => {
                self.sink = sink;
                self.recall_any();
                let lane = self.lanes.get_or_insert_with(Lanes::new).lane(stream);
                self.in_lanes.push((stream, self.shared.egress.attach_at(tick, reader, lane, Bytes::new())));
            }
        }
    }

    pub(super) fn end_play(&mut self, stream: StreamId, reason: CloseReason) {
        self.playing.retain(|player| player.stream != stream);
        if reason == CloseReason::Unsupported {
            self.session.reject(stream, reason, &format!("this stream cannot be played here: {reason}"));
        } else {
            self.session.end_play(stream, reason);
        }
    }

    /// Ends the reader of a stream; what has the socket gives it back.
    pub(super) fn recall(&mut self, of: StreamId) {
        match &mut self.sink {
            Sink::Egress { stream, attached, recalled } if *stream == of => {
                attached.detach(CloseReason::PeerClosed);
                *recalled = true;
            }
            _ => self.in_lanes.retain(|(stream, _)| *stream != of),
        }
    }

    pub(super) fn recall_any(&mut self) {
        if let Sink::Egress { stream, .. } = self.sink {
            self.recall(stream);
        }
    }

    /// Changes what a player gets: the reader in place is given up, and a new one begins at the newest keyframe.
    pub(super) fn change(&mut self, stream: StreamId, change: impl FnOnce(&mut Player)) {
        let Some(player) = self.playing.iter_mut().find(|player| player.stream == stream) else { return };
        change(player);
        self.recall(stream);
        // A reader that has the socket is replaced once it has given it back.
        if !matches!(self.sink, Sink::Egress { stream: of, .. } if of == stream) {
            self.played(stream, CloseReason::PeerClosed, true);
        }
    }

    /// The writer comes back from the worker, if it still can be written to.
    pub(super) fn finished(&mut self, finished: Finished<W>) -> Option<CloseReason> {
        let sink = core::mem::replace(&mut self.sink, Sink::Gone);
        let Sink::Egress { stream, recalled, .. } = sink else { return None };
        let Some(writer) = finished.writer else { return Some(finished.reason) };
        self.sink = Sink::Own(writer);
        self.played(stream, finished.reason, recalled);
        None
    }

    /// A reader has ended: by itself, or because this connection wanted another one (`recalled`).
    pub(super) fn played(&mut self, stream: StreamId, reason: CloseReason, recalled: bool) {
        let player = self.playing.iter().find(|player| player.stream == stream);
        match player.map(|player| (player.paused, player.target.clone())) {
            Some(_) if !recalled => self.end_play(stream, reason),
            Some((false, target)) => self.request_play(stream, &target, None),
            // Paused, or the client is done with it and was told so.
            _ => {}
        }
    }
}

/// Sound that a player can take: any, when it says that it can decode Opus, and what legacy players know when it does not.
fn sound(capabilities: &Capabilities) -> AudioChoice {
    if capabilities.accepts(FourCc(*b"Opus")) { None } else { RTMP_AUDIO }
}

/// The tracks that a player gets: what it can take, less what it does not want. Nothing at all is unsupported.
fn choice(capabilities: Capabilities, audio: bool, video: bool) -> TrackChoice<Headers> {
    Arc::new(move |headers| {
        let mask = playable(&headers.tracks, &capabilities)?;
        let wanted = |track: &&Track| match track.kind() {
            TrackKind::Audio => audio,
            TrackKind::Video => video,
            TrackKind::Data => true,
        };
        Some(mask.intersection(headers.tracks.iter().filter(wanted).map(|track| track.id).collect()))
    })
}
