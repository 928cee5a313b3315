//! Messages of a connection, and a stream of an engine: MPEG-TS one way or the other.

use std::time::{Duration, Instant};

use arcly_core::derived::{Headers, Packet};
use arcly_core::log::{Progress, Read};
use arcly_core::{CloseReason, DerivedSubscriber, FrameFlags, Publisher, TrackKind};
use arcly_mux::ts::{Demuxer, Packetizer};
use bytes::{Bytes, BytesMut};

use crate::error::SessionError;
use crate::socket::Peer;

/// How long a connection stays at the most when its stream has ended.
const TAIL: Duration = Duration::from_secs(2);
/// A reader that takes nothing for so long, or loses something in every second of it, is let go (F31, F32).
const STALLED: Duration = Duration::from_secs(15);
/// Losses that are further apart have not to do with one another.
const APART: Duration = Duration::from_secs(2);
/// Bytes of a transport packet.
const TS_PACKET: usize = 188;

/// Publishes what comes until one of the ends has had enough. What came before the end is published, too.
pub(crate) async fn publish(peer: &Peer, mut publisher: Publisher) -> CloseReason {
    let mut demuxer = Demuxer::default();
    let reason = loop {
        let message = tokio::select! {
            message = peer.recv() => message,
            reason = publisher.revoked() => return reason,
        };
        let pushed = match message {
            Ok(message) => demuxer.push(&message.payload).map_err(CloseReason::from),
            Err(error) => break error.reason(),
        };
        if let Err(reason) = pushed.and_then(|()| hand_over(&mut demuxer, &mut publisher)) {
            publisher.state().revoke(reason);
            return reason;
        }
    };
    // A stream may end anywhere: what waited for more comes out as it is.
    _ = demuxer.finish();
    _ = hand_over(&mut demuxer, &mut publisher);
    publisher.state().revoke(reason);
    reason
}

fn hand_over(demuxer: &mut Demuxer, publisher: &mut Publisher) -> Result<(), CloseReason> {
    while let Some(event) = demuxer.poll_event() {
        publisher.handle(event).map_err(|error| error.reason())?;
    }
    Ok(())
}

/// Sends a stream until one of the ends has had enough.
///
/// While the connection takes nothing, the reader falls behind in the log, and goes on at a keyframe. Once the connection
/// has given packets up, nothing is worth sending before the next keyframe, either; what was sent before that keyframe and is given
/// up only then was of no use any more, and costs nothing that comes behind it.
pub(crate) async fn play(peer: &Peer, mut reader: DerivedSubscriber<Packetizer>) -> CloseReason {
    let state = reader.subscription().state().clone();
    let mut outgoing = Outgoing::new(peer);
    let work = async {
        let mut batch = Vec::new();
        loop {
            let progress = reader.next_batch(&mut batch).await.map_err(|error| error.reason())?;
            batch.drain(..).for_each(|read| outgoing.take(&read));
            outgoing.send().await?;
            if let Progress::Ended(reason) = progress {
                // What was sent last is not delivered yet, and would be lost with the connection.
                tokio::time::sleep(peer.negotiated().peer_latency.min(TAIL)).await;
                return Ok(reason);
            }
        }
    };
    tokio::select! {
        done = work => done.unwrap_or_else(|reason: CloseReason| reason),
        // A reader has nothing to say; that it goes is noticed here.
        error = closed(peer) => error.reason(),
        reason = state.ended() => reason,
    }
}

/// Waits for the end; what comes until then is nobody's.
pub(crate) async fn closed(peer: &Peer) -> SessionError {
    loop {
        if let Err(error) = peer.recv().await {
            return error;
        }
    }
}

/// What goes to a reader.
struct Outgoing<'a> {
    peer: &'a Peer,
    messages: Messages,
    losses: Losses,
    /// The stream has pictures.
    has_video: bool,
    /// What comes before the next keyframe would be of no use.
    until_keyframe: bool,
    /// When the keyframe came that it went on with.
    since: Option<Instant>,
}

impl<'a> Outgoing<'a> {
    fn new(peer: &'a Peer) -> Self {
        let messages = Messages::new(peer.negotiated().payload_size);
        let losses = Losses::default();
        Self { peer, messages, losses, has_video: false, until_keyframe: false, since: None }
    }

    fn take(&mut self, read: &Read<Packet>) {
        match read {
            Read::Context(headers) => self.has_video = has_video(headers),
            Read::Item(packet) => {
                if self.until_keyframe {
                    if !self.begins_again(packet) {
                        return;
                    }
                    self.until_keyframe = false;
                    self.since = Some(Instant::now());
                }
                self.messages.push(&packet.bytes);
            }
            Read::Skipped(_) => {}
        }
    }

    fn begins_again(&self, packet: &Packet) -> bool {
        !self.has_video || packet.flags.contains(FrameFlags::KEYFRAME)
    }

