use std::time::Instant;

use arcly_core::Timescale;

use crate::wire::NtpTime;
use crate::wire::rtcp::ReportBlock;

/// What is counted of one source, and what a receiver report says of it (RFC 3550 §6.4.1, A.3, A.8).
#[derive(Clone, Debug)]
pub struct Reception {
    clock: Timescale,
    started: Instant,
    /// The first sequence number, unwrapped.
    first: i64,
    highest: i64,
    received: i64,
    /// What was expected and received when the last report was made.
    before: (i64, i64),
    /// Arrival less timestamp of the last packet, on the packets' clock, wrapped.
    transit: Option<u32>,
    /// Sixteen times the jitter.
    jitter: u32,
    sender_report: Option<(NtpTime, Instant)>,
}

impl Reception {
    /// Nothing but the first packet's number. Numbers are unwrapped, and congruent to what the sender says.
    #[must_use]
    pub const fn new(clock: Timescale, now: Instant, first: i64) -> Self {
        Self {
            clock,
            started: now,
            first,
            highest: first,
            received: 0,
            before: (0, 0),
            transit: None,
            jitter: 0,
            sender_report: None,
        }
    }

    /// A packet came.
    pub fn packet(&mut self, now: Instant, number: i64, timestamp: u32) {
        self.received = self.received.saturating_add(1);
        self.highest = self.highest.max(number);
        let transit = self.arrival(now).wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let away = transit.wrapping_sub(before).cast_signed().unsigned_abs();
            // The sixteenth that is taken off is rounded, as in RFC 3550 A.8.
            self.jitter = self.jitter.saturating_add(away).saturating_sub(self.jitter.saturating_add(8) >> 4);
        }
    }

    /// A packet that came after the first was sent before it: it was expected, too.
    pub fn reach(&mut self, number: i64) {
        self.first = self.first.min(number);
    }

    /// A sender report came.
    pub const fn sender_report(&mut self, now: Instant, ntp: NtpTime) {
        self.sender_report = Some((ntp, now));
    }

    /// `now` on the packets' clock, wrapped.
    fn arrival(&self, now: Instant) -> u32 {
        let micros = now.saturating_duration_since(self.started).as_micros();
        let ticks = micros.saturating_mul(self.clock.get().into()) / 1_000_000;
        u32::try_from(ticks & 0xFFFF_FFFF).unwrap_or_default()
    }

    /// Interarrival jitter in units of the packets' clock.
    #[must_use]
    pub const fn jitter(&self) -> u32 {
        self.jitter >> 4
    }

    /// Packets expected so far less those that came; negative when duplicates outnumber losses.
    #[must_use]
    pub const fn lost(&self) -> i64 {
        self.expected().saturating_sub(self.received)
    }

    const fn expected(&self) -> i64 {
        self.highest.saturating_sub(self.first).saturating_add(1)
    }

    /// The block that a report made `now` has of it. Each block counts the fraction of losses anew.
    pub fn report(&mut self, now: Instant, ssrc: u32) -> ReportBlock {
        let (expected, received) = (self.expected(), self.received);
        let (expected_before, received_before) = core::mem::replace(&mut self.before, (expected, received));
        let expected_since = expected.saturating_sub(expected_before);
        let lost_since = expected_since.saturating_sub(received.saturating_sub(received_before)).max(0);
        let fraction = lost_since.saturating_mul(256).checked_div(expected_since).unwrap_or(0);
        let since = |at: Instant| {
            let units = now.saturating_duration_since(at).as_micros().saturating_mul(65_536) / 1_000_000;
            u32::try_from(units).unwrap_or(u32::MAX)
        };
        ReportBlock {
            ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            cumulative_lost: i32::try_from(self.lost().clamp(-0x80_0000, 0x7F_FFFF)).unwrap_or_default(),
            highest_sequence: u32::try_from(self.highest & 0xFFFF_FFFF).unwrap_or_default(),
            jitter: self.jitter(),
            last_sender_report: self.sender_report.map_or(0, |(ntp, _)| ntp.middle()),
            delay_since_last: self.sender_report.map_or(0, |(_, at)| since(at)),
        }
    }
}
