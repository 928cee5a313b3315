//! Data channels with a peer (RFC 8831, RFC 8832): SCTP is str0m's, what a peer may make it hold is decided here.
//!
//! What SCTP holds of a peer cannot be seen from here, only what goes in and what comes out. So each record of data that comes costs its
//! length of an [`Allowance`], and each message that comes out of it gives that back, as each message of this side gives what its
//! acknowledgement costs. A peer that speaks as it should never notices; parts of messages without end, streams that are opened
//! and associations that are begun again and again are lost on the way once it is used up, and the session goes on without them.

use std::time::{Duration, Instant};

use arcly_core::TrackKind;
use bytes::Bytes;
use str0m::channel::{ChannelConfig, ChannelId, Reliability};

use super::{Event, Transport};

/// Channels that a peer may have open; others are closed at once. A drone with every sensor on a channel of its own has a dozen.
pub const MAX_CHANNELS: usize = 16;
/// Bytes of a message in either direction. KLV of a frame is some hundred; two fit into [`MAX_UNDELIVERED_BYTES`].
pub const MAX_MESSAGE_BYTES: usize = 32 << 10;
/// Bytes of records that a peer may have sent of which no message has come yet: one of the longest, and as much behind it.
pub const MAX_UNDELIVERED_BYTES: u64 = 64 << 10;
/// Bytes that may be in front of a message in its channel, waiting or on their way: as many as a slow link, of a fifth of a megabit, carries before
/// they are too old; with more, it would be busy with what nobody gets.
pub const MAX_WAITING_BYTES: usize = 16 << 10;
/// Bytes of all channels together that may.
pub(in crate::session) const MAX_WAITING_IN_ALL: usize = 128 << 10;
/// How long a message is sent again that got lost: data that are later than this belong to a picture that nobody sees any more, and
/// those behind them, which are kept in order, are not to wait for them.
pub const MESSAGE_LIFETIME: Duration = Duration::from_secs(1);
/// Bytes of a label and of a protocol; str0m has room for both in 1 500 bytes.
pub const MAX_LABEL_BYTES: usize = 256;

/// What is given back of [`MAX_UNDELIVERED_BYTES`] whatever comes: an idle association asks now and then whether the other is there.
const REFILL_BYTES_PER_SECOND: u128 = 128;
/// Bytes of a record around a message: DTLS, SCTP.
const RECORD_OVERHEAD: u64 = 64;
/// Bytes of a message's header in a record, and behind it.
const MESSAGE_OVERHEAD: u64 = 16 + 3;
/// Of a message in several records, the part that their overhead is.
const OVERHEAD_SHARE: u64 = 16;
/// What the acknowledgement of a record of this side may cost, and how long such a record is at least, where there are several.
const ACKNOWLEDGEMENT: u64 = 100;
const RECORD_BYTES: u64 = 1_000;

/// A data channel of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel(ChannelId);

/// What a peer may still send of which nothing comes.
#[derive(Debug)]
struct Allowance {
    left: u64,
    since: Instant,
    /// The last record has had no message yet.
    is_fresh: bool,
}

impl Allowance {
    const fn new(now: Instant) -> Self {
        Self { left: MAX_UNDELIVERED_BYTES, since: now, is_fresh: false }
    }

    fn give(&mut self, bytes: u64) {
        self.left = self.left.saturating_add(bytes).min(MAX_UNDELIVERED_BYTES);
    }

    /// Whether a record of so many bytes may come.
    fn admits(&mut self, now: Instant, bytes: usize) -> bool {
        let waited = now.saturating_duration_since(self.since).as_millis();
        let refill =
            u64::try_from(waited.saturating_mul(REFILL_BYTES_PER_SECOND) / 1_000).unwrap_or(u64::MAX);
        if refill > 0 {
            self.since = now;
            self.give(refill);
        }
        let left = u64::try_from(bytes).ok().and_then(|bytes| self.left.checked_sub(bytes));
        let Some(left) = left else { return false };
        (self.left, self.is_fresh) = (left, true);
        true
    }

    fn delivered(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let record = if core::mem::take(&mut self.is_fresh) { RECORD_OVERHEAD } else { 0 };
        let overhead = record.saturating_add(MESSAGE_OVERHEAD);
        self.give(bytes.saturating_add(bytes / OVERHEAD_SHARE).saturating_add(overhead));
    }

    fn sent(&mut self, bytes: usize) {
        let records = u64::try_from(bytes).unwrap_or(u64::MAX) / RECORD_BYTES;
        self.give(records.saturating_add(1).saturating_mul(ACKNOWLEDGEMENT));
    }
}

/// The data channels of a transport.
#[derive(Debug)]
pub(super) struct Data {
    allowance: Allowance,
    own: Vec<ChannelId>,
    theirs: Vec<ChannelId>,
}

impl Data {
    pub(super) const fn new(now: Instant) -> Self {
        Self { allowance: Allowance::new(now), own: Vec::new(), theirs: Vec::new() }
    }
}

impl Transport {
    /// True when it was agreed on that there are data channels.
    #[must_use]
    pub fn has_channels(&self) -> bool {
        let is_open = |medium: &super::Medium| medium.kind == TrackKind::Data && medium.description.port != 0;
        self.media.iter().any(is_open)
    }

    /// When it was looked at last.
    pub(in crate::session) const fn now(&self) -> Instant {
        self.now
    }

    /// Whether data of so many bytes may come: they are agreed on, and the peer has not used up what it may.
    pub(super) fn admits_data(&mut self, now: Instant, bytes: usize) -> bool {
        self.has_channels() && self.data.allowance.admits(now, bytes)
    }

