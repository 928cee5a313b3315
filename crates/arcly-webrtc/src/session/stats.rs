use std::time::Duration;

use arcly_core::TrackId;
use arcly_rtp::sdp::MediaDescription;
use str0m::media::Mid;
use str0m::stats::{MediaEgressStats, MediaIngressStats, PeerStats};

use super::Medium;
use crate::wire::Protocol;

/// Packets that are sent again may cost so many percent of what is sent the first time: a peer that asks for more gets no more.
pub const REPAIR_PERCENT: u64 = 50;
/// Bytes of repairs that may come at once, after a time in which there were none.
pub const REPAIR_BURST: u64 = 128 << 10;
/// Bytes of repairs that a session begins with.
const FIRST_REPAIRS: u64 = 16 << 10;

/// Of the layers that come, those that are sent: the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerCount {
    /// How many of them are sent, 1 at least.
    pub sent: u8,
    /// How many there are, 1 where pictures have no layers.
    pub of: u8,
}

impl LayerCount {
    /// Up to `limit`, of those up to `highest`.
    pub(super) fn up_to(limit: u8, highest: u8) -> Self {
        Self { sent: limit.min(highest).saturating_add(1), of: highest.saturating_add(1) }
    }
}

/// What of a stream's pictures a viewer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentLayer {
    /// The track: of simulcast, the layer.
    pub track: TrackId,
    /// Spatial layers within its pictures.
    pub spatial: LayerCount,
    /// Temporal layers.
    pub temporal: LayerCount,
}

/// What was counted of a session, from its beginning; the last six are of the last second or so.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SessionStats {
    /// Packets of media that were sent, repairs among them.
    pub packets_sent: u64,
    /// Their bytes, as datagrams.
    pub bytes_sent: u64,
    /// Packets of media that came, repairs among them.
    pub packets_received: u64,
    /// Their bytes, as datagrams.
    pub bytes_received: u64,
    /// Packets that were sent as repairs (RTX, RFC 4588): because the peer has asked for them, or to find out what the link carries.
    pub repairs_sent: u64,
    /// Packets that came as repairs.
    pub repairs_received: u64,
    /// Repairs that the peer has asked for beyond [`REPAIR_PERCENT`].
    pub repairs_refused: u64,
    /// Packets of sound that were sent with those before them once more (RED, RFC 2198), because packets get lost on the way.
    pub redundant_sent: u64,
    /// Packets of sound that came with those before them.
    pub redundant_received: u64,
    /// Packets of sound that did not come, and were found in those that came after them.
    pub recovered: u64,
    /// Requests for packets (NACK) that were sent.
    pub nacks_sent: u64,
    /// Requests for packets that came.
    pub nacks_received: u64,
    /// Requests for keyframes (PLI, FIR) that were sent.
    pub keyframe_requests_sent: u64,
    /// Requests for keyframes that came.
    pub keyframe_requests_received: u64,
    /// Datagrams that were dropped: wrong, or from where nobody has shown the password.
    pub datagrams_dropped: u64,
    /// Pictures that were left out because the link had no room for them.
    pub frames_thinned: u64,
    /// Pictures that were sent although they are shown before one that was sent already: others refer to them, so that they cannot be
    /// left out, and the viewer sees a picture that jumps. The publisher has to encode without B-frames, or without references to them.
    pub frames_out_of_order: u64,
    /// Times that another layer was sent from then on, or more or fewer temporal layers.
    pub layer_switches: u64,
    /// Messages that were sent over data channels.
    pub messages_sent: u64,
    /// Messages that came over data channels.
    pub messages_received: u64,
    /// Messages that came and were not taken: of who has no say, or too many. And data that were to be one and were not sent: longer
    /// than a message may be, or the peer is too slow.
    pub messages_dropped: u64,
    /// What its media go in; none before there were any.
    pub protocol: Option<Protocol>,
    /// The round trip.
    pub rtt: Option<Duration>,
    /// The part of the packets that were lost, 0 to 1: of those that were sent, or of those that come.
    pub loss: Option<f32>,
    /// What the link to the peer is believed to carry, in bits per second: by transport-wide congestion control, where the peer speaks it.
    pub estimate_bps: Option<u64>,
    /// Bytes of pictures that wait for their turn on the link.
    pub queued_bytes: u64,
    /// Which layers of the pictures a viewer is sent; none before there was a picture, and of a publisher.
    pub layer: Option<SentLayer>,
}

