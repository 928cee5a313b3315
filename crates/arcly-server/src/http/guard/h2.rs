//! Frames of an HTTP/2 connection that carry nothing, counted.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 9113 | 3.4 connection preface, 4.1 frame format | [`FrameMeter::take`] |
//! | RFC 9113 | 10.5 denial of service | [`is_idle`] |
//!
//! Each such frame is valid, and the HTTP library answers some of them for as long as the peer takes the answers. Here a
//! peer may send a burst of them, and then as many as come to a slow average. The payload is not looked at: what the
//! frames mean is the library's business, and it has limits of its own for what it keeps of them.

use arcly_core::CloseReason;
use tokio::time::Instant;

use super::Violation;

/// Bytes before the first frame.
const PREFACE: u64 = 24;
const HEADER: usize = 9;
/// Frames that carry nothing: as many at once, and after that as many a second on average.
const BURST: u64 = 1_000;
const PER_SECOND: u64 = 50;

/// Follows the frames of one connection.
#[derive(Debug)]
pub(super) struct FrameMeter {
    header: [u8; HEADER],
    /// Bytes of the header that have come.
    have: usize,
    /// Bytes until the next header.
    skip: u64,
    allowed: u64,
    renewed: Option<Instant>,
}

impl FrameMeter {
    /// A meter before the connection's first byte.
    pub(super) const fn new() -> Self {
        Self { header: [0; HEADER], have: 0, skip: PREFACE, allowed: BURST, renewed: None }
    }

    /// Looks at what came.
    ///
    /// # Errors
    /// Too many frames that carry nothing.
    pub(super) fn take(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Violation> {
        let renewed = *self.renewed.get_or_insert(now);
        loop {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= skipped as u64;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(()) };
            bytes = rest;
            if let Some(place) = self.header.get_mut(self.have) {
                *place = byte;
                self.have += 1;
            }
            if self.have < HEADER {
                continue;
            }
            self.have = 0;
            let [a, b, c, kind, flags, ..] = self.header;
            let length = u32::from_be_bytes([0, a, b, c]);
            self.skip = length.into();
            if is_idle(kind, flags, length) {
                self.spend(now, renewed)?;
            }
        }
    }

    fn spend(&mut self, now: Instant, renewed: Instant) -> Result<(), Violation> {
        if self.allowed == 0 {
            let earned = now.duration_since(renewed).as_secs().saturating_mul(PER_SECOND);
            self.allowed = earned.min(BURST);
            self.renewed = Some(now);
        }
        self.allowed = self.allowed.checked_sub(1).ok_or(Violation {
            reason: CloseReason::Limit("frames"),
            status: 400,
            what: "too many HTTP/2 frames that carry nothing",
            in_head: false,
        })?;
        Ok(())
    }
}

/// True for a frame that moves neither a request nor a response on. WINDOW_UPDATE does: readers send it all the time.
const fn is_idle(kind: u8, flags: u8, length: u32) -> bool {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const WINDOW_UPDATE: u8 = 8;
    const END_STREAM: u8 = 1;
    match kind {
        DATA => length == 0 && flags & END_STREAM == 0,
        HEADERS | WINDOW_UPDATE => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// How many of the frames pass.
    fn passed(meter: &mut FrameMeter, frame: &[u8], count: usize, now: Instant) -> usize {
        (0..count).take_while(|_| meter.take(frame, now).is_ok()).count()
    }

    #[tokio::test]
    async fn h10_what_carries_nothing_is_counted() {
        let cases = [
            ("PING", frame(6, 0, &[0; 8]), 1_000),
            ("SETTINGS", frame(4, 0, &[]), 1_000),
            ("RST_STREAM", frame(3, 0, &[0; 4]), 1_000),
            ("CONTINUATION", frame(9, 0, &[0; 100]), 1_000),
            ("unknown", frame(77, 0, &[6; 300]), 1_000),
            ("empty DATA", frame(0, 0, &[]), 1_000),
            ("the last DATA", frame(0, 1, &[]), 5_000),
            ("DATA", frame(0, 0, &[4; 10]), 5_000),
            ("HEADERS", frame(1, 4, &[4; 10]), 5_000),
            ("WINDOW_UPDATE", frame(8, 0, &[4; 4]), 5_000),
        ];
        for (name, frame, expect) in cases {
            let mut meter = FrameMeter::new();
            meter.take(&[4; 24], Instant::now()).unwrap();
            assert_eq!(passed(&mut meter, &frame, 5_000, Instant::now()), expect, "{name}");
        }
    }

    #[tokio::test]
    async fn a_pause_earns_more_of_them_but_no_more_than_a_burst() {
        let (mut meter, begun) = (FrameMeter::new(), Instant::now());
        meter.take(&[0; 24], begun).unwrap();
        let settings = frame(4, 0, &[]);
        for (at, expect) in [(0, 1_000), (2, 100), (1_000, 1_000), (1_001, 50)] {
            let now = begun + Duration::from_secs(at);
            assert_eq!(passed(&mut meter, &settings, 5_000, now), expect, "after {at} s");
        }
    }

    #[tokio::test]
    async fn cut_anywhere_it_counts_the_same() {
        let frames = [frame(4, 0, &[0; 6]), frame(0, 0, &[4; 30]), frame(6, 0, &[9; 8])].concat();
        let stream = [&[0; 24][..], &frames.repeat(600)].concat();
        for piece in [1, 2, 7, 9, 10, 64, stream.len()] {
            let (mut meter, now) = (FrameMeter::new(), Instant::now());
            let good = stream.chunks(piece).take_while(|piece| meter.take(piece, now).is_ok()).count();
            // The thousandth such frame is the last of 500 times three.
            let limit = 24 + 500 * frames.len();
            assert!(good * piece <= limit + 24 && (good + 1) * piece > limit, "{piece}: {good}");
        }
    }
}
