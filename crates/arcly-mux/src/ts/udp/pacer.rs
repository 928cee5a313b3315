use core::time::Duration;
use std::time::Instant;

/// What comes at once is sent within this.
pub const MAX_DELAY: Duration = Duration::from_millis(100);
/// Bytes that may be sent at once.
const BURST: u64 = 16 * 1_316;
/// Bytes a second below which nothing is spread: 10 Mbit/s, which every receiver takes.
const MIN_RATE: u64 = 1_250_000;
/// How much faster than the stream is sent, in percent: frames are spread, and what waited is made up for.
const HEADROOM: u64 = 150;
/// The rate is measured over this.
const WINDOW: Duration = Duration::from_millis(500);
/// `MAX_DELAY`s in a second.
const DELAYS_PER_SECOND: u64 = 10;

/// Spreads what comes in bursts, such as keyframes, so that switches and receivers with small buffers do not lose it.
///
/// The rate follows the stream: half as much again as it had in the last half second, at least 10 Mbit/s, and always enough
/// that what has come at once is sent within [`MAX_DELAY`]. Pure: time is an argument.
#[derive(Clone, Debug, Default)]
pub struct Pacer {
    /// When the bytes sent so far have been sent, at the rate.
    sent_until: Option<Instant>,
    window: Option<(Instant, u64)>,
    /// Bytes a second of the stream, of late.
    rate: u64,
    /// Bytes that came at once.
    batch: u64,
}

impl Pacer {
    /// A pacer that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// So many bytes have come to be sent.
    pub fn arrived(&mut self, now: Instant, bytes: u64) {
        self.batch = bytes;
        let (since, count) = self.window.unwrap_or((now, 0));
        let count = count.saturating_add(bytes);
        let span = now.saturating_duration_since(since);
        if span < WINDOW {
            self.window = Some((since, count));
            return;
        }
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.rate = count.saturating_mul(1_000).checked_div(millis).unwrap_or_default();
        self.window = Some((now, 0));
    }

    /// When `bytes` may be sent: `now` or earlier means at once. The call counts them as sent.
    pub fn send_at(&mut self, now: Instant, bytes: u64) -> Instant {
        let in_time = self.batch.saturating_mul(DELAYS_PER_SECOND);
        let rate = (self.rate.saturating_mul(HEADROOM) / 100).max(in_time).max(MIN_RATE);
        let lasting = |bytes: u64| {
            let nanos = u128::from(bytes).saturating_mul(1_000_000_000).checked_div(u128::from(rate));
            Duration::from_nanos(nanos.and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or_default())
        };
        // Time that nothing was sent in is made up for, up to a burst.
        let earliest = now.checked_sub(lasting(BURST)).unwrap_or(now);
        let begin = self.sent_until.map_or(earliest, |until| until.max(earliest));
        self.sent_until = begin.checked_add(lasting(bytes));
        begin
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests choose their numbers"
)]
mod tests {
    use super::*;

    /// Sends bursts at their times; when each datagram went.
    fn run(bursts: &[(u64, u64)]) -> Vec<(Instant, u64)> {
        let start = Instant::now();
        let (mut pacer, mut now, mut sent) = (Pacer::new(), start, Vec::new());
        for (ms, bytes) in bursts {
            now = now.max(start + Duration::from_millis(*ms));
            pacer.arrived(now, *bytes);
            let mut left = *bytes;
            while left > 0 {
                let len = left.min(1_316);
                left -= len;
                now = now.max(pacer.send_at(now, len));
                sent.push((now, *ms));
            }
        }
        sent.iter().map(|(at, ms)| (*at, at.duration_since(start).as_millis() as u64 - ms)).collect()
    }

    #[test]
    fn a_keyframe_is_spread_and_nothing_waits_long() {
        // 25 frames a second, 20 kB each, and a keyframe of 400 kB each second.
        let bursts: Vec<_> = (0..100).map(|n| (n * 40, if n % 25 == 0 { 400_000 } else { 20_000 })).collect();
        let sent = run(&bursts);
        let longest = sent.iter().map(|(_, late)| *late).max().unwrap();
        assert!((50..=110).contains(&longest), "{longest} ms");
        let most = sent.iter().map(|(at, _)| {
            sent.iter().filter(|(other, _)| other >= at && *other < *at + Duration::from_millis(5)).count()
        });
        // 400 kB at once would be 304 datagrams.
        assert!(most.max().unwrap() < 60, "datagrams in 5 ms");
    }

    #[test]
    fn a_steady_stream_is_not_held_up() {
        let bursts: Vec<_> = (0..300).map(|n| (n * 20, 1_316)).collect();
        assert!(run(&bursts).iter().all(|(_, late)| *late <= 1));
    }
}
