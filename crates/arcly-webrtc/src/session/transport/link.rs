//! The link to a viewer: what it carries, and what waits for it.

use std::time::{Duration, Instant};

use arcly_core::TrackKind;
use str0m::bwe::{Bitrate, BweKind};
use str0m::{Input, PacerReason, Reason};

use super::Transport;

/// How much more than a stream has its viewers' links are tried with, in percent, so that a keyframe fits as well.
const HEADROOM_PERCENT: u64 = 150;
/// The pacer lets one packet go at a time, and asks to be looked at again so little later: it is, at once.
const PACER_STEP: Duration = Duration::from_micros(10);
/// Packets that the pacer lets go in a row, at most: others want to have their turn.
pub(super) const MAX_PACER_STEPS: usize = 2_048;
/// The delay-based controller looks at its estimate every 25 ms, and whenever anything else happens. While media flow this is soon
/// enough, and nobody has to be woken for it.
const PATIENCE: Duration = Duration::from_millis(15);
/// So long after a step of a probe nothing is put off: what a probe says is in the times of its packets.
const PROBE_TIME: Duration = Duration::from_millis(200);
/// Packets that are kept to be sent again, and for how long.
const REPAIR_PACKETS: usize = 1_024;
const REPAIR_TIME: Duration = Duration::from_secs(2);
/// Of all that is sent, the part that repairs may be before they are given up: [`REPAIR_PERCENT`](super::REPAIR_PERCENT) of the rest.
const REPAIR_RATIO: f32 = 0.33;

impl Transport {
    /// What str0m has counted and estimated.
    pub(super) fn measure(&mut self, event: &str0m::Event) {
        match event {
            str0m::Event::PeerStats(peer) => self.account.peer(peer),
            str0m::Event::MediaEgressStats(source) => self.account.egress(source),
            str0m::Event::MediaIngressStats(source) => self.account.ingress(source),
            str0m::Event::EgressBitrateEstimate(BweKind::Twcc { estimate, can_probe, .. }) => {
                self.account.stats.estimate_bps = can_probe.then(|| estimate.as_u64());
            }
            _ => {}
        }
    }

    /// True when the pacer was only to be looked at again, which is done.
    pub(super) fn goes_on(&mut self, at: Instant) -> bool {
        let is_pacer = matches!(self.rtc.last_timeout_reason(), Reason::Pacer(_));
        let is_due = at.saturating_duration_since(self.now) <= PACER_STEP;
        let Some(steps) = self.pacer_steps.checked_sub(1).filter(|_| is_pacer && is_due) else {
            return false;
        };
        self.pacer_steps = steps;
        self.now = self.now.max(at);
        self.rtc.handle_input(Input::Timeout(self.now)).is_ok()
    }

    /// When to be looked at again, of which str0m says that it is at `at`.
    pub(super) fn put_off(&mut self, at: Instant) -> Instant {
        match self.rtc.last_timeout_reason() {
            Reason::BweDelayControl if self.connected && self.now >= self.probed => {
                at.checked_add(PATIENCE).unwrap_or(at)
            }
            Reason::BweProbeControl
            | Reason::BweProbeEstimator
            | Reason::Pacer(PacerReason::Probe1 | PacerReason::Probe2 | PacerReason::Padding) => {
                self.probed = self.now.checked_add(PROBE_TIME).unwrap_or(self.now);
                at
            }
            _ => at,
        }
    }

    /// What is sent to a viewer is paced where it reports what arrives, and kept to be sent again.
    pub(super) fn set_up_senders(&mut self) {
        let mut api = self.rtc.direct_api();
        for medium in self.media.iter().filter(|medium| medium.sends) {
            let Some(stream) = api.stream_tx_by_mid(medium.mid, None) else { continue };
            stream.set_rtx_cache(REPAIR_PACKETS, REPAIR_TIME, Some(REPAIR_RATIO));
            if medium.kind == TrackKind::Video {
                stream.set_unpaced(!medium.reports_arrival());
            }
        }
    }

    /// A stream to be sent needs so many bits per second: the link is tried with that and a little more.
    pub fn set_desired(&mut self, bps: u64) {
        let known = self.desired_bps;
        if bps.abs_diff(known) > known / 10 {
            self.desired_bps = bps;
            let desired = bps.saturating_mul(HEADROOM_PERCENT) / 100;
            self.rtc.bwe().set_bitrate(Bitrate::bps(0), Bitrate::bps(desired));
        }
    }

    /// The part of a medium's packets that get lost on their way, 0 to 1.
    pub(in crate::session) fn loss(&self, medium: usize) -> Option<f32> {
        self.account.loss(self.media.get(medium)?.mid)
    }

    /// How long what is waiting of a medium has to wait for its turn on the link, as far as that is known.
    pub fn backlog(&mut self, medium: usize) -> Duration {
        let Some(mid) = self.media.get(medium).map(|medium| medium.mid) else { return Duration::ZERO };
        let mut api = self.rtc.direct_api();
        let waiting =
            api.stream_tx_by_mid(mid, None).and_then(|stream| Some(stream.queue_info()?.byte_size()));
        let bytes = waiting.unwrap_or_default() as u64;
        self.account.stats.queued_bytes = bytes;
        let estimate = self.account.stats.estimate_bps.unwrap_or_default();
        let micros = bytes.saturating_mul(8_000_000).checked_div(estimate).unwrap_or_default();
        Duration::from_micros(micros)
    }
}