impl SessionStats {
    /// Adds what was counted of another session. What is of a moment stays away: it has no sum.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.packets_sent, other.packets_sent),
            (&mut self.bytes_sent, other.bytes_sent),
            (&mut self.packets_received, other.packets_received),
            (&mut self.bytes_received, other.bytes_received),
            (&mut self.repairs_sent, other.repairs_sent),
            (&mut self.repairs_received, other.repairs_received),
            (&mut self.repairs_refused, other.repairs_refused),
            (&mut self.redundant_sent, other.redundant_sent),
            (&mut self.redundant_received, other.redundant_received),
            (&mut self.recovered, other.recovered),
            (&mut self.nacks_sent, other.nacks_sent),
            (&mut self.nacks_received, other.nacks_received),
            (&mut self.keyframe_requests_sent, other.keyframe_requests_sent),
            (&mut self.keyframe_requests_received, other.keyframe_requests_received),
            (&mut self.datagrams_dropped, other.datagrams_dropped),
            (&mut self.frames_thinned, other.frames_thinned),
            (&mut self.frames_out_of_order, other.frames_out_of_order),
            (&mut self.layer_switches, other.layer_switches),
            (&mut self.messages_sent, other.messages_sent),
            (&mut self.messages_received, other.messages_received),
            (&mut self.messages_dropped, other.messages_dropped),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }
}

/// Counts for a transport, and says what may be spent on repairs.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) stats: SessionStats,
    /// The payload types of repairs, a bit each.
    repair_types: u128,
    /// Bytes that repairs may have.
    allowance: u64,
    /// The part of each medium's packets that the peer has lost, by its last report (RFC 3550 §6.4.1), 0 to 1.
    reported: Vec<(Mid, Option<f32>)>,
}

impl Account {
    /// Of a session with these media.
    pub(super) fn new(media: &[Medium]) -> Self {
        let types = media.iter().flat_map(|medium| repair_types(&medium.description));
        let repair_types = types.fold(0, |types, payload_type| types | bit(payload_type));
        let reported = media.iter().map(|medium| (medium.mid, None)).collect();
        Self { repair_types, allowance: FIRST_REPAIRS, reported, ..Self::default() }
    }

    fn is_repair(&self, datagram: &[u8]) -> bool {
        datagram.get(1).is_some_and(|second| self.repair_types & bit(second & 0x7F) != 0)
    }

    /// Counts a packet of media on its way out. False when it is a repair that the peer does not get.
    pub(super) fn may_send(&mut self, datagram: &[u8]) -> bool {
        let (bytes, stats) = (datagram.len() as u64, self.stats);
        if self.is_repair(datagram) {
            let Some(left) = self.allowance.checked_sub(bytes) else {
                self.stats.repairs_refused = stats.repairs_refused.saturating_add(1);
                return false;
            };
            self.allowance = left;
            self.stats.repairs_sent = stats.repairs_sent.saturating_add(1);
        } else {
            let more = bytes.saturating_mul(REPAIR_PERCENT) / 100;
            self.allowance = self.allowance.saturating_add(more).min(REPAIR_BURST);
        }
        self.stats.packets_sent = stats.packets_sent.saturating_add(1);
        self.stats.bytes_sent = stats.bytes_sent.saturating_add(bytes);
        true
    }

    /// Counts a packet of media that came.
    pub(super) fn received(&mut self, datagram: &[u8]) {
        let (repair, stats) = (u64::from(self.is_repair(datagram)), &mut self.stats);
        stats.packets_received = stats.packets_received.saturating_add(1);
        stats.bytes_received = stats.bytes_received.saturating_add(datagram.len() as u64);
        stats.repairs_received = stats.repairs_received.saturating_add(repair);
    }

    /// A datagram was dropped.
    pub(super) const fn dropped(&mut self) {
        self.stats.datagrams_dropped = self.stats.datagrams_dropped.saturating_add(1);
    }

    /// Begins the figures of a second: those of each source follow, and are summed up.
    pub(super) fn peer(&mut self, peer: &PeerStats) {
        let stats = &mut self.stats;
        (stats.nacks_sent, stats.nacks_received) = (0, 0);
        (stats.keyframe_requests_sent, stats.keyframe_requests_received) = (0, 0);
        stats.rtt = peer.rtt.or(stats.rtt);
        stats.loss = peer.egress_loss_fraction.or(peer.ingress_loss_fraction);
    }