    /// Opens a channel whose messages are kept in order, and sent again for [`MESSAGE_LIFETIME`]. [`Event::ChannelOpen`] says when it is there.
    /// `None` when no channels are agreed on, or [`MAX_CHANNELS`] are there.
    pub fn open_channel(&mut self, label: &str, protocol: &str) -> Option<Channel> {
        if !self.has_channels() || self.data.own.len() >= MAX_CHANNELS {
            return None;
        }
        let lifetime = u16::try_from(MESSAGE_LIFETIME.as_millis()).unwrap_or(u16::MAX);
        let id = self.rtc.direct_api().create_data_channel(ChannelConfig {
            label: shortened(label),
            ordered: true,
            reliability: Reliability::MaxPacketLifetime { lifetime },
            negotiated: None,
            protocol: shortened(protocol),
        });
        self.data.own.push(id);
        Some(Channel(id))
    }

    /// Closes a channel.
    pub fn close_channel(&mut self, Channel(id): Channel) {
        self.data.own.retain(|own| *own != id);
        self.data.theirs.retain(|own| *own != id);
        self.rtc.direct_api().close_data_channel(id);
    }

    /// Sends a message. False, and counted, when it is too long, the channel is not open, or its peer too slow: what cannot be sent now is
    /// dropped, and nobody waits.
    pub fn send_message(&mut self, now: Instant, Channel(id): Channel, message: &[u8]) -> bool {
        let sent = message.len() <= MAX_MESSAGE_BYTES
            && self.rtc.channel(id).is_some_and(|mut channel| {
                // Longer than what the peer takes is an error.
                channel.buffered_amount() <= MAX_WAITING_BYTES
                    && channel.write(true, message).unwrap_or(false)
            });
        if sent {
            self.data.allowance.sent(message.len());
            self.account.stats.messages_sent = self.account.stats.messages_sent.saturating_add(1);
            self.handle_timeout(now);
        } else {
            self.drop_message();
        }
        sent
    }

    /// A message, or a frame that was to be one, has gone nowhere.
    pub(in crate::session) const fn drop_message(&mut self) {
        self.account.stats.messages_dropped = self.account.stats.messages_dropped.saturating_add(1);
    }

    /// What has happened to channels.
    pub(super) fn channel_event(&mut self, event: str0m::Event) -> Option<Event> {
        match event {
            str0m::Event::ChannelOpen(id, label) => self.channel_open(id, label),
            str0m::Event::ChannelData(message)
                if self.data.theirs.contains(&message.id) || self.data.own.contains(&message.id) =>
            {
                self.data.allowance.delivered(message.data.len());
                self.account.stats.messages_received = self.account.stats.messages_received.saturating_add(1);
                Some(Event::Message { channel: Channel(message.id), data: Bytes::from(message.data) })
            }
            str0m::Event::ChannelClose(id) => {
                self.data.own.retain(|own| *own != id);
                self.data.theirs.retain(|own| *own != id);
                Some(Event::ChannelClosed { channel: Channel(id) })
            }
            _ => None,
        }
    }

    fn channel_open(&mut self, id: ChannelId, label: String) -> Option<Event> {
        let channel = Channel(id);
        let is_own = self.data.own.contains(&id);
        let config = self.rtc.channel(id).and_then(|channel| channel.config().cloned());
        // What only stands for the others in an offer of this side.
        if config.as_ref().is_some_and(|config| config.negotiated.is_some()) {
            return None;
        }
        let protocol = config.map(|config| config.protocol).unwrap_or_default();
        if !is_own {
            let is_short = label.len() <= MAX_LABEL_BYTES && protocol.len() <= MAX_LABEL_BYTES;
            if self.data.theirs.len() >= MAX_CHANNELS || !is_short {
                self.rtc.direct_api().close_data_channel(id);
                return None;
            }
            self.data.theirs.push(id);
        }
        Some(Event::ChannelOpen { channel, is_own, label, protocol })
    }
}

/// As much of a text as goes into a label.
fn shortened(text: &str) -> String {
    let fits = |(at, char): &(usize, char)| at.saturating_add(char.len_utf8()) <= MAX_LABEL_BYTES;
    text.char_indices().take_while(fits).map(|(_, char)| char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_messages_uses_nothing_up_and_who_sends_nothing_whole_does() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        for _ in 0..10_000 {
            assert!(allowance.admits(now, 50 + 65));
            allowance.delivered(50);
            // The longest, in twenty-nine records.
            for _ in 0..29 {
                assert!(allowance.admits(now, MAX_MESSAGE_BYTES / 29 + 66));
            }
            allowance.delivered(MAX_MESSAGE_BYTES);
            // The acknowledgement of one of this side's.
            allowance.sent(200);
            assert!(allowance.admits(now, 65));
        }
        let records =
            |allowance: &mut Allowance, at| (0..10_000).take_while(|_| allowance.admits(at, 100)).count();
        assert!((600..=655).contains(&records(&mut allowance, now)));
        let later = now + Duration::from_secs(100);
        assert_eq!(records(&mut allowance, later), 128);
        // What a bundle of the shortest gives back is what it costs, or a few bytes more.
        let mut bundles = Allowance { left: 10_000, ..Allowance::new(later) };
        for _ in 0..100 {
            assert!(bundles.admits(later, 49 + 50 * 20));
            (0..50).for_each(|_| bundles.delivered(1));
        }
        assert!((10_000..12_000).contains(&bundles.left), "{bundles:?}");
    }

    #[test]
    fn labels_are_cut_between_characters() {
        let label = "ä".repeat(MAX_LABEL_BYTES);
        assert_eq!(shortened(&label), "ä".repeat(MAX_LABEL_BYTES / 2));
        assert_eq!(shortened("klv"), "klv");
    }
}