    async fn send(&mut self) -> Result<(), CloseReason> {
        while let Some(message) = self.messages.pop() {
            let sending = self.peer.send(message);
            match tokio::time::timeout(STALLED, sending).await {
                Ok(sent) => sent.map_err(|error| error.reason())?,
                Err(_) => return Err(CloseReason::SlowConsumer),
            }
            match self.losses.note(Instant::now(), self.peer.given_up()) {
                Loss::Some if self.is_torn() => {
                    self.until_keyframe = self.has_video;
                    self.messages.clear();
                }
                Loss::None | Loss::Some => {}
                Loss::TooMuch => return Err(CloseReason::SlowConsumer),
            }
        }
        Ok(())
    }

    /// Something was given up of what was sent since the keyframe that it went on with.
    fn is_torn(&self) -> bool {
        self.since.is_none_or(|since| self.peer.given_up_until().is_none_or(|until| until >= since))
    }
}

fn has_video(headers: &Headers) -> bool {
    headers.tracks.first(TrackKind::Video).is_some()
}

/// What a connection has given up.
#[derive(Debug, Default)]
struct Losses {
    count: u64,
    /// When losses began that go on, and when the last was.
    since: Option<(Instant, Instant)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    None,
    /// Something was lost since this was asked last.
    Some,
    /// So it has been for too long.
    TooMuch,
}

impl Losses {
    fn note(&mut self, now: Instant, count: u64) -> Loss {
        if count <= self.count {
            return Loss::None;
        }
        self.count = count;
        let began = match self.since {
            Some((began, last)) if now.saturating_duration_since(last) < APART => began,
            _ => now,
        };
        self.since = Some((began, now));
        if now.saturating_duration_since(began) >= STALLED { Loss::TooMuch } else { Loss::Some }
    }
}

/// Transport packets in messages: as many whole ones as fit; the last of a batch may be short, so that nothing waits for
/// the next frame.
struct Messages {
    len: usize,
    /// What fills no message yet.
    partial: BytesMut,
    full: std::collections::VecDeque<Bytes>,
}

impl Messages {
    fn new(payload: usize) -> Self {
        let len = (payload / TS_PACKET).max(1) * TS_PACKET;
        Self { len, partial: BytesMut::new(), full: std::collections::VecDeque::new() }
    }

    /// Nothing is copied but what goes into a message with what was before it or comes behind it.
    fn push(&mut self, packets: &Bytes) {
        let mut rest = packets.clone();
        if !self.partial.is_empty() {
            let head = rest.split_to((self.len - self.partial.len()).min(rest.len()));
            self.partial.extend_from_slice(&head);
            if self.partial.len() == self.len {
                self.full.push_back(self.partial.split().freeze());
            }
        }
        while rest.len() >= self.len {
            self.full.push_back(rest.split_to(self.len));
        }
        self.partial.extend_from_slice(&rest);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let partial = || Some(self.partial.split().freeze()).filter(|rest| !rest.is_empty());
        self.full.pop_front().or_else(partial)
    }

    fn clear(&mut self) {
        self.full.clear();
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_packets_in_their_order() {
        for payload in [1_316, 1_456, 188, 400] {
            let mut messages = Messages::new(payload);
            let frames = [1, 7, 3, 20, 2, 6].map(|n| n * TS_PACKET);
            let mut next = 0_u8;
            let mut sent = Vec::new();
            for len in frames {
                let frame: Vec<u8> = std::iter::repeat_with(|| {
                    next = next.wrapping_add(1);
                    next
                })
                .take(len)
                .collect();
                sent.extend_from_slice(&frame);
                messages.push(&Bytes::from(frame));
            }
            let got: Vec<Bytes> = std::iter::from_fn(|| messages.pop()).collect();
            assert_eq!(got.concat(), sent);
            assert!(got.iter().all(|one| one.len() % TS_PACKET == 0 && one.len() <= payload.max(TS_PACKET)));
            assert!(got.iter().rev().skip(1).all(|one| one.len() == messages.len), "only the last is short");
        }
    }

    #[test]
    fn f32_losses_that_go_on_for_too_long_end_a_reader() {
        let (start, mut losses) = (Instant::now(), Losses::default());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(losses.note(at(0), 0), Loss::None);
        assert_eq!(losses.note(at(10), 5), Loss::Some);
        assert_eq!(losses.note(at(20), 5), Loss::None);
        // A second one long after it has nothing to do with it.
        assert_eq!(losses.note(at(14_900), 6), Loss::Some);
        for second in 15..29 {
            assert_eq!(losses.note(at(second * 1_000), second), Loss::Some, "{second}");
        }
        assert_eq!(losses.note(at(29_900), 100), Loss::TooMuch);
    }
}