    /// The figures of a source of this side.
    pub(super) fn egress(&mut self, source: &MediaEgressStats) {
        let stats = &mut self.stats;
        stats.nacks_received = stats.nacks_received.saturating_add(source.nacks);
        let requests = source.plis.saturating_add(source.firs);
        stats.keyframe_requests_received = stats.keyframe_requests_received.saturating_add(requests);
        stats.rtt = stats.rtt.or(source.rtt);
        stats.loss = stats.loss.or(source.loss);
        if let Some((_, loss)) = self.reported.iter_mut().find(|(mid, _)| *mid == source.mid) {
            *loss = source.loss.or(*loss);
        }
    }

    /// The part of a medium's packets that get lost on their way: by the last report on it, which is exact and some seconds old, or by
    /// what arrived of all packets in the last second, whichever is more.
    pub(super) fn loss(&self, medium: Mid) -> Option<f32> {
        let reported = self.reported.iter().find(|(mid, _)| *mid == medium).and_then(|(_, loss)| *loss);
        reported.into_iter().chain(self.stats.loss).max_by(f32::total_cmp)
    }

    /// The figures of a source of the peer.
    pub(super) fn ingress(&mut self, source: &MediaIngressStats) {
        let stats = &mut self.stats;
        stats.nacks_sent = stats.nacks_sent.saturating_add(source.nacks);
        let requests = source.plis.saturating_add(source.firs);
        stats.keyframe_requests_sent = stats.keyframe_requests_sent.saturating_add(requests);
        stats.rtt = stats.rtt.or(source.rtt);
        stats.loss = stats.loss.or(source.loss);
    }
}

const fn bit(payload_type: u8) -> u128 {
    1 << (payload_type & 0x7F)
}

/// The payload types under which a medium's packets are sent again.
fn repair_types(medium: &MediaDescription) -> impl Iterator<Item = u8> {
    let maps = medium.attributes.iter().filter(|attribute| attribute.name == "rtpmap");
    maps.filter_map(|map| {
        let (payload_type, encoding) = map.value.as_deref()?.split_once(' ')?;
        let is_repair = encoding.trim_start().get(..4)?.eq_ignore_ascii_case("rtx/");
        is_repair.then(|| payload_type.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use arcly_rtp::sdp::{Attribute, SessionDescription};

    use super::*;

    fn account() -> Account {
        let text = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n\
                    a=rtpmap:96 VP8/90000\r\na=rtpmap:97 RTX/90000\r\na=fmtp:97 apt=96\r\n";
        let description: SessionDescription = text.parse().unwrap();
        let mut medium = description.media[0].clone();
        medium.attributes.push(Attribute::new("rtpmap", "x rtx/90000"));
        let types: Vec<u8> = repair_types(&medium).collect();
        assert_eq!(types, [97]);
        Account { repair_types: bit(97), allowance: FIRST_REPAIRS, ..Account::default() }
    }

    fn packet(payload_type: u8, bytes: usize) -> Vec<u8> {
        let mut packet = vec![0; bytes];
        (packet[0], packet[1]) = (0x80, payload_type | 0x80);
        packet
    }

    #[test]
    fn repairs_cost_half_of_what_is_sent_and_no_more() {
        let mut account = account();
        for _ in 0..1_000 {
            assert!(account.may_send(&packet(96, 1_000)));
            for _ in 0..100 {
                account.may_send(&packet(97, 1_000));
            }
        }
        let stats = account.stats;
        assert_eq!(
            (stats.packets_sent, stats.repairs_sent),
            (1_000 + 516, 516),
            "half, and what it begins with"
        );
        assert_eq!(stats.repairs_refused, 100_000 - 516);
        for _ in 0..10_000 {
            assert!(account.may_send(&packet(96, 1_000)));
        }
        let allowed = (0..1_000).take_while(|_| account.may_send(&packet(97, 1_000))).count();
        assert_eq!(allowed as u64, REPAIR_BURST / 1_000, "what was not needed is not kept for ever");
    }

    #[test]
    fn what_is_counted_has_a_sum_and_what_is_of_a_moment_has_none() {
        let mut account = account();
        account.received(&packet(97, 100));
        account.received(&packet(96, 50));
        account.dropped();
        account.stats.estimate_bps = Some(1);
        let mut sum = SessionStats::default();
        sum.add(&account.stats);
        sum.add(&account.stats);
        assert_eq!((sum.packets_received, sum.repairs_received, sum.bytes_received), (4, 2, 300));
        assert_eq!((sum.datagrams_dropped, sum.estimate_bps), (2, None));
    }
}
