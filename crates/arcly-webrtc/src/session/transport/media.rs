//! Packets of media, and the media and layers that they are of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::AudioLevel;
use arcly_rtp::wire::{Header, RtpPacket};
use bytes::Bytes;
use str0m::media::{KeyframeRequestKind, Mid, Rid};
use str0m::rtp::RtpWrite;

use super::{Outgoing, Transport};

/// Sources of packets whose media are remembered, and not looked up for each packet.
const MAX_SSRCS: usize = 32;
/// A keyframe of one medium and layer is asked for at most once in this time, whoever needs it.
pub const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);

impl Transport {
    /// The medium and the layer whose packets have that source.
    pub(super) fn place_of(&mut self, ssrc: u32) -> Option<(usize, usize)> {
        if let Some((_, place)) = self.ssrcs.iter().find(|(known, _)| *known == ssrc) {
            return Some(*place);
        }
        let mut api = self.rtc.direct_api();
        let stream = api.stream_rx(&ssrc.into())?;
        let (mid, rid) = (stream.mid(), stream.rid());
        let place = self.place(mid, rid)?;
        if self.ssrcs.len() < MAX_SSRCS {
            self.ssrcs.push((ssrc, place));
        }
        Some(place)
    }

    pub(super) fn place(&self, mid: Mid, rid: Option<Rid>) -> Option<(usize, usize)> {
        let at = self.media.iter().position(|medium| medium.mid == mid)?;
        let Some(rid) = rid else { return Some((at, 0)) };
        let layer = self.media.get(at)?.layers.iter().position(|name| rid == Rid::from(name.as_str()))?;
        Some((at, layer))
    }

    /// Asks the peer for a keyframe of a medium and layer, at most once in [`KEYFRAME_INTERVAL`].
    pub fn request_keyframe(&mut self, now: Instant, medium: usize, layer: usize) {
        let Some((mid, rid)) = self
            .media
            .get(medium)
            .map(|found| (found.mid, found.layers.get(layer).map(|name| Rid::from(name.as_str()))))
        else {
            return;
        };
        let recently = |at: Instant| now.saturating_duration_since(at) < KEYFRAME_INTERVAL;
        self.asked.retain(|(_, at)| recently(*at));
        if self.asked.iter().any(|(of, _)| *of == (medium, layer)) {
            return;
        }
        if let Some(stream) = self.rtc.direct_api().stream_rx_by_mid(mid, rid) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
            self.asked.push(((medium, layer), now));
        }
        self.handle_timeout(now);
    }

    /// Sends packets of a medium, in order. What cannot be sent because the peer is not connected is dropped.
    pub fn send<'a>(&mut self, now: Instant, medium: usize, packets: impl Iterator<Item = Outgoing<'a>>) {
        let Some(mid) = self.media.get(medium).map(|medium| medium.mid).filter(|_| self.connected) else {
            return;
        };
        let mut api = self.rtc.direct_api();
        let Some(stream) = api.stream_tx_by_mid(mid, None) else { return };
        for packet in packets {
            let payload_type = packet.payload_type.into();
            let write = RtpWrite::new(
                payload_type,
                packet.sequence.into(),
                packet.timestamp,
                packet.moment,
                Arc::clone(packet.payload),
            );
            stream.write_rtp(write.marker(packet.marker).nackable(true));
        }
        self.handle_timeout(now);
    }
}

/// How loud a packet is, by its header extension (RFC 6464 §3).
pub(super) fn level_of(packet: &str0m::rtp::RtpPacket) -> Option<AudioLevel> {
    let values = &packet.header.ext_vals;
    let level = AudioLevel::new(values.audio_level?);
    Some(level.with_voice(values.voice_activity.unwrap_or_default()))
}

pub(super) fn received(packet: str0m::rtp::RtpPacket) -> RtpPacket {
    let header = Header {
        marker: packet.header.marker,
        payload_type: *packet.header.payload_type,
        sequence: packet.header.sequence_number,
        timestamp: packet.header.timestamp,
        ssrc: *packet.header.ssrc,
    };
    RtpPacket { header, payload: Bytes::from_owner(packet.payload), ..RtpPacket::default() }
}

pub(super) fn low_half(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default()
}
