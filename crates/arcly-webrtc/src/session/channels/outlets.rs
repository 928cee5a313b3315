use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use arcly_core::track::TrackMask;
use arcly_core::{CodecId, TrackId, TrackKind, TrackSet};

use super::names_of;
use crate::media::RtpFrame;
use crate::session::{Channel, MAX_CHANNELS, MAX_MESSAGE_BYTES, Transport};

/// Messages that wait for their channel to be there, in [`MAX_MESSAGE_BYTES`]; behind them the oldest are dropped.
pub const MAX_WAITING_MESSAGES: usize = 64;

/// A track on its way to the viewer.
#[derive(Debug)]
struct Outlet {
    track: TrackId,
    codec: CodecId,
    /// The label and the protocol.
    names: (String, String),
    channel: Option<Channel>,
    is_open: bool,
    /// What is to be sent once it is open, and the stream is where the viewer is.
    waiting: VecDeque<Arc<[u8]>>,
}

impl Outlet {
    /// Sends what waits, if it can be sent.
    fn flush(&mut self, now: Instant, transport: &mut Transport) {
        let Some(channel) = self.channel.filter(|_| self.is_open) else { return };
        while let Some(data) = self.waiting.pop_front() {
            transport.send_message(now, channel, &data);
        }
    }

    /// True when the oldest of what waits has to go.
    fn is_full(&self) -> bool {
        let bytes = self.waiting.iter().fold(0_usize, |sum, data| sum.saturating_add(data.len()));
        self.waiting.len() > MAX_WAITING_MESSAGES || bytes > MAX_MESSAGE_BYTES
    }
}

/// The data tracks that a viewer is sent.
#[derive(Debug, Default)]
pub(in crate::session) struct Outlets {
    outlets: Vec<Outlet>,
    /// What was there before the viewer came is through.
    is_live: bool,
}

impl Outlets {
    pub(in crate::session) const fn new() -> Self {
        Self { outlets: Vec::new(), is_live: false }
    }

    /// What comes now is no older than the viewer.
    pub(in crate::session) fn handle_live(&mut self, now: Instant, transport: &mut Transport) {
        if !core::mem::replace(&mut self.is_live, true) {
            self.outlets.iter_mut().for_each(|outlet| outlet.flush(now, transport));
        }
    }

    /// Opens a channel for each data track, the first [`MAX_CHANNELS`] of them, and closes those of tracks that are gone.
    pub(in crate::session) fn choose(&mut self, transport: &mut Transport, tracks: &TrackSet) -> TrackMask {
        if !transport.has_channels() {
            return TrackMask::NONE;
        }
        let wanted = tracks.iter().filter(|track| track.kind() == TrackKind::Data).take(MAX_CHANNELS);
        let mut before = core::mem::take(&mut self.outlets);
        for track in wanted {
            let names = names_of(track);
            let is_same = |outlet: &Outlet| {
                outlet.track == track.id && outlet.codec == track.codec && outlet.names == names
            };
            let outlet = match before.iter().position(is_same) {
                Some(at) => before.swap_remove(at),
                None => Outlet {
                    track: track.id,
                    codec: track.codec,
                    names,
                    channel: None,
                    is_open: false,
                    waiting: VecDeque::new(),
                },
            };
            self.outlets.push(outlet);
        }
        before
            .iter()
            .filter_map(|outlet| outlet.channel)
            .for_each(|channel| transport.close_channel(channel));
        for outlet in self.outlets.iter_mut().filter(|outlet| outlet.channel.is_none()) {
            outlet.channel = transport.open_channel(&outlet.names.0, &outlet.names.1);
        }
        self.outlets.iter().filter(|outlet| outlet.channel.is_some()).map(|outlet| outlet.track).collect()
    }

    /// True for a track that goes over a channel.
    pub(in crate::session) fn has(&self, track: TrackId) -> bool {
        self.outlets.iter().any(|outlet| outlet.track == track)
    }

    /// Sends a frame. Of those from before the viewer came it is the last, because data mostly say how things are: where a camera looks to
    /// is true until it is said anew. The others say how things were, and do not go out.
    pub(in crate::session) fn send(
        &mut self,
        now: Instant,
        transport: &mut Transport,
        frame: &RtpFrame,
        is_new: bool,
    ) {
        let Some(outlet) = self.outlets.iter_mut().find(|outlet| outlet.track == frame.track) else { return };
        // What is longer than a message was left out when frames became messages.
        let Some(data) = frame.packets.first().map(|packet| &packet.data) else {
            transport.drop_message();
            return;
        };
        if !is_new {
            outlet.waiting.clear();
        }
        outlet.waiting.push_back(Arc::clone(data));
        while outlet.is_full() {
            outlet.waiting.pop_front();
            transport.drop_message();
        }
        if self.is_live {
            outlet.flush(now, transport);
        }
    }

    /// A channel is there.
    pub(in crate::session) fn handle_open(&mut self, transport: &mut Transport, channel: Channel) {
        let outlet = self.outlets.iter_mut().find(|outlet| outlet.channel == Some(channel));
        let Some(outlet) = outlet else { return };
        outlet.is_open = true;
        if self.is_live {
            outlet.flush(transport.now(), transport);
        }
    }

    /// The viewer has closed a channel: it wants no more of that track.
    pub(in crate::session) fn handle_close(&mut self, channel: Channel) {
        self.outlets.retain(|outlet| outlet.channel != Some(channel));
    }
}
